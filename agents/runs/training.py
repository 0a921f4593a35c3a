"""Joint training of the representation and an agent by a configuration: the main loop."""

import copy
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, configure

import agents
from agents.control_algorithm import ControlAlgorithm
from agents.health import TrainingHealth
from agents.runs.build import explaining_settings
from agents.runs.checkpoint import Notes, restore, save_checkpoint
from agents.runs.config import CHECKPOINT, TrainConfig, config_to_json, with_data_options
from agents.runs.evaluations import BEST, EvaluationCallback
from agents.runs.logs import CheckpointCallback, ProgressCallback
from agents.runs.own import own_callbacks
from agents.runs.parts import Training, build_training
from agents.runs.pictures import bins_picture, draw_bins, draw_curves
from agents.runs.scoring import LOOKS, Scores, noted_protocol
from agents.runs.tracking import Tracker, TrackerFormat, check_tracker, tracking
from agents.settings import settings_used
from backbone.distributed import is_main
from backbone.files import write_json, write_text
from backbone.metrics import RetrievalScores
from backbone.progress import log_line

# The scores that a training prints, and writes to metrics.json.
PICKED = ("R1", "R5", "R10", "mAP", "hit_rate")


def train(
    config: TrainConfig,
    folder: Path,
    state: dict[str, Any] | None = None,
    callbacks: Sequence[BaseCallback] = (),
) -> dict[str, Any]:
    """Train by a configuration into a folder.

    Of several ranks (`backbone.distributed`), on each of which it is called, the first writes.

    Args:
        config: settings of the run.
        folder: folder that everything goes to.
        state: state of a checkpoint to go on from.
        callbacks: callbacks of your own, which come after those of the training and those that the configuration
            names.

    Returns:
        The contents of metrics.json; on ranks after the first, nothing.

    Raises:
        ValueError: settings or data that can't be trained with, or the training has diverged.
    """
    check_tracker(config.track)
    started = time.monotonic() - (state["seconds"] if state else 0)
    callbacks = [*own_callbacks(config.callbacks), *callbacks]
    config = config if state else with_data_options(config)
    parts = build_training(config, state)
    model, shared, agent = parts.model, parts.shared, parts.model.agent
    # Not before all of it could be built: a mistaken command changes nothing in the folder.
    settings = config_to_json(config, settings_used(agent))
    if is_main():
        write_text(folder / "config.json", settings)
    if config.agent_settings or ":" in config.agent:
        log_line(agents.describe(config.agent, **settings_used(agent)))
    scores_before = state["scores_before"] if state else parts.score_untrained()
    if model.cache.replaced:
        log_line(f"so far {model.cache.describe_replaced()}")
    progress = ProgressCallback(shared, config.steps, folder, config.log_every)
    if state:
        restore(shared, agent, state, folder)
        progress.load_state_dict(state.get("progress", {}))

    def save(
        shared_state: dict[str, Any] | None = None,
        tested: dict[str, torch.Tensor] | None = None,
        name: str = CHECKPOINT,
    ) -> None:
        notes = Notes(scores_before, time.monotonic() - started, progress.state_dict())
        save_checkpoint(folder / name, model, parts.data, shared_state or shared.state_dict(), notes, tested)

    evaluations = EvaluationCallback(
        parts,
        config.evaluate_every,
        folder,
        lambda tested, training_state: save(training_state, tested.representation.state_dict(), BEST),
    )
    warns = is_main() and not isinstance(agent, ControlAlgorithm)  # controls do on purpose what it warns of
    with _logging(agent, config.track, folder, settings, is_resumed=state is not None) as tracker:
        with explaining_settings(config.agent):
            agent.learn(
                parts.num_steps,
                callback=[
                    # a line of the history before the checkpoint behind it: a run that is killed loses none
                    *([progress] if is_main() else []),
                    *([evaluations] if config.evaluate_every else []),
                    CheckpointCallback(shared, config.checkpoint_every, save),
                    shared,
                    *([TrainingHealth(log_every=config.log_every)] if warns else []),
                    *callbacks,
                ],
                log_interval=config.log_every,
                reset_num_timesteps=state is None,
            )

        training_state = copy.deepcopy(shared.state_dict())  # what a longer training goes on with
        shared.take_average()
        if text := parts.fit_comparison():
            log_line(text)
        save(training_state, model.representation.state_dict())
        retrievals: dict[str, RetrievalScores] = {}
        scores = parts.score(with_controls=True, retrievals=retrievals)
        if config.evaluate_every:
            evaluations.note(model, scores["agent"], training_state)
            agent.logger.dump(agent.num_timesteps)
        if not is_main():
            return {}
        seconds = time.monotonic() - started
        rows = {"before": scores_before["agent"], **scores}
        metrics = _write_results(folder, parts, rows, retrievals["agent"], seconds, tracker)
    if text := model.cache.describe_replaced():
        log_line(("since the run went on, " if state else "") + text)
    return metrics


@contextmanager
def _logging(
    agent: BaseAlgorithm, track: str | None, folder: Path, settings: str, *, is_resumed: bool
) -> Iterator[Tracker | None]:
    """Let the first rank's agent log to TensorBoard and to a tracker, and yield that; None if none is named."""
    if not is_main():
        agent.set_logger(Logger(None, []))
        yield None
        return
    agent.set_logger(configure(str(folder / "tensorboard"), ["tensorboard"]))
    with tracking(track, folder, json.loads(settings), is_resumed=is_resumed) as tracker:
        if tracker:
            agent.logger.output_formats.append(TrackerFormat(tracker))
        yield tracker


def _write_results(
    folder: Path,
    parts: Training,
    rows: Mapping[str, Scores],
    found: RetrievalScores,
    seconds: float,
    tracker: Tracker | None,
) -> dict[str, Any]:
    """Write metrics.json and the pictures of a training that is over, and return the contents of metrics.json.

    Args:
        folder: folder of the run.
        parts: what was trained.
        rows: scores of `before` the training, of the `agent` and of the controls, by name.
        found: what the agent's queries found.
        seconds: seconds that the training took.
        tracker: tracker that gets scores and picture, too.
    """
    picked = {name: pick(row) for name, row in rows.items()}
    metrics = {
        "before": picked["before"],
        "after": picked["agent"],
        "controls": {name: row for name, row in picked.items() if name not in ("before", "agent")},
        "looks": {name: rows["agent"][name] for name in LOOKS},
        "steps": parts.shared.step,
        "seconds": round(seconds, 1),
    } | noted_protocol(parts.data)
    write_json(folder / "metrics.json", metrics)
    draw_curves(folder)
    picture = bins_picture(parts.model, parts.data, found)
    draw_bins(folder / "bins.png", picture)
    if tracker:
        step = parts.model.agent.num_timesteps
        numbers = {f"final/{name}/{key}": one for name, row in picked.items() for key, one in row.items()}
        tracker.numbers({name: one for name, one in numbers.items() if one is not None}, step)
        tracker.picture("final/bins", picture, step)
    return metrics


def pick(scores: Scores) -> Scores:
    """Return the scores that a training prints, rounded to two digits."""
    return {name: None if (value := scores[name]) is None else round(float(value), 2) for name in PICKED}
