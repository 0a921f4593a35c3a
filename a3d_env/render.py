"""Pictures of a clip's frames with the bins that an agent looked at."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from a3d_env.bank import FeatureBank

Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels, half-open

# One colour a glimpse, RGB: white for the centre, then Figure 8's purple, blue and orange, then others.
COLOURS = ((245, 245, 245), (204, 93, 232), (77, 171, 247), (255, 146, 43), (255, 236, 90), (255, 107, 107))
TRUTH_COLOUR = (60, 255, 60)
INK = (20, 20, 20)
BACKGROUND = (32, 32, 32)
FRAME_HEIGHT = 256
MARGIN = 6
LEGEND_ROW = 22
LEGEND_ENTRY = 104
LINE = 3  # pixels: two of colour, and a dark one inside so that it shows on bright pictures too
TAG_SIZE = (17, 15)  # pixels of a number's tag: width, height


def draw_glimpses(
    bank: FeatureBank, clip: int, bins: Sequence[int], caption: str = "", *, has_legend: bool = True
) -> np.ndarray:
    """Draw a clip's frames in a row, each with the bins that cover it, and the identifying thing if it is known.

    A bin is outlined along its outermost pixels, or, if an earlier bin's outline is there, just inside of that.
    The tags with the glimpses' numbers do not overlap as long as there is room.

    Args:
        bank: the bank, with frames.
        clip: the clip's number.
        bins: the bins visited, in order.
        caption: a line of ASCII above the frames.
        has_legend: whether the legend of colours is above them, too.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        ValueError: the bank holds no frames.
    """
    _check_frames(bank)
    num_frames, frame_height, frame_width = bank.grid.clip_size
    scale = _scale(bank)
    height, width = frame_height * scale, frame_width * scale
    canvas_width = MARGIN + num_frames * (width + MARGIN)
    rows = [_draw_legend(canvas_width, len(bins), has_truth=bank.truth_boxes is not None)] if has_legend else []
    if caption:
        rows.append(_draw_caption(canvas_width, caption))
    canvas = np.full((height + MARGIN, canvas_width, 3), BACKGROUND, dtype=np.uint8)
    for frame in range(num_frames):
        left = MARGIN + frame * (width + MARGIN)
        canvas[:height, left : left + width] = draw_frame(bank, clip, frame, bins)
    return np.concatenate([*rows, canvas])


def draw_frame(bank: FeatureBank, clip: int, frame: int, bins: Sequence[int]) -> np.ndarray:
    """Draw one frame of a clip with the bins that cover it, and the identifying thing if it is known.

    Args:
        bank: the bank, with frames.
        clip: the clip's number.
        frame: the frame's index in the clip, 0-based.
        bins: the bins visited, in order; bins that do not cover the frame are counted in the numbers, but not
            drawn.

    Returns:
        uint8 (height, width, 3), RGB, enlarged by a whole number to about 256 pixels of height.

    Raises:
        ValueError: the bank holds no frames.
    """
    frames, (_, frame_height, frame_width), scale = _check_frames(bank), bank.grid.clip_size, _scale(bank)
    size = (frame_width * scale, frame_height * scale)
    picture = cv2.resize(frames[clip, frame], size, interpolation=cv2.INTER_LINEAR)
    for box in [] if bank.truth_boxes is None else bank.truth_boxes[clip, frame]:
        if not np.isnan(box).any():
            x0, y0, x1, y1 = np.round(box * scale).astype(int).tolist()
            cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), TRUTH_COLOUR, 1)
    boxes: list[Box] = [tuple((bank.grid.boxes[index] * scale).tolist()) for index in bins]
    levels = _levels(boxes)
    ranges = bank.grid.frame_ranges[list(bins)].reshape(-1, 2).tolist()
    shown = [order for order, (start, stop) in enumerate(ranges) if start <= frame < stop]
    for order in shown:
        _draw_box(picture, boxes[order], levels[order], COLOURS[order % len(COLOURS)])
    tags: list[Box] = []
    for order in shown:
        tags.append(_free_place(boxes[order], tags))
        _draw_tag(picture, tags[-1], order)
    return picture


def _check_frames(bank: FeatureBank) -> np.ndarray:
    if bank.frames is None:
        raise ValueError("this bank holds no frames to draw: build it with frames=...")
    return bank.frames


def _scale(bank: FeatureBank) -> int:
    """Return the factor by which frames are enlarged."""
    return max(1, round(FRAME_HEIGHT / bank.grid.clip_size[1]))


def _levels(boxes: Sequence[Box]) -> list[int]:
    """Return how many lines each box's outline moves inwards, so that boxes with a common edge stay apart."""
    levels: list[int] = []
    for order, box in enumerate(boxes):
        neighbours = [level for other, level in zip(boxes[:order], levels, strict=True) if _touch(box, other)]
        levels.append(min(set(range(order + 1)) - set(neighbours)))
    return levels


def _touch(box: Box, other: Box) -> bool:
    return any(edge == other_edge for edge, other_edge in zip(box, other, strict=True))


def _free_place(box: Box, taken: Sequence[Box]) -> Box:
    """Return a tag's place in a box where it overlaps no other tag, searched row by row from the top left."""
    places = list(_places(box))
    return next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])


def _places(box: Box) -> Iterator[Box]:
    (x0, y0, x1, y1), (width, height) = box, TAG_SIZE
    for y in range(y0, max(y1 - height, y0) + 1, 2):
        for x in range(x0, max(x1 - width, x0) + 1, 2):
            yield x, y, x + width, y + height


def _overlap(box: Box, other: Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _draw_box(picture: np.ndarray, box: Box, level: int, colour: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = box
    # Outlines of many or of small bins may cover each other, but never lie outside of the bin.
    level = min(level, max(0, min(x1 - x0, y1 - y0) // 2 - LINE) // LINE)
    for ring in range(LINE):
        inset = level * LINE + ring
        corners = (x0 + inset, y0 + inset), (x1 - 1 - inset, y1 - 1 - inset)
        cv2.rectangle(picture, *corners, INK if ring == LINE - 1 else colour, 1)


def _draw_tag(picture: np.ndarray, tag: Box, order: int) -> None:
    """Fill a tag with the glimpse's colour and write its number on it."""
    x0, y0, x1, y1 = tag
    cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), INK, -1)
    cv2.rectangle(picture, (x0 + 1, y0 + 1), (x1 - 2, y1 - 2), COLOURS[order % len(COLOURS)], -1)
    text, font_scale = str(order + 1), 0.4 if order < 9 else 0.33
    (text_width, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, font_scale, 1)
    origin = (x0 + x1 - text_width) // 2, (y0 + y1 + text_height) // 2
    cv2.putText(picture, text, origin, cv2.FONT_HERSHEY_SIMPLEX, font_scale, INK, 1, cv2.LINE_AA)


def _draw_caption(width: int, text: str) -> np.ndarray:
    """Write a line of text, made narrower if it is too long, uint8 (height, width, 3)."""
    row = np.full((LEGEND_ROW, width, 3), BACKGROUND, dtype=np.uint8)
    (needed, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
    scale = 0.4 * min(1.0, (width - 2 * MARGIN) / max(needed, 1))
    cv2.putText(row, text, (MARGIN, LEGEND_ROW - 7), cv2.FONT_HERSHEY_SIMPLEX, scale, COLOURS[0], 1, cv2.LINE_AA)
    return row


def _draw_legend(width: int, num_glimpses: int, *, has_truth: bool) -> np.ndarray:
    """Draw the legend of colours, in as many rows as the width requires, uint8 (height, width, 3)."""
    per_row = max(1, width // LEGEND_ENTRY)
    num_rows = max(1, -(-(num_glimpses + has_truth) // per_row))
    legend = np.full((num_rows * LEGEND_ROW + 4, width, 3), BACKGROUND, dtype=np.uint8)
    for entry in range(num_glimpses + has_truth):
        x0, y0 = MARGIN + entry % per_row * LEGEND_ENTRY, 4 + entry // per_row * LEGEND_ROW
        tag = (x0, y0, x0 + TAG_SIZE[0], y0 + TAG_SIZE[1])
        if entry < num_glimpses:
            name, colour = f"glimpse {entry + 1}", COLOURS[entry % len(COLOURS)]
            _draw_tag(legend, tag, entry)
        else:
            name, colour = "thing to find", TRUTH_COLOUR
            cv2.rectangle(legend, tag[:2], (tag[2] - 1, tag[3] - 1), colour, 1)
        origin = (tag[2] + 5, tag[3] - 3)
        cv2.putText(legend, name, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)
    return legend
