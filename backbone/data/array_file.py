"""Arrays in files of NumPy's format, followed by a digest of their content, which NumPy passes over."""

import hashlib
import math
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
        np.save(file, np.ascontiguousarray(array))
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
    """Return the array, memory-mapped, its content not yet read; None if there is none that is whole."""
    found = _open(path)
    return None if found is None else found[0]


def is_intact(path: Path) -> bool:
    """Tell whether a file holds what was written, by reading all of it; a missing one does not."""
    found = _open(path)
    return found is not None and found[1] == _digest(found[0])


def _open(path: Path) -> tuple[np.ndarray, bytes] | None:
    """Return the array, memory-mapped, and the digest after it; None where the file is not as long as it says."""
    try:
        # opened once: another process may replace or remove it
        with path.open("rb") as file:
            with _READING_A_HEADER:
                np.lib.format.read_magic(file)
                shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
            start, size = file.tell(), math.prod(shape) * dtype.itemsize
            if is_fortran or os.fstat(file.fileno()).st_size != start + size + DIGEST_BYTES:
                return None
            array = np.memmap(file, dtype, "r", start, shape)
            file.seek(-DIGEST_BYTES, os.SEEK_END)
            return array, file.read()
    except FileNotFoundError:
        return None
    except OSError:
        raise
    except Exception:  # NumPy's parser of headers raises many types
        return None


def _digest(array: np.ndarray) -> bytes:
    found = hashlib.blake2b(f"{array.dtype.str} {array.shape}".encode(), digest_size=DIGEST_BYTES)
    found.update(np.ascontiguousarray(array).data)
    return found.digest()
