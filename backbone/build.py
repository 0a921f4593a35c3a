"""The registry of backbones, and how one is built from its configuration."""

import importlib
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from backbone.two_stream import TwoStream
from backbone.weights import TIMM, load_weights


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


# Where the function stands that builds each; imported when it is asked for, as torchvision and timm take seconds.
BACKBONES = {
    "resnet50": "backbone.resnet:resnet50",
    "resnet18": "backbone.resnet:resnet18",
    "small": "backbone.small:small",
}


def build_backbone(config: BackboneConfig) -> TwoStream:
    """Build the network that `config` names and load its weights.

    Raises:
        ValueError: unknown name, or weights that can't be had (the message says what to do).
    """
    with_flow = config.flow is not None
    if config.name.startswith(TIMM):
        from backbone.timm_backbone import build_timm

        network = build_timm(config.name.removeprefix(TIMM), with_flow=with_flow)
    elif config.name in BACKBONES:
        module, _, function = BACKBONES[config.name].partition(":")
        network = getattr(importlib.import_module(module), function)(with_flow=with_flow)
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
