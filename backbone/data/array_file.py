"""Arrays in files of NumPy's format, followed by a digest of their content, which NumPy passes over."""

import hashlib
import math
import os
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from backbone.files import atomic_file

DIGEST_BYTES = 16

# NumPy parses a file's header as Python; CPython's parser can fail where two threads are in it (SystemError, "AST
# constructor recursion depth mismatch", seen once in some hundred runs of `fill_cache`).
_READING_A_HEADER = threading.Lock()

# Files whose content this process has found to match the digest.
_VERIFIED: set[tuple] = set()


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array and its digest, all or nothing.

    Raises:
        OSError: the file can't be written; if the disk is full, the message says so.
    """
    with atomic_file(path, needed=array.nbytes, is_precious=False) as file:
        np.save(file, np.ascontiguousarray(array))
        file.write(_digest(array))


def write_parts(path: Path, dtype: np.dtype, shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> None:
    """Write an array that is given part by part, in order, and its digest, like `write_array`."""
    digest = _new_digest(dtype, shape)
    with atomic_file(path, needed=math.prod(shape) * dtype.itemsize, is_precious=False) as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            content = np.ascontiguousarray(part).data
            digest.update(content)
            file.write(content)
        file.write(digest.digest())


def read_array(path: Path) -> np.ndarray | None:
    """Return the array, memory-mapped, its content not yet read; None if there is none that is whole."""
    found = _open(path)
    return None if found is None else found[0]


def read_verified(path: Path) -> np.ndarray | None:
    """Return the array like `read_array`, but None, too, if the content does not match the digest.

    A process reads each version of a file once for that.
    """
    found = _open(path)
    if found is None:
        return None
    array, digest, stamp = found
    if stamp not in _VERIFIED:
        if digest != _digest(array):
            return None
        _VERIFIED.add(stamp)
    return array


def is_intact(path: Path) -> bool:
    """Tell whether a file holds what was written, by reading all of it; a missing one does not."""
    found = _open(path)
    return found is not None and found[1] == _digest(found[0])


def _open(path: Path) -> tuple[np.ndarray, bytes, tuple] | None:
    """Return the array, memory-mapped, the digest after it, and a name of this version of the file.

    None if the file is not as long as it says.
    """
    try:
        # opened once: another process may replace or remove it
        with path.open("rb") as file:
            with _READING_A_HEADER:
                if np.lib.format.read_magic(file) != (1, 0):  # as no array here is written: NumPy would refuse it
                    return None
                shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
            start, size, status = file.tell(), math.prod(shape) * dtype.itemsize, os.fstat(file.fileno())
            if is_fortran or status.st_size != start + size + DIGEST_BYTES:
                return None
            array = np.memmap(file, dtype, "r", start, shape)
            file.seek(-DIGEST_BYTES, os.SEEK_END)
            return array, file.read(), (str(path), status.st_ino, status.st_size, status.st_mtime_ns)
    except FileNotFoundError:
        return None
    except OSError:
        raise
    except Exception:  # NumPy's parser of headers raises many types
        return None


def _digest(array: np.ndarray) -> bytes:
    found = _new_digest(array.dtype, array.shape)
    found.update(np.ascontiguousarray(array).data)
    return found.digest()


def _new_digest(dtype: np.dtype, shape: tuple[int, ...]) -> hashlib.blake2b:
    return hashlib.blake2b(f"{dtype.str} {shape}".encode(), digest_size=DIGEST_BYTES)
