"""Poolings by name: functions from a feature map to f_g, the global feature.

`mean` is the paper's, `gem` is common in re-identification. `quality` and `separate` are trained with the other
networks, for the comparisons in Table VII: QAN is `quality` without glimpses (T = 0), and "separate attention" is
`separate` without glimpses. Both equal the mean at first, since their scores start at 0.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class MeanPooling(nn.Module):
    """The mean over the whole map, which learns nothing."""

    def __init__(self, num_channels: int):
        super().__init__()

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C_g, L_g, H_g, W_g) -> f_g, (B, C_g)."""
        return feature_map.mean((2, 3, 4))


class GeneralisedMeanPooling(nn.Module):
    """GeM (Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", 2018): (mean x^p)^(1/p).

    p is learned and starts at 3; 1 is the mean, infinity the maximum. The feature map should not be
    negative, as after a ReLU: values below `EPSILON` are replaced by it.
    """

    EPSILON = 1e-6

    def __init__(self, num_channels: int):
        super().__init__()
        self.power = nn.Parameter(torch.tensor(3.0))

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C_g, L_g, H_g, W_g) -> f_g, (B, C_g)."""
        return feature_map.clamp(min=self.EPSILON).pow(self.power).mean((2, 3, 4)).pow(1 / self.power)


class QualityPooling(nn.Module):
    """QAN (Liu et al., Quality Aware Network for Set to Set Recognition, CVPR 2017) over a clip's frames.

    A frame's feature x_l is the mean over its cells; its quality is q_l = sigmoid(w x_l + b), and
    f_g = sum_l q_l x_l / sum_l q_l.
    """

    def __init__(self, num_channels: int):
        super().__init__()
        self.quality = _zeros(nn.Linear(num_channels, 1))

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C_g, L_g, H_g, W_g) -> f_g, (B, C_g)."""
        return self.over_frames(feature_map.mean((3, 4)).transpose(1, 2))

    def over_frames(self, frames: Tensor) -> Tensor:
        """Weight the features of frames by their quality: (B, L_g, C_g) -> (B, C_g)."""
        # The softmax of log q is q / sum q, for qualities near 0, too.
        weights = functional.logsigmoid(self.quality(frames)).softmax(1)  # (B, L_g, 1)
        return (weights * frames).sum(1)


class SeparatePooling(nn.Module):
    """Spatial attention in each frame, then QAN over time ("separate attention" in Table VII).

    A 1 x 1 convolution scores the cells; a softmax over a frame's cells makes the scores the weights of its
    feature.
    """

    def __init__(self, num_channels: int):
        super().__init__()
        self.cell_score = _zeros(nn.Conv3d(num_channels, 1, kernel_size=1))
        self.temporal = QualityPooling(num_channels)

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C_g, L_g, H_g, W_g) -> f_g, (B, C_g)."""
        weights = self.cell_score(feature_map).flatten(3).softmax(3)  # (B, 1, L_g, H_g * W_g)
        frames = (weights * feature_map.flatten(3)).sum(3)  # (B, C_g, L_g)
        return self.temporal.over_frames(frames.transpose(1, 2))


# Each takes the number of channels C_g.
POOLINGS: dict[str, Callable[[int], nn.Module]] = {
    "mean": MeanPooling,
    "gem": GeneralisedMeanPooling,
    "quality": QualityPooling,
    "separate": SeparatePooling,
}


def build_pooling(name: str, num_channels: int) -> nn.Module:
    """Build the pooling of that name.

    Raises:
        ValueError: unknown name.
    """
    if name not in POOLINGS:
        raise ValueError(f"unknown pooling {name!r}; known: {', '.join(POOLINGS)}")
    return POOLINGS[name](num_channels)


def _zeros(layer: nn.Module) -> nn.Module:
    """Set a layer's weights to 0, so that it scores everything alike."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
