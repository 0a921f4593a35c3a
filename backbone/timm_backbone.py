"""Backbones of timm (PyTorch Image Models) by name: `timm:<name>`.

A model is built by the first of two rules that fits it:

1. **Two streams**, if timm runs the model as a plain sequence of parts on NCHW maps. The sequence is cut after the
   first stage that ends at a quarter of the clip's height and width, or after the first stage if none does. The
   part before the cut is F_img, a copy of it with 2 input channels is F_flow, and the part after the cut is F_g.
   The feature map is the last of timm's `features_only`; if the model has a 1 x 1 convolution between the last
   stage and its pooling, the output of that convolution (EfficientNet, MobileNetV2: 1,280 channels instead of
   320).
2. **An early sum** otherwise: F_img is the identity, F_flow a 3 x 3 convolution of the flow to 3 channels, F_g the
   whole model on the sum. The convolution's weights start at 0, so that the model sees the image alone at first;
   their gradient is not 0, so that they learn. The feature map is the last of timm's `forward_intermediates`,
   after the model's final norm, without class and register tokens.

The last stage's stride is 1 ("last stage stride 1", section III-E) if timm accepts an `output_stride` of 16 for
the model. timm then dilates that stage, which is undone here: the paper does not dilate, and so `timm:resnet18`
equals `resnet18`. Other models keep their own stride. A clip whose sides are not multiples of the stride is padded
with zeros at the right and at the bottom. Pixels are normalised by the mean and deviation of the model's own
weights.

The tests cover small models of these families. Rule 1, stride 16: ResNet, ResNeXt, RegNet, EfficientNet,
MobileNetV3, ConvNeXt; rule 1, stride 32: DenseNet. Rule 2: ViT (16), XCiT (8), Swin, MambaOut (32). Models
that take images of one size only are refused (BEiT, CaiT, MaxViT, MLP-Mixer), and so is Inception, which does not
pad its maps. Of the 98 families of timm 1.0.31, by one model of each, 45 fit rule 1, 29 fit rule 2, and 24 are
refused.
"""

from collections import OrderedDict
from typing import Any

import timm
import torch
from timm.layers.format import Format
from timm.models import FeatureListNet
from timm.models.efficientnet import EfficientNet, EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn
from torch.nn import functional

from backbone.timm_names import check_name
from backbone.two_stream import RGB_MEAN, RGB_STD, TwoStream

OUTPUT_STRIDE = 16  # the paper's
CUT_AT = 4  # pixels to a cell where the streams are added (Table I)

Settings = dict[str, Any]  # keywords of timm.create_model

# Settings that let models take images of any size; a model gets the first that it accepts.
ANY_SIZE: tuple[Settings, ...] = (
    {"output_stride": OUTPUT_STRIDE},
    {"dynamic_img_size": True},
    {"strict_img_size": False},
    {},
)


class PadToMultiple(nn.Module):
    """Pads maps (N, C, H, W) with zeros, right and below, to sides that are multiples of a number."""

    def __init__(self, multiple: int):
        super().__init__()
        self.multiple = multiple

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        height, width = maps.shape[-2:]
        if height % self.multiple == 0 and width % self.multiple == 0:
            return maps
        return functional.pad(maps, (0, -width % self.multiple, 0, -height % self.multiple))


class LastMap(nn.Module):
    """A whole model of timm that returns its last feature map."""

    def __init__(self, model: nn.Module, multiple: int):
        super().__init__()
        self.pad = PadToMultiple(multiple)
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Float (N, 3, H, W) -> float (N, C_g, H_g, W_g)."""
        last = self.model.forward_intermediates(  # type: ignore[operator]
            self.pad(images), indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        maps: Tensor = last[0]
        return maps


def build_timm(name: str, *, with_flow: bool = True) -> TwoStream:
    """Build a model of timm as a two-stream network, from scratch.

    Args:
        name: name in timm, with or without a tag of weights: resnet18, resnet18.a1_in1k.
        with_flow: whether the network has a flow stream F_flow.

    Raises:
        ValueError: unknown name, or a model without a spatial feature map for images of any size.
    """
    check_name(name)
    return _in_two(name, with_flow) or _early_sum(name, with_flow)


def _in_two(name: str, with_flow: bool) -> TwoStream | None:
    """Build the network by the first rule; return None if the rule does not fit the model."""
    stride: Settings = {"output_stride": OUTPUT_STRIDE}
    if _sketch(name, features_only=True, **stride) is None:
        stride = {}
    if _sequence(_sketch(name, features_only=True, **stride)) is None:
        return None
    model = _sequence(timm.create_model(name, features_only=True, **stride))
    # The same model on two channels, with its own stride, which does not affect the first stages.
    twin = _sequence(timm.create_model(name, features_only=True, in_chans=2))
    assert model is not None
    assert twin is not None
    _undilate(model, twin)
    names, reductions = list(model), model.feature_info.reduction()
    last_of_low = list(model.return_layers)[reductions.index(CUT_AT) if CUT_AT in reductions else 0]
    cut = names.index(last_of_low) + 1
    pad = ("pad", PadToMultiple(reductions[-1]))
    image, flow = (nn.Sequential(OrderedDict([pad, *list(net.items())[:cut]])) for net in (model, twin))
    head = _last_convolution(name)
    high_level = nn.Sequential(OrderedDict([*list(model.items())[cut:], *head]))
    try:
        _check_streams(image, flow, reductions[-1])
        num_channels = _measured_channels(nn.Sequential(image, high_level), reductions[-1])
    except ValueError:
        return None
    published = {}
    for number, part in enumerate(names):
        place = f"{'image_stream' if number < cut else 'high_level'}.{part}"
        published[part] = place
        # features_only renames stages.0 to stages_0.
        for index in (index for index, letter in enumerate(part) if letter == "_"):
            published[f"{part[:index]}.{part[index + 1 :]}"] = place
    published |= {part: f"high_level.{part}" for part, _ in head}
    return TwoStream(
        image, flow if with_flow else None, high_level, num_channels, reductions[-1], published, *_pixels(name)
    )


def _early_sum(name: str, with_flow: bool) -> TwoStream:
    """Build the network by the second rule.

    Raises:
        ValueError: the model has no feature map, or none for images of other sizes than its own.
    """
    settings = next((some for some in ANY_SIZE if _sketch(name, num_classes=0, **some) is not None), {})
    model: Any = timm.create_model(name, num_classes=0, **settings)
    model.prune_intermediate_layers(1, prune_norm=False, prune_head=True)
    if "output_stride" in settings:
        _undilate(model, timm.create_model(name, num_classes=0))
    stride = int(model.feature_info[-1]["reduction"])
    high_level = LastMap(model, stride)
    try:
        num_channels = _measured_channels(high_level, stride)
    except ValueError as error:
        raise ValueError(f"timm:{name} can't be used: {error}") from error
    flow_stream = nn.Conv2d(2, 3, kernel_size=3, padding=1, bias=False)
    nn.init.zeros_(flow_stream.weight)
    published = {key: f"high_level.model.{key}" for key in model.state_dict()}
    return TwoStream(
        nn.Identity(),
        flow_stream if with_flow else None,
        high_level,
        num_channels,
        stride,
        published,
        *_pixels(name),
    )


def _last_convolution(name: str) -> list[tuple[str, nn.Module]]:
    """Return the 1 x 1 convolution between last stage and pooling, with its norm, by name; empty without one.

    In MobileNetV3 the convolution comes after the pooling, and so is a part of the classifier.
    """
    whole: Any = _sketch(name, num_classes=0)
    if not isinstance(whole, EfficientNet) or not isinstance(whole.conv_head, nn.Conv2d):
        return []
    whole = timm.create_model(name, num_classes=0)
    return [("conv_head", whole.conv_head), ("bn2", whole.bn2)]


def _pixels(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return the mean and the standard deviation of RGB in [0, 1] that the model's published weights expect."""
    published = timm.models.get_pretrained_cfg(name)
    if published is None:
        return RGB_MEAN, RGB_STD
    (red, green, blue), (red_std, green_std, blue_std) = published.mean, published.std
    return (red, green, blue), (red_std, green_std, blue_std)


def _sketch(name: str, **settings: Any) -> nn.Module | None:
    """Build a model without memory for its weights; return None if the model does not accept the settings."""
    try:
        with torch.device("meta"):
            return timm.create_model(name, **settings)
    except (TypeError, AssertionError):  # an unknown keyword; a value that the model does not accept
        return None


def _sequence(network: nn.Module | None) -> FeatureListNet | None:
    """Return a `features_only` network of timm as a sequence of parts on NCHW maps, or None if it is not one."""
    if isinstance(network, EfficientNetFeatures | MobileNetV3Features):  # sequences, too, but of other classes
        everything = tuple(range(len(network.feature_info)))
        return FeatureListNet(network, out_indices=everything, flatten_sequential=True)
    if isinstance(network, FeatureListNet) and network.output_fmt == Format.NCHW:
        return network
    return None


def _undilate(model: nn.Module, twin: nn.Module) -> None:
    """Undo the dilation that came with the output stride, by the values of the twin, which has its own stride."""
    others = dict(twin.named_modules())
    for name, module in model.named_modules():
        other = others.get(name)
        if isinstance(module, nn.Conv2d) and isinstance(other, nn.Conv2d) and module.dilation != other.dilation:
            module.dilation, module.padding = other.dilation, other.padding


def _check_streams(image: nn.Module, flow: nn.Module, stride: int) -> None:
    """Check that the streams differ in their input channels only, and give maps of equal shape.

    Raises:
        ValueError: the streams differ otherwise.
    """
    ours, theirs = image.state_dict(), flow.state_dict()
    alike = ours.keys() == theirs.keys() and all(
        value.shape == theirs[key].shape or (value.shape[1:2], theirs[key].shape[1:2]) == ((3,), (2,))
        for key, value in ours.items()
    )
    if not alike or _run(image, 3, stride) != _run(flow, 2, stride):
        raise ValueError("the streams are not alike")


def _measured_channels(network: nn.Module, stride: int) -> int:
    """Return the number of channels of the network's feature map, measured on an image of zeros.

    Raises:
        ValueError: the map does not have one cell for `stride` x `stride` pixels.
    """
    shape = _run(network, 3, stride)
    if shape[2:] != (8, 4):
        raise ValueError(
            f"for {8 * stride} x {4 * stride} pixels it gives a map of {tuple(shape[2:])} cells, expected (8, 4)"
        )
    return shape[1]


def _run(network: nn.Module, channels: int, stride: int) -> tuple[int, ...]:
    """Return the shape of the network's output for an image of zeros, 8 x 4 strides large.

    Raises:
        ValueError: the network can't take that size, or its output is not a feature map.
    """
    network.eval()  # leaves the running statistics alone
    size = (8 * stride, 4 * stride)
    try:
        with torch.no_grad():
            maps = network(torch.zeros(1, channels, *size))
    except Exception as error:  # models raise many types
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"it does not take {size[0]} x {size[1]} pixels ({reason})") from error
    finally:
        network.train()
    if not isinstance(maps, Tensor) or maps.ndim != 4:
        raise ValueError("it gives no spatial feature map")
    return tuple(maps.shape)
