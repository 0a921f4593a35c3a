"""Files of tensors and arrays: read without running code from the file, with checks for damage."""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbone.files import atomic_file
from backbone.reading import SMALL, check_archive

KINDS = {
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
}  # fmt: skip
EIGHT_BITS = (torch.int8, torch.uint8)


class UnknownTensor(ValueError):
    """A file holds a tensor of a kind that no network here has; the message names the tensor, not the file."""


def save_tensors(path: Path, values: Any) -> None:
    """Write values with `torch.save`, atomically.

    Raises:
        OSError: the file can't be written; if the disk is full, the message says so.
    """
    with atomic_file(path) as file:
        torch.save(values, file)


def load_tensors(path: Path) -> Any:
    """Read a file of `torch.save`: tensors, numbers, texts and containers of them, on the CPU.

    Checksums are compared here because torch ignores those in the file: it would read damaged weights without an
    error.

    Raises:
        UnknownTensor: a tensor is sparse, nested, quantised, complex, without content, or repeats its numbers.
        zipfile.BadZipFile: a part of the file would grow too much, or its checksum is wrong.
        Exception: other errors that torch raises for damaged files, and for files with code, which is not run.
    """
    if zipfile.is_zipfile(path):
        check_archive(path)
    with warnings.catch_warnings():  # warnings about kinds of tensors that are refused below
        warnings.simplefilter("ignore", UserWarning)
        content = torch.load(path, map_location="cpu", weights_only=True)
    check_tensors(content)
    return content


def check_tensors(content: Any, name: str = "") -> None:
    """Refuse kinds of tensors, at any depth of containers, that networks can't compute with.

    Raises:
        UnknownTensor: the content holds such a tensor.
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
    """Refuse weights that are NaN or infinite, or numbers of 8 bits, which would need a scale.

    Raises:
        ValueError: a tensor holds such numbers; the message names the tensor, not the file.
    """
    if packed := [name for name, value in state.items() if value.dtype in EIGHT_BITS]:
        raise ValueError(f"whole numbers of 8 bits, as of a quantised network, in {_some(packed)}")
    if broken := [name for name, value in state.items() if not _is_finite(value)]:
        raise ValueError(f"NaN or infinity in {_some(broken)}")


def _is_finite(value: Tensor) -> bool:
    """Return whether no number is NaN or infinite: their least and largest say so, a tenth of the time of each."""
    if not value.is_floating_point() or not value.numel():
        return True
    return bool(torch.stack(value.aminmax()).isfinite().all())


def _some(names: list[str]) -> str:
    return f"{names[0]} (and {len(names) - 1} more)" if len(names) > 1 else names[0]


def _unknown_kind(value: Tensor) -> str:
    """Describe why a tensor is of an unknown kind; empty for a usual tensor."""
    if value.is_nested or value.layout != torch.strided:
        return "is sparse or nested"
    if value.is_meta:
        return "has no content"
    if value.is_quantized or value.dtype not in KINDS:
        return f"holds numbers of the type {str(value.dtype).removeprefix('torch.')}"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes() + SMALL:
        return f"repeats a few numbers to {value.numel():,}"
    return ""
