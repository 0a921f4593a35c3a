"""Checkpoints: all that a run needs to go on exactly, in one file that holds no code."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.features import SharedFeatureCallback
from scripts.config import TrainConfig, config_from_json, config_to_json

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(
    folder: Path,
    config: TrainConfig,
    people: list[int],
    shared: SharedFeatureCallback,
    agent: BaseAlgorithm,
    scores_before: dict[str, Any],
    seconds: float,
) -> None:
    """Write model, optimisers, schedulers, random states, step and configuration, all or nothing.

    Call it between two batches (after `shared.finish_step()`).

    Args:
        folder: the run's.
        config: the resolved configuration.
        people: the training people's ids, in the order of F_c's outputs.
        shared: the representation's side of the training.
        agent: the agent's side.
        scores_before: the scores before training, for the table at the end.
        seconds: trained so far.
    """
    state = {
        "config": config_to_json(config),
        "people": people,
        "shared": shared.state_dict(),
        "agent": agent.get_parameters(),
        "num_timesteps": agent.num_timesteps,
        "random": _random_state(),
        "scores_before": scores_before,
        "seconds": seconds,
    }
    with replacing(folder / CHECKPOINT) as partial:
        torch.save(state, partial)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint file, or that of a run's folder, without running any code that it may hold.

    Returns:
        What `save_checkpoint` wrote; `config` is a `TrainConfig` again.

    Raises:
        ValueError: there is none, it is damaged, or it holds NaN; the message names the file.
    """
    path = path / CHECKPOINT if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"there is no checkpoint at {path}: give a run's folder or its {CHECKPOINT}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        weights = state["shared"]["representation"]
    except Exception as error:  # torch raises many types for damaged files
        raise ValueError(f"{path} is no checkpoint that can be read (is it truncated?): {error}") from error
    broken = [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise ValueError(f"{path} holds NaN or infinity, in {broken[0]}: the run that wrote it has diverged")
    return {**state, "config": config_from_json(state["config"], path)}


def restore(shared: SharedFeatureCallback, agent: BaseAlgorithm, state: dict[str, Any]) -> None:
    """Put training back where a checkpoint left it."""
    shared.load_state_dict(state["shared"])
    agent.set_parameters(state["agent"])
    agent.num_timesteps = state["num_timesteps"]
    _set_random_state(state["random"])


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to, which becomes `path` when all went well and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _random_state() -> dict[str, Any]:
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


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    name, keys, *position = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *position))  # noqa: NPY002
    random.setstate(state["python"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
