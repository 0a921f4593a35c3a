"""The registry of backbones, and how one is built from its configuration."""

import importlib
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from backbone.own import is_own
from backbone.own_network import build_own_network
from backbone.two_stream import TwoStream
from backbone.weights import TIMM, load_weights


@dataclass(frozen=True)
class BackboneConfig:
    """Settings of the backbone: its network, weights, optical flow and pooling."""

    name: str = "small"
    """Network: resnet50 (the paper's), resnet18, small (for the CPU), timm:<name>, as timm:convnext_atto, or
    module:name of your own torch.nn.Module (docs/your_own.md)."""
    weights: str | None = None
    """Initial weights: None (random), imagenet, synthetic (only for small, made by a3d pretrain), or the path of a
    file (.pt, .pth, .safetensors, or a run's checkpoint.pt); the command prints which of its tensors fitted."""
    frozen: bool = False
    """Keep the backbone's weights and running statistics as loaded, and train only the other networks."""
    flow: str | None = "dis-fast"
    """Optical-flow method (backbone/flow.py); None builds the network without a flow stream."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the backbone. auto: bfloat16 autocast if the hardware supports it, otherwise float32."""
    pooling: str = "mean"
    """Pooling of the feature map to the global feature f_g: mean (the paper's), gem (generalised mean), quality
    (QAN) or separate (spatial attention in each frame, then QAN)."""
    flow_scale: Literal["one", "learned"] = "one"
    """Factor of the flow stream before it is added to the image stream. one: 1 (equation 1); learned: a trained
    number. It starts at 0 if the weights are those of an image network, so that an untrained flow stream does not
    disturb the features of the image stream, and at 1 otherwise."""


# Each network's builder, as module:function. It is imported only when needed: torchvision and timm take seconds.
BACKBONES = {
    "resnet50": "backbone.resnet:resnet50",
    "resnet18": "backbone.resnet:resnet18",
    "small": "backbone.small:small",
}


def build_backbone(config: BackboneConfig) -> TwoStream:
    """Build the network that `config` names and load its weights.

    Raises:
        ValueError: unknown name, no such network of the user's own, or weights that are not available (the message
            says what to do).
    """
    with_flow = config.flow is not None
    if config.name.startswith(TIMM):
        from backbone.timm_backbone import build_timm

        network = build_timm(config.name.removeprefix(TIMM), with_flow=with_flow)
    elif config.name in BACKBONES:
        module, _, function = BACKBONES[config.name].partition(":")
        network = getattr(importlib.import_module(module), function)(with_flow=with_flow)
    elif is_own(config.name):
        network = build_own_network(config.name, with_flow=with_flow)
    else:
        raise ValueError(
            f"unknown backbone {config.name!r}; known: {', '.join(BACKBONES)}, {TIMM}<name>, "
            "or module:name of your own"
        )
    if config.flow_scale == "learned" and network.flow_stream is not None:
        network.flow_scale = nn.Parameter(torch.ones(()))
    if config.weights is not None:
        has_trained_flow = load_weights(network, config.name, config.weights)
        # A flow stream whose weights are all 0 (timm's early sum) adds nothing yet: a scale of 0 would also stop
        # its gradient.
        if network.flow_scale is not None and not has_trained_flow and _has_weights(network.flow_stream):
            nn.init.zeros_(network.flow_scale)
    return network.to(memory_format=torch.channels_last)


def _has_weights(network: nn.Module | None) -> bool:
    return network is not None and any(bool(value.any()) for value in network.parameters())
