"""The picture of `a3d probe` that shows what looking at each place pays, and what retrieval gains by it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from a3d_env.bins import BinGrid
from backbone.files import atomic_path


def mean_places(maps: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the mean over runs of the maps that all have; none if the runs' bins differ."""
    if len({one.shape for of_run in maps for one in of_run.values()}) > 1:
        return {}
    names = [name for name in maps[0] if all(name in of_run for of_run in maps)]
    return {name: np.mean([of_run[name] for of_run in maps], axis=0) for name in names}


def draw_places(path: Path, places: Mapping[str, np.ndarray], grid: BinGrid) -> None:
    """Draw a row for each map, and in it a panel of height and width for each time.

    Args:
        path: file to write.
        places: values by name and place, float (time, height, width), each bin at its corner.
        grid: grid of the bins.
    """
    from matplotlib.figure import Figure  # it takes a second to import

    times, height, width = grid.positions
    tall = 0.6 + 1.4 * min(max(height / width, 0.5), 3)
    figure = Figure(figsize=(1.6 * times + 2.6, tall * len(places)), layout="constrained")
    for part, (name, values) in zip(
        figure.subfigures(len(places), squeeze=False)[:, 0], places.items(), strict=True
    ):
        low, high = float(values.min()), float(values.max())
        part.suptitle(name, fontsize=9)
        panels = part.subplots(1, times, squeeze=False)[0]
        for time, axes in enumerate(panels):
            image = axes.imshow(values[time], vmin=low, vmax=high)
            start, stop = grid.frame_ranges[grid.index((time, 0, 0))]
            axes.set_title(f"frames {start + 1}-{stop}", fontsize=8)
            axes.set(xticks=[], yticks=[])
        part.colorbar(image, ax=list(panels), ticks=[low, high], format="%.3g")
    figure.supxlabel("each cell: the bin with its corner there; height and width of the clip", fontsize=8)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110)
