"""Numbers on a device: whether one can be read without waiting for all that was begun before it."""

from collections.abc import Mapping

import torch
from torch import Tensor

# Devices whose numbers are there when the next line runs. On any other, reading one waits for the device.
FREE = frozenset({"cpu"})


def is_free(tensor: Tensor) -> bool:
    """Tell whether a tensor's numbers can be read at no cost; never in a program that is compiled or exported."""
    return tensor.device.type in FREE and not torch.compiler.is_compiling()


def read(values: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Return numbers by name, those of all tensors (of one element each) in one transfer."""
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    if not tensors:
        return {name: float(value) for name, value in values.items()}
    device = next((value.device for value in tensors.values() if not is_free(value)), torch.device("cpu"))
    floats = [value.detach().double().reshape(()).to(device, non_blocking=True) for value in tensors.values()]
    stacked = torch.stack(floats)
    numbers = dict(zip(tensors, stacked.tolist(), strict=True))
    return {name: numbers[name] if name in numbers else float(value) for name, value in values.items()}
