"""Training one agent on a bank's folder, the representation fixed."""

import dataclasses
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import dacite
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecMonitor

import agents
from a3d_env.process import AttentionProcess
from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.control_algorithm import ControlAlgorithm
from agents.policy_config import PolicyConfig
from agents.rollout import check_that_it_decides
from agents.runs.build import agent_settings, explaining_settings, for_its_weights, make_agent
from agents.runs.checkpoint import explaining_misfits
from agents.runs.logs import HISTORY, StepProgress, write_history
from agents.runs.own import check_own_code
from agents.runs.pictures import draw_curves
from agents.runs.policy_scores import PolicyScores, score
from agents.runs.settings import PolicyRunConfig, with_possible_baseline
from agents.settings import settings_used
from backbone.files import check_writable, write_json
from backbone.progress import log_line
from backbone.reading import pass_on_lack_of_memory
from backbone.tensor_file import UnknownTensor, load_tensors, save_tensors

POLICY, SCORES = "policy.pt", "scores.json"


def train_policy(config: PolicyRunConfig) -> tuple[PolicyScores, float]:
    """Train an agent on the training clips, save it, and score it on the others.

    Returns:
        The scores, and the environment steps taken per second.

    Raises:
        ValueError: the bank can't be used, nothing can be decided or held out, or unknown agent or reward.
    """
    check_writable(config.out, is_folder=True)
    finished = trained_before(config)
    agent, process, held_out = build_policy_run(config)
    if config.agent_settings or ":" in config.agent:
        log_line(agents.describe(config.agent, **settings_used(agent)))
    if finished is None:
        steps_per_second = train_and_save(config, agent)
    else:
        log_line(f"{config.out} holds this policy, trained: it is scored")
        parameters, steps_per_second = finished
        agent.set_parameters(parameters)
    scores = score(process, agent, held_out)
    triples = {
        name: {column: None if one is None else list(one.to_json().values()) for column, one in row.items()}
        for name, row in scores.items()
    }
    content = {"scores": triples, "steps_per_second": steps_per_second}
    write_json(config.out / SCORES, content)
    return scores, steps_per_second


def trained_before(config: PolicyRunConfig) -> tuple[dict[str, Any], float] | None:
    """Return the parameters, and steps a second, of the same run if it was stopped before its scores; else None.

    Raises:
        ValueError: the folder holds another policy, one that is scored, or one without parameters.
    """
    if not (config.out / POLICY).exists():
        return None
    is_lost = False
    with suppress(ValueError, KeyError):
        saved, parameters = read_policy(config.out)
        steps_per_second = saved.pop("steps_per_second")
        if saved == dataclasses.asdict(config) and not (config.out / SCORES).exists():
            if parameters:
                return parameters, steps_per_second
            is_lost = True
    if is_lost:
        raise ValueError(f"{config.out} holds a policy that can't be loaded and has no scores: remove that folder")
    raise ValueError(f"{config.out} already holds a policy: take another folder (--out)")


def what_is_left(config: PolicyRunConfig) -> str:
    """Say what a run that was stopped leaves behind."""
    try:
        is_trained = trained_before(config) is not None
    except ValueError as error:
        return str(error)
    return (
        f"{config.out / POLICY} is written, and the same command scores it"
        if is_trained
        else "nothing was written"
    )


def train_and_save(config: PolicyRunConfig, agent: BaseAlgorithm) -> float:
    """Train an agent and write all but the scores, policy.pt at last; return the environment steps a second."""
    progress = StepProgress(config.timesteps)
    started = time.monotonic()
    if not isinstance(agent, ControlAlgorithm):
        with explaining_settings(config.agent):
            agent.learn(config.timesteps, callback=progress)
    steps_per_second = agent.num_timesteps / (time.monotonic() - started)
    if progress.history:
        write_history(config.out / HISTORY, progress.history)
        draw_curves(config.out, "environment step")
    settings = _as_json(config, algorithm=settings_used(agent), steps_per_second=steps_per_second)
    if not agent.get_parameters():
        log_line(
            f"{config.agent} has no get_parameters and set_parameters: it is scored, but can't be loaded again"
        )
    save_tensors(config.out / POLICY, {"config": settings, "parameters": agent.get_parameters()})
    return steps_per_second


def _as_json(config: PolicyRunConfig, **more: Any) -> str:
    return json.dumps({**dataclasses.asdict(config), **more}, default=str)


def build_policy_run(config: PolicyRunConfig) -> tuple[BaseAlgorithm, AttentionProcess, torch.Tensor]:
    """Return the agent with its environment, the process over the whole bank, and the clips held out, int64 (N,).

    Raises:
        ValueError: the errors of `train_policy`.
    """
    shows_looked = config.policy.inhibition > 0
    probe = Attention3DVectorEnv(
        1, config.bank, reward=config.reward, overview=config.overview, exact=True, shows_looked=shows_looked
    )
    process = probe.process
    check_that_it_decides(f"the episodes of {config.bank} have", process.glimpse.num_glimpses)
    training, held_out = split_clips(process.bank.tracklet, config.held_out)
    env = Attention3DVectorEnv(
        config.num_envs,
        process.bank,
        process.glimpse,
        config.reward,
        clips=training,
        episodes_per_clip=config.episodes_per_clip,
    )
    policy = with_possible_baseline(config.policy, config.episodes_per_clip)
    settings = agent_settings(config.agent, policy, config.agent_settings)
    agent = make_agent(
        config.agent, VecMonitor(Attention3DVecEnv(env)), seed=config.seed, device=config.device, **settings
    )
    return agent, process, torch.from_numpy(held_out)


def split_clips(tracklet: list[str], share: float) -> tuple[np.ndarray, np.ndarray]:
    """Split clips by tracklet, always the same way: clips of one tracklet are too alike to be on both sides.

    Returns:
        The numbers of the training clips and of those held out, int64.

    Raises:
        ValueError: a side would have no tracklet.
    """
    names, number = np.unique(np.array(tracklet), return_inverse=True)
    count = round(share * len(names))
    if not 0 < count < len(names):
        raise ValueError(
            f"held_out = {share} of {len(names)} tracklets is {count}: train on 1 or more, and hold out 1 or more"
        )
    is_held_out = np.isin(number, np.random.default_rng(0).permutation(len(names))[:count])
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def read_policy(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a policy's settings, those of `PolicyRunConfig` and `steps_per_second`, and its parameters.

    Raises:
        ValueError: the folder holds none that can be read.
    """
    path = folder / POLICY
    try:
        state = load_tensors(path)
        values = json.loads(state["config"])
        values.pop("algorithm", None)
        steps_per_second = values.pop("steps_per_second", 0.0)
        config = dacite.from_dict(PolicyRunConfig, values, dacite.Config(cast=[Path, tuple], strict=True))
        if not isinstance(state["parameters"], dict):  # stable-baselines3 takes a text for a file's name
            raise TypeError("the parameters are no tensors by name")
        return {**dataclasses.asdict(config), "steps_per_second": steps_per_second}, state["parameters"]
    except UnknownTensor as error:
        raise ValueError(f"{path} is no policy that can be read: {error}") from error
    except Exception as error:  # torch raises many types for damaged files, and so do values of other types
        pass_on_lack_of_memory(error)
        raise ValueError(f"{path} is no policy that can be read ({type(error).__name__})") from error


def load_policy(folder: Path, env: VecMonitor) -> BaseAlgorithm:
    """Return the agent that a folder holds, for an environment with the bank's kind of features.

    Raises:
        ValueError: there is none, or it does not fit.
    """
    config, parameters = read_policy(folder)
    check_own_code(config, folder / POLICY)
    own = for_its_weights(config.get("agent_settings", {}))
    settings = agent_settings(config["agent"], PolicyConfig(**config["policy"]), own)
    agent = make_agent(config["agent"], env, **settings)
    with explaining_misfits(folder / POLICY):
        agent.set_parameters(parameters)
    return agent
