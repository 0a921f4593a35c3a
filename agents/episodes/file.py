"""Files of episodes, .npz: arrays and one JSON text, without pickled objects."""

import json
import zipfile
import zlib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid
from a3d_env.process import AttentionProcess
from agents.controls import OTHER_CLIPS_CONTROLS, ControlAgent, PlannedAgent
from agents.episodes.decision import Decision
from agents.episodes.episode import Episode, RewardMap
from agents.rollout import Agent, at_test
from backbone.files import atomic_path
from backbone.glimpse import HIDDEN_SIZE, GlimpseNetwork
from backbone.own import check_trusted, is_own
from backbone.reading import check_archive

VERSION = 1
META = "meta"
# Prefix of the arrays of a changed episode's original.
ORIGINAL = "original/"

Arrays = dict[str, np.ndarray]

# Errors that NumPy, zipfile and torch raise for damaged files.
DAMAGED = (
    OSError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError, RuntimeError,
    NotImplementedError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def save_episode(path: Path, episode: Episode) -> Path:
    """Write an episode, atomically: its record, its clip's bank, F_o, F_h, F_c and the reward maps.

    Args:
        path: path that ends in .npz; its folder is made if it does not exist.
        episode: the episode, whose reward maps are computed if they can be.

    Returns:
        The path.

    Raises:
        ValueError: the path does not end in .npz.
    """
    if path.suffix != ".npz":
        raise ValueError(f"an episode's file ends in .npz, got {path}")
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **_arrays(episode))
    return path


def load_episode(path: Path, agent: Agent | None = None) -> Episode:
    """Read an episode that `save_episode` wrote.

    Args:
        path: the file.
        agent: the episode's agent, if replays will be computed. For a control that needs other clips, which the
            file does not have, an agent that repeats its recorded bins is used.

    Raises:
        ValueError: the file is missing, damaged, or not an episode, or names a reward of somebody's own that
            `backbone.own.trust` was not told of.
    """
    try:
        check_archive(path)
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        rewards = [json.loads(str(array))["reward_name"] for name, array in arrays.items() if name.endswith(META)]
    except FileNotFoundError as error:
        raise ValueError(f"there is no episode at {path}") from error
    except DAMAGED as error:
        raise ValueError(f"{path} is no episode that can be read: {error}") from error
    for name in filter(is_own, map(str, rewards)):
        check_trusted(name, path, "a reward")
    try:
        return _episode(arrays, _player(arrays, agent))
    except DAMAGED as error:
        raise ValueError(f"{path} is no episode, or its parts do not fit each other: {error}") from error


def _arrays(episode: Episode, prefix: str = "") -> Arrays:
    process, bank = episode.process, episode.process.bank
    meta = {
        "version": VERSION,
        "grid": asdict(bank.grid),
        "reward_name": process.reward_name,
        "num_glimpses": process.glimpse.num_glimpses,
        "tracklet": episode.tracklet,
        "agent_name": episode.agent_name,
        "identity_names": episode.identity_names,
        "judge": episode.judge,
        "reward": episode.reward,
        "is_sample": episode.is_sample,
        "changes": None if episode.changes is None else list(episode.changes.items()),
    }
    tensors: dict[str, Tensor] = {
        "table": bank.bins,
        "global_feature": bank.global_feature,
        "identity": bank.identity,
        **{name: getattr(episode, name) for name in ("bins", "hidden", "beliefs", "probabilities")},
        **{f"glimpse/{name}": value for name, value in process.glimpse.state_dict().items()},
    }
    arrays = {name: value.detach().cpu().numpy() for name, value in tensors.items()}
    arrays[META] = np.array(json.dumps(meta))
    for name in ("frames", "truth_boxes"):
        if (pictures := getattr(bank, name)) is not None:
            arrays[name] = pictures
    if episode.decisions:
        for field in fields(Decision):
            values = [np.asarray(getattr(decision, field.name)) for decision in episode.decisions]
            arrays[f"decision/{field.name}"] = np.stack(values)
        if episode.has_maps:
            for name in ("probability", "reward", "value"):
                arrays[f"map/{name}"] = np.stack([getattr(one, name) for one in episode.maps])
    arrays = {prefix + name: value for name, value in arrays.items()}
    if episode.original is not None:
        arrays |= _arrays(episode.original, prefix + ORIGINAL)
    return arrays


def _episode(arrays: Arrays, agent: Agent | None) -> Episode:
    meta: dict[str, Any] = json.loads(str(arrays[META]))
    if meta["version"] != VERSION:
        raise ValueError(f"it is of version {meta['version']}, this program reads {VERSION}: record it again")
    before = {name.removeprefix(ORIGINAL): value for name, value in arrays.items() if name.startswith(ORIGINAL)}
    grid: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in meta["grid"].items()
    }
    bank = FeatureBank(
        BinGrid(**grid),
        torch.from_numpy(arrays["table"]),
        torch.from_numpy(arrays["global_feature"]),
        torch.from_numpy(arrays["identity"]),
        [meta["tracklet"]],
        arrays.get("frames"),
        arrays.get("truth_boxes"),
    )
    _check(arrays, meta, bank.grid)
    weights = {
        name.removeprefix("glimpse/"): torch.from_numpy(value)
        for name, value in arrays.items()
        if name.startswith("glimpse/")
    }
    glimpse = GlimpseNetwork.of_weights(
        weights, bank.num_channels, meta["num_glimpses"], len(arrays["probabilities"])
    )
    glimpse.requires_grad_(False)
    changes = meta["changes"] and {number: tuple(corner) for number, corner in meta["changes"]}
    return Episode(
        process=AttentionProcess(bank, glimpse, meta["reward_name"]),
        agent=agent,
        agent_name=meta["agent_name"],
        identity_names=tuple(meta["identity_names"]),
        decisions=_decisions(arrays),
        bins=torch.from_numpy(arrays["bins"]),
        hidden=torch.from_numpy(arrays["hidden"]),
        beliefs=torch.from_numpy(arrays["beliefs"]),
        probabilities=torch.from_numpy(arrays["probabilities"]),
        reward=meta["reward"],
        is_sample=meta["is_sample"],
        judge=meta["judge"],
        changes=changes,
        original=_episode(before, agent) if before else None,
        stored_maps=_maps(arrays),
    )


def _check(arrays: Arrays, meta: dict[str, Any], grid: BinGrid) -> None:
    """Check that the episode's arrays fit each other; the bank and the network check their own."""
    glimpses, people = meta["num_glimpses"], len(meta["identity_names"])
    expected = {
        "bins": (glimpses,),
        "hidden": (glimpses, HIDDEN_SIZE),
        "beliefs": (glimpses, people),
        "probabilities": (people,),
    }
    for field in fields(Decision) if glimpses > 1 else ():
        size = {"probability": (grid.num_bins,), "log_prob": (), "value": (), "share": ()}.get(field.name, (3,))
        expected[f"decision/{field.name}"] = (glimpses - 1, *size)
    for field in fields(RewardMap) if f"map/{fields(RewardMap)[0].name}" in arrays else ():
        expected[f"map/{field.name}"] = (glimpses - 1, *grid.positions)
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name} has shape {arrays[name].shape}, expected {shape}")
    if ((arrays["bins"] < 0) | (arrays["bins"] >= grid.num_bins)).any():
        raise ValueError(f"bins are numbered from 0 to {grid.num_bins - 1}, got {arrays['bins'].tolist()}")
    if not 0 <= int(arrays["identity"][0]) < people:
        raise ValueError(f"the true identity is {arrays['identity'].tolist()}, F_c has outputs 0 to {people - 1}")


def _player(arrays: Arrays, agent: Agent | None) -> Agent | None:
    """Return the agent that plays replays of the episode."""
    tested = None if agent is None else at_test(agent)
    if isinstance(tested, ControlAgent) and tested.name in OTHER_CLIPS_CONTROLS:
        recorded = arrays.get(f"{ORIGINAL}bins", arrays["bins"])
        return PlannedAgent(torch.from_numpy(recorded[1:]))
    return tested


def _decisions(arrays: Arrays) -> tuple[Decision, ...]:
    names = [field.name for field in fields(Decision)]
    return tuple(
        Decision(*(_number_or_tensor(arrays[f"decision/{name}"][row]) for name in names))
        for row in range(len(arrays["bins"]) - 1)
    )


def _number_or_tensor(value: np.ndarray) -> Any:
    return torch.from_numpy(value) if value.ndim else float(value)


def _maps(arrays: Arrays) -> tuple[RewardMap, ...] | None:
    names = [field.name for field in fields(RewardMap)]
    if f"map/{names[0]}" not in arrays:
        return None
    return tuple(RewardMap(*row) for row in zip(*(arrays[f"map/{name}"] for name in names), strict=True))
