"""The registry of backbones, and how one is built from its configuration."""

import importlib

import torch
from torch import nn

from backbone.config import TIMM, BackboneConfig
from backbone.own import is_own
from backbone.own_network import build_own_network
from backbone.two_stream import TwoStream
from backbone.weights import load_weights

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
