"""Inputs of the networks from a tracklet's frames, the same for training, `a3d embed` and exported models."""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np

from backbone.data.clips import consecutive_clips
from backbone.flow import flow_indices, optical_flow


class NetworkInputs(NamedTuple):
    """The consecutive clips of a tracklet.

    Attributes:
        clip: frames, uint8 (B, L, height, width, 3), RGB; the last clip may repeat the tracklet's last frame.
        flow: flow, float32 (B, L, height, width, 2), pixels per frame; None without a method.
        num_different: number of different frames of each clip, int64 (B,).
    """

    clip: np.ndarray
    flow: np.ndarray | None
    num_different: np.ndarray


def network_inputs(
    frames: Iterable[np.ndarray], height: int, width: int, num_frames: int, flow_method: str | None
) -> NetworkInputs:
    """Return what `a3d embed` shows a model of a tracklet, for models that `a3d export` wrote.

    Args:
        frames: consecutive frames, at least one, each uint8 (H, W, 3), RGB, of any size.
        height: height of the model's clips, in pixels, as `a3d export` prints it.
        width: width of the model's clips, in pixels.
        num_frames: L, the number of frames of a clip.
        flow_method: flow method of the model, a name of `backbone.flow.FLOW_METHODS`; None if it has no flow
            stream.

    Raises:
        ValueError: there are no frames, or the method is unknown.
    """
    resized = [resize_frame(frame, height, width) for frame in frames]
    if not resized:
        raise ValueError("a tracklet has one frame or more, got none")
    array = np.stack(resized)
    # float16, as a cache keeps it
    flow = None if flow_method is None else optical_flow(array, flow_method).astype(np.float16)
    indices = consecutive_clips(len(array), num_frames)
    clips, flows = zip(*(cut_clip(array, flow, chosen) for chosen in indices), strict=True)
    return NetworkInputs(
        clip=np.stack(clips),
        flow=None if flow is None else np.stack(flows).astype(np.float32),
        num_different=np.array([len(np.unique(chosen)) for chosen in indices]),
    )


def resize_frame(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bring a frame, uint8 (H, W, 3), to the networks' size; proportions may change.

    One that is higher than `height` is shrunk by averaging areas (OpenCV's INTER_AREA), which does not alias, and
    any other is enlarged by linear interpolation (INTER_LINEAR).
    """
    interpolation = cv2.INTER_AREA if frame.shape[0] > height else cv2.INTER_LINEAR
    return cv2.resize(frame, (width, height), interpolation=interpolation)


def cut_clip(
    frames: np.ndarray, flow: np.ndarray | None, frame_indices: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a clip's frames and flow, out of its tracklet's; the flow never leads out of the clip."""
    return frames[frame_indices], None if flow is None else flow[flow_indices(frame_indices)]
