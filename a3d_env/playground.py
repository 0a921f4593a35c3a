"""The playground: a small made-up bank in which a clip can only be identified by looking at the right place.

It needs no data and no backbone, so that `gymnasium.make("a3d_env:A3D/Attention3D-v0")` works by itself. Each clip
has a code of its identity in one region of the feature map, and the location of that region in every cell, so that
one glimpse is enough to know where to look next. The global feature has no information. F_o and F_h are random and
fixed; F_c is fitted to them by ridge regression.
"""

import copy
import functools
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid
from a3d_env.process import AttentionProcess
from backbone.glimpse import GlimpseNetwork

GRID = BinGrid(feature_size=(6, 16, 8), bin_size=(4, 6, 3), clip_size=(6, 128, 64))
CODE_SIZE = 16
THING_SIZE = (3, 4, 2)  # cells that carry the code: time, height, width
NUM_FITTING_CLIPS = 256


def playground(
    seed: int = 0, num_clips: int = 64, num_identities: int = 8, num_glimpses: int = 4
) -> tuple[FeatureBank, GlimpseNetwork]:
    """Return the bank and its fixed glimpse network (no parameter requires a gradient).

    They are computed once, which takes most of a second, and every call returns copies of its own.
    """
    return copy.deepcopy(_compute(seed, num_clips, num_identities, num_glimpses))


@functools.lru_cache(maxsize=8)
def _compute(
    seed: int, num_clips: int, num_identities: int, num_glimpses: int
) -> tuple[FeatureBank, GlimpseNetwork]:
    generator = torch.Generator().manual_seed(seed)
    codes = functional.normalize(torch.randn(num_identities, CODE_SIZE, generator=generator), dim=1) * 8
    # F_c is fitted on other clips than those of the bank, whose places it would learn by heart.
    fitting_bank = _make_bank(codes, NUM_FITTING_CLIPS, generator)
    glimpse = _fitted_glimpse(fitting_bank, num_glimpses, num_identities, seed)
    return _make_bank(codes, num_clips, generator), glimpse


def _make_bank(codes: Tensor, num_clips: int, generator: torch.Generator) -> FeatureBank:
    identity = torch.arange(num_clips) % len(codes)
    free = torch.tensor(GRID.feature_size) - torch.tensor(THING_SIZE)  # corners run from 0 to this
    corner = (torch.rand(num_clips, 3, generator=generator) * (free + 1)).long()
    inside = torch.ones(num_clips, *GRID.feature_size, dtype=torch.bool)
    for axis, (cells, thing) in enumerate(zip(GRID.feature_size, THING_SIZE, strict=True)):
        cell, start = torch.arange(cells), corner[:, axis, None]
        shape = [num_clips, 1, 1, 1]
        shape[axis + 1] = cells
        inside &= ((start <= cell) & (cell < start + thing)).view(shape)
    code_map = codes[identity][:, :, None, None, None] * inside[:, None]
    hint_map = 2 * (2 * corner / free - 1)[:, :, None, None, None].expand(-1, -1, *GRID.feature_size)
    noise = 0.1 * torch.randn(num_clips, CODE_SIZE + 3, *GRID.feature_size, generator=generator)
    truth_boxes, frames = _picture(corner, identity, len(codes))
    bank = FeatureBank.from_feature_map(
        torch.cat([code_map, hint_map], dim=1) + noise,
        GRID,
        identity,
        [f"playground/{number}" for number in range(num_clips)],
        truth_boxes,
        global_feature=torch.zeros(num_clips, CODE_SIZE + 3),
    )
    return replace(bank, frames=frames)


def _fitted_glimpse(
    bank: FeatureBank, num_glimpses: int, num_identities: int, seed: int, episodes_per_clip: int = 16
) -> GlimpseNetwork:
    """Fit F_c by ridge regression on episodes at random bins."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        glimpse = GlimpseNetwork(bank.num_channels, num_glimpses, num_identities)
        process = AttentionProcess(bank, glimpse)
        episodes = process.start(torch.arange(len(bank)).repeat(episodes_per_clip))
        while not process.is_over(episodes):
            episodes = process.look(episodes, torch.randint(bank.grid.num_bins, (len(episodes),)))
    inputs = functional.pad(process.descriptor(episodes), (0, 1), value=1.0)  # a last column for the bias
    targets = 10 * functional.one_hot(bank.identity[episodes.clip], num_identities).float()
    weight = _ridge(inputs, targets)
    with torch.no_grad():
        glimpse.identify.weight.copy_(weight[:-1].T)
        glimpse.identify.bias.copy_(weight[-1])
    return glimpse.requires_grad_(False)


def _ridge(inputs: Tensor, targets: Tensor, strength: float = 1.0) -> Tensor:
    gram = inputs.T @ inputs + strength * torch.eye(inputs.shape[1])
    return torch.linalg.solve(gram, inputs.T @ targets)


def _picture(corner: Tensor, identity: Tensor, num_identities: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw each clip: a grey room and, where the code is, a box in the identity's colour."""
    num_frames, height, width = GRID.clip_size
    cell_height, cell_width = height // GRID.feature_size[1], width // GRID.feature_size[2]
    frames = np.full((len(corner), num_frames, height, width, 3), 90, dtype=np.uint8)
    truth_boxes = np.full((len(corner), num_frames, 4), np.nan)
    for clip, (time, top, left) in enumerate(corner.tolist()):
        y0, x0 = top * cell_height, left * cell_width
        y1, x1 = y0 + THING_SIZE[1] * cell_height, x0 + THING_SIZE[2] * cell_width
        hue = 2 * np.pi * int(identity[clip]) / num_identities
        colour = 128 + 120 * np.sin(hue + np.array([0, 2, 4]))
        frames[clip, time : time + THING_SIZE[0], y0:y1, x0:x1] = colour.astype(np.uint8)
        truth_boxes[clip, time : time + THING_SIZE[0]] = x0, y0, x1, y1
    return truth_boxes, frames
