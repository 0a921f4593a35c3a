"""FeatureBank: the clips of an environment, each as a table of the features of all its bins."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from a3d_env.bins import BinGrid, Size3


@dataclass
class FeatureBank:
    """The features of all bins of N clips. Tensors are on one device.

    Attributes:
        grid: the grid of bins.
        bins: the mean feature of every bin, float32 (N, num_bins, C_g).
        global_feature: f_g, pooled from the whole map (its mean, in the paper), float32 (N, C_g).
        identity: the true identity, as its index among F_c's outputs, int64 (N,).
        tracklet: the display name of the tracklet that each clip is from.
        frames: the clips' frames for rendering, uint8 (N, L, H, W, 3), or None.
        truth_boxes: the boxes of the K identifying things (objects that show who the person is) in each frame,
            float (N, L, K, 4) as x0, y0, x1, y1 in pixels; NaN rows if one is not visible. None if they are not
            known. (N, L, 4) is taken for one thing.

    Raises:
        ValueError: the parts do not fit each other.
    """

    grid: BinGrid
    bins: Tensor
    global_feature: Tensor
    identity: Tensor
    tracklet: list[str]
    frames: np.ndarray | None = None
    truth_boxes: np.ndarray | None = None

    def __post_init__(self) -> None:
        count, _, num_channels = self.bins.shape
        expected = {
            "bins": (self.bins.shape[1:2], (self.grid.num_bins,)),
            "global_feature": (self.global_feature.shape, (count, num_channels)),
            "identity": (self.identity.shape, (count,)),
            "tracklet": ((len(self.tracklet),), (count,)),
        }
        if self.frames is not None:
            expected["frames"] = (self.frames.shape, (count, *self.grid.clip_size, 3))
        if self.truth_boxes is not None:
            if self.truth_boxes.ndim == 3:
                self.truth_boxes = self.truth_boxes[:, :, None]
            shape = self.truth_boxes.shape
            expected["truth_boxes"] = (shape, (count, self.grid.clip_size[0], shape[-2], 4))
        for name, (got, wanted) in expected.items():
            if tuple(got) != tuple(wanted):
                raise ValueError(f"FeatureBank.{name} has shape {tuple(got)}, expected {tuple(wanted)}")

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.bins)

    @property
    def num_channels(self) -> int:
        """C_g, the length of a bin's feature."""
        return self.bins.shape[2]

    @property
    def device(self) -> torch.device:
        """The device that the features are on."""
        return self.bins.device

    @cached_property
    def hits_by_thing(self) -> np.ndarray | None:
        """Mask of the bins that cover each identifying thing, bool (N, K, num_bins); None if none is known."""
        if self.truth_boxes is None:
            return None
        return np.stack(
            [self.grid.hits(self.truth_boxes[:, :, k]) for k in range(self.truth_boxes.shape[2])], axis=1
        )

    @cached_property
    def hits(self) -> np.ndarray | None:
        """Mask of the bins that cover an identifying thing, bool (N, num_bins); None if none is known."""
        return None if self.hits_by_thing is None else np.asarray(self.hits_by_thing.any(axis=1))

    @cached_property
    def tracklet_names(self) -> np.ndarray:
        """The display names of `tracklet`, an array of objects (N,)."""
        return np.array(self.tracklet, dtype=object)

    @classmethod
    def from_feature_map(
        cls,
        feature_map: Tensor,
        grid: BinGrid,
        identity: Tensor,
        tracklet: list[str],
        truth_boxes: np.ndarray | None = None,
        global_feature: Tensor | None = None,
    ) -> "FeatureBank":
        """Pool every bin of feature maps (N, C_g, L_g, H_g, W_g).

        Args:
            feature_map: g of each clip.
            grid: the grid of bins.
            identity: the true identity of each clip (`FeatureBank.identity`).
            tracklet: the display name of each clip's tracklet.
            truth_boxes: the boxes of the identifying things (`FeatureBank.truth_boxes`), if they are known.
            global_feature: f_g, (N, C_g), from a `backbone.pooling`; by default the mean of g.

        Raises:
            ValueError: the parts do not fit each other.
        """
        return cls(
            grid=grid,
            bins=grid.pool(feature_map),
            global_feature=feature_map.mean((2, 3, 4)) if global_feature is None else global_feature,
            identity=identity,
            tracklet=tracklet,
            truth_boxes=truth_boxes,
        )

    def with_overview(self, counts: Size3 | None, *, shows_looked: bool = False) -> "FeatureBank":
        """Return a bank of the same features with another overview (`BinGrid.overview_counts`, `shows_looked`)."""
        grid = replace(self.grid, overview_counts=counts, shows_looked=shows_looked)
        return self if grid == self.grid else replace(self, grid=grid)

    def to(self, device: torch.device | str) -> "FeatureBank":
        """Return the bank with its features and identities on a device."""
        return replace(
            self,
            bins=self.bins.to(device),
            global_feature=self.global_feature.to(device),
            identity=self.identity.to(device),
        )

    def one_clip(self, clip: int) -> "FeatureBank":
        """Return a bank of one of the clips, a copy without the features' gradient history."""
        return self.clips(slice(clip, clip + 1))

    def clips(self, rows: slice) -> "FeatureBank":
        """Return a bank of some of the clips, a copy without the features' gradient history."""
        return replace(
            self,
            bins=self.bins[rows].detach().clone(),
            global_feature=self.global_feature[rows].detach().clone(),
            identity=self.identity[rows].clone(),
            tracklet=self.tracklet[rows],
            frames=None if self.frames is None else np.array(self.frames[rows]),
            truth_boxes=None if self.truth_boxes is None else np.array(self.truth_boxes[rows]),
        )

    def detached(self) -> "FeatureBank":
        """Return the same bank without the features' gradient history."""
        return replace(self, bins=self.bins.detach(), global_feature=self.global_feature.detach())

    @classmethod
    def blank(cls, grid: BinGrid, num_channels: int, device: torch.device | str = "cpu") -> "FeatureBank":
        """Return a bank of one clip of zeros, for an environment that joint training will give features to."""
        return cls(
            grid=grid,
            bins=torch.zeros(1, grid.num_bins, num_channels, device=device),
            global_feature=torch.zeros(1, num_channels, device=device),
            identity=torch.zeros(1, dtype=torch.long, device=device),
            tracklet=["blank"],
        )
