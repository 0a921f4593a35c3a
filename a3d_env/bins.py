"""BinGrid: all 3D bins of a feature map, and conversions between bins, actions, frames and pixels."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from backbone.device import is_free

Size3 = tuple[int, int, int]

# A bin hits the identifying thing if it covers at least this share of the thing's box in one of its frames.
HIT_SHARE = 0.5
# Bounds on sizes, so that a mistyped number, or one from an untrusted file, can't exhaust memory.
MOST_BINS = 100_000
MOST_PIXELS = 2**27  # of a clip: 64 frames of 1920 x 1080


@dataclass(frozen=True)
class BinGrid:
    """The bins of one size in a feature map, numbered 0 to num_bins - 1 by corner: time, height, width.

    Attributes:
        feature_size: L_g, H_g, W_g, the cells of the feature map.
        bin_size: L_a, H_a, W_a, the cells of a bin.
        clip_size: L, H, W, the frames and pixels of the clip behind the map.
        overview_counts: number of the overview's bins along time, height and width. The overview is a set of
            evenly spread bins whose features are in every observation; counts above the number of positions mean
            all. None: no overview, as in the paper.
        shows_looked: whether observations also tell how much of each of the overview's bins was looked at; it
            needs an overview.

    Raises:
        ValueError: a bin does not fit into the map, the map is finer than the clip, there are too many bins or
            pixels, an overview's count is below 1, or what was looked at is to be shown without an overview.
    """

    feature_size: Size3 = (6, 16, 8)
    bin_size: Size3 = (4, 6, 3)
    clip_size: Size3 = (6, 256, 128)
    overview_counts: Size3 | None = None
    shows_looked: bool = False

    def __post_init__(self) -> None:
        if any(not 1 <= b <= f for b, f in zip(self.bin_size, self.feature_size, strict=True)):
            raise ValueError(
                f"a bin of {self.bin_size} cells (time, height, width) does not fit into a feature map of "
                f"{self.feature_size}: take smaller bins, larger frames or longer clips"
            )
        if any(f > c for f, c in zip(self.feature_size, self.clip_size, strict=True)):
            raise ValueError(f"a feature map of {self.feature_size} is finer than its clip {self.clip_size}")
        if self.num_bins > MOST_BINS or math.prod(self.clip_size) > MOST_PIXELS:
            raise ValueError(
                f"a clip of {self.clip_size} (time, height, width) with {self.num_bins:,} bins is too large: "
                f"{MOST_PIXELS:,} pixels and {MOST_BINS:,} bins at most; take smaller or fewer frames, larger bins"
            )
        if self.overview_counts is not None and (len(self.overview_counts) != 3 or min(self.overview_counts) < 1):
            raise ValueError(
                f"an overview is 3 counts (time, height, width) of 1 or more bins, got {self.overview_counts}"
            )
        if self.shows_looked and self.overview_counts is None:
            raise ValueError(
                "shows_looked tells how much of an overview's bins was looked at, and there is no overview: give "
                "one, such as (2, 6, 4) (attention.overview of a run), or leave shows_looked out"
            )

    @property
    def positions(self) -> Size3:
        """Corners along time, height and width: L_g - L_a + 1, H_g - H_a + 1, W_g - W_a + 1."""
        time, height, width = (f - b + 1 for f, b in zip(self.feature_size, self.bin_size, strict=True))
        return time, height, width

    @property
    def num_bins(self) -> int:
        """The number of bins: the product of `positions`."""
        return math.prod(self.positions)

    @property
    def centre(self) -> int:
        """The bin of the first glimpse: corner ceil((L_g - L_a) / 2), and so on (Algorithm 1)."""
        return self.index([_middle(count) for count in self.positions])

    @cached_property
    def corners(self) -> Tensor:
        """Every bin's corner in cells, int64 (num_bins, 3)."""
        return torch.cartesian_prod(*(torch.arange(count) for count in self.positions)).reshape(-1, 3)

    @cached_property
    def locations(self) -> Tensor:
        """Every bin's location in [-1, 1], float32 (num_bins, 3); 0 along an axis with a single position."""
        steps = torch.tensor(self.positions) - 1
        return torch.where(steps > 0, 2 * self.corners / steps.clamp(min=1) - 1, 0.0)

    @cached_property
    def overview(self) -> Tensor:
        """The bins of the overview, int64 (K,); K = 0 without an overview.

        Along each axis their corners are evenly spread from the first position to the last; a single corner is
        that of the centre.
        """
        if self.overview_counts is None:
            return torch.zeros(0, dtype=torch.long)
        pairs = zip(self.overview_counts, self.positions, strict=True)
        corners = [_spread(count, positions) for count, positions in pairs]
        return torch.tensor([self.index(corner) for corner in itertools.product(*corners)])

    def overlap(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the share of a bin that another one covers, float32.

        Args:
            first: bin numbers, int64 of any shape.
            second: bin numbers of a shape that broadcasts with it.
        """
        size = torch.tensor(self.bin_size)
        common = (size - (self.corners[first] - self.corners[second]).abs()).clamp(min=0)
        return common.prod(dim=-1) / size.prod()

    @cached_property
    def overview_cover(self) -> Tensor:
        """The share of each of the overview's K bins that every bin covers, float32 (num_bins, K)."""
        return self.overlap(torch.arange(self.num_bins)[:, None], self.overview)

    def index(self, corner: Sequence[int]) -> int:
        """Return the number of the bin at a corner (time, height, width) in cells.

        Raises:
            ValueError: no bin has this corner.
        """
        if len(corner) != 3 or any(not 0 <= c < p for c, p in zip(corner, self.positions, strict=False)):
            raise ValueError(f"no bin has its corner at {tuple(corner)}; corners are below {self.positions}")
        time, row, column = map(int, corner)
        _, height, width = self.positions
        return (time * height + row) * width + column

    def nearest(self, action: Tensor) -> Tensor:
        """Return the bin whose location is nearest to each action, clipped to [-1, 1].

        Args:
            action: float (..., 3), order time, height, width.

        Returns:
            int64 (...), bin numbers.

        Raises:
            ValueError: wrong shape, or NaN.
        """
        if action.shape[-1:] != (3,):
            raise ValueError(f"an action is 3 numbers (time, height, width), got shape {tuple(action.shape)}")
        if is_free(action) and bool(torch.isnan(action).any()):
            raise ValueError("an action holds NaN: has the policy diverged?")
        shares = (action.float().clamp(-1, 1) + 1) / 2
        if not is_free(action):
            shares = shares.nan_to_num()  # NaN that can't be looked for is a bin
        steps = _steps if torch.compiler.is_compiling() else _kept_steps
        last, step = steps(self.positions, action.device)
        return ((shares * last).round_() * step).sum(-1).long()

    def chosen(self, action: Tensor) -> Tensor:
        """Return the bin that each action stands for, in any action mode (`a3d_env.interface.ActionMode`).

        Args:
            action: locations, float (N, 3), which stand for the nearest bins; bin numbers, int (N,); or positions
                along time, height and width, int (N, 3).

        Returns:
            int64 (N,), bin numbers.

        Raises:
            ValueError: wrong shape, NaN, or no such bin.
        """
        if action.is_floating_point():
            return self.nearest(action)
        action = action.long()
        if action.ndim == 1:
            if is_free(action) and bool(((action < 0) | (action >= self.num_bins)).any()):
                raise ValueError(f"bins are numbered from 0 to {self.num_bins - 1}, got {action.tolist()}")
            return action
        is_wrong = action.ndim != 2 or action.shape[1] != 3
        if not is_wrong and is_free(action):
            is_wrong = bool(((action < 0) | (action >= torch.tensor(self.positions))).any())
        if is_wrong:
            raise ValueError(
                f"a bin's position is 3 whole numbers (time, height, width) below {self.positions}, got "
                f"{tuple(action.shape)}: {action.tolist()}"
            )
        _, height, width = self.positions
        return (action[:, 0] * height + action[:, 1]) * width + action[:, 2]

    def pool(self, feature_map: Tensor) -> Tensor:
        """Average the cells of every bin, so that the decision process only has to look features up.

        Args:
            feature_map: float (B, C_g, L_g, H_g, W_g).

        Returns:
            float (B, num_bins, C_g).

        Raises:
            ValueError: the map's shape is not that of this grid.
        """
        if feature_map.ndim != 5 or tuple(feature_map.shape[2:]) != self.feature_size:
            raise ValueError(
                f"expected a feature map (B, C_g, {', '.join(map(str, self.feature_size))}), "
                f"got {tuple(feature_map.shape)}"
            )
        time, height, width = (
            averaging(count, size, feature_map)
            for count, size in zip(self.feature_size, self.bin_size, strict=True)
        )
        # Two matrix products whose rows are cells and whose columns are channels: views where the memory is
        # (B, L_g, H_g, W_g, C_g), as the backbone leaves it. A fifth of the time of a product for each axis.
        batch = feature_map.shape[0]
        cells = feature_map.permute(0, 2, 3, 4, 1).flatten(2)  # (B, L_g, H_g W_g C_g)
        in_time = torch.bmm(time.expand(batch, -1, -1), cells)
        in_time = in_time.flatten(0, 1).unflatten(1, (-1, feature_map.shape[1]))  # (B L', H_g W_g, C_g)
        areas = torch.kron(height, width)  # (H' W', H_g W_g)
        pooled = torch.bmm(areas.expand(in_time.shape[0], -1, -1), in_time)  # (B L', H' W', C_g)
        return pooled.unflatten(0, (batch, -1)).flatten(1, 2)

    @cached_property
    def frame_ranges(self) -> np.ndarray:
        """The clip's frames that each bin covers: start, stop, half-open, 0-based; int64 (num_bins, 2)."""
        return self._extents(axis=0)

    @cached_property
    def boxes(self) -> np.ndarray:
        """The pixels that each bin covers: x0, y0, x1, y1, half-open; int64 (num_bins, 4)."""
        (y0, y1), (x0, x1) = self._extents(axis=1).T, self._extents(axis=2).T
        return np.stack([x0, y0, x1, y1], axis=1)

    def hits(self, truth_boxes: np.ndarray) -> np.ndarray:
        """Return a mask of the bins that cover the identifying thing of each clip.

        Args:
            truth_boxes: the thing's box in each frame, float (B, L, 4), x0, y0, x1, y1 in pixels; NaN rows if it
                is not visible.

        Returns:
            bool (B, num_bins): True if, in one of the bin's frames, at least half of the thing's box is in the
                bin.
        """
        x0, y0, x1, y1 = self.boxes.T
        thing = truth_boxes[:, :, None, :]  # (B, L, 1, 4)
        width = np.minimum(thing[..., 2], x1) - np.maximum(thing[..., 0], x0)
        height = np.minimum(thing[..., 3], y1) - np.maximum(thing[..., 1], y0)
        area = (thing[..., 2] - thing[..., 0]) * (thing[..., 3] - thing[..., 1])
        # (B, L, num_bins); NaN: False
        covered = (width.clip(min=0) * height.clip(min=0) >= HIT_SHARE * area) & (area > 0)
        start, stop = self.frame_ranges.T
        frame = np.arange(truth_boxes.shape[1])[:, None]
        in_time = (start <= frame) & (frame < stop)  # (L, num_bins)
        return (covered & in_time).any(axis=1)

    def _extents(self, axis: int) -> np.ndarray:
        """Return every bin's start and stop along an axis, in frames or pixels, int64 (num_bins, 2)."""
        scale = self.clip_size[axis] / self.feature_size[axis]
        start = self.corners[:, axis].numpy()
        return np.round(np.stack([start, start + self.bin_size[axis]], axis=1) * scale).astype(np.int64)


def _steps(positions: Size3, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return, along each axis, the last position and what a position adds to a bin's number, float32 (3,) each."""
    _, height, width = positions
    last, step = [count - 1.0 for count in positions], [float(height * width), float(width), 1.0]
    return torch.tensor(last, device=device), torch.tensor(step, device=device)


_kept_steps = lru_cache(maxsize=16)(_steps)


def _middle(positions: int) -> int:
    """Return the position of the first glimpse along an axis: the middle, or the next one above it."""
    return math.ceil((positions - 1) / 2)


def _spread(count: int, positions: int) -> list[int]:
    """Return `count` positions along an axis, evenly spread, or all if there are fewer."""
    count = min(count, positions)
    if count == 1:
        return [_middle(positions)]
    return [round(number * (positions - 1) / (count - 1)) for number in range(count)]


def averaging(count: int, size: int, like: Tensor) -> Tensor:
    """Return the matrix that averages `size` neighbours of `count` cells, (count - size + 1, count), as `like`."""
    start = torch.arange(count - size + 1, device=like.device)[:, None]
    cell = torch.arange(count, device=like.device)
    return ((start <= cell) & (cell < start + size)).to(like.dtype) / size
