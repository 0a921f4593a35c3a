"""Loading of weights into a two-stream network: ImageNet's, those of drawn walkers, or a file of the user's."""

from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from backbone.config import TIMM
from backbone.weights_file import read_state
from backbone.weights_fit import best_fit, two_stream_state

if TYPE_CHECKING:
    from backbone.two_stream import TwoStream

# The names of torchvision's weights, version 1.
IMAGENET = {"resnet50": "ResNet50_Weights", "resnet18": "ResNet18_Weights"}

# Weights for the network small, made by `a3d pretrain` on drawn walkers without clutter. There is a separate file
# for the network without a flow stream, because the layers after the streams are trained on their sum.
PRETRAINED = Path(__file__).parent / "pretrained"
SYNTHETIC = {"small": {True: PRETRAINED / "small.pt", False: PRETRAINED / "small_without_flow.pt"}}

# Share of the network's parameters that a file has to fill; one that fills less is of another network.
SMALLEST_SHARE = 0.5


def load_weights(network: "TwoStream", name: str, weights: str) -> bool:
    """Load `weights` into the network in place.

    `imagenet` and `synthetic` have to fit exactly. From a file, all tensors that fit are loaded, and
    `network.weights_report` lists those that did not.

    Args:
        network: a network built by the name `name`.
        name: the network's name in the registry.
        weights: `imagenet`, `synthetic` (which comes with the library), or the path of a file: .pt, .pth or
            .safetensors with the state of the published model (torchvision's ResNets, timm's own names) or of
            `TwoStream` itself, or the checkpoint.pt of a run (`backbone.weights_fit` says how names are matched).

    Returns:
        Whether the weights are of a network that was trained with flow.

    Raises:
        ValueError: there are no such weights for this network, they can't be fetched, or the file is
            missing, damaged or of another network.
    """
    if weights == "imagenet":
        _load_exactly(network, name, weights, two_stream_state(network, _imagenet_state(name)))
        return False
    if weights == "synthetic":
        _load_exactly(network, name, weights, _synthetic_state(name, with_flow=network.flow_stream is not None))
        return True
    return _load_what_fits(network, name, Path(weights).expanduser())


def _load_exactly(network: "TwoStream", name: str, weights: str, state: dict[str, Tensor]) -> None:
    # Published models have no counterpart of an early sum's convolution of the flow, nor of the flow stream's
    # scale.
    extra = ("flow_stream.weight", "flow_scale")
    own = {key: value for key, value in network.state_dict().items() if key in extra}
    try:
        network.load_state_dict({**own, **state})
    except RuntimeError as error:
        reason = shorten(str(error), 600, placeholder=" ...")  # PyTorch names every layer
        raise ValueError(f"the weights {weights!r} do not fit the backbone {name!r}: {reason}") from error


def _load_what_fits(network: "TwoStream", name: str, path: Path) -> bool:
    found = read_state(path)
    state, report = best_fit(network, found)
    if report.share < SMALLEST_SHARE:
        raise ValueError(
            f"{path} does not fit the backbone {name!r}, less than half of which it would fill: "
            + "; ".join(report.lines)
        )
    network.load_state_dict(state, strict=False)
    network.weights_report = f"{path} into the backbone {name!r}:\n{report}"
    return any("flow_stream." in key for key in found)


def _synthetic_state(name: str, *, with_flow: bool) -> dict[str, Tensor]:
    if name not in SYNTHETIC:
        raise ValueError(
            f"there are no synthetic weights for {name!r}; known: {', '.join(SYNTHETIC)}. Take others, or none "
            "(--backbone.weights None)"
        )
    return read_state(SYNTHETIC[name][with_flow])


def imagenet_url(name: str) -> str:
    """Return where torchvision publishes the weights of a backbone in `IMAGENET`."""
    from torchvision import models  # it takes a second to import

    url: str = getattr(models, IMAGENET[name]).IMAGENET1K_V1.url
    return url


def _imagenet_state(name: str) -> dict[str, Tensor]:
    if name.startswith(TIMM):
        # timm takes seconds to import
        from backbone.timm_names import pretrained_state

        return pretrained_state(name.removeprefix(TIMM))
    if name not in IMAGENET:
        raise ValueError(
            f"there are no ImageNet weights for {name!r}; known: {', '.join(IMAGENET)}, and many of timm's "
            "models. Take a file, or none (--backbone.weights None)"
        )
    url = imagenet_url(name)
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
