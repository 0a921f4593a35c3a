"""Checkpoints: all that a run needs to go on exactly, in one file that holds no code."""

import dataclasses
import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dacite
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from agents.features import SharedFeatureCallback
from agents.ranks import explore_apart
from agents.runs.config import config_from_json, config_to_json
from agents.runs.hub import NoCheckpoint, is_on_hub, local_checkpoint
from agents.runs.own import check_own_code
from agents.runs.trained import TrainedModel
from agents.settings import settings_used
from agents.state import load_training_state, training_state
from backbone.data import ReidData
from backbone.data.tracklet import Tracklet, place_of
from backbone.distributed import check_same, is_main, rank, to_main
from backbone.reading import pass_on_lack_of_memory
from backbone.tensor_file import UnknownTensor, load_tensors, save_tensors


@dataclass(frozen=True)
class Shared:
    """The representation's side of a training, as a checkpoint needs it."""

    step: int
    representation: dict


@dataclass(frozen=True)
class Checkpoint:
    """The names in a checkpoint, and the types behind them; `save_checkpoint` says what they are."""

    config: str
    people: list[int]
    shared: Shared
    agent: dict[str, Any]
    agent_training: dict[str, Any]
    random: dict[str, Any]
    scores_before: dict[str, dict[str, Any]]
    seconds: float | int
    training_data: str = ""
    training_places: list[str] = field(default_factory=list)
    progress: dict[str, list] = field(default_factory=dict)
    tested: dict | None = None
    other_ranks: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Notes:
    """Records that a run keeps beside its networks.

    Attributes:
        scores_before: scores before training, for the table at the end.
        seconds: seconds of training so far.
        progress: values that the next line of the history averages (`ProgressCallback.state_dict`).
    """

    scores_before: dict[str, Any]
    seconds: float
    progress: dict[str, list[float]]


def save_checkpoint(
    path: Path,
    model: TrainedModel,
    data: ReidData,
    shared_state: dict[str, Any],
    notes: Notes,
    tested: dict[str, Tensor] | None = None,
) -> None:
    """Write model, optimisers, schedulers, random states, step and configuration, all or nothing.

    Call it between two batches (after `shared.finish_step()`). Of several ranks all call it, and the first writes,
    with the others' random states and replay buffers in `other_ranks`.

    Args:
        path: file to write.
        model: resolved configuration, and the agent's side of the training.
        data: tracklets that are trained on, to be told apart from other data.
        shared_state: representation's side of the training (`SharedFeatureCallback.state_dict`).
        notes: records that the run keeps beside these.
        tested: weights of the representation as they are tested, averaged and with the fitted metric; None before
            the end of the training.

    Raises:
        ValueError: the training has diverged; the checkpoint of before stays.
        OSError: the file can't be written, for example because the disk is full.
    """
    check_same([*model.representation.state_dict().values(), *model.agent.policy.state_dict().values()])
    of_agent = training_state(model.agent)
    of_rank = {"random": random_state(), **{name: of_agent[name] for name in ("action_space", "replay")}}
    of_ranks = to_main(of_rank)
    if not is_main():
        return
    state = {
        "config": config_to_json(model.config, settings_used(model.agent)),
        "people": model.people,
        "training_data": fingerprint(data.train),
        "training_places": [place_of(one.frames) for one in data.train],
        "shared": shared_state,
        "agent": model.agent.get_parameters(),
        "agent_training": of_agent,
        "random": of_rank["random"],
        **vars(notes),
        "tested": tested,
        **({"other_ranks": of_ranks[1:]} if of_ranks[1:] else {}),
    }
    if broken := _not_finite(state):
        raise ValueError(
            f"the training has diverged: {broken} holds NaN or infinity after {shared_state['step']} batches. "
            "Nothing was saved of it; is a learning rate too high?"
        )
    save_tensors(path, state)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint: a file, that of a run's folder or of a .zip, or `hf:OWNER/NAME`; no code in it is run.

    Returns:
        The contents that `save_checkpoint` wrote; `config` is a `TrainConfig` again, but without its callbacks
        and its tracker, which are in `callbacks` and `track`.

    Raises:
        ValueError: the file is missing, damaged, of another version, or holds NaN; the message names it.
    """
    try:
        with local_checkpoint(path) as file:
            path = path if is_on_hub(path) or path.suffix == ".zip" else file
            state = load_tensors(file)
    except UnknownTensor as error:
        raise ValueError(f"{path} is no checkpoint that can be read: {error}") from error
    except NoCheckpoint:
        raise
    except Exception as error:  # torch raises many types for damaged files; its advice is to run the code in them
        pass_on_lack_of_memory(error)
        raise ValueError(
            f"{path} is no checkpoint that can be read: it is damaged, or holds more than tensors and numbers "
            f"({type(error).__name__})"
        ) from error
    try:
        dacite.from_dict(Checkpoint, state)
        known = len(state["shared"]["representation"]["glimpse.identify.weight"])
        if len(state["people"]) != known:
            raise TypeError(f"F_c tells {known} people apart, and {len(state['people'])} are listed")
        broken = _not_finite(state)
        config = config_from_json(state["config"], path)
    except (dacite.DaciteError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise ValueError(f"{path} is no checkpoint of this version: {reason[:200]}") from error
    check_own_code(dataclasses.asdict(config), path)
    if broken:
        raise ValueError(f"{path} holds NaN or infinity, in {broken}: the run that wrote it has diverged")
    # used by nothing but a training, to which the user names them anew
    found = {"callbacks": config.callbacks, "track": config.track}
    return {**state, "config": dataclasses.replace(config, callbacks="", track=None), **found}


def weights_at_test(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return the representation's weights as the run is tested: of the end, or of now, averaged if so set."""
    if (tested := state.get("tested")) is not None:
        return tested
    if (average := state["shared"].get("average")) is not None and state["shared"]["step"]:
        return {name.removeprefix("module."): value for name, value in average.items() if name != "n_averaged"}
    return state["shared"]["representation"]


def restore(shared: SharedFeatureCallback, agent: BaseAlgorithm, state: dict[str, Any], source: Path) -> None:
    """Put training back where a checkpoint, read from `source`, left it.

    A rank that the run did not have then goes on with the first one's replay buffer, and new random numbers.

    Raises:
        ValueError: the checkpoint does not fit, as one of another version.
    """
    with explaining_misfits(source):
        shared.load_state_dict(state["shared"])
        agent.set_parameters(state["agent"])
        others = state.get("other_ranks", [])
        known = others[rank() - 1] if 0 < rank() <= len(others) else {}
        load_training_state(agent, {**state["agent_training"], **known})
        set_random_state(known.get("random", state["random"]))
        if rank() and not known:
            explore_apart(agent, state["config"].seed, state["shared"]["step"])


@contextmanager
def explaining_misfits(source: Path) -> Iterator[None]:
    """Turn what goes wrong while a checkpoint's state is loaded into a `ValueError` of one line."""
    try:
        yield
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{source} is no checkpoint of this version: {reason[:300]}") from error


def fingerprint(tracklets: Sequence[Tracklet]) -> str:
    """Return a text that differs where people, cameras, lengths or names do, wherever the tracklets' folder is."""
    lines = [f"{one.person} {one.camera} {len(one)} {one.name or one.source}" for one in tracklets]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


def _not_finite(state: dict[str, Any]) -> str | None:
    """Return the first of a checkpoint's weights that holds NaN or infinity, if one does."""
    shared = state["shared"]
    parts = (
        shared["representation"],
        shared.get("average", {}),
        state.get("tested") or {},
        state["agent"]["policy"],
    )
    return next(
        (name for part in parts for name, value in part.items() if not bool(torch.isfinite(value).all())), None
    )


def random_state() -> dict[str, Any]:
    """Return the state of all global generators of random numbers."""
    # The global generator, legacy or not: stable-baselines3 and user code may draw from it.
    name, keys, *position = np.random.get_state()  # noqa: NPY002
    state = {
        "torch": torch.get_rng_state(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *position],
        "python": random.getstate(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Go on from `random_state`."""
    torch.set_rng_state(state["torch"])
    name, keys, *position = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *position))  # noqa: NPY002
    random.setstate(state["python"])
    for number, gpu in enumerate(state.get("cuda", [])[: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(gpu, number)
