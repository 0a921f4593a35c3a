"""Joint training of the representation and an agent by a configuration: the main loop."""

import copy
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
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
from agents.runs.parts import build_training
from agents.runs.pictures import bins_picture, draw_bins, draw_curves
from agents.runs.scoring import LOOKS, Scores, noted_protocol
from agents.runs.tracking import TrackerFormat, check_tracker, tracking
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
    with ExitStack() as stack:
        return _train(config, folder, state, callbacks, stack)


def _train(
    config: TrainConfig,
    folder: Path,
    state: dict[str, Any] | None,
    callbacks: Sequence[BaseCallback],
    stack: ExitStack,
) -> dict[str, Any]:
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
    agent.set_logger(configure(str(folder / "tensorboard"), ["tensorboard"]) if is_main() else Logger(None, []))
    warns = is_main() and not isinstance(agent, ControlAlgorithm)
    tracker = None
    if is_main():
        tracker = stack.enter_context(
            tracking(config.track, folder, json.loads(settings), is_resumed=state is not None)
        )
    if tracker:
        agent.logger.output_formats.append(TrackerFormat(tracker))
    with explaining_settings(config.agent):
        agent.learn(
            parts.num_steps,
            callback=[
                # a line of the history before the checkpoint behind it: nothing is lost wherever a run is killed
                *([progress] if is_main() else []),
                *([evaluations] if config.evaluate_every else []),
                CheckpointCallback(shared, config.checkpoint_every, save),
                shared,
                # controls do on purpose what it warns of
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
    metrics = {
        "before": pick(scores_before["agent"]),
        "after": pick(scores["agent"]),
        "controls": {name: pick(row) for name, row in scores.items() if name != "agent"},
        "looks": {name: scores["agent"][name] for name in LOOKS},
        "steps": shared.step,
        "seconds": round(time.monotonic() - started, 1),
    } | noted_protocol(parts.data)
    write_json(folder / "metrics.json", metrics)
    draw_curves(folder)
    picture = bins_picture(model, parts.data, retrievals["agent"])
    draw_bins(folder / "bins.png", picture)
    if tracker:
        rows = {**scores, "before": scores_before["agent"]}
        numbers = {f"final/{name}/{key}": one for name, row in rows.items() for key, one in pick(row).items()}
        known = {name: one for name, one in numbers.items() if one is not None}
        tracker.numbers(known, agent.num_timesteps)
        tracker.picture("final/bins", picture, agent.num_timesteps)
    if text := model.cache.describe_replaced():
        log_line(("since the run went on, " if state else "") + text)
    return metrics


def pick(scores: Scores) -> Scores:
    """Return the scores that a training prints, rounded to two digits."""
    return {name: None if (value := scores[name]) is None else round(float(value), 2) for name in PICKED}
