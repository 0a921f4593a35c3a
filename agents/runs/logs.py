"""Callbacks of a run: progress, the history of losses and reward, and checkpoints."""

import json
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm

from agents.features import SharedFeatureCallback
from agents.measures import Measures
from backbone.files import explain_disk_full, write_text
from backbone.progress import progress_bar

HISTORY, SCORES = "history.jsonl", "scores.jsonl"
SHOWN_BATCHES = 50
HISTORY_LINES = 100  # of a training on a bank


class ProgressCallback(BaseCallback):
    """Shows step, losses, reward and time left, and keeps their means in `history.jsonl`.

    Args:
        shared: callback whose metrics are shown; it comes after this one in the list of callbacks, and so does the
            one that saves.
        steps: number of steps of the whole run.
        folder: folder of the run.
        every: number of batches that one line of the history averages.
    """

    def __init__(self, shared: SharedFeatureCallback, steps: int, folder: Path, every: int):
        super().__init__()
        self.shared = shared
        self.steps = steps
        self.path = folder / HISTORY
        self.every = every
        # what the progress bar averages, or a line of the history if that is more
        self._values: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=max(SHOWN_BATCHES, every)))
        self._measures = Measures(every)
        self._noted = 0
        self._bar: tqdm | None = None

    def _on_training_start(self) -> None:
        self._noted = self.shared.step
        # What an interrupted run wrote after its last checkpoint is computed again.
        lines = [entry for entry in read_history(self.path) if entry["step"] <= self._noted]
        write_history(self.path, lines)
        self._bar = progress_bar(self.steps, "training", "batch", initial=self._noted)

    def _on_rollout_start(self) -> None:
        self._note()

    def _on_step(self) -> bool:
        return True

    def state_dict(self) -> dict[str, list[float]]:
        """Return what the next line averages, so that a resumed run writes the lines of an undisturbed one."""
        self._keep(self._measures.read())
        return {name: list(values) for name, values in self._values.items()}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Go on from `state_dict`."""
        for name, values in state.items():
            self._values[name].extend(values)

    def _on_training_end(self) -> None:
        self._note()
        if self._bar is not None:
            self._bar.close()

    def _note(self) -> None:
        self.shared.finish_step()
        if self.shared.step == self._noted or self._bar is None:
            return
        self._noted = self.shared.step
        is_due = self._noted % self.every == 0 or self._noted == self.steps
        self._keep(self._measures.add(self.shared.measured))
        if is_due:
            self._keep(self._measures.read())
        shown = {
            name.replace("_", " "): f"{np.mean(list(values)[-SHOWN_BATCHES:]):.3g}"
            for name, values in self._values.items()
        }
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(self._noted - self._bar.n)
        if is_due:
            means = {name: float(np.mean(list(values)[-self.every :])) for name, values in self._values.items()}
            with explain_disk_full(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": self._noted, **means}) + "\n")

    def _keep(self, batches: list[dict[str, float]]) -> None:
        for batch in batches:
            for name, value in batch.items():
                self._values[name].append(value)


class CheckpointCallback(BaseCallback):
    """Saves between two batches, every so many; it comes after the progress and before the shared callback."""

    def __init__(self, shared: SharedFeatureCallback, every: int, save: Callable[[], None]):
        super().__init__()
        self.shared = shared
        self.every = every
        self.save = save
        self._saved = 0

    def _on_training_start(self) -> None:
        self._saved = self.shared.step

    def _on_rollout_start(self) -> None:
        self.shared.finish_step()
        if self.shared.step % self.every == 0 and self.shared.step != self._saved:
            self._saved = self.shared.step
            self.save()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.shared.finish_step()
        self.save()


class StepProgress(BaseCallback):
    """Shows the steps taken, of how many, and the mean reward of late episodes.

    Attributes:
        history: mean reward in the course of the training, about a hundred lines of `step` and `reward`.
    """

    def __init__(self, total: int):
        super().__init__()
        self.total = total
        self.history: list[dict[str, float]] = []
        self._bar: tqdm | None = None

    def _on_training_start(self) -> None:
        self._bar = progress_bar(self.total, "training", "step", leave=False)

    def _on_step(self) -> bool:
        assert self._bar is not None
        self._bar.update(min(self.num_timesteps, self.total) - self._bar.n)
        if self.model.ep_info_buffer:
            mean = np.mean([episode["r"] for episode in self.model.ep_info_buffer])
            self._bar.set_postfix(reward=f"{mean:.3f}", refresh=False)
            if self.num_timesteps >= (len(self.history) + 1) * self.total / HISTORY_LINES:
                self.history.append({"step": self.num_timesteps, "reward": float(mean)})
        return True

    def _on_training_end(self) -> None:
        assert self._bar is not None
        self._bar.close()


def write_history(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write lines of JSON, all or nothing."""
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of curves, numbers by name with their `step`; none if there is no file.

    Raises:
        ValueError: a line is damaged; the message names it.
    """
    if not path.is_file():
        return []
    history: list[dict[str, Any]] = []
    # What follows the last line's end may be half-written where a run was killed.
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1], 1):
        try:
            entry = json.loads(line)
            is_sound = {*map(type, entry.values())} <= {int, float} and type(entry["step"]) is int
        except (ValueError, KeyError, AttributeError, RecursionError):
            is_sound = False
        if not is_sound or (history and entry["step"] <= history[-1]["step"]):
            raise ValueError(f"{path} is damaged in line {number}: remove the line")
        history.append(entry)
    return history
