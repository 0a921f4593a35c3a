"""Arrays in files of NumPy's format, followed by a digest of their content, which NumPy passes over."""

import hashlib
import os
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

DIGEST_BYTES = 16

# NumPy parses a file's header as Python; CPython's parser can fail where two threads are in it (SystemError, "AST
# constructor recursion depth mismatch", seen once in some hundred runs of `fill_cache`).
_READING_A_HEADER = threading.Lock()


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array and its digest, all or nothing."""

    def write(file: BinaryIO) -> None:
        np.save(file, array)
        file.write(_digest(array))

    write_whole(path, write)


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file, all or nothing, under a name of its own at first: several processes may do it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_array(path: Path) -> np.ndarray | None:
    """Return the array, memory-mapped, its content not yet read; None if there is none or it is cut off."""
    try:
        with _READING_A_HEADER:
            array: np.memmap = np.load(path, mmap_mode="r")
    except (FileNotFoundError, ValueError, EOFError):
        return None
    is_whole = path.stat().st_size == array.offset + array.nbytes + DIGEST_BYTES
    return array if is_whole else None


def is_intact(path: Path) -> bool:
    """Tell whether a file holds what was written, by reading all of it; a missing one does not."""
    array = read_array(path)
    if array is None:
        return False
    with path.open("rb") as file:
        file.seek(-DIGEST_BYTES, os.SEEK_END)
        return file.read() == _digest(array)


def _digest(array: np.ndarray) -> bytes:
    found = hashlib.blake2b(f"{array.dtype.str} {array.shape}".encode(), digest_size=DIGEST_BYTES)
    found.update(np.ascontiguousarray(array).data)
    return found.digest()
