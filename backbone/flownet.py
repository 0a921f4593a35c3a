"""FlowNetS (Dosovitskiy et al., ICCV 2015): optical flow by one plain convolutional network.

The user has to download the published weights, because no address of them is stable: the file is the one that
`$A3D_FLOWNETS` names, or else the only one with a published name in `checkpoints/` of `torch.hub.get_dir()`, which
is `~/.cache/torch/hub`. The preprocessing is chosen by the tensors in the file:

| published as | recognised by | mean subtracted from RGB in [0, 1] |
|---|---|---|
| `flownets_EPE1.951.pth*`, by Clement Pinard | no biases after conv6_1 | 0.411, 0.432, 0.45 |
| `flownets_bn_EPE2.459.pth*`, by Clement Pinard | the same, and batch norm (`conv1.1.weight`) | the same |
| `flownets_from_caffe.pth*`, converted by Kaixhin | its name has `from_caffe` | the same, from BGR |
| `FlowNet2-S_checkpoint.pth*`, by NVIDIA | biases (`predict_flow6.bias`) | each channel's mean over the pair |

0.411, 0.432, 0.45 are the data's means of blue, green and red. Pinard's networks were trained with these
subtracted from red, green and blue, and his `run_inference.py` does so too (issues 80 and 101 of his repository).
The network's output times 20, or times `div_flow` if the file has it, is the flow in pixels.

None of these files was available when this was written: the names of tensors, the channels and the preprocessing
come from the two repositories' code and from the sizes of the published files (`tests/test_flownet.py`). If a file
is found, `tests/test_flow.py` measures the network on known motion. The flow cache's key has the method's name,
not the file: use another cache for another file.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from backbone.raft import flow_of_batches, network_device, pad
from backbone.reading import pass_on_lack_of_memory
from backbone.tensor_file import UnknownTensor, check_weights, load_tensors

# Six halvings: every side must be a multiple of this.
STEP = 64
PUBLISHED_FILES = ("flownets_*.pth*", "FlowNet2-S_checkpoint.pth*")
LARGEST_UNIT = 1e6  # pixels: no frame is that wide
PINARD_MEAN = (0.411, 0.432, 0.45)

# The contracting part: output channels, kernel size, stride. The two frames are the six input channels.
CONVOLUTIONS = {
    "conv1": (64, 7, 2),
    "conv2": (128, 5, 2),
    "conv3": (256, 5, 2),
    "conv3_1": (256, 3, 1),
    "conv4": (512, 3, 2),
    "conv4_1": (512, 3, 1),
    "conv5": (512, 3, 2),
    "conv5_1": (512, 3, 1),
    "conv6": (1024, 3, 2),
    "conv6_1": (1024, 3, 1),
}
# The expanding part. At a level, 1 / 2^level of the frames' size: the channels of the features that come from the
# coarser level, and the convolution whose output they are concatenated with.
LEVELS = {5: (512, "conv5_1"), 4: (256, "conv4_1"), 3: (128, "conv3_1"), 2: (64, "conv2")}


class FlowNetS(nn.Module):
    """FlowNetSimple, figure 2 of the paper: ten convolutions down, then refined in four steps (figure 3).

    Args:
        batch_norm: whether a batch norm follows each of the ten convolutions, which then have no bias.
        biases: whether the layers of the expanding part have biases.
    """

    def __init__(self, *, batch_norm: bool, biases: bool):
        super().__init__()
        channels = 6
        for name, (out, size, stride) in CONVOLUTIONS.items():
            convolution = nn.Conv2d(channels, out, size, stride, size // 2, bias=not batch_norm)
            norm = [nn.BatchNorm2d(out)] if batch_norm else []
            self.add_module(name, nn.Sequential(convolution, *norm, nn.LeakyReLU(0.1)))
            channels = out
        self.add_module("predict_flow6", nn.Conv2d(channels, 2, 3, padding=1, bias=biases))
        for level, (out, beside) in LEVELS.items():
            up = nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1, bias=biases)
            self.add_module(f"deconv{level}", nn.Sequential(up, nn.LeakyReLU(0.1)))
            self.add_module(
                f"upsampled_flow{level + 1}_to_{level}",
                nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1, bias=False),
            )
            channels = CONVOLUTIONS[beside][0] + out + 2
            self.add_module(f"predict_flow{level}", nn.Conv2d(channels, 2, 3, padding=1, bias=biases))

    def forward(self, pair: Tensor) -> Tensor:
        """Estimate the flow from the first three channels to the last three.

        Args:
            pair: float (B, 6, H, W), the channels of two frames, one after the other; H and W are multiples of 64.

        Returns:
            float (B, 2, H / 4, W / 4), x before y, in pixels of the full size divided by `div_flow`.
        """
        features = pair
        kept: dict[str, Tensor] = {}
        for name in CONVOLUTIONS:
            features = kept[name] = self.get_submodule(name)(features)
        flow: Tensor = self.get_submodule("predict_flow6")(features)  # (B, 2, H / 64, W / 64)
        for level, (_, beside) in LEVELS.items():
            below = self.get_submodule(f"deconv{level}")(features)
            flow_below = self.get_submodule(f"upsampled_flow{level + 1}_to_{level}")(flow)
            features = torch.cat([kept[beside], below, flow_below], dim=1)
            flow = self.get_submodule(f"predict_flow{level}")(features)  # (B, 2, H / 2^level, W / 2^level)
        return flow


@dataclass(frozen=True)
class FlowNetEstimate:
    """A network with published weights and their preprocessing; a `backbone.raft.Estimate`.

    Attributes:
        network: FlowNetS, on the frames' device.
        mean: the mean that is subtracted from each channel in [0, 1]; None subtracts the pair's own mean.
        blue_first: whether the network expects BGR instead of RGB.
        div_flow: pixels per unit of the network's output.
    """

    network: FlowNetS
    mean: tuple[float, float, float] | None
    blue_first: bool
    div_flow: float

    def __call__(self, before: Tensor, after: Tensor) -> Tensor:
        """Return the flow, a little larger than the frames if their sides are not multiples of 64."""
        pair = torch.stack([before, after], dim=1) / 255  # (B, 2, 3, H, W)
        if self.blue_first:
            pair = pair.flip(2)
        if self.mean is None:
            pair = pair - pair.mean((1, 3, 4), keepdim=True)
        else:
            pair = pair - pair.new_tensor(self.mean).view(3, 1, 1)
        quarter = self.div_flow * self.network(pad(pair.flatten(1, 2), STEP, STEP))
        return functional.interpolate(quarter, scale_factor=4, mode="bilinear", align_corners=False)


def flownet_s(frames: np.ndarray) -> np.ndarray:
    """Estimate flow by FlowNetS, a `backbone.flow.FlowMethod`; the weights are read at the first call.

    Raises:
        ValueError: there is no file of weights or more than one, or its network is not FlowNetS.
    """
    device = network_device()
    return flow_of_batches(frames, load_flownet(weights_file(), device), device)


def weights_file() -> Path:
    """Return the file that holds the weights: `$A3D_FLOWNETS`, or the published one in torch.hub's folder.

    Raises:
        ValueError: there is no such file, or more than one.
    """
    if own := os.environ.get("A3D_FLOWNETS"):
        if not Path(own).is_file():
            raise ValueError(f"$A3D_FLOWNETS is {own}, where there is no file. {_what_to_do()}")
        return Path(own)
    found = [
        path for pattern in PUBLISHED_FILES for path in sorted(_checkpoints().glob(pattern)) if path.is_file()
    ]
    if not found:
        raise ValueError(
            f"there are no weights of FlowNetS in {_checkpoints()} (looked for {', '.join(PUBLISHED_FILES)}). "
            + _what_to_do()
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(
            f"more than one file in {_checkpoints()} is of FlowNetS ({names}): name one in $A3D_FLOWNETS"
        )
    return found[0]


@cache
def load_flownet(path: Path, device: torch.device) -> FlowNetEstimate:
    """Return the network with a file's weights and their preprocessing (the table above).

    Raises:
        ValueError: the file is damaged, holds another network, or has NaN; the message names it and says what to
            do.
    """
    try:
        state, div_flow = _read(path)
        with torch.device("meta"):  # no numbers are drawn that the file's would replace
            network = FlowNetS(batch_norm="conv1.1.weight" in state, biases="predict_flow6.bias" in state)
        _check_fit(network, state)
    except ValueError as error:
        raise ValueError(f"{path} can't be used as weights of FlowNetS: {error}. {_what_to_do()}") from error
    network = network.to_empty(device="cpu")
    network.load_state_dict(state)
    blue_first = "from_caffe" in path.name
    own_mean = "predict_flow6.bias" in state and not blue_first
    return FlowNetEstimate(
        network=network.eval().requires_grad_(False).to(device),
        mean=None if own_mean else PINARD_MEAN,
        blue_first=blue_first,
        div_flow=div_flow,
    )


def _read(path: Path) -> tuple[dict[str, Tensor], float]:
    """Return tensors by name, and `div_flow`, of a state dict or of a checkpoint that holds one."""
    try:
        content = load_tensors(path)
    except UnknownTensor:
        raise
    except Exception as error:  # torch raises many types for damaged files
        pass_on_lack_of_memory(error)
        raise ValueError(f"it can't be read, or is damaged ({str(error).partition(chr(10))[0]})") from error
    div_flow: object = 20.0
    if isinstance(content, Mapping) and "state_dict" in content:
        div_flow = content.get("div_flow", div_flow)
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise ValueError("it holds other things than tensors by name")
    # DataParallel puts `module.` before names; num_batches_tracked only matters in training, and some files lack
    # it.
    state = {
        name.removeprefix("module."): value
        for name, value in content.items()
        if not name.endswith(".num_batches_tracked")
    }
    check_weights(state)
    # Some files hold div_flow as text, as it was given on a command line.
    try:
        scale = float(div_flow)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError, OverflowError):
        scale = math.nan
    if not 0 < scale < LARGEST_UNIT:
        what = repr(div_flow)[:50]
        raise ValueError(f"its div_flow is {what}, which must be a number above 0, of at most {LARGEST_UNIT:g}")
    return state, scale


def _check_fit(network: FlowNetS, state: dict[str, Tensor]) -> None:
    wanted = {name: value.shape for name, value in network.state_dict().items() if not name.endswith("_tracked")}
    if missing := [name for name in wanted if name not in state]:
        raise ValueError(f"{_some(missing)} is missing")
    if unknown := [name for name in state if name not in wanted]:
        raise ValueError(f"{_some(unknown)} is no part of the network")
    for name, shape in wanted.items():
        if state[name].shape != shape:
            raise ValueError(f"{name} is {tuple(state[name].shape)}, and must be {tuple(shape)}")


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} more)"


def _checkpoints() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _what_to_do() -> str:
    return (
        "Expected is flownets_EPE1.951.pth or flownets_bn_EPE2.459.pth (the README of "
        "https://github.com/ClementPinard/FlowNetPytorch has the links) or FlowNet2-S_checkpoint.pth.tar (that of "
        f"https://github.com/NVIDIA/flownet2-pytorch). Download one, put it into {_checkpoints()} or name it by "
        "$A3D_FLOWNETS, and run this again; or take another flow method."
    )
