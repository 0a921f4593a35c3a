"""Checks that `a3d train` makes before it begins, or goes on with, a run."""

import dataclasses
from typing import Any

import agents
from agents.controls import TABLE_CONTROLS
from agents.runs.checkpoint import fingerprint
from agents.runs.config import TrainConfig
from backbone.data import ReidData
from backbone.progress import log_line
from backbone.representation import Representation

# Settings that --resume can change without making it another run; load.workers, too. More steps make a finished
# run longer; a cosine schedule, which fell to 0 at its old end, goes on where one of the new length would be.
CHANGEABLE = (
    "steps", "data", "device", "cache", "decode_anew", "on_bad_frame", "checkpoint_every", "log_every",
    "evaluate_every", "callbacks", "track", "out", "resume",
)  # fmt: skip


def check_agent(config: TrainConfig, data: ReidData) -> None:
    """Refuse an agent that needs to know what joint training does not.

    Raises:
        ValueError: such an agent.
    """
    if agents.get_algorithm(config.agent).stand_alone is not None:
        raise ValueError(
            f"{config.agent} is no stable-baselines3 algorithm, whose rollouts joint training follows: train it "
            "on a bank (a3d policy, a3d compare)"
        )
    if config.agent in TABLE_CONTROLS:
        raise ValueError(
            f"{config.agent} looks into the table of clips whose people F_c knows, and a3d train tests on others: "
            "compare with it on a bank (a3d compare)"
        )
    if config.agent == "truth" and not data.knows_truth:
        raise ValueError(
            f"{config.data} does not know where the identifying thing is: take another agent than truth"
        )


def check_batch(config: TrainConfig) -> None:
    """Refuse a batch that a batch normalisation can't be trained on.

    Raises:
        ValueError: a batch of one clip, and a neck.
    """
    if config.descriptor.neck == "batch_norm" and config.load.num_people * config.load.clips_per_person < 2:
        raise ValueError(
            "the neck normalises over a batch's clips, and this batch has one: take a larger one "
            "(--load.num-people, --load.clips-per-person), or no neck (--descriptor.neck none)"
        )


def check_frozen(representation: Representation, config: TrainConfig) -> None:
    """Warn of a frozen backbone that nothing was loaded into.

    Raises:
        ValueError: the flow stream stays 0 for good, so that the flow would be computed for nothing.
    """
    if not config.backbone.frozen:
        return
    if config.backbone.weights is None:
        log_line("warning: a backbone without weights that is frozen stays random")
    backbone = representation.backbone
    if backbone.flow_stream is None:
        return
    is_blind = not any(bool(value.any()) for value in backbone.flow_stream.parameters())
    if is_blind or (backbone.flow_scale is not None and not bool(backbone.flow_scale)):
        raise ValueError(
            "this backbone's flow stream starts at 0, and frozen it would stay 0: leave the flow out "
            "(--backbone.flow None), or train the backbone"
        )


def check_same_data(config: TrainConfig, data: ReidData, state: dict[str, Any]) -> None:
    """Refuse to go on with other people than F_c's outputs stand for.

    Raises:
        ValueError: the training tracklets are not those of the checkpoint.
    """
    if state.get("training_data", "") not in ("", fingerprint(data.train)):
        raise ValueError(
            f"{config.data} holds other tracklets to train on than when the run began, so that F_c's outputs "
            "would stand for other people: go on with the data as it was, or begin a new run"
        )


def check_resumed(config: TrainConfig, saved: TrainConfig, step: int) -> None:
    """Refuse to resume a run with settings that would be ignored, or would make it another run.

    Raises:
        ValueError: such settings, or fewer steps than are already taken.
    """
    free = {name: getattr(config, name) for name in CHANGEABLE}
    allowed = dataclasses.replace(saved, load=dataclasses.replace(saved.load, workers=config.load.workers), **free)
    names = [field.name for field in dataclasses.fields(config)]
    changed = [name for name in names if getattr(config, name) != getattr(allowed, name)]
    if changed:
        raise ValueError(
            f"the run in {saved.out} goes on with the settings saved there, {', '.join(changed)} included; only "
            "steps, data (moved, but the same), device, cache, decode_anew, on_bad_frame, checkpoint_every, "
            "log_every, evaluate_every, callbacks, track and load.workers can change"
        )
    if config.steps < step:
        raise ValueError(f"{saved.out} has already trained on {step} batches: --steps {config.steps} is fewer")
