"""Files of weights, PyTorch's and safetensors', read as tensors by name."""

from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from backbone.reading import pass_on_lack_of_memory
from backbone.tensor_file import UnknownTensor, check_tensors, check_weights, load_tensors

# Keys under which training scripts save the state dict, beside epoch, optimiser and so on.
WRAPPERS = ("state_dict", "model")
MOST_WRAPPERS = 3


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a file of tensors by name, without running code that the file may hold.

    Args:
        path: a .safetensors file, or a file of `torch.save` with any other ending: a state dict, a state dict
            under the key "state_dict" or "model", or the checkpoint.pt of a run, of which only the backbone is
            read.

    Raises:
        ValueError: the file is missing or damaged, or it holds something else than tensors, tensors of a kind that
            networks can't compute with, or NaN.
    """
    if not path.is_file():
        hint = f"; is it {path / 'checkpoint.pt'}?" if path.is_dir() else ""
        raise ValueError(f"there is no weights file at {path}{hint}")
    try:
        state = _load(path)
    except UnknownTensor as error:
        raise ValueError(f"{path} can't be used: {error}") from error
    except Exception as error:  # torch raises many types for damaged files, and advises to run code in them
        pass_on_lack_of_memory(error)
        raise ValueError(
            f"{path} can't be read as weights: it is truncated or damaged, of another kind than its ending says, "
            f"or holds more than tensors and numbers ({type(error).__name__})"
        ) from error
    state = _unwrapped(state)
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise ValueError(f"{path} is no state dict: expected tensors by name")
    try:
        check_weights(state)
    except ValueError as error:
        raise ValueError(f"{path} holds {error}") from error
    return state


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        state = safetensors.torch.load_file(path, device="cpu")
        check_tensors(state)
        return state
    return load_tensors(path)


def _unwrapped(state: Any, depth: int = 0) -> Any:
    """Return the state dict inside the wrappers of training scripts, or inside a run's checkpoint."""
    if not isinstance(state, dict) or depth == MOST_WRAPPERS:
        return state
    for wrapper in WRAPPERS:
        if isinstance(state.get(wrapper), dict):
            return _unwrapped(state[wrapper], depth + 1)
    if isinstance(tested := state.get("tested"), dict):  # a finished run's checkpoint: the averaged weights
        return {key: value for key, value in tested.items() if key.startswith("backbone.")}
    shared = state.get("shared")
    if isinstance(shared, dict) and isinstance(shared.get("representation"), dict):
        return {key: value for key, value in shared["representation"].items() if key.startswith("backbone.")}
    return state
