"""One command at a time in a folder."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from backbone.replacing import check_writable, explaining_no_room

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
