"""Describe tracklets by a trained model, into a file: `a3d embed`.

Each tracklet becomes one descriptor, the features that the run compares (--descriptor.compared of a3d train):
[f_g, h_1..h_T], or a vector of length 1, by a learned metric. Euclidean distance compares two descriptors. The
file, .npz or .safetensors, also holds person, camera, name and source of each tracklet, and the bins that were
looked at (`backbone.embeddings`). `a3d search` finds the nearest tracklets.

The queries and the gallery of a data set:
`a3d embed --checkpoint runs/mars --data mars:/data/MARS --out mars.safetensors`

A folder of one's own: `a3d embed --checkpoint runs/small --data folder:street --out street.npz`

The people in a video, by their tracks (MOT format):
`a3d embed --checkpoint runs/small --data video:street.avi,gt.txt --out street.npz`

A MOT sequence, whose tracks miss a frame now and then:
`a3d embed --checkpoint runs/small --data video:MOT17-02,MOT17-02/det.txt@bridge_gaps=3 --out street.npz`

Much data, in shares, on the machines of a ray cluster:
`a3d embed --checkpoint runs/mars --data mars:/data/MARS --shards 32 --backend ray --out mars.safetensors`
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from agents.runs.settings import ShardsConfig
from backbone.data.source import FORMS, Part
from backbone.embeddings import ENDINGS, save_embeddings
from backbone.files import atomic_file, check_writable
from backbone.progress import log_line, print_result
from scripts.options import Checkpoint, Runtime, RuntimeOptions

if TYPE_CHECKING:
    from agents.runs.describe import Described
    from agents.runs.shards import Shard
    from agents.runs.trained import TrainedModel
    from backbone.data.tracklet import Tracklet

ARRAYS_OF_A_SHARD = ("means", "clip", "bins", "read")


@dataclass(frozen=True)
class EmbedConfig:
    """Tracklets to describe, the model that does it, and the file to write."""

    checkpoint: Checkpoint[Path]
    out: Path
    """File to write; its ending gives the format: .npz or .safetensors."""
    data: Annotated[str | None, tyro.conf.arg(help=f"Tracklets: {FORMS}; by default the training's.")] = None
    part: Part = "test"
    """Part of a data set: its queries, its gallery, both (test), its training half, or all. Of a video, and of a
    folder or table without a division of its own, everybody is described, people of the training, too."""
    runtime: Runtime = field(default_factory=RuntimeOptions)
    shards: Annotated[ShardsConfig, tyro.conf.arg(name="")] = field(default_factory=ShardsConfig)
    """Number of shares of the work, and the machines that they use."""

    def __post_init__(self) -> None:
        if self.out.suffix not in ENDINGS:
            raise ValueError(f"--out {self.out} has to end in {' or '.join(ENDINGS)}")


def describe_in_shards(config: EmbedConfig, model: "TrainedModel", tracklets: "list[Tracklet]") -> "Described":
    """Describe tracklets in processes of their own, and put their shares together."""
    import torch

    from agents.runs.checkpoint import fingerprint
    from agents.runs.describe import Described
    from agents.runs.shards import run_shards

    state = f"{model.digest} {fingerprint(tracklets)}"
    with run_shards("scripts.embed", config, config.out, config.shards, len(tracklets), state) as shards:
        found: dict[str, list[torch.Tensor]] = {name: [] for name in ARRAYS_OF_A_SHARD}
        for shard in shards:
            with np.load(shard.folder / "described.npz", allow_pickle=False) as file:
                for name, parts in found.items():
                    parts.append(torch.from_numpy(file[name]))
            if text := (shard.result() or {}).get("replaced"):
                log_line(text)
    means, clip, bins, read = (torch.cat(parts) for parts in found.values())
    return Described(means, model.representation.comparison.finish(means), clip, bins, read)


def describe_share(config: EmbedConfig, shard: "Shard") -> dict[str, Any]:
    """Describe a share of the tracklets, into the share's folder."""
    from agents.runs.describe import describe_tracklets
    from agents.runs.embedding import tracklets_of

    model = config.runtime.load_model(config.checkpoint)
    tracklets, *_ = tracklets_of(model, config.data, config.part)
    described = describe_tracklets(model, tracklets, share=(shard.number, shard.of))
    with atomic_file(shard.folder / "described.npz") as file:
        np.savez(file, **{name: getattr(described, name).numpy() for name in ARRAYS_OF_A_SHARD})
    return {"replaced": model.cache.describe_replaced()}


def main() -> int:
    """Do the share of the work that this process was started for."""
    from agents.runs.shards import main_of_shard

    return main_of_shard(EmbedConfig, describe_share, "embed")


def run(config: EmbedConfig) -> None:
    """Describe the tracklets and write the file."""
    from agents.runs.embedding import embed  # --help need not wait for torch

    check_writable(config.out)
    model = config.runtime.load_model(config.checkpoint)
    if config.shards.shards > 1:
        embeddings = embed(model, config.data, config.part, partial(describe_in_shards, config))
    else:
        embeddings = embed(model, config.data, config.part)
    save_embeddings(config.out, embeddings)
    people = len(set(embeddings.name) - {""})
    print_result(
        f"{config.out}: {len(embeddings):,} tracklets of {people:,} known people, "
        f"{embeddings.descriptors.shape[1]:,} numbers each"
    )


if __name__ == "__main__":
    raise SystemExit(main())
