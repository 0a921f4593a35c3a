"""Trackers of experiments beside TensorBoard, a function for each library: `a3d train --track wandb`.

A tracker gets what TensorBoard gets, numbers and pictures by step, and the scores of the end. Where it sends them,
and as whom, is set up as its library says: by environment variables, or by a log-in beforehand.
"""

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from stable_baselines3.common.logger import Image as LoggedImage
from stable_baselines3.common.logger import KVWriter

from backbone.files import write_json
from backbone.json_file import read_object
from backbone.progress import log_line

PROJECT = "a3d"  # where no environment variable names another
TRACKED = "tracked.json"  # which tracked run a folder's run is, by library


@dataclass(frozen=True)
class TrackedRuns:
    """Contents of tracked.json: the id of the tracked run in each library."""

    wandb: str | None = None
    mlflow: str | None = None
    trackio: str | None = None


@dataclass(frozen=True)
class Tracker:
    """A run in a library that tracks experiments, begun.

    Attributes:
        id: text by which the library finds the tracked run again.
        numbers: function that logs numbers by name, at a step.
        picture: function that logs a picture, uint8 (H, W, 3), RGB, under a name, at a step.
        finish: function that ends the tracked run, told whether it failed; it can be gone on with.
    """

    id: str
    numbers: Callable[[dict[str, float], int], object]
    picture: Callable[[str, np.ndarray, int], object]
    finish: Callable[[bool], object]


def track_by_wandb(name: str, settings: dict[str, Any], known: str | None) -> Tracker:
    """Begin a run of Weights & Biases, or go on with one.

    WANDB_PROJECT names the project, and WANDB_MODE=offline keeps the run on the disk.
    """
    wandb = _library("wandb")
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    run = wandb.init(project=project, name=name, config=settings, id=known, resume="allow" if known else None)
    return Tracker(
        run.id,
        lambda values, step: run.log(values, step=step),
        lambda key, picture, step: run.log({key: wandb.Image(picture)}, step=step),
        lambda has_failed: run.finish(exit_code=int(has_failed)),
    )


def track_by_mlflow(name: str, settings: dict[str, Any], known: str | None) -> Tracker:
    """Begin a run of MLflow, or go on with one.

    MLFLOW_TRACKING_URI names the server, and MLFLOW_EXPERIMENT_NAME the experiment.
    """
    mlflow = _library("mlflow")
    mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
    run = mlflow.start_run(run_id=known, run_name=None if known else name)
    mlflow.log_dict(settings, "config.json")
    return Tracker(
        run.info.run_id,
        lambda values, step: mlflow.log_metrics(values, step=step),
        lambda key, picture, step: mlflow.log_image(Image.fromarray(picture), f"{key}-{step:08d}.png"),
        lambda has_failed: mlflow.end_run("FAILED" if has_failed else "FINISHED"),
    )


def track_by_trackio(name: str, settings: dict[str, Any], known: str | None) -> Tracker:
    """Begin a run of Trackio, or go on with one; on this machine, unless TRACKIO_SPACE_ID names a place."""
    trackio = _library("trackio")
    name = known or name
    trackio.init(project=PROJECT, name=name, config=settings, resume="allow" if known else "never")
    return Tracker(
        name,
        lambda values, step: trackio.log(values, step=step),
        lambda key, picture, step: trackio.log({key: trackio.Image(picture)}, step=step),
        lambda has_failed: trackio.finish(),
    )


TRACKERS = {"wandb": track_by_wandb, "mlflow": track_by_mlflow, "trackio": track_by_trackio}


def ending_no_training(library: str, tracker: Tracker) -> Tracker:
    """Return a tracker whose library may fail, such as for a server that is gone: a line says so, once."""
    failures: list[Exception] = []

    def tried(function: Callable[..., object]) -> Callable[..., None]:
        def call(*values: Any) -> None:
            try:
                function(*values)
            except Exception as error:  # of the library's own types
                if not failures:
                    log_line(
                        f"{library} did not take what it was sent, and the training goes on: {_reason(error)}"
                    )
                failures.append(error)

        return call

    return Tracker(tracker.id, tried(tracker.numbers), tried(tracker.picture), tried(tracker.finish))


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class TrackerFormat(KVWriter):
    """Passes on to a tracker what an algorithm's logger writes for TensorBoard: numbers and pictures."""

    def __init__(self, tracker: Tracker):
        self.tracker = tracker

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        """Log all numbers of a step, and its pictures."""
        shown = {key: one for key, one in key_values.items() if "tensorboard" not in (key_excluded.get(key) or ())}
        self.tracker.numbers(
            {key: float(one) for key, one in shown.items() if isinstance(one, int | float | np.number)}, step
        )
        for key, one in shown.items():
            if isinstance(one, LoggedImage) and isinstance(one.image, np.ndarray):
                self.tracker.picture(key, one.image, step)

    def close(self) -> None:
        """Do nothing: `tracking` ends the tracked run."""


@contextmanager
def tracking(
    library: str | None, folder: Path, settings: dict[str, Any], *, is_resumed: bool = False
) -> Iterator[Tracker | None]:
    """Yield the tracker of a run while it lasts; None without a library.

    Args:
        library: a name of `TRACKERS`.
        folder: folder of the run, whose name the tracked run gets; `tracked.json` there says which one it is.
        settings: settings of the run, to be shown beside the curves.
        is_resumed: whether the run goes on, so that its tracked run does, too.

    Raises:
        ValueError: the library can't begin; the message says why.
    """
    if library is None:
        yield None
        return
    path = folder / TRACKED
    known = read_object(path, TrackedRuns, "remove it, and a new tracked run begins") if path.exists() else {}
    name = "-".join(folder.absolute().parts[-2:])
    try:
        tracker = TRACKERS[library](name, settings, known.get(library) if is_resumed else None)
    except Exception as error:  # of the library's own types: no log-in, no network, no such place
        raise ValueError(
            f"{library} can't track {folder}; mend that, or leave --track out: {_reason(error)}"
        ) from error
    write_json(path, {**known, library: tracker.id})
    tracker = ending_no_training(library, tracker)
    has_failed = True
    try:
        yield tracker
        has_failed = False
    finally:
        tracker.finish(has_failed)


def check_tracker(library: str | None) -> None:
    """Refuse a library that is not installed, before anything is built.

    Raises:
        ValueError: it is not installed.
    """
    if library is not None:
        _library(library)


def _library(name: str) -> Any:
    try:
        library = importlib.import_module(name)
        if not library.__file__:  # wandb leaves a folder of its name where it ran, which can be imported
            raise ImportError(f"{name} is a folder here, not the library")
        return library
    except ImportError as error:
        raise ValueError(
            f"--track {name} needs {name} ({error}): pip install 'a3d[{name}]', or leave --track out"
        ) from error
