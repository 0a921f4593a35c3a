"""Write the trained model, from frames to descriptor, as one file for other programs: `a3d export`.

Backbone, glimpses and the agent's choices at test time, for batches of any size.

Inputs: `clip`, uint8 (batch, L, H, W, 3), RGB; with a flow stream `flow`, float32 (batch, L, H, W, 2), pixels per
frame, its last map the one before it.

Outputs: `descriptor`, float32 (batch, D), the features that the run compares; a tracklet's descriptor is the mean
over its clips. If the run compares by cosine, as those of the strong recipe do, it is instead the sum of the
clips' descriptors, each times the clip's number of different frames, scaled to length 1. Euclidean distance
compares two tracklets. `bins`, int64 (batch, T), the bins looked at. `identity_logits`, the output of F_c, float32
(batch, people of the training).

The function `backbone.data.inputs.network_inputs` makes both inputs of a tracklet's frames. To make them
elsewhere: resize the frames to H x W, those higher than H by averaging areas (OpenCV's INTER_AREA), others by
linear interpolation (INTER_LINEAR), and compute the flow of the resized frames. A clip of fewer than L frames
repeats its last frame, and the last flow map between two different frames: a clip of the frames 4 5 6 6 has the
maps 4-5, 5-6, 5-6, 5-6.

The file is run on batches of 1 and 5 before it gets its name, and its outputs are compared with those of
evaluation.

For onnxruntime and others: `a3d export --checkpoint runs/benchmark --out a3d.onnx`

For PyTorch (torch.export.load): `a3d export --checkpoint runs/benchmark --out a3d.pt2`
"""

from dataclasses import dataclass
from pathlib import Path

from backbone.files import check_writable
from backbone.progress import print_result
from scripts.options import Checkpoint

ENDINGS = (".onnx", ".pt2")


@dataclass(frozen=True)
class ExportConfig:
    """Model to export, and the file to write."""

    checkpoint: Checkpoint[Path]
    out: Path
    """File to write; its ending gives the format: .onnx, or .pt2 (torch.export)."""

    def __post_init__(self) -> None:
        if self.out.suffix not in ENDINGS:
            raise ValueError(f"--out {self.out} has to end in {' or '.join(ENDINGS)}")


def run(config: ExportConfig) -> None:
    """Export the model, and print how near the file comes to it."""
    from agents.runs.model import load_model  # --help need not wait for torch
    from backbone.representation import has_bfloat16
    from scripts.export.program import compare, export_model, load_runner

    check_writable(config.out)
    model = load_model(config.checkpoint, device="cpu")
    parity = export_model(model, config.out)
    size = config.out.stat().st_size / 2**20
    length, height, width = model.grid.clip_size
    print_result(
        f"{config.out}: {size:.1f} MiB, clips of {length} x {height} x {width}, "
        f"flow {model.cache.flow_method}\n"
        f"on {parity.clips} clips it looks at the same bins as the model in {parity.same_bins}, and describes "
        f"them alike to {parity.difference:.1e}"
    )
    precision = model.representation.precision
    if precision == "bfloat16" or (precision == "auto" and has_bfloat16(model.representation.device)):
        rounded = compare(model, load_runner(config.out), precision)
        print_result(
            f"it computes in float32; a3d embed, which takes bfloat16 on this machine, comes within "
            f"{rounded.difference:.2g} of it, with the same bins in {rounded.same_bins} of {rounded.clips}"
        )
