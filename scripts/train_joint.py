"""Train the representation and an agent jointly: `a3d train`.

Leaves in the run's folder checkpoint.pt, config.json (resolved), metrics.json (the printed table), tensorboard/,
history.jsonl, curves.png and bins.png (test clips with the bins that the agent chose); with --evaluate-every
scores.jsonl (of the test people, while training) and best.pt (the checkpoint of the highest mAP among them), too.

On built-in data (`make train`), by an agent that sees the whole clip and takes the most promising bin: `a3d train`

The method as the paper has it: `a3d train --recipe paper --out runs/paper`

Another algorithm and seed: `a3d train --preset benchmark --agent ppo --seed 1 --out runs/ppo`

Any setting of that algorithm: `a3d train --agent ppo --agents.ppo.clip-range 0.1`, or a file of them,
`--agents agents.yaml`

Your own tracklets: `a3d train --preset street --data folder:my_tracklets`

After an interruption: `a3d train --resume --out runs/benchmark`
"""

import argparse
import copy
import dataclasses
import json
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import tyro
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

import agents
from agents.control_algorithm import ControlAlgorithm
from agents.health import TrainingHealth
from agents.settings import settings_used
from backbone.replacing import replacing
from scripts.agent_flags import take_agent_settings
from scripts.build import explaining_settings
from scripts.checkpoint import CHECKPOINT, read_checkpoint, restore, save_checkpoint
from scripts.config import TrainConfig, config_to_json, get_preset
from scripts.evaluations import BEST, EvaluationCallback
from scripts.locking import only_here
from scripts.logs import CheckpointCallback, ProgressCallback
from scripts.pictures import bins_picture, draw_bins, draw_curves
from scripts.progress import say, show
from scripts.recipes import DEFAULT, OF_PRESET, get_recipe
from scripts.scoring import Scores, table
from scripts.train_checks import check_resumed
from scripts.training import build_training

COLUMNS = ("R1", "R5", "R10", "mAP", "hit_rate")


def train(
    config: TrainConfig,
    folder: Path,
    state: dict[str, Any] | None = None,
    callbacks: Sequence[BaseCallback] = (),
) -> dict[str, Any]:
    """Train by a configuration into a folder.

    Args:
        config: all settings.
        folder: where everything goes.
        state: of a checkpoint to go on from.
        callbacks: your own, which come after the ones of the training.

    Returns:
        What metrics.json holds.

    Raises:
        ValueError: settings or data that can't be trained with, or the training has diverged.
    """
    started = time.monotonic() - (state["seconds"] if state else 0)
    parts = build_training(config, state)
    shared, agent = parts.shared, parts.agent
    # Not before all of it could be built: a mistaken command changes nothing in the folder.
    write_text(folder / "config.json", config_to_json(config, settings_used(agent)))
    if config.agent_settings or ":" in config.agent:
        say(agents.describe(config.agent, **settings_used(agent)))
    scores_before = state["scores_before"] if state else parts.score_untrained()
    if parts.cache.replaced:
        say(f"so far {parts.cache.describe_replaced()}")
    progress = ProgressCallback(shared, config.steps, folder, config.log_every)
    if state:
        restore(shared, agent, state, folder)
        progress.load_state_dict(state.get("progress", {}))

    def save(
        shared_state: dict[str, Any] | None = None,
        tested: dict[str, torch.Tensor] | None = None,
        name: str = CHECKPOINT,
    ) -> None:
        seconds = time.monotonic() - started
        now = shared_state or shared.state_dict()
        save_checkpoint(
            folder / name, config, parts.data, now, agent, scores_before, seconds, progress.state_dict(), tested
        )

    evaluations = EvaluationCallback(
        parts,
        config.evaluate_every,
        folder,
        lambda tested, training_state: save(training_state, tested.state_dict(), BEST),
    )
    agent.set_logger(configure(str(folder / "tensorboard"), ["tensorboard"]))
    with explaining_settings(config.agent):
        agent.learn(
            parts.num_steps,
            callback=[
                # a line of the history before the checkpoint behind it: nothing is lost wherever a run is killed
                progress,
                *([evaluations] if config.evaluate_every else []),
                CheckpointCallback(shared, config.checkpoint_every, save),
                shared,
                # controls do on purpose what it warns of
                *([] if isinstance(agent, ControlAlgorithm) else [TrainingHealth()]),
                *callbacks,
            ],
            log_interval=config.log_every,
            reset_num_timesteps=state is None,
        )

    training_state = copy.deepcopy(shared.state_dict())  # what a longer training goes on with
    shared.take_average()
    if text := parts.fit_comparison():
        say(text)
    save(training_state, parts.representation.state_dict())
    scores = parts.score(with_controls=True)
    if config.evaluate_every:
        evaluations.note(parts.representation, scores["agent"], training_state)
        agent.logger.dump(agent.num_timesteps)
    metrics = {
        "before": pick(scores_before["agent"]),
        "after": pick(scores["agent"]),
        "controls": {name: pick(row) for name, row in scores.items() if name != "agent"},
        "steps": shared.step,
        "seconds": round(time.monotonic() - started, 1),
    }
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    draw_curves(folder)
    draw_bins(
        folder / "bins.png",
        bins_picture(parts.representation, agent, parts.data, parts.cache, config, parts.grid),
    )
    if text := parts.cache.describe_replaced():
        say(("since the run went on, " if state else "") + text)
    return metrics


def pick(scores: Scores) -> Scores:
    """Return the columns of the table, rounded to two digits."""
    return {column: None if (value := scores[column]) is None else round(float(value), 2) for column in COLUMNS}


def read_arguments(argv: list[str] | None) -> tuple[TrainConfig, dict[str, Any] | None]:
    """Make the configuration of a command line: a preset's settings, a recipe's, then the flags.

    Of a run that is resumed the saved settings take the place of the first two.

    Returns:
        The configuration, and the checkpoint's state if a run is resumed.

    Raises:
        ValueError: unknown preset or recipe, or a run that can't be resumed like this.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="benchmark")
    first.add_argument("--recipe")
    first.add_argument("--out", type=Path)
    first.add_argument("--resume", action="store_true")
    argv, own = take_agent_settings(argv)
    known, _ = first.parse_known_args(argv)
    recipe = known.recipe or OF_PRESET.get(known.preset, DEFAULT)
    default, state = get_recipe(recipe)(get_preset(known.preset)), None
    if known.resume:
        out = known.out or Path("runs") / known.preset
        read_at = (out / CHECKPOINT).stat().st_mtime_ns if (out / CHECKPOINT).exists() else 0
        state = {**read_checkpoint(out / CHECKPOINT), "read_at": read_at}
        # a folder that a file names is not written to
        default = dataclasses.replace(state["config"], out=out, cache=None)
    config = tyro.cli(
        TrainConfig,
        default=default,
        args=argv,
        prog="a3d train",
        description=__doc__,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    own.check([config.agent])
    config = dataclasses.replace(config, agent_settings=own.of(config.agent) or config.agent_settings)
    if state:
        check_resumed(config, default, state["shared"]["step"])
        if (saved := state["config"].cache) is not None and config.cache is None:
            say(f"the run's cache was {saved}; this time it is the usual one, unless you say --cache {saved}")
    return config, state


@contextmanager
def new_folder(config: TrainConfig) -> Iterator[Path]:
    """Keep the folder of a new run to oneself; the default one gets a number if it is taken, or being written to.

    Raises:
        ValueError: the folder that was asked for already holds a run, or another command is at work there.
    """
    default = Path("runs") / config.preset
    numbered = (Path(f"{default}-{number}") for number in range(2, 10_000))
    for folder in [config.out] if config.out else chain([default], numbered):
        with ExitStack() as stack:
            try:
                stack.enter_context(only_here(folder))
            except ValueError:
                if config.out:
                    raise
                continue
            if not (folder / CHECKPOINT).exists():
                yield folder
                return
    raise ValueError(f"{config.out} already holds a run: go on with it (--resume), or take another folder (--out)")


def write_text(path: Path, text: str) -> None:
    """Write a text file, all or nothing."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    folder = None
    config = TrainConfig()
    try:
        config, state = read_arguments(argv)
        if state:
            assert config.out is not None
            folder = config.out
            say(f"going on with {folder} at batch {state['shared']['step']} of {config.steps}")
            if state["shared"]["step"] == config.steps:
                say("its training is finished, so that it is only scored again; a larger --steps trains further")
        with only_here(folder) if folder else new_folder(config) as found:
            folder = folder or found
            assert folder is not None
            if state and (folder / CHECKPOINT).stat().st_mtime_ns != state["read_at"]:
                raise ValueError(f"another command has gone on with {folder} in the meantime: say it once more")
            metrics = train(dataclasses.replace(config, out=folder, resume=False), folder, state)
    except (ValueError, OSError) as error:
        say(f"a3d train: error: {error}")
        return 2
    except KeyboardInterrupt:
        if folder is None or not (folder / CHECKPOINT).exists():
            say("\ninterrupted before the first checkpoint: there is nothing to go on from")
        else:
            trust = f"--trust {config.agent} " if ":" in config.agent else ""
            command = f"a3d {trust}train --resume --out {shlex.quote(str(folder))}"
            if config.cache is not None:
                command += f" --cache {shlex.quote(str(config.cache))}"
            say(f"\ninterrupted; to go on from the last checkpoint: {command}")
        return 130
    rows = {"before training": metrics["before"], "after training": metrics["after"]}
    rows |= {f"after, {name}": row for name, row in metrics["controls"].items()}
    show(f"\n{table(rows, COLUMNS)}\n")
    show(f"{metrics['steps']} batches in {metrics['seconds']:.0f} s; see {folder}/bins.png, {folder}/curves.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
