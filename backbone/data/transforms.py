"""Augmentation of whole clips: the same for all frames and for both streams."""

from dataclasses import dataclass

import cv2
import numpy as np

from backbone.flow import mirror_flow

# Colour of an erased part: ImageNet's mean, which is 0 after normalisation.
FILL = np.array([124, 116, 104], dtype=np.uint8)


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of training clips; one draw holds for all frames of a clip and for its flow."""

    mirror_probability: float = 0.5
    """Probability of mirroring a clip left to right; the flow's x changes its sign."""
    erase_probability: float = 0.5
    """Probability of erasing one rectangle from all frames of a clip."""
    erase_area: tuple[float, float] = (0.02, 0.2)
    """Smallest and largest share of the frame's area that is erased."""
    crop_padding: float = 0.0
    """Largest shift of the random crop, as a share of the frames' height and width; what comes in is black."""
    color_jitter: float = 0.0
    """Strength c of the colour jitter, which imitates another camera: each colour channel is multiplied by a
    random factor from 1 - c to 1 + c, shifted by up to a quarter of c, and bent by a random gamma."""

    def __post_init__(self) -> None:
        for name in ("mirror_probability", "erase_probability", "crop_padding", "color_jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} must be in [0, 1], got {getattr(self, name)}")


def augment(
    clip: np.ndarray,
    flow: np.ndarray | None,
    boxes: np.ndarray | None,
    config: AugmentConfig,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Jitter the colours of one clip, mirror it, crop it and erase a part of it, each at random.

    Args:
        clip: uint8 (L, H, W, 3).
        flow: float (L, H, W, 2) or None.
        boxes: float (L, K, 4), x0, y0, x1, y1 as shares of the frame, or None.
        config: the probabilities.
        generator: random generator, from which the same number of draws is taken whatever comes out.

    Returns:
        Clip, flow and boxes, changed copies if anything changed.
    """
    height, width = clip.shape[1:3]
    do_mirror, do_erase = generator.random(2) < (config.mirror_probability, config.erase_probability)
    rectangle = erased_rectangle(height, width, config.erase_area, generator)
    if config.crop_padding or config.color_jitter:  # else nothing is drawn: runs without them are as they were
        shift = generator.uniform(-config.crop_padding, config.crop_padding, 2)
        gain, offset, gamma = generator.uniform(-config.color_jitter, config.color_jitter, (3, 3))
    if config.color_jitter:
        clip = change_colors(clip, 1 + gain, offset / 4, np.exp(gamma[:1]))
    if do_mirror:
        clip, flow, boxes = mirror(clip, flow, boxes)
    if config.crop_padding:
        clip, flow, boxes = crop(clip, flow, boxes, round(shift[0] * height), round(shift[1] * width))
    if do_erase:
        clip, flow = erase(clip, flow, rectangle)
    return clip, flow, boxes


def mirror(
    clip: np.ndarray, flow: np.ndarray | None, boxes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Mirror a clip left to right, with its flow (whose x changes its sign) and its boxes."""
    flow = None if flow is None else mirror_flow(flow)
    if boxes is not None:
        x0, y0, x1, y1 = np.moveaxis(boxes, -1, 0)
        boxes = np.stack([1 - x1, y0, 1 - x0, y1], axis=-1)
    return clip[:, :, ::-1], flow, boxes


def crop(
    clip: np.ndarray, flow: np.ndarray | None, boxes: np.ndarray | None, down: int, right: int
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Move all frames by whole pixels, with their flow and boxes: pad with zeros, then crop to the same size."""
    height, width = clip.shape[1:3]
    clip = _shifted(clip, down, right)
    flow = None if flow is None else _shifted(flow, down, right)
    if boxes is not None:
        boxes = boxes + np.array([right / width, down / height] * 2, dtype=boxes.dtype)
    return clip, flow, boxes


def _shifted(maps: np.ndarray, down: int, right: int) -> np.ndarray:
    """Move maps (L, H, W, C), filling with zeros."""
    moved = np.zeros_like(maps)
    height, width = maps.shape[1:3]
    to_rows, to_columns = slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0))
    rows, columns = slice(max(-down, 0), height - max(down, 0)), slice(max(-right, 0), width - max(right, 0))
    moved[:, to_rows, to_columns] = maps[:, rows, columns]
    return moved


def change_colors(clip: np.ndarray, gain: np.ndarray, offset: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """Give a clip the colours of another camera: gain x^gamma + offset for x in [0, 1], channel by channel.

    Args:
        clip: uint8 (L, H, W, 3).
        gain: float (3,).
        offset: float (3,), as a share of white.
        gamma: float (3,) or (1,).

    Returns:
        Colours of the same shape, uint8.
    """
    levels = np.arange(256)[:, None] / 255
    table = (255 * (gain * levels**gamma + offset)).clip(0, 255).round().astype(np.uint8)
    flat = np.ascontiguousarray(clip).reshape(1, -1, 3)
    return cv2.LUT(flat, table[None]).reshape(clip.shape)


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
