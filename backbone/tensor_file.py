"""Files of tensors that torch.save wrote, read without running code, and found out where they are damaged."""

import zipfile
from pathlib import Path
from typing import Any

import torch


def load_tensors(path: Path) -> Any:
    """Read a file of `torch.save`: tensors, numbers, texts and containers of them, on the CPU.

    torch itself does not compare what it reads with the checksums in the file: a weight that a disk has damaged
    would be a weight like any other.

    Raises:
        zipfile.BadZipFile: a checksum is wrong.
        Exception: whatever else torch raises for damaged files, and for code in them, which is not run.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
    return torch.load(path, map_location="cpu", weights_only=True)
