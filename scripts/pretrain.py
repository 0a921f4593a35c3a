"""Make the small backbone's starting weights on drawn walkers without clutter: `a3d pretrain`.

These weights take the place of ImageNet's, which exist for large networks only. `--backbone.weights synthetic`
starts from the files that come with the library, made by the first two commands below. No attention is trained:
the global feature alone identifies the walkers, who wear other clothes than anyone in the benchmark.

With the flow stream: `a3d pretrain --out backbone/pretrained/small.pt`

Without a flow stream: `a3d pretrain --no-flow --out backbone/pretrained/small_without_flow.pt`

Weights of your own, then a run that starts from them:
`a3d pretrain --out mine.pt --seed 1` and `a3d train --preset benchmark --backbone.weights mine.pt`
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from agents.runs.config import CHECKPOINT
from agents.runs.presets import get_preset
from backbone.files import check_writable, folder_lock
from backbone.flags import CacheFolder, Device
from backbone.progress import print_result


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of the small backbone's starting weights."""

    out: Path
    """File to write the weights to."""
    steps: int | None = None
    """Number of batches to train on; by default the preset's."""
    flow: bool = True
    """Make weights for the network with a flow stream."""
    seed: int = 0
    """Seed of weights and batches."""
    device: Device = "auto"
    cache: CacheFolder = None


def run(config: PretrainConfig) -> None:
    """Train, and write the backbone's weights; the run's folder stays beside them, to be gone on with.

    Raises:
        ValueError: the file's name has no ending, or the folder holds a run with other settings.
    """
    from agents.runs.checkpoint import read_checkpoint  # --help need not wait for torch
    from agents.runs.checks import check_resumed
    from agents.runs.scoring import table
    from agents.runs.training import train
    from backbone.tensor_file import save_tensors

    walkers = get_preset("walkers")
    folder = config.out.with_suffix("")
    if folder == config.out:
        raise ValueError(f"{folder} is the run's folder: give the weights file an ending, as in {folder}.pt")
    check_writable(config.out)
    settings = dataclasses.replace(
        walkers,
        steps=walkers.steps if config.steps is None else config.steps,
        backbone=walkers.backbone if config.flow else dataclasses.replace(walkers.backbone, flow=None),
        seed=config.seed,
        device=config.device,
        cache=config.cache,
        out=folder,
    )
    state = read_checkpoint(folder) if (folder / CHECKPOINT).exists() else None
    if state:
        check_resumed(settings, state["config"], state["shared"]["step"])
    with folder_lock(folder):
        metrics = train(settings, folder, state)
    weights = {
        name.removeprefix("backbone."): value
        for name, value in read_checkpoint(folder)["shared"]["representation"].items()
        if name.startswith("backbone.")
    }
    save_tensors(config.out, weights)
    print_result(table({name: metrics[name] for name in ("before", "after")}))
    print_result(f"\nwrote {config.out}")
