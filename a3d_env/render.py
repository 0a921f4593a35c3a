"""Bins drawn into the video."""

from collections.abc import Sequence

import cv2
import numpy as np

from a3d_env.bank import FeatureBank

# One colour a glimpse, RGB: white for the centre, then Figure 8's purple, blue and orange, then others.
COLOURS = ((245, 245, 245), (190, 75, 219), (51, 154, 240), (255, 146, 43), (81, 207, 102), (255, 107, 107))
TRUTH_COLOUR = (60, 255, 60)
FRAME_HEIGHT = 256
MARGIN = 6
HEADER = 26
BACKGROUND = 32


def draw_glimpses(bank: FeatureBank, clip: int, bins: Sequence[int]) -> np.ndarray:
    """Draw a clip's frames in a row, each with the bins that cover it, and the truth where it is known.

    Args:
        bank: the bank, with frames.
        clip: the clip's number.
        bins: the bins visited, in order.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        ValueError: the bank holds no frames.
    """
    if bank.frames is None:
        raise ValueError("this bank holds no frames to draw: build it with frames=...")
    grid = bank.grid
    num_frames, frame_height, frame_width = grid.clip_size
    scale = max(1, round(FRAME_HEIGHT / frame_height))
    height, width = frame_height * scale, frame_width * scale
    canvas = np.full(
        (HEADER + height + MARGIN, MARGIN + num_frames * (width + MARGIN), 3), BACKGROUND, dtype=np.uint8
    )
    for frame in range(num_frames):
        picture = cv2.resize(bank.frames[clip, frame], (width, height), interpolation=cv2.INTER_LINEAR)
        for order, index in enumerate(bins):
            start, stop = grid.frame_ranges[index]
            if start <= frame < stop:
                _draw_box(picture, grid.boxes[index] * scale, order)
        if bank.truth_boxes is not None and not np.isnan(bank.truth_boxes[clip, frame]).any():
            x0, y0, x1, y1 = np.round(bank.truth_boxes[clip, frame] * scale).astype(int).tolist()
            cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), TRUTH_COLOUR, 1)
        left = MARGIN + frame * (width + MARGIN)
        canvas[HEADER : HEADER + height, left : left + width] = picture
    _draw_legend(canvas, len(bins), has_truth=bank.truth_boxes is not None)
    return canvas


def _draw_box(picture: np.ndarray, box: np.ndarray, order: int) -> None:
    """Draw a box inset by its order, so that bins at one place stay apart, with the glimpse's number."""
    inset = 1 + 2 * order
    x0, y0, x1, y1 = (int(edge) for edge in box)
    colour = COLOURS[order % len(COLOURS)]
    cv2.rectangle(picture, (x0 + inset, y0 + inset), (x1 - 1 - inset, y1 - 1 - inset), colour, 2)
    cv2.putText(
        picture,
        str(order + 1),
        (x0 + inset + 4 + 11 * order, y0 + 18),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.45,
        colour,
        1,
    )


def _draw_legend(canvas: np.ndarray, num_glimpses: int, *, has_truth: bool) -> None:
    entries = [(f"glimpse {order + 1}", COLOURS[order % len(COLOURS)]) for order in range(num_glimpses)]
    entries += [("truth", TRUTH_COLOUR)] * has_truth
    for order, (name, colour) in enumerate(entries):
        left = MARGIN + order * 110
        cv2.rectangle(canvas, (left, 8), (left + 12, 20), colour, -1)
        cv2.putText(canvas, name, (left + 18, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
