"""Files that appear whole or not at all, whatever interrupts their writing."""

import errno
import glob
import io
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from filelock import FileLock, Timeout

# Who writes: the machine, as processes of others can't be asked after, and the process.
_HOST = f"{crc32(socket.gethostname().encode()):08x}"
# What a disk answers that is full, of which one's share is, or on which a file may not be as large.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_writable(path: Path, *, is_folder: bool = False) -> None:
    """Find out before long work whether its result can be written, by writing; nothing of it stays.

    Args:
        path: a file, or a folder that files will be written into.
        is_folder: whether it is a folder.

    Raises:
        OSError: it can't; the message says what to do.
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
def replacing(path: Path, *, needed: int | None = None, is_precious: bool = True) -> Iterator[Path]:
    """Give a temporary name to write to, which becomes `path` when all went well and vanishes otherwise.

    No two writers have the same name. What is written is on the disk before it gets its name, so that a power loss
    leaves the old file or the new one. What processes that were killed left of the same file is removed.

    Args:
        path: the file.
        needed: bytes that it will have, where that is known.
        is_precious: False for what can be made anew: it is not waited for until it is on the disk.

    Raises:
        OSError: it can't be written; where the disk is full, the message says which, and how much is free there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left_over(path)
    partial = temporary_name(path)
    try:
        with explaining_no_room(path, needed, partial):
            yield partial
            if is_precious:
                to_disk(partial)
            os.replace(partial, path)
            if is_precious:
                to_disk(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, *, needed: int | None = None, is_precious: bool = True) -> Iterator[BinaryIO]:
    """Give a file to write to, as `replacing`, for libraries, too, that end the process when a disk is full."""
    with replacing(path, needed=needed, is_precious=is_precious) as partial, patient_file(partial) as file:
        yield file


@contextmanager
def patient_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write that takes all that it is given, and raises what went wrong when it is closed.

    PyTorch's writers end the process where one write fails; NumPy's say nothing of the reason.
    """
    with path.open("wb") as file:
        patient = _Patient(file)
        yield patient  # type: ignore[misc]  # what writers need of one
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
def explaining_no_room(path: Path, needed: int | None = None, partial: Path | None = None) -> Iterator[None]:
    """Say of an error for want of room which file or folder it is about, on which disk, and what is free there.

    Args:
        path: the file or folder, for the message, unless the error names another one.
        needed: bytes that it will have, where that is known.
        partial: what is written so far, and will be removed.
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


def remove_left_over(path: Path, *, is_alone: bool = False) -> None:
    """Remove what processes that were killed left of a file or folder under temporary names.

    Args:
        path: the file or folder.
        is_alone: whether nobody else can be writing it, whoever has the numbers of the killed processes now.
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
    """Make a folder beside `path`, to be renamed to it when it is complete; it vanishes if it was not.

    Args:
        path: what it will be.
        is_alone: whether others are kept from making one meanwhile, by a lock that a killed process lets go of.

    Raises:
        ValueError: another process is at it.
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
            with suppress(OSError):  # on Windows, where it stays
                Path(lock.lock_file).unlink()
            lock.release()


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


def write_text(path: Path, text: str) -> None:
    """Write a text file, all or nothing."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


LOCK = ".lock"


@contextmanager
def only_here(folder: Path) -> Iterator[None]:
    """Keep other commands out of a folder, which is made if it is not there; a process that dies lets go of it.

    A folder in which nothing came to be is removed again.

    Raises:
        ValueError: another command is at work there.
        OSError: the folder can't be written, as where the disk is full.
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
        with explaining_no_room(folder):  # of writers that say no more than the disk does
            yield
    finally:
        with suppress(OSError):
            if not was_there and [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                folder.rmdir()
        lock.release()
