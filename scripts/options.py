"""Settings that several commands share, each with its help text: which trained model, on what data, and where."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import tyro

from backbone.data.bad_frames import OnBadFrame
from backbone.flags import BAD_FRAME, CacheFolder, Device

if TYPE_CHECKING:
    from agents.runs.model import Run, TrainedModel
    from backbone.data import TestPart

Value = TypeVar("Value")

CHECKPOINT_HELP = (
    "Folder of a run, its checkpoint.pt, a .zip of a3d share, or hf:OWNER/NAME[@REVISION] on the hub."
)
Checkpoint = Annotated[Value, tyro.conf.arg(help=CHECKPOINT_HELP)]
Data = Annotated[
    str | None,
    tyro.conf.arg(
        help="Data: NAME[:DIRECTORY], or NAME[:DIRECTORY]@OPTION=VALUE,... with other settings of the data, as in "
        "synthetic@seed=2000; by default the data that the run was trained on."
    ),
]


@dataclass(frozen=True)
class RuntimeOptions:
    """Device of a trained model, and the reading of frames for it."""

    device: Device = "auto"
    cache: CacheFolder = None
    on_bad_frame: Annotated[OnBadFrame | None, tyro.conf.arg(help=f"{BAD_FRAME} By default as in training.")] = (
        None
    )

    def load_model(self, checkpoint: Path) -> "TrainedModel":
        """Return a run's networks (`agents.runs.model.load_model`)."""
        from agents.runs.model import load_model  # torch takes seconds to import, and --help needs none

        return load_model(checkpoint, **vars(self))

    def load_run(self, checkpoint: Path, data: str | None, part: "TestPart" = "test") -> "Run":
        """Return a run's networks and the data to use them on (`agents.runs.model.load_run`)."""
        from agents.runs.model import load_run

        return load_run(checkpoint, data=data, part=part, **vars(self))


# Beside a command's own flags: --device, not --runtime.device.
Runtime = Annotated[RuntimeOptions, tyro.conf.arg(name="")]
