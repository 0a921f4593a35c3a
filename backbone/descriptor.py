"""The descriptor by which clips and tracklets are compared, and the metric that is learned for it."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from backbone.config import Compared
from backbone.whitening import fit_whitening


class Comparison(nn.Module):
    """Affine map from F_c's input [f_g, h_1..h_T] to the features that are compared: x -> (x - mean) projection.

    Because the map is affine, distances to known people are a linear layer on [f_g, h_1..h_T], as F_c is
    (`agents.probes.judge_by_means`). A tracklet's descriptor is the weighted mean over its clips, scaled to
    length 1 if the comparison is by cosine. Before `fit`, `parts` and `learned` compare f_g alone, so that the
    scores of a pretrained backbone do not depend on the untrained glimpse network.

    Args:
        compared: the features that are compared (`DescriptorConfig.compared`).
        num_channels: C_g, the length of f_g, the first part of the input.
        num_glimpses: T.
        hidden_size: the length of each h_t.
        of_mean: whether the learned metric is one of f_g and the mean of h_1..h_T.
    """

    mean: Tensor
    projection: Tensor

    def __init__(
        self, compared: Compared, num_channels: int, num_glimpses: int, hidden_size: int, *, of_mean: bool = False
    ):
        super().__init__()
        self.of_mean = of_mean and num_glimpses > 1
        self.compared = compared
        self.num_channels = num_channels
        self.part_sizes = [num_channels, *[hidden_size] * num_glimpses]
        if self.is_fitted_to_data:
            size = sum(self.part_sizes)
            self.register_buffer("mean", torch.empty(size))
            self.register_buffer("projection", torch.empty(size, size))
            self.reset()

    def reset(self) -> None:
        """Undo `fit`: f_g alone is compared again."""
        if self.is_fitted_to_data:
            self.mean.zero_()
            is_global = torch.arange(len(self.mean), device=self.mean.device) < self.num_channels
            self.projection.copy_(torch.diag(is_global.float()))

    def by(self, compared: Compared) -> "Comparison":
        """Return a comparison of the same input that needs no fit: `concatenation` or `global`.

        Raises:
            ValueError: `compared` is another name.
        """
        if compared not in ("concatenation", "global"):
            raise ValueError(f"comparing by {compared!r} needs a fit: choose concatenation or global")
        sizes = self.part_sizes
        return Comparison(compared, self.num_channels, len(sizes) - 1, sizes[-1])

    @property
    def is_fitted_to_data(self) -> bool:
        """Whether the map has parameters that `fit` learns."""
        return self.compared in ("parts", "learned")

    @property
    def is_cosine(self) -> bool:
        """Whether tracklets' descriptors are scaled to length 1 and clips are weighted by F_c's confidence."""
        return self.compared != "concatenation"

    def forward(self, read_by_classifier: Tensor) -> Tensor:
        """Map [f_g, h_1..h_T], (N, D), to the features that are compared, (N, K)."""
        if self.compared == "concatenation":
            return read_by_classifier
        if self.compared == "global":
            return read_by_classifier[:, : self.num_channels]
        return (read_by_classifier - self.mean) @ self.projection

    def weights(self, logits: Tensor) -> Tensor:
        """Return each clip's weight in its tracklet's mean: F_c's logits (N, identities) -> (N,)."""
        if not self.is_cosine:
            return torch.ones_like(logits[:, 0])
        return logits.softmax(1).amax(1)

    def finish(self, means: Tensor) -> Tensor:
        """Return the descriptors of tracklets, (N, K), from the weighted means over their clips."""
        return functional.normalize(means, dim=1) if self.is_cosine else means

    @torch.no_grad()
    def fit(self, read_by_classifier: Tensor, person: Tensor, camera: Tensor) -> str:
        """Fit the map to clips of training people.

        Args:
            read_by_classifier: [f_g, h_1..h_T], float32 (N, D).
            person: the person of each clip, int64 (N,).
            camera: the camera of each clip, int64 (N,).

        Returns:
            A report of the fit in one line; empty if the map has nothing to fit.
        """
        if not self.is_fitted_to_data:
            return ""
        clips = read_by_classifier.to(self.mean.device)
        if self.compared == "parts":
            lengths = [part.square().sum(1).mean().sqrt() for part in clips.split(self.part_sizes, dim=1)]
            scales = [1 / length.clamp(min=1e-12) for length in lengths]
            sizes = torch.tensor(self.part_sizes, device=clips.device)
            self.projection.copy_(torch.diag(torch.stack(scales).repeat_interleave(sizes)))
            return f"parts scaled to length 1, from {', '.join(f'{length:.3g}' for length in lengths)}"
        if not self.of_mean:
            fitted = fit_whitening(clips.cpu(), person, camera, self.part_sizes)
            self.projection.copy_(fitted.projection)
        else:
            hidden_size = self.part_sizes[1]
            mean = torch.eye(hidden_size).repeat(len(self.part_sizes) - 1, 1) / (len(self.part_sizes) - 1)
            reading = torch.block_diag(torch.eye(self.num_channels), mean)  # [f_g, h_1..h_T] to [f_g, their mean]
            read_sizes = [self.num_channels, hidden_size]
            fitted = fit_whitening(clips.cpu() @ reading, person, camera, read_sizes)
            self.projection.zero_()
            self.projection[:, : sum(read_sizes)] = (reading @ fitted.projection).to(clips.device)
        self.mean.copy_(clips.cpu().double().mean(0))
        return fitted.report


@torch.no_grad()
def as_linear(comparison: Comparison, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return a linear layer on [f_g, h_1..h_T] whose outputs score how near a clip is to each target.

    Args:
        comparison: the map to the features that are compared.
        targets: descriptors of the targets, float32 (M, K).

    Returns:
        Weight (M, D) and bias (M,). For a clip's descriptor d and a target m, the output is -|d - m|^2 + |d|^2 if
        the comparison is by Euclidean distance, and twice the cosine times |d| if it is by cosine. |d| is the same
        for all targets, and so does not change their order.
    """
    size = sum(comparison.part_sizes)
    origin = comparison(targets.new_zeros(1, size))[0]  # (K,)
    if comparison.compared == "concatenation":
        weight = 2 * targets
    elif comparison.compared == "global":
        weight = functional.pad(2 * functional.normalize(targets, dim=1), (0, size - comparison.num_channels))
    else:
        weight = 2 * functional.normalize(targets, dim=1) @ comparison.projection.T
    if comparison.is_cosine:
        return weight, 2 * functional.normalize(targets, dim=1) @ origin
    return weight, -(targets * targets).sum(dim=1)
