"""Augmentation of whole clips: the same for all frames and for both streams."""

from dataclasses import dataclass

import numpy as np

from backbone.flow import mirror_flow

# What an erased part is filled with: ImageNet's mean colour, which is 0 after normalisation.
FILL = np.array([124, 116, 104], dtype=np.uint8)


@dataclass(frozen=True)
class AugmentConfig:
    """How training clips are changed at random."""

    mirror_probability: float = 0.5
    """Of mirroring a clip left to right; the flow's x changes its sign."""
    erase_probability: float = 0.5
    """Of erasing one rectangle from all frames of a clip."""
    erase_area: tuple[float, float] = (0.02, 0.2)
    """Least and most share of the frame's area that is erased."""


def augment(
    clip: np.ndarray,
    flow: np.ndarray | None,
    boxes: np.ndarray | None,
    config: AugmentConfig,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Mirror and erase one clip at random.

    Args:
        clip: uint8 (L, H, W, 3).
        flow: float (L, H, W, 2) or None.
        boxes: float (L, 4), x0, y0, x1, y1 as shares of the frame, or None.
        config: the probabilities.
        generator: of the draws, of which there are as many whatever comes out.

    Returns:
        The same three, changed copies where anything changed.
    """
    do_mirror, do_erase = generator.random(2) < (config.mirror_probability, config.erase_probability)
    rectangle = erased_rectangle(clip.shape[1], clip.shape[2], config.erase_area, generator)
    if do_mirror:
        clip, flow, boxes = mirror(clip, flow, boxes)
    if do_erase:
        clip, flow = erase(clip, flow, rectangle)
    return clip, flow, boxes


def mirror(
    clip: np.ndarray, flow: np.ndarray | None, boxes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Mirror a clip left to right, with its flow (whose x changes its sign) and its boxes."""
    flow = None if flow is None else mirror_flow(flow)
    if boxes is not None:
        x0, y0, x1, y1 = boxes.T
        boxes = np.stack([1 - x1, y0, 1 - x0, y1], axis=1)
    return clip[:, :, ::-1], flow, boxes


def erase(
    clip: np.ndarray, flow: np.ndarray | None, rectangle: tuple[slice, slice]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Fill a rectangle (rows, columns) of all frames with the mean colour, and of all flow maps with 0."""
    rows, columns = rectangle
    clip = clip.copy()
    clip[:, rows, columns] = FILL
    if flow is not None:
        flow = flow.copy()
        flow[:, rows, columns] = 0
    return clip, flow


def erased_rectangle(
    height: int, width: int, area: tuple[float, float], generator: np.random.Generator
) -> tuple[slice, slice]:
    """Draw rows and columns of a rectangle inside the frame, of an area and an aspect from 1/3 to 3."""
    share, aspect = generator.uniform(*area), np.exp(generator.uniform(np.log(1 / 3), np.log(3)))
    rows = min(height, max(1, round(np.sqrt(share * height * width * aspect))))
    columns = min(width, max(1, round(np.sqrt(share * height * width / aspect))))
    top, left = generator.integers(height - rows + 1), generator.integers(width - columns + 1)
    return slice(top, top + rows), slice(left, left + columns)
