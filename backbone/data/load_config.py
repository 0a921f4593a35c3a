"""Settings of clips and batches, which can be read without torch."""

from dataclasses import dataclass, field

from backbone.data.clips import FrameSampling
from backbone.data.transforms import AugmentConfig


@dataclass(frozen=True)
class LoadConfig:
    """Settings of clips and batches."""

    height: int = 128
    """Height in pixels that frames are resized to."""
    width: int = 64
    """Width in pixels that frames are resized to."""
    num_frames: int = 6
    """Number of frames of a clip."""
    num_people: int = 4
    """Number of people of a training batch; on several GPUs, of each one's part of it."""
    clips_per_person: int = 4
    """Number of clips drawn for each person of a training batch."""
    sampling: FrameSampling = "consecutive"
    """Sampling of a training clip's frames. consecutive: frames in a row (the paper's); spread: one of each of
    num_frames equal parts of the tracklet, each with the flow to the frame that follows it there. Test clips are
    consecutive."""
    workers: int = 1
    """Number of processes that load batches ahead; 0 loads in the training process."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Random mirror, crop, colours and erasing of training clips."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"workers must be 0 or more, got {self.workers}")
