"""The pictures that a run leaves: learning curves, and test clips with the bins that the agent chose."""

from pathlib import Path

import cv2
import numpy as np

from a3d_env.render import draw_glimpses
from agents.rollout import at_test, follow
from agents.runs.describe import tracklet_bank
from agents.runs.logs import HISTORY, SCORES, read_history
from agents.runs.trained import TrainedModel
from backbone.data import ReidData
from backbone.files import atomic_file, atomic_path
from backbone.metrics import RetrievalScores

TEST_CURVES = ("R1", "mAP", "hit_rate")


def draw_curves(folder: Path, unit: str = "batch") -> None:
    """Draw a run's history as `curves.png`: losses, reward, accuracy, hit rate and test scores.

    Args:
        folder: folder of the run.
        unit: name of the steps along the curves' x axis.
    """
    history = read_history(folder / HISTORY)
    history += [
        {"step": line["step"]} | {f"test {name}": line[name] for name in TEST_CURVES if name in line}
        for line in read_history(folder / SCORES)
    ]
    panels = {
        "cross entropy": ("identity_loss", "glimpse_loss"),
        "losses of distances": ("triplet_loss", "center_loss"),
        "mean reward of an episode": ("reward",),
        "share of episodes, of bins": ("accuracy", "hit_rate", "chance_of_hits"),
        "test people (%)": tuple(f"test {name}" for name in TEST_CURVES),
    }
    known = {name for entry in history for name in entry}
    panels = {title: names for title, names in panels.items() if known.intersection(names)} or panels
    import matplotlib.figure  # it takes a second to import

    figure = matplotlib.figure.Figure(figsize=(15 if len(panels) > 1 else 6, 3.4), layout="constrained")
    for axes, (title, names) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name in names:
            points = [(entry["step"], entry[name]) for entry in history if name in entry]
            if points:
                style = "--" if name.startswith("chance") else "-"
                axes.plot(*zip(*points, strict=True), style, label=name.replace("_", " "))
        axes.set(title=title, xlabel=unit)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    with atomic_path(folder / "curves.png") as partial:
        figure.savefig(partial, dpi=120)


def bins_picture(
    model: TrainedModel, data: ReidData, found: RetrievalScores | None = None, num_clips: int = 6
) -> np.ndarray:
    """Draw the first clips of the first query tracklets with the bins that the agent chose.

    Args:
        model: the networks.
        data: data whose queries are drawn.
        found: what the queries found in the gallery, for the captions; None: the captions do not say.
        num_clips: number of clips.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    tested = at_test(model.agent)
    ranks = {} if found is None else dict(zip(found.queries.tolist(), found.first_ranks.tolist(), strict=True))
    pictures = []
    for number, tracklet in enumerate(data.query[:num_clips]):
        bank = tracklet_bank(model, tracklet, 0)
        episodes = follow(tested, model.process(bank))
        caption = f"query {number}: person {tracklet.person}, camera {tracklet.camera}"
        if (rank := ranks.get(number)) is not None:
            caption += ", right: found first" if rank == 1 else f", wrong: found at rank {rank}"
        bins = episodes.bins[0].tolist()
        pictures.append(draw_glimpses(bank, 0, bins, caption, has_legend=number == 0))
    return np.concatenate(pictures)


def draw_bins(path: Path, picture: np.ndarray) -> None:
    """Write a picture of `bins_picture`."""
    # to memory, then to disk: OpenCV's own writing says nothing of a full disk
    _, content = cv2.imencode(".png", picture[:, :, ::-1])
    with atomic_file(path) as file:
        file.write(content.tobytes())
