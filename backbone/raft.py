"""RAFT (Teed and Deng, 2020), optical flow by a trained network: torchvision's, with its published weights."""

import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import optical_flow as models

# Its correlation pyramid takes no smaller frames, and all sides in steps of this.
SMALLEST_SIDE, STEP = 128, 8
PAIRS_AT_ONCE = 8

NETWORKS = {
    "raft-small": (models.raft_small, models.Raft_Small_Weights.DEFAULT),
    "raft-large": (models.raft_large, models.Raft_Large_Weights.DEFAULT),
}


def raft(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return the method of that name, a `backbone.flow.FlowMethod`; weights are fetched when it is first used."""

    @torch.no_grad()
    def flow(frames: np.ndarray) -> np.ndarray:
        network, device = load_raft(name)
        height, width = frames.shape[1:3]
        # torchvision's own preprocessing: [0, 255] -> [-1, 1]
        images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1
        across, down = (_padding(side) for side in (width, height))
        images = functional.pad(images, (*across, *down), mode="replicate")
        maps = []
        for start in range(0, len(images) - 1, PAIRS_AT_ONCE):
            before = images[start : min(start + PAIRS_AT_ONCE, len(images) - 1)].to(device)
            after = images[start + 1 : start + 1 + len(before)].to(device)
            maps.append(network(before, after)[-1].cpu())  # the last refinement
        flow_px = torch.cat(maps)[:, :, down[0] : down[0] + height, across[0] : across[0] + width]
        return flow_px.permute(0, 2, 3, 1).numpy()

    return flow


@cache
def load_raft(name: str) -> tuple[nn.Module, torch.device]:
    """Return the network with its weights, on a GPU if there is one.

    Raises:
        ValueError: the weights are not here, and can't be fetched.
    """
    build, weights = NETWORKS[name]
    # A loader's worker is a fork, in which CUDA can't be begun anew.
    on_gpu = torch.cuda.is_available() and torch.utils.data.get_worker_info() is None
    device = torch.device("cuda" if on_gpu else "cpu")
    network = build(weights=None)
    try:
        state = torch.hub.load_state_dict_from_url(
            weights.url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
        network.load_state_dict(state)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
        raise ValueError(
            f"the weights of {name} can't be had, or are damaged ({error}). On a machine with a network, download "
            f"{weights.url}, put the file at {path}, and run this again; or take another flow method."
        ) from error
    return network.eval().requires_grad_(False).to(device), device


def _padding(side: int) -> tuple[int, int]:
    """Return how many pixels to add before and after, as much on either side."""
    missing = max(SMALLEST_SIDE, -(-side // STEP) * STEP) - side
    return missing // 2, missing - missing // 2
