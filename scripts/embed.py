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
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from backbone.data.source import FORMS, Part
from backbone.embeddings import ENDINGS, save_embeddings
from backbone.files import check_writable
from backbone.progress import print_result
from scripts.options import Checkpoint, Runtime, RuntimeOptions


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

    def __post_init__(self) -> None:
        if self.out.suffix not in ENDINGS:
            raise ValueError(f"--out {self.out} has to end in {' or '.join(ENDINGS)}")


def run(config: EmbedConfig) -> None:
    """Describe the tracklets and write the file."""
    from agents.runs.describe import embed  # --help need not wait for torch

    check_writable(config.out)
    model = config.runtime.load_model(config.checkpoint)
    embeddings = embed(model, config.data, config.part)
    save_embeddings(config.out, embeddings)
    people = len(set(embeddings.name) - {""})
    print_result(
        f"{config.out}: {len(embeddings):,} tracklets of {people:,} known people, "
        f"{embeddings.descriptors.shape[1]:,} numbers each"
    )
