"""Backbones of the user's own: a torch.nn.Module named `module:name`, as a two-stream network."""

from functools import partial
from numbers import Integral

import torch
from torch import Tensor, nn

from backbone.own import make_own, shape_of
from backbone.two_stream import RGB_MEAN, RGB_STD, TwoStream

# Pixels of the frames that a network is tried on: height, width.
TRIAL = (128, 64)


class OwnNetwork(nn.Module):
    """A network of the user's own, whose feature maps are checked.

    Args:
        name: the network's `module:name`, for the error.
        network: takes frames, float (N, 3, H, W), and returns maps, float (N, C, h, w).
        num_channels: C.
        stride: h is H / stride and w is W / stride, both rounded up.
    """

    def __init__(self, name: str, network: nn.Module, num_channels: int, stride: int):
        super().__init__()
        self.name = name
        self.network = network
        self.expected = num_channels, stride

    def forward(self, frames: Tensor) -> Tensor:
        """Return the maps of frames.

        Raises:
            ValueError: the maps have another shape than the network's channels and stride say.
        """
        maps: Tensor = self.network(frames)
        if torch.compiler.is_compiling():  # an exported model has been run before
            return maps
        num_channels, stride = self.expected
        wanted = (len(frames), num_channels, *(-(-size // stride) for size in frames.shape[2:]))
        _check(self.name, frames, maps, wanted)
        return maps


def build_own_network(name: str, *, with_flow: bool) -> TwoStream:
    """Make the user's own network `module:name`.

    Args:
        name: a class, or a function, that is called without arguments and returns a torch.nn.Module. The module
            takes frames, float (N, 3, H, W), normalised by its attributes `pixel_mean` and `pixel_std` (by default
            ImageNet's), and returns maps, float (N, C, H / stride, W / stride), sizes rounded up. If it lacks
            the attributes `num_channels`, C, and `stride`, they are measured on frames of 128 x 64. A `TwoStream`
            is used as it is; its maps are checked, too.
        with_flow: whether the network has a flow stream, which only a `TwoStream` can have; if False, that of a
            `TwoStream` is removed.

    Raises:
        ValueError: unknown name, an object that is no network, or maps of another shape.
    """
    network = make_own(name, "backbone", nn.Module)
    if isinstance(network, TwoStream):
        if not with_flow:
            network.flow_stream = None
        network.register_forward_hook(partial(_check_clips, name))
    else:
        network = _two_stream(name, network)
    if with_flow and network.flow_stream is None:
        raise ValueError(
            f"the backbone {name} has no flow stream: leave the flow out (--backbone.flow None), or return a "
            "backbone.two_stream.TwoStream with one"
        )
    return network


def _two_stream(name: str, network: nn.Module) -> TwoStream:
    num_channels, stride = getattr(network, "num_channels", None), getattr(network, "stride", None)
    if num_channels is None or stride is None:
        found_channels, found_stride = _try_out(name, network)
        num_channels, stride = num_channels or found_channels, stride or found_stride
    for attribute, value in (("num_channels", num_channels), ("stride", stride)):
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{attribute} of the backbone {name} must be a whole number above 0, got {value!r}")
    first_words = {key.partition(".")[0] for key in network.state_dict()}
    return TwoStream(
        OwnNetwork(name, network, num_channels, stride),
        None,
        nn.Identity(),
        num_channels,
        stride,
        published={word: f"image_stream.network.{word}" for word in first_words},  # a file of its own state
        pixel_mean=getattr(network, "pixel_mean", RGB_MEAN),
        pixel_std=getattr(network, "pixel_std", RGB_STD),
    )


def _try_out(name: str, network: nn.Module) -> tuple[int, int]:
    """Return a network's channels and stride."""
    was_training = network.training
    with torch.no_grad():
        maps = network.eval()(torch.zeros(1, 3, *TRIAL))
    network.train(was_training)
    shape = shape_of(maps)
    if isinstance(shape, tuple) and len(shape) == 4 and shape[0] == 1 and shape[2]:
        stride = round(TRIAL[0] / shape[2])
        if shape[2:] == tuple(-(-size // stride) for size in TRIAL):
            return shape[1], stride
    raise ValueError(
        f"the backbone {name} made {shape} of frames {(1, 3, *TRIAL)}: maps (1, C, h, w) are needed, whose height "
        "and width are those of the frames divided by one whole number, rounded up"
    )


def _check_clips(name: str, network: TwoStream, inputs: tuple[Tensor, ...], maps: Tensor) -> None:
    clip = inputs[0]
    if not torch.compiler.is_compiling():
        _check(name, clip, maps, (len(clip), network.num_channels, *network.feature_size(*clip.shape[2:])))


def _check(name: str, given: Tensor, maps: object, wanted: tuple[int, ...]) -> None:
    if shape_of(maps) != wanted:
        raise ValueError(
            f"the backbone {name} made {shape_of(maps)} of {tuple(given.shape)}, where its channels and stride "
            f"mean {wanted}: correct its attributes num_channels and stride, its padding, or the size of "
            "the frames (--load.height, --load.width)"
        )
