"""Files of tensors and arrays, read without running code, and found out where they are damaged."""

import zipfile
from pathlib import Path
from typing import Any

import torch

# No array of numbers that somebody measured shrinks to less; what NumPy and torch write is not compressed at all.
MOST_SHRUNK = 100
SMALL = 2**26  # bytes, of which nobody runs out


def check_archive(path: Path) -> None:
    """Refuse an archive whose parts would take far more memory than the file has bytes.

    Raises:
        zipfile.BadZipFile: it is one, or damaged.
    """
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            if part.file_size > MOST_SHRUNK * part.compress_size + SMALL:
                raise zipfile.BadZipFile(
                    f"{part.filename} would grow from {part.compress_size:,} to {part.file_size:,} bytes"
                )


def load_tensors(path: Path) -> Any:
    """Read a file of `torch.save`: tensors, numbers, texts and containers of them, on the CPU.

    torch itself does not compare what it reads with the checksums in the file: a weight that a disk has damaged
    would be a weight like any other.

    Raises:
        zipfile.BadZipFile: a checksum is wrong, or as `check_archive`.
        Exception: whatever else torch raises for damaged files, and for code in them, which is not run.
    """
    if zipfile.is_zipfile(path):
        check_archive(path)
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
    return torch.load(path, map_location="cpu", weights_only=True)
