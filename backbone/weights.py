"""ImageNet weights, those of drawn walkers, or a file of the user's, into a two-stream network."""

from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.models import ResNet18_Weights, ResNet50_Weights

if TYPE_CHECKING:
    from backbone.two_stream import TwoStream

IMAGENET = {"resnet50": ResNet50_Weights.IMAGENET1K_V1, "resnet18": ResNet18_Weights.IMAGENET1K_V1}

# Made by `a3d pretrain` on drawn walkers without clutter; what ImageNet's are to a ResNet, at its size. A network
# without a flow stream has a file of its own: what follows the two streams was trained on their sum.
PRETRAINED = Path(__file__).parent / "pretrained"
SYNTHETIC = {"small": {True: PRETRAINED / "small.pt", False: PRETRAINED / "small_without_flow.pt"}}

# A torchvision ResNet's parts and where each goes in image_stream (Table I) and high_level (Table III).
LOW_LEVEL = {"conv1": "0", "bn1": "1", "layer1": "4"}
HIGH_LEVEL = {"layer2": "0", "layer3": "1", "layer4": "2"}


def load_weights(network: "TwoStream", name: str, weights: str) -> None:
    """Load `weights` into the network in place.

    Args:
        network: a network built by the name `name`.
        name: its name in the registry.
        weights: `imagenet`, `synthetic` (which comes with the library), or the path of a file that holds a
            torchvision state dict of the same network or a state dict of `TwoStream` itself.

    Raises:
        ValueError: there are no such weights for this network, they can't be fetched, or the file is
            missing, damaged or of another network.
    """
    with_flow = network.flow_stream is not None
    state = _named_state(name, weights, with_flow)
    try:
        if "conv1.weight" in state:
            state = two_stream_state(state, with_flow=with_flow)
        elif not with_flow:
            state = {key: value for key, value in state.items() if not key.startswith("flow_stream.")}
        network.load_state_dict(state)
    except (RuntimeError, IndexError) as error:  # IndexError: a conv1 without colours to average
        reason = shorten(str(error), 600, placeholder=" ...")  # PyTorch names every layer
        raise ValueError(f"the weights {weights!r} do not fit the backbone {name!r}: {reason}") from error


def two_stream_state(resnet: dict[str, Tensor], *, with_flow: bool) -> dict[str, Tensor]:
    """Map a torchvision ResNet's state dict to that of `TwoStream`.

    F_flow gets F_img's weights; its conv1 (64, 2, 7, 7) gets the RGB filters averaged over colour.
    """
    state: dict[str, Tensor] = {}
    for key, value in resnet.items():
        part, _, rest = key.partition(".")
        if part in HIGH_LEVEL:
            state[f"high_level.{HIGH_LEVEL[part]}.{rest}"] = value
        elif part in LOW_LEVEL:
            state[f"image_stream.{LOW_LEVEL[part]}.{rest}"] = value
            if with_flow:
                flow_value = value.mean(1, keepdim=True).repeat(1, 2, 1, 1) if part == "conv1" else value
                state[f"flow_stream.{LOW_LEVEL[part]}.{rest}"] = flow_value
    return state


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a file of tensors by name, without running any code that it may hold.

    Raises:
        ValueError: the file is missing, damaged, holds other things than tensors, or NaN.
    """
    if not path.is_file():
        raise ValueError(f"there is no weights file at {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for damaged files
        raise ValueError(f"{path} can't be read as weights (is it truncated?): {error}") from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise ValueError(f"{path} is no state dict: expected tensors by name")
    broken = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise ValueError(f"{path} holds NaN or infinity in {broken[0]} (and {len(broken) - 1} more)")
    return state


def _named_state(name: str, weights: str, with_flow: bool) -> dict[str, Tensor]:
    if weights == "imagenet":
        return _imagenet_state(name)
    if weights == "synthetic":
        if name not in SYNTHETIC:
            raise ValueError(f"there are no synthetic weights for {name!r}; known: {', '.join(SYNTHETIC)}")
        return read_state(SYNTHETIC[name][with_flow])
    return read_state(Path(weights))


def _imagenet_state(name: str) -> dict[str, Tensor]:
    if name not in IMAGENET:
        raise ValueError(f"there are no ImageNet weights for {name!r}; known: {', '.join(IMAGENET)}")
    url = IMAGENET[name].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The file's name ends in the first digits of its hash.
            torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2])
        except (OSError, RuntimeError) as error:  # no network, no room, or another hash
            raise ValueError(
                f"the ImageNet weights of {name} can't be fetched ({error}). On a machine with a network, "
                f"download {url}, put the file at {path}, and run this again; or give its path as the weights."
            ) from error
    return read_state(path)
