"""Checkpoints by the names that `a3d share` gives them: on the hub, `hf:OWNER/NAME[@REVISION]`, or in a .zip."""

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from agents.runs.config import CHECKPOINT

HUB = "hf:"
_NAME = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


class NoCheckpoint(ValueError):
    """There is no checkpoint of a name, or it can't be fetched; the message says why."""


def is_on_hub(path: Path | str) -> bool:
    """Tell whether a name is one of the hub, `hf:OWNER/NAME`."""
    return str(path).startswith(HUB)


def read_name(name: Path | str) -> tuple[str, str | None]:
    """Return the repository, OWNER/NAME, and the revision, if there is one.

    Raises:
        NoCheckpoint: the name has another form.
    """
    if (found := _NAME.fullmatch(str(name))) is None or ".." in str(name):  # a revision becomes a file's place
        raise NoCheckpoint(f"{name} is no name on the hub: write hf:OWNER/NAME, or hf:OWNER/NAME@REVISION")
    return found[1], found[2]


@contextmanager
def local_checkpoint(path: Path) -> Iterator[Path]:
    """Yield the file of a checkpoint: of a run's folder, of a shared .zip, from the hub, or the file itself.

    Raises:
        NoCheckpoint: there is none, or it can't be fetched.
    """
    if is_on_hub(path):
        yield _fetch(path)
    elif path.suffix == ".zip" and path.is_file():
        with tempfile.TemporaryDirectory() as folder:
            yield _unpack(path, Path(folder))
    else:
        path = path / CHECKPOINT if path.is_dir() else path
        if not path.is_file():
            raise NoCheckpoint(
                f"there is no checkpoint at {path}: name a run's folder, or its {CHECKPOINT}, a .zip of a3d "
                "share, or hf:OWNER/NAME"
            )
        yield path


def library() -> ModuleType:
    """Return huggingface_hub.

    Raises:
        NoCheckpoint: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise NoCheckpoint("hf:OWNER/NAME needs huggingface_hub: pip install 'a3d[share]'") from error
    return huggingface_hub


def _fetch(path: Path) -> Path:
    name, revision = read_name(path)
    hub = library()
    try:
        return Path(hub.hf_hub_download(name, CHECKPOINT, revision=revision))
    except Exception as error:  # of many types: no such repository, no access, no network
        reason = str(error).strip().partition("\n")[0]
        raise NoCheckpoint(f"{path} can't be fetched from the hub ({type(error).__name__}): {reason}") from error


def _unpack(path: Path, folder: Path) -> Path:
    """Copy the checkpoint out of a .zip; it is stored as it is, so that no file grows."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(CHECKPOINT).compress_type != zipfile.ZIP_STORED:
                raise NoCheckpoint(f"{path} holds a compressed {CHECKPOINT}: a3d share stores it as it is")
            with archive.open(CHECKPOINT) as packed, (folder / CHECKPOINT).open("wb") as file:
                shutil.copyfileobj(packed, file)
    except (KeyError, zipfile.BadZipFile) as error:
        raise NoCheckpoint(f"{path} is no .zip of a3d share that can be read: {error}") from error
    return folder / CHECKPOINT
