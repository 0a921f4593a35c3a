"""An episode as one matplotlib figure, for notebooks and papers."""

import io

import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes
from mpl_toolkits.mplot3d import Axes3D

from a3d_env.render import COLOURS, draw_glimpses
from agents.episodes.episode import Episode
from agents.episodes.story import describe_episode, percent

LABELS = ("frame", "x (pixels)", "y (pixels)")


class EpisodeFigure(matplotlib.figure.Figure):
    """A figure that notebooks show with any matplotlib backend."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()


def draw_episode(episode: Episode) -> EpisodeFigure:
    """Draw the frames with the bins, the bins in the clip's volume (Figure 8 a), and the exact reward maps.

    Args:
        episode: the episode; pictures of frames, decisions or maps that it lacks are left out.
    """
    times = episode.process.bank.grid.positions[0]
    figure = EpisodeFigure(figsize=(12, 7.5), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.1), squeeze=False)[:, 0]
    if episode.process.bank.frames is not None:
        axes = top.subplots()
        axes.imshow(draw_glimpses(episode.process.bank, 0, episode.bins.tolist()))
        axes.set_axis_off()
    top.suptitle(describe_episode(episode)[0], fontsize=11)
    left, right = bottom.subfigures(1, 2, width_ratios=(1, 1.6), squeeze=False)[0]
    _draw_volume(left.add_subplot(projection="3d"), episode)
    if episode.has_maps:
        right.suptitle("probability of the true identity, by the bin looked at; circle: the agent, star: the best")
        grid = right.subplots(len(episode.decisions), times, squeeze=False)
        for number, row in enumerate(grid, 2):
            _draw_map(row, episode, number)
    return figure


def _draw_volume(axes: Axes3D, episode: Episode) -> None:
    grid = episode.process.bank.grid
    num_frames, height, width = grid.clip_size
    for number, index in enumerate(episode.bins.tolist()):
        (start, stop), (x0, y0, x1, y1) = grid.frame_ranges[index], grid.boxes[index]
        colour = np.array(COLOURS[number % len(COLOURS)]) / 255
        edge = colour * 0.8
        axes.bar3d(
            start, x0, y0, stop - start, x1 - x0, y1 - y0, color=(*colour, 0.25), edgecolor=edge, shade=False
        )
        axes.text(start, x0, y0, str(number + 1), fontsize=9)
    axes.set(xlim=(0, num_frames), ylim=(0, width), zlim=(height, 0))
    axes.set_box_aspect((1.3, width / height, 1), zoom=0.82)  # room for the labels
    axes.locator_params(axis="y", nbins=3)
    for name, label in zip("xyz", LABELS, strict=True):
        getattr(axes, f"set_{name}label")(label, fontsize=8)
    axes.tick_params(labelsize=7)


def _draw_map(row: np.ndarray, episode: Episode, number: int) -> None:
    found = episode.reward_map(number)
    low, high = float(found.probability.min()), float(found.probability.max())
    axes: Axes
    for time, axes in enumerate(row):
        image = axes.imshow(found.probability[time], vmin=low, vmax=high)
        axes.set(xticks=[], yticks=[])
        for corner, marker in ((episode.corner(number), "o"), (found.best, "*")):
            if corner[0] == time:
                size, face = (11, "none") if marker == "o" else (8, "white")
                axes.plot(
                    corner[2],
                    corner[1],
                    marker,
                    color="tab:red",
                    markerfacecolor=face,
                    markeredgewidth=1.5,
                    zorder=5,
                    markersize=size,
                    clip_on=False,
                )
        if time == 0:
            axes.set_ylabel(f"glimpse {number}", fontsize=9)
        if number == 2:
            start, stop = episode.process.bank.grid.frame_ranges[episode.process.bank.grid.index((time, 0, 0))]
            axes.set_title(f"frames {start + 1}-{stop}", fontsize=8)
    bar = row[0].figure.colorbar(image, ax=list(row), ticks=[low, high], shrink=0.8)
    bar.ax.set_yticklabels([percent(low), percent(high)], fontsize=7)
