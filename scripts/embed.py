"""Describe tracklets by a trained model, into a file: `a3d embed`.

Each tracklet becomes one descriptor; two are compared by Euclidean distance. It is what the run compares
(--descriptor.compared of a3d train): [f_g, h_1..h_T], or a vector of length 1, by a learned metric. The file, .npz
or .safetensors, also holds person, camera, name and source of each, and the bins that were looked at
(`backbone.embeddings`). `a3d search` finds the nearest ones.

The queries and the gallery of a data set:
`a3d embed --checkpoint runs/mars --data mars:/data/MARS --out mars.safetensors`

A folder of one's own: `a3d embed --checkpoint runs/small --data folder:street --out street.npz`

The people in a video, by their tracks (MOT format):
`a3d embed --checkpoint runs/small --data video:street.avi,gt.txt --out street.npz`

A MOT sequence, whose tracks miss a frame now and then:
`a3d embed --checkpoint runs/small --data video:MOT17-02,MOT17-02/det.txt@bridge_gaps=3 --out street.npz`
"""

from dataclasses import dataclass
from pathlib import Path

from agents.runs.describe import embed
from agents.runs.model import load_model
from backbone.data.bad_frames import OnBadFrame
from backbone.data.source import Part
from backbone.embeddings import ENDINGS, save_embeddings
from backbone.files import check_writable
from backbone.progress import show


@dataclass(frozen=True)
class EmbedConfig:
    """What to describe, and by which model."""

    checkpoint: Path
    """A run's folder, or its checkpoint.pt."""
    out: Path
    """The file to write; its ending says which kind: .npz or .safetensors."""
    data: str | None = None
    """NAME:DIRECTORY of a data set (mars, prid, ilids, synthetic), folder:DIRECTORY, a folder of frames (one
    tracklet) or of such folders, or video:VIDEO,TRACKS (the video may be a folder of its frames);
    by default the data of the training."""
    part: Part = "test"
    """Of a data set: its queries, its gallery, both (test), its training half, or all."""
    device: str = "auto"
    """cpu, cuda, ...; auto takes a GPU if there is one."""
    cache: Path | None = None
    """Where decoded frames and flow are kept; by default $A3D_CACHE or the user's cache folder."""
    on_bad_frame: OnBadFrame | None = None
    """An image that can't be read: error, or skip (its neighbour takes its place); by default as in training."""

    def __post_init__(self) -> None:
        if self.out.suffix not in ENDINGS:
            raise ValueError(f"--out {self.out} has to end in {' or '.join(ENDINGS)}")


def run(config: EmbedConfig) -> None:
    """Describe the tracklets and write the file."""
    check_writable(config.out)
    model = load_model(
        config.checkpoint, device=config.device, cache=config.cache, on_bad_frame=config.on_bad_frame
    )
    embeddings = embed(model, config.data, config.part)
    save_embeddings(config.out, embeddings)
    people = len(set(embeddings.name) - {""})
    show(
        f"{config.out}: {len(embeddings):,} tracklets of {people:,} known people, "
        f"{embeddings.descriptors.shape[1]:,} numbers each"
    )
