"""Files that appear whole or not at all, whatever interrupts their writing."""

import glob
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zlib import crc32

# Who writes: the machine, as processes of others can't be asked after, and the process.
_HOST = f"{crc32(socket.gethostname().encode()):08x}"


def check_writable(path: Path) -> None:
    """Find out before long work whether its result can be written.

    Raises:
        OSError: it can't.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file to write")
    probe = path.with_name(f"{path.name}.{secrets.token_hex(4)}.check")
    with replacing(probe) as partial:
        partial.touch()
    probe.unlink()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to, which becomes `path` when all went well and vanishes otherwise.

    No two writers have the same name. What is written is on the disk before it gets its name, so that a power loss
    leaves the old file or the new one. What processes that were killed left of the same file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left_over(path)
    partial = temporary_name(path)
    try:
        yield partial
        to_disk(partial)
        os.replace(partial, path)
        to_disk(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names where that can be asked for, is on the disk.

    Raises:
        OSError: a file's content can't be written there.
    """
    if path.is_dir():
        with suppress(OSError):  # not on Windows, nor on some network drives
            _sync(path, os.O_RDONLY)
    else:
        _sync(path, os.O_RDWR)


def _sync(path: Path, flags: int) -> None:
    number = os.open(path, flags)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def temporary_name(path: Path) -> Path:
    """Return a name beside a file or folder that nobody else writes to; it tells which process does."""
    token = f"{_HOST}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f"{path.stem}.{token}.partial{path.suffix}")


def remove_left_over(path: Path) -> None:
    """Remove what processes that were killed left of a file or folder under temporary names."""
    pattern = f"{glob.escape(path.stem)}.{_HOST}-*.partial{glob.escape(path.suffix)}"
    for old in path.parent.glob(pattern):
        found = re.search(rf"\.{_HOST}-(\d+)-[0-9a-f]+\.partial", old.name)
        if found and not _is_alive(int(found[1])):
            if old.is_dir():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # where signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        pass
    return True
