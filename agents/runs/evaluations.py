"""Scores of test people in the course of a training, and the best checkpoint: `a3d train --evaluate-every`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Image

from agents.runs.logs import SCORES, read_history, write_history
from agents.runs.parts import Training
from agents.runs.pictures import bins_picture
from agents.runs.scoring import Scores
from agents.runs.trained import TrainedModel
from backbone.distributed import from_main, is_main
from backbone.progress import log_line

BEST = "best.pt"
CHOSEN_BY = "mAP"


class EvaluationCallback(BaseCallback):
    """Scores the agent on the test people every so many batches, and keeps the checkpoint of the highest mAP.

    The scores go to `scores.jsonl`, one line an evaluation, and to TensorBoard with a picture of the bins. The
    training goes on as if nothing had been scored. It comes before what saves the run, and before the shared
    callback.

    Args:
        training: training whose agent is scored.
        every: batches between two evaluations.
        folder: folder of the run.
        save_best: function that writes the checkpoint `best.pt`, given the model as it was tested, and the state
            that the training would go on with, if that is not the one that it holds now.
    """

    def __init__(
        self,
        training: Training,
        every: int,
        folder: Path,
        save_best: Callable[[TrainedModel, dict[str, Any] | None], None],
    ):
        super().__init__()
        self.training = training
        self.every = every
        self.path = folder / SCORES
        self.save_best = save_best
        self._lines: list[dict[str, Any]] = []

    def _on_training_start(self) -> None:
        # What an interrupted run scored after its last checkpoint is scored again.
        lines = read_history(self.path) if is_main() else []
        self._lines = from_main([line for line in lines if line["step"] <= self.training.shared.step])

    def _on_rollout_start(self) -> None:
        self.training.shared.finish_step()
        step = self.training.shared.step
        if step % self.every == 0 and 0 < step < self.training.model.config.steps and not self._is_scored(step):
            tested, scores = self.training.score_so_far()
            self.note(tested, scores)
            if is_main():
                picture = bins_picture(tested, self.training.data)
                self.logger.record("test/bins", Image(picture, "HWC"), exclude=("stdout", "log", "json", "csv"))

    def _on_step(self) -> bool:
        return True

    def note(self, tested: TrainedModel, scores: Scores, training_state: dict[str, Any] | None = None) -> None:
        """Keep the scores of this batch, and the checkpoint if none before it had a higher mAP.

        Args:
            tested: model as it was tested.
            scores: scores of the agent (`agents.runs.scoring.evaluate`).
            training_state: state that the training would go on with, if that is not the one that it holds now.
        """
        step = self.training.shared.step
        if self._is_scored(step):
            return
        is_best = all(scores[CHOSEN_BY] > line[CHOSEN_BY] for line in self._lines)
        shown = {name: value for name, value in scores.items() if value is not None}
        self._lines.append({"step": step, **shown})
        if is_best:
            self.save_best(tested, training_state)
        if is_main():
            write_history(self.path, self._lines)
        for name, value in shown.items():
            self.logger.record(f"test/{name}", value)
        text = ", ".join(f"{name} {shown[name]:.1f}" for name in ("R1", "mAP", "hit_rate") if name in shown)
        log_line(f"after batch {step}, on the test people: {text}{', the best so far' if is_best else ''}")

    def _is_scored(self, step: int) -> bool:
        return any(line["step"] == step for line in self._lines)
