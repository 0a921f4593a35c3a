"""Files of tensors and arrays, read without running code, and found out where they are damaged."""

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbone.files import writing

KINDS = {
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
}  # fmt: skip
EIGHT_BITS = (torch.int8, torch.uint8)
# No array of numbers that somebody measured shrinks to less; what NumPy and torch write is not compressed at all.
MOST_SHRUNK = 100
SMALL = 2**26  # bytes, of which nobody runs out


LACKING = re.compile(
    "can't allocate memory|cannot allocate memory|out of memory|insufficient memory|unable to allocate|bad_alloc",
    re.IGNORECASE,
)


def lacks_memory(error: BaseException) -> bool:
    """Tell whether an error of Python, NumPy, OpenCV or torch is that the memory is used up."""
    return isinstance(error, MemoryError) or bool(LACKING.search(" ".join(str(error).split())))


def pass_on_lack_of_memory(error: Exception) -> None:
    """Raise an error again that says nothing of the file that was being read: the memory is used up."""
    if lacks_memory(error):
        raise error


class UnknownTensor(ValueError):
    """A file holds a tensor that no network here has; the text says which, and not in which file."""


def check_archive(path: Path) -> None:
    """Refuse an archive whose parts would take far more memory than the file has bytes.

    Raises:
        zipfile.BadZipFile: it is one, or damaged: the checksum of a part is wrong.
    """
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            if part.file_size > MOST_SHRUNK * part.compress_size + SMALL:
                raise zipfile.BadZipFile(
                    f"{part.filename} would grow from {part.compress_size:,} to {part.file_size:,} bytes"
                )
        if (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")


def save_tensors(path: Path, values: Any) -> None:
    """Write with `torch.save`, all or nothing.

    Raises:
        OSError: it can't be written; where the disk is full, the message says so.
    """
    with writing(path) as file:
        torch.save(values, file)


def load_tensors(path: Path) -> Any:
    """Read a file of `torch.save`: tensors, numbers, texts and containers of them, on the CPU.

    torch itself does not compare what it reads with the checksums in the file: a weight that a disk has damaged
    would be a weight like any other.

    Raises:
        UnknownTensor: one is sparse, nested, quantised, complex, without content, or repeats its numbers.
        zipfile.BadZipFile: as `check_archive`.
        Exception: whatever else torch raises for damaged files, and for code in them, which is not run.
    """
    if zipfile.is_zipfile(path):
        check_archive(path)
    with warnings.catch_warnings():  # of kinds of tensors that are refused below
        warnings.simplefilter("ignore", UserWarning)
        content = torch.load(path, map_location="cpu", weights_only=True)
    check_tensors(content)
    return content


def check_tensors(content: Any, name: str = "") -> None:
    """Refuse tensors, in any depth of containers, on which a network's arithmetic would end in a traceback.

    Raises:
        UnknownTensor: there is one.
    """
    if isinstance(content, Tensor):
        if kind := _unknown_kind(content):
            raise UnknownTensor(f"{name or 'it'} is a tensor that {kind}, and no network here has one")
    elif isinstance(content, dict):
        for key, value in content.items():
            check_tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            check_tensors(value, f"{name}[{number}]")


def check_weights(state: dict[str, Tensor]) -> None:
    """Refuse what no network computes with: NaN, infinity, and numbers of 8 bits, which need a scale.

    Raises:
        ValueError: there is some; the text says where, and not in which file.
    """
    if packed := [name for name, value in state.items() if value.dtype in EIGHT_BITS]:
        raise ValueError(f"whole numbers of 8 bits, as of a quantised network, in {_some(packed)}")
    if broken := [name for name, value in state.items() if not bool(torch.isfinite(value).all())]:
        raise ValueError(f"NaN or infinity in {_some(broken)}")


def _some(names: list[str]) -> str:
    return f"{names[0]} (and {len(names) - 1} more)" if len(names) > 1 else names[0]


def _unknown_kind(value: Tensor) -> str:
    """Say what is unusual about a tensor, if something is."""
    if value.is_nested or value.layout != torch.strided:
        return "is sparse or nested"
    if value.is_meta:
        return "has no content"
    if value.is_quantized or value.dtype not in KINDS:
        return f"holds numbers of the type {str(value.dtype).removeprefix('torch.')}"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes() + SMALL:
        return f"repeats a few numbers to {value.numel():,}"
    return ""
