"""Atomic writing of files and folders: each appears complete or not at all, even if the writer is killed."""

import errno
import glob
import io
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

from filelock import FileLock, Timeout

# Temporary names hold the machine and the process that writes: only processes of this machine can be asked for.
_HOST = f"{crc32(socket.gethostname().encode()):08x}"
# Errors for want of room: the disk is full, the user's quota is used up, the file is too large for the file
# system.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_writable(path: Path, *, is_folder: bool = False) -> None:
    """Check before long work that its result can be written, by writing a test file, which is removed again.

    Args:
        path: a file, or a folder that files will be written into.
        is_folder: whether `path` is a folder.

    Raises:
        OSError: nothing can be written there; the message says what to do.
    """
    folder = path if is_folder else path.parent
    made: list[Path] = []
    try:
        if path.exists() and not is_folder and not path.is_file():
            what = "a folder" if path.is_dir() else "no regular file"
            raise IsADirectoryError(f"{path} is {what}: name a file to write")
        made = [one for one in (folder, *folder.parents) if not one.exists()]
        if (above := made[-1].parent if made else folder).exists() and not above.is_dir():
            raise NotADirectoryError(
                f"{above} is a file, where a folder has to be: name another place to write to"
            )
        folder.mkdir(parents=True, exist_ok=True)
        remove_left_over(folder / ".check")
        probe = temporary_name(folder / ".check")
        try:
            probe.write_bytes(b"0")
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None:  # one of the above
            raise
        raise OSError(f"nothing can be written to {folder} ({error.strerror}): name another place") from error
    finally:
        for one in made:
            with suppress(OSError):
                one.rmdir()


@contextmanager
def atomic_path(path: Path, *, needed: int | None = None, is_precious: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to; it is renamed to `path` on success and removed on an error.

    No two writers get the same temporary path. The content is on the disk before the file is renamed, so that a
    power loss leaves either the old file or the new one. Temporary files that killed processes left are removed.

    Args:
        path: the file.
        needed: the file's size in bytes, if it is known.
        is_precious: False for a file that can be made again: it is renamed without waiting for the disk.

    Raises:
        OSError: the file can't be written; if a disk is full, the message says which, and how much is free there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left_over(path)
    partial = temporary_name(path)
    try:
        with explain_disk_full(path, needed, partial):
            yield partial
            if is_precious:
                to_disk(partial)
            os.replace(partial, path)
            if is_precious:
                to_disk(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path, *, needed: int | None = None, is_precious: bool = True) -> Iterator[BinaryIO]:
    """Yield a file to write to, as `atomic_path`; for libraries, too, that abort when a disk is full."""
    with (
        atomic_path(path, needed=needed, is_precious=is_precious) as partial,
        deferred_error_file(partial) as file,
    ):
        yield file


@contextmanager
def deferred_error_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that raises an error of the disk only when it is closed.

    PyTorch's writers abort the process if a write fails, and NumPy's hide the reason.
    """
    with path.open("wb") as file:
        patient = _Patient(file)
        yield patient  # type: ignore[misc]  # has all methods that writers call
        if patient.error is not None:
            raise patient.error


class _Patient(io.RawIOBase):
    def __init__(self, file: BinaryIO):
        self.error: OSError | None = None
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes


@contextmanager
def explain_disk_full(path: Path, needed: int | None = None, partial: Path | None = None) -> Iterator[None]:
    """Add to an error for want of disk space the file or folder concerned, the disk, and its free space.

    Args:
        path: the file or folder, for the message, unless the error names another one.
        needed: the size in bytes, if it is known.
        partial: the incomplete file or folder, which will be removed; its size is counted as free.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        written = partial.stat().st_size if partial is not None and partial.exists() else 0
        size = f"more than {written / 2**20:.2f}" if needed is None else f"{needed / 2**20:.2f}"
        if isinstance(error.filename, str | os.PathLike) and ".partial" not in os.fspath(error.filename):
            path, written, needed = Path(error.filename), 0, None
        whole = path.absolute()
        there = next(folder for folder in (whole, *whole.parents) if folder.is_dir()).resolve()
        disk = next(folder for folder in (there, *there.parents) if os.path.ismount(folder))
        free = (shutil.disk_usage(there).free + written) / 2**20
        takes = f"It takes {size} MiB, and " if written or needed else ""
        raise OSError(
            f"{path} can't be written: {error.strerror or error}. {takes}{free:.2f} MiB are free on the disk at "
            f"{disk}"
        ) from error


def to_disk(path: Path) -> None:
    """Wait until a file's content is on the disk, or a folder's list of names if the system offers that.

    Raises:
        OSError: the file's content can't be written to the disk.
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
    """Return a path beside a file or folder that only this process writes to; its name holds the process id."""
    token = f"{_HOST}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f"{path.stem}.{token}.partial{path.suffix}")


def remove_left_over(path: Path, *, is_alone: bool = False) -> None:
    """Remove the temporary files and folders that killed processes left beside a file or folder.

    Args:
        path: the file or folder.
        is_alone: whether no other process can be writing it, so that leftovers are removed even if a process now
            has the id of the killed one.
    """
    pattern = f"{glob.escape(path.stem)}.{_HOST}-*.partial{glob.escape(path.suffix)}"
    for old in path.parent.glob(pattern):
        found = re.search(rf"\.{_HOST}-(\d+)-[0-9a-f]+\.partial", old.name)
        if not found or (not is_alone and _is_alive(int(found[1]))):
            continue
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)


@contextmanager
def temporary_folder(path: Path, *, is_alone: bool = True) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it is removed, unless the caller renamed it.

    Args:
        path: the final path, to which the caller renames the complete folder.
        is_alone: whether a lock keeps other processes from making the same folder meanwhile; it ends with the
            process.

    Raises:
        ValueError: another process is writing the folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    partial = temporary_name(path)
    try:
        if is_alone:
            lock.acquire()
        remove_left_over(path, is_alone=is_alone)
        partial.mkdir()
        yield partial
    except Timeout as error:
        raise ValueError(f"another command is writing {path}: wait for it, or end it") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if lock.is_locked:
            with suppress(OSError):  # Windows may refuse: the file then stays
                Path(lock.lock_file).unlink()
            lock.release()


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # there signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process is another user's
        pass
    return True


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, data: Any, **options: Any) -> None:
    """Write JSON atomically; the options are those of `json.dumps`."""
    write_text(path, json.dumps(data, **{"indent": 2, **options}) + "\n")


LOCK = ".lock"


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Lock a folder against other commands while the context lasts; the folder is made if it does not exist.

    The lock ends with the process, even if it is killed. A folder that is still empty at the end is removed.

    Raises:
        ValueError: another command is using the folder.
        OSError: the folder can't be written, for example because the disk is full.
    """
    was_there = folder.is_dir()
    check_writable(folder, is_folder=True)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(f"another command is at work in {folder}: wait for it, or end it") from error
    try:
        with explain_disk_full(folder):  # for writers whose errors name neither file nor disk
            yield
    finally:
        with suppress(OSError):
            if not was_there and [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                folder.rmdir()
        lock.release()
