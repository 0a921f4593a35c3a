"""Settings of the networks and names of choices, which can be read without torch."""

from dataclasses import dataclass
from typing import Literal

TIMM = "timm:"  # prefix of the names of timm's models

Compared = Literal["concatenation", "global", "parts", "learned"]
Distance = Literal["squared", "euclidean"]


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
    compiled: bool = False
    """Compile the backbone by torch.compile, at its first batch, which takes a minute or more; PyTorch needs a C++
    compiler, or Triton on a GPU. Numbers are alike to rounding."""
    pooling: str = "mean"
    """Pooling of the feature map to the global feature f_g: mean (the paper's), gem (generalised mean), quality
    (QAN) or separate (spatial attention in each frame, then QAN)."""
    flow_scale: Literal["one", "learned"] = "one"
    """Factor of the flow stream before it is added to the image stream. one: 1 (equation 1); learned: a trained
    number. It starts at 0 if the weights are those of an image network, so that an untrained flow stream does not
    disturb the features of the image stream, and at 1 otherwise."""


@dataclass(frozen=True)
class DescriptorConfig:
    """Settings of the descriptor: the input of F_c, and the features that are compared at test."""

    neck: Literal["none", "batch_norm"] = "none"
    """Layer between the pooled feature map and F_c. none: F_c reads the pooled map (the paper's); batch_norm:
    batch normalisation without shift, so that the triplet loss can act before it and the cross entropy after it
    (Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", 2019)."""
    compared: Compared = "concatenation"
    """Features that are compared at test. concatenation: [f_g, h_1..h_T] by Euclidean distance, averaged over
    clips (the paper's). The others compare by cosine, and weight each clip by F_c's confidence times its number of
    different frames. global: f_g alone; parts: f_g and h_1..h_T, each scaled to the same length; learned: f_g, and
    h_1..h_T if they help, by a metric that is fitted to the training people at the end of training: whitening
    within persons (backbone/whitening.py)."""
    glimpses: Literal["each", "mean"] = "each"
    """Hidden states as F_c and the learned metric read them. each: h_1..h_T one by one (the paper's); mean: with
    the same weights for each, so that it does not matter which of the glimpses sees a thing."""
    mirror: bool = False
    """Average each clip's feature map with that of its mirror image at test, which takes twice the time."""
