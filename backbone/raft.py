"""RAFT (Teed and Deng, 2020): torchvision's, with its published weights; and helpers for all flow networks."""

import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

# RAFT's correlation pyramid needs frames at least this large, with sides that are multiples of the step.
SMALLEST_SIDE, STEP = 128, 8
PAIRS_AT_ONCE = 8

# torchvision's functions that build the networks, and its weights for them.
NETWORKS = {
    "raft-small": ("raft_small", "Raft_Small_Weights"),
    "raft-large": ("raft_large", "Raft_Large_Weights"),
}

Estimate = Callable[[Tensor, Tensor], Tensor]
"""Takes two batches of frames, float RGB (B, 3, H, W) in [0, 255], returns the flow in pixels (B, 2, H, W)."""


def raft(name: str, frames: np.ndarray) -> np.ndarray:
    """Estimate the flow as a `backbone.flow.FlowMethod` does; the first call downloads the weights."""
    device = network_device()
    network = load_raft(name, device)

    def estimate(before: Tensor, after: Tensor) -> Tensor:
        # torchvision's own preprocessing: [0, 255] -> [-1, 1]
        before, after = (pad(images / 127.5 - 1, SMALLEST_SIDE, STEP) for images in (before, after))
        refinements: list[Tensor] = network(before, after)
        return refinements[-1]

    return flow_of_batches(frames, estimate, device)


@cache
def load_raft(name: str, device: torch.device) -> nn.Module:
    """Return the network with its weights.

    Raises:
        ValueError: the weights are not on this machine, and can't be downloaded.
    """
    from torchvision.models import optical_flow  # it takes a second to import

    network: nn.Module
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay what they were
        network = getattr(optical_flow, NETWORKS[name][0])(weights=None)
    try:
        state = torch.hub.load_state_dict_from_url(
            raft_url(name), map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
        network.load_state_dict(state)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"the weights of {name} can't be fetched, or are damaged ({error}). On a machine with a network, "
            f"download {raft_url(name)}, put the file at {raft_file(name)}, and run this again; or take another "
            "flow method."
        ) from error
    return network.eval().requires_grad_(False).to(device)


def raft_file(name: str) -> Path:
    """Return the path of the network's weights, where they are downloaded to."""
    return Path(torch.hub.get_dir()) / "checkpoints" / raft_url(name).rpartition("/")[2]


def raft_url(name: str) -> str:
    """Return the URL at which torchvision publishes the network's weights."""
    from torchvision.models import optical_flow

    url: str = getattr(optical_flow, NETWORKS[name][1]).DEFAULT.url
    return url


def network_device() -> torch.device:
    """Return the GPU if there is one, else the CPU. A loader's worker gets the CPU: CUDA can't start in a fork."""
    on_gpu = torch.cuda.is_available() and torch.utils.data.get_worker_info() is None
    return torch.device("cuda" if on_gpu else "cpu")


@torch.no_grad()
def flow_of_batches(frames: np.ndarray, estimate: Estimate, device: torch.device) -> np.ndarray:
    """Estimate the flow of each frame to the next, in batches of pairs.

    Args:
        frames: uint8 RGB (n, H, W, 3), n >= 2.
        estimate: the network; its flow may be larger than the frames, by the pixels that `pad` added.
        device: the device on which the flow is computed.

    Returns:
        float32 (n - 1, H, W, 2), pixels.
    """
    height, width = frames.shape[1:3]
    images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)  # (n, 3, H, W)
    maps = []
    for start in range(0, len(images) - 1, PAIRS_AT_ONCE):
        batch = images[start : start + PAIRS_AT_ONCE + 1].to(device).float()
        flow_px = estimate(batch[:-1], batch[1:])
        top, left = ((large - small) // 2 for large, small in zip(flow_px.shape[2:], (height, width), strict=True))
        maps.append(flow_px[:, :, top : top + height, left : left + width].cpu())
    return torch.cat(maps).permute(0, 2, 3, 1).numpy()


def pad(images: Tensor, smallest_side: int, step: int) -> Tensor:
    """Repeat the edges of images (B, C, H, W) until each side is a multiple of `step` and large enough.

    Both sides get equally many pixels; if their number is odd, the last one is added below or to the right.
    """
    added = []
    for side in (images.shape[3], images.shape[2]):  # the last axis first, as PyTorch wants it
        missing = max(smallest_side, -(-side // step) * step) - side
        added += [missing // 2, missing - missing // 2]
    return functional.pad(images, added, mode="replicate")
