"""The two-stream representation network (equation 1, Tables I to III), and a registry of its backbones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from backbone.weights import TIMM, load_weights

# ImageNet's mean and standard deviation, of RGB in [0, 1].
RGB_MEAN = (0.485, 0.456, 0.406)
RGB_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class BackboneConfig:
    """Which network turns pixels into a feature map, and that into the global feature."""

    name: str = "small"
    """resnet50 (the paper's), resnet18, small (for the CPU), or timm:<name>, as in timm:convnext_atto
    (backbone/timm_backbone.py)."""
    weights: str | None = None
    """None (from scratch), imagenet, synthetic (small's, made by a3d pretrain), or the path of a file (.pt, .pth,
    .safetensors, or a run's checkpoint.pt), of which it is printed what fitted."""
    frozen: bool = False
    """Leave the backbone's weights and running statistics as they are loaded; the rest is trained."""
    flow: str | None = "dis-fast"
    """The optical-flow method; None leaves the flow stream out (--backbone.flow None)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast where the hardware has it, else float32."""
    pooling: str = "mean"
    """How the feature map becomes f_g: mean (the paper's), gem (generalised mean), quality (QAN) or separate
    (spatial attention in each frame, then QAN)."""
    flow_scale: Literal["one", "learned"] = "one"
    """What the flow stream is multiplied by before it is added to the image stream. one: by 1 (equation 1);
    learned: by a trained number that starts at 0 where the weights are those of a network for images, so that an
    untrained flow stream does not spoil what they make of an image, and at 1 elsewhere."""


class TwoStream(nn.Module):
    """Equation 1: g = F_g(F_img(X) + F_flow(F)), frame by frame.

    Attributes:
        image_stream: F_img, the first part of the network on 3 channels (Table I).
        flow_stream: F_flow, the same on 2 channels (Table II), or None.
        high_level: F_g, the rest (Table III).
        num_channels: C_g, the channels of the feature map.
        stride: pixels of the input to one cell of the feature map.
        published: where a published model's tensors go here: from the first words of its names to those of ours,
            "layer2" to "high_level.0". What goes to image_stream goes to flow_stream, too.
        flow_scale: what the flow stream is multiplied by: a trained number, or None for 1.
        pixel_mean: what the image network expects: the mean of RGB in [0, 1], which is taken off.
        pixel_std: and the standard deviation, which is divided by.
        weights_report: what of a user's weights file fitted, in lines for people; empty without one.
    """

    def __init__(
        self,
        image_stream: nn.Module,
        flow_stream: nn.Module | None,
        high_level: nn.Module,
        num_channels: int,
        stride: int,
        published: Mapping[str, str] | None = None,
        pixel_mean: tuple[float, float, float] = RGB_MEAN,
        pixel_std: tuple[float, float, float] = RGB_STD,
    ):
        super().__init__()
        self.image_stream = image_stream
        self.flow_stream = flow_stream
        self.high_level = high_level
        self.num_channels = num_channels
        self.stride = stride
        self.published = dict(published or {})
        self.flow_scale: nn.Parameter | None = None
        self.pixel_mean = pixel_mean
        self.pixel_std = pixel_std
        self.weights_report = ""

    def forward(self, clip: Tensor, flow: Tensor | None = None) -> Tensor:
        """Return the feature map g.

        Args:
            clip: float (B, 3, L, H, W), normalised.
            flow: float (B, 2, L, H, W), pixels per frame; needed if there is a flow stream.

        Returns:
            float (B, C_g, L, H / stride, W / stride).

        Raises:
            ValueError: the inputs' shapes don't fit each other or the network.
        """
        self._check(clip, flow)
        features = self.image_stream(_frames_as_batch(clip))
        if self.flow_stream is not None and flow is not None:
            moving = self.flow_stream(_frames_as_batch(flow))
            features = features + (moving if self.flow_scale is None else self.flow_scale * moving)
        maps = self.high_level(features)  # (B * L, C_g, H_g, W_g)
        return maps.unflatten(0, (clip.shape[0], clip.shape[2])).transpose(1, 2)

    def feature_size(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Return (L_g, H_g, W_g) for clips of that many frames and pixels."""
        return num_frames, -(-height // self.stride), -(-width // self.stride)

    def _check(self, clip: Tensor, flow: Tensor | None) -> None:
        if clip.ndim != 5 or clip.shape[1] != 3:
            raise ValueError(f"clip must be (B, 3, L, H, W), got {tuple(clip.shape)}")
        if (flow is None) != (self.flow_stream is None):
            raise ValueError(
                "this network has a flow stream: give it flow (B, 2, L, H, W)"
                if flow is None
                else "this network was built without a flow stream: give it no flow"
            )
        if flow is not None and flow.shape != (clip.shape[0], 2, *clip.shape[2:]):
            raise ValueError(
                f"flow must be (B, 2, L, H, W) like the clip {tuple(clip.shape)}, got {tuple(flow.shape)}"
            )


def resnet50(*, with_flow: bool = True, stages: tuple[int, int, int, int] = (3, 4, 6, 3)) -> TwoStream:
    """Return the paper's network: 2,048 x 16 x 8 a frame at 256 x 128 (Tables I to III).

    `stages` counts the blocks of each stage; (3, 6, 4, 3) is what Table III prints, and fits no published
    weights.
    """
    return _from_resnet(lambda: ResNet(Bottleneck, list(stages)), with_flow)


def resnet18(*, with_flow: bool = True) -> TwoStream:
    """Return ResNet18 cut the same way: 512 x 16 x 8 a frame at 256 x 128."""
    return _from_resnet(lambda: ResNet(BasicBlock, [2, 2, 2, 2]), with_flow)


def small(*, with_flow: bool = True) -> TwoStream:
    """Return a network for the CPU: 64 x 16 x 8 a frame at 64 x 32, 18,000 parameters."""
    high_level = nn.Sequential(
        *_conv(16, 32, kernel_size=3, stride=2),
        # One cell at a time from here, so that a bin sees little of what lies outside it (13 pixels a cell).
        *_conv(32, 64, kernel_size=1),
        # No ReLU at the end: from scratch, cross entropy falls faster on centred features.
        *_conv(64, 64, kernel_size=1)[:-1],
    )
    flow_stream = _small_stream(in_channels=2) if with_flow else None
    network = TwoStream(_small_stream(in_channels=3), flow_stream, high_level, num_channels=64, stride=4)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


# A torchvision ResNet's parts and where each goes in image_stream (Table I) and high_level (Table III).
RESNET_PARTS = {
    "conv1": "image_stream.0",
    "bn1": "image_stream.1",
    "layer1": "image_stream.4",
    "layer2": "high_level.0",
    "layer3": "high_level.1",
    "layer4": "high_level.2",
}

BACKBONES: dict[str, Callable[..., TwoStream]] = {
    "resnet50": resnet50,
    "resnet18": resnet18,
    "small": small,
}


def build_backbone(config: BackboneConfig) -> TwoStream:
    """Build the network that `config` names and load its weights.

    Raises:
        ValueError: unknown name, or weights that can't be had (the message says what to do).
    """
    with_flow = config.flow is not None
    if config.name.startswith(TIMM):
        # timm takes seconds to import, and needs this module
        from backbone.timm_backbone import build_timm

        network = build_timm(config.name.removeprefix(TIMM), with_flow=with_flow)
    elif config.name in BACKBONES:
        network = BACKBONES[config.name](with_flow=with_flow)
    else:
        raise ValueError(f"unknown backbone {config.name!r}; known: {', '.join(BACKBONES)}, {TIMM}<name>")
    if config.flow_scale == "learned" and network.flow_stream is not None:
        network.flow_scale = nn.Parameter(torch.ones(()))
    if config.weights is not None:
        has_trained_flow = load_weights(network, config.name, config.weights)
        # A stream of zeros, timm's early sum, enters at 0 already: a scale of 0 would give it no gradient.
        if network.flow_scale is not None and not has_trained_flow and _has_weights(network.flow_stream):
            nn.init.zeros_(network.flow_scale)
    return network.to(memory_format=torch.channels_last)


def _has_weights(network: nn.Module | None) -> bool:
    return network is not None and any(bool(value.any()) for value in network.parameters())


def _from_resnet(build: Callable[[], ResNet], with_flow: bool) -> TwoStream:
    image, flow = build(), build()
    flow.conv1 = nn.Conv2d(2, 64, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(flow.conv1.weight, mode="fan_out", nonlinearity="relu")
    _remove_stride(image.layer4[0])
    return TwoStream(
        _low_level(image),
        _low_level(flow) if with_flow else None,
        nn.Sequential(image.layer2, image.layer3, image.layer4),
        num_channels=image.fc.in_features,
        stride=16,
        published=RESNET_PARTS,
    )


def _low_level(resnet: ResNet) -> nn.Sequential:
    return nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, resnet.layer1)


def _remove_stride(block: nn.Module) -> None:
    """Make a stage's first block keep the map's size ("last stage stride 1", section III-E)."""
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)


def _small_stream(in_channels: int) -> nn.Sequential:
    return nn.Sequential(*_conv(in_channels, 16, kernel_size=5, stride=2), *_conv(16, 16, kernel_size=3))


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
    return convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)


def _frames_as_batch(clip: Tensor) -> Tensor:
    """(B, C, L, H, W) -> (B * L, C, H, W): a view where the memory is (B, L, H, W, C)."""
    return clip.transpose(1, 2).flatten(0, 1)
