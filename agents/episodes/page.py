"""The self-contained HTML page of an episode: `page.html` filled with the episode's numbers and pictures."""

import base64
import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from a3d_env.render import COLOURS, TRUTH_COLOUR
from a3d_env.rewards import REWARDS
from agents.episodes.episode import Episode
from agents.episodes.gallery import Gallery, Ranking
from agents.episodes.story import describe_change, describe_episode
from backbone.files import atomic_path

TOP = 5  # number of identities shown
DECIDED = ("action", "mean", "deviation", "share", "log_prob", "value")  # what is shown of a decision
RANKED = 10  # number of gallery tracklets shown
SLOT = "/*EPISODE*/null"  # the text in the template that is replaced by the data
SMALL_FRAME = 2**15  # pixels: smaller frames are PNG, without loss, larger ones JPEG
JPEG_QUALITY = 90


def write_page(path: Path, episode: Episode, gallery: Gallery | None = None, index: str | None = None) -> Path:
    """Write the page, atomically.

    Args:
        path: path of the page; its folder is made if it does not exist.
        episode: the episode; if it has changes, its original is shown beside it.
        gallery: the gallery in which the clip is searched.
        index: name of a page beside this one that leads back to the other episodes.

    Returns:
        The path.

    Raises:
        ValueError: the episode's bank holds no frames to show.
    """
    template = files("agents.episodes").joinpath("page.html").read_text(encoding="utf-8")
    # A "<" in a name could end the script element that holds the data.
    data = json.dumps(page_data(episode, gallery) | {"index": index}, allow_nan=False).replace("<", "\\u003c")
    with atomic_path(path) as partial:
        partial.write_text(template.replace(SLOT, data), encoding="utf-8")
    return path


def page_data(episode: Episode, gallery: Gallery | None = None) -> dict[str, Any]:
    """Return the content of the page as data for JSON; unknown values are None.

    `clip`, `grid` and `colours` are for drawing; `episodes` has the episode, after its original if it has changes,
    each with its `glimpses`; `story` has the sentences at the top of the page.

    Raises:
        ValueError: the episode's bank holds no frames to show.
    """
    bank = episode.process.bank
    if bank.frames is None:
        raise ValueError(f"the bank of {episode.tracklet} holds no frames to show: build it with frames=...")
    played = [episode] if episode.original is None else [episode.original, episode]
    rankings = [None if gallery is None else gallery.rank(one.descriptor) for one in played]
    story = describe_episode(played[0], rankings[0])
    grid = bank.grid
    return {
        "title": episode.tracklet,
        "agent": episode.agent_name,
        "judge": episode.judge,
        "is_sample": episode.is_sample,
        "reward_name": episode.process.reward_name,
        "reward_unit": _first_line(REWARDS.get(episode.process.reward_name)),
        "truth_name": episode.identity_names[episode.true_identity],
        "story": story,
        "change": describe_change(episode, rankings[0], rankings[-1]),
        "colours": [_css(colour) for colour in COLOURS],
        "truth_colour": _css(TRUTH_COLOUR),
        "clip": {
            "height": grid.clip_size[1],
            "width": grid.clip_size[2],
            "frames": [data_url(frame) for frame in bank.frames[0]],
            "truth": None if bank.truth_boxes is None else _plain(bank.truth_boxes[0]),
        },
        "grid": {
            "positions": grid.positions,
            "cell": [clip / cells for clip, cells in zip(grid.clip_size, grid.feature_size, strict=True)],
            "boxes": grid.boxes.tolist(),
            "frames": grid.frame_ranges.tolist(),
            "corners": grid.corners.tolist(),
        },
        "episodes": [_episode(one, ranking, gallery) for one, ranking in zip(played, rankings, strict=True)],
    }


def _episode(episode: Episode, ranking: Ranking | None, gallery: Gallery | None) -> dict[str, Any]:
    has_maps = episode.has_maps
    return {
        "is_right": episode.is_right,
        "named": episode.identity_names[episode.identity],
        "probability": episode.probability,
        "reward": episode.reward,
        "changes": {str(number): corner for number, corner in (episode.changes or {}).items()},
        "final": _top(episode, episode.probabilities),
        "glimpses": [_glimpse(episode, number) for number in range(1, episode.num_glimpses + 1)],
        "decisions": [
            {
                "number": number,
                **{name: _plain(getattr(decision, name)) for name in DECIDED},
                "advantage": _plain(advantage),
                "policy": _plain(decision.probability),
                "truth": _plain(episode.reward_map(number).probability.ravel()) if has_maps else None,
                "expected": _plain(episode.reward_map(number).value.ravel()) if has_maps else None,
            }
            for number, (decision, advantage) in enumerate(
                zip(episode.decisions, episode.advantages, strict=True), 2
            )
        ],
        "ranking": [] if ranking is None or gallery is None else _ranked(ranking, gallery),
    }


def _glimpse(episode: Episode, number: int) -> dict[str, Any]:
    return {
        "number": number,
        "bin": int(episode.bins[number - 1]),
        "hit": None if episode.hits is None else episode.hits[number - 1],
        "is_changed": number in (episode.changes or {}),
        "hidden_change": episode.hidden_changes[number - 1],
        "top": _top(episode, episode.beliefs[number - 1]),
    }


def _top(episode: Episode, probabilities: Tensor) -> list[dict[str, Any]]:
    """Return the most probable identities, and the true one if it is not among them."""
    order = probabilities.topk(min(TOP, len(probabilities))).indices.tolist()
    if episode.true_identity not in order:
        order.append(episode.true_identity)
    return [
        {
            "name": episode.identity_names[identity],
            "probability": float(probabilities[identity]),
            "is_true": identity == episode.true_identity,
        }
        for identity in order
    ]


def _ranked(ranking: Ranking, gallery: Gallery) -> list[dict[str, Any]]:
    return [
        {
            "rank": one.rank,
            "kind": one.kind,
            "distance": one.distance,
            "name": gallery.names[one.row],
            "picture": None if gallery.picture is None else data_url(gallery.picture(one.row)),
        }
        for one in ranking.first(RANKED)
    ]


def _first_line(documented: object) -> str:
    """Return what the docstring begins with; nothing for what has none, as a reward of the user's own."""
    return (getattr(documented, "__doc__", None) or "").partition("\n")[0] if callable(documented) else ""


def _plain(value: float | np.ndarray | Tensor) -> Any:
    """Return numbers for JSON, rounded to 6 digits; None for NaN, and for an array of NaN alone."""
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.6g}")
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
    if np.isnan(array).all() and array.ndim == 1:
        return None
    if array.ndim > 1:
        return [_plain(row) for row in array]
    return [_plain(float(number)) for number in array]


def data_url(picture: np.ndarray) -> str:
    """Return an RGB picture as a data URL."""
    small = picture.shape[0] * picture.shape[1] < SMALL_FRAME
    kind, options = ("png", []) if small else ("jpeg", [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    _, code = cv2.imencode(f".{kind}", picture[:, :, ::-1], options)
    return f"data:image/{kind};base64,{base64.b64encode(code.tobytes()).decode()}"


def _css(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
