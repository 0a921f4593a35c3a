"""The parts of a run, each built from its configuration; training and evaluation build the same ones."""

import math
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

import agents
from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid
from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.policy import AttentionPolicy
from agents.reinforce import REINFORCE
from agents.runs.config import PolicyConfig, TrainConfig
from agents.settings import Setting, read_settings
from backbone.data.cache import FrameCache, default_cache
from backbone.representation import Representation

# Keywords that only learning needs, which take memory, or write files.
_OF_LEARNING = (
    "n_steps", "batch_size", "buffer_size", "stats_window_size", "tensorboard_log", "optimize_memory_usage",
    "replay_buffer_class", "replay_buffer_kwargs", "rollout_buffer_class", "rollout_buffer_kwargs",
)  # fmt: skip
_THEIRS = ("stable_baselines3", "sb3_contrib")


def build_cache(config: TrainConfig) -> FrameCache:
    """Return the cache of frames at the configuration's size, and of their flow."""
    size, flow = (config.load.height, config.load.width), config.backbone.flow
    folder = config.cache or default_cache()
    return FrameCache(folder, *size, flow, config.on_bad_frame, decode_anew=config.decode_anew)


def build_representation(config: TrainConfig, num_identities: int) -> Representation:
    """Return backbone, F_o, F_h and F_c on the configuration's device, initialised from its seed."""
    torch.manual_seed(config.seed)
    representation = Representation(
        config.backbone, config.attention.num_glimpses, num_identities, config.descriptor
    )
    return representation.to(pick_device(config.device))


def build_grid(config: TrainConfig, representation: Representation) -> BinGrid:
    """Return the bins of the representation's feature maps."""
    clip_size = (config.load.num_frames, config.load.height, config.load.width)
    feature_size = representation.backbone.feature_size(*clip_size)
    attention = config.attention
    return BinGrid(feature_size, attention.bin_size, clip_size, attention.overview, attention.shows_looked)


def build_environment(config: TrainConfig, representation: Representation, grid: BinGrid) -> VecMonitor:
    """Return the batched environment: M episodes on each clip of a batch, which joint training will show it."""
    num_clips = config.load.num_people * config.load.clips_per_person
    env = Attention3DVectorEnv(
        num_clips * config.joint.episodes_per_clip,
        FeatureBank.blank(grid, representation.backbone.num_channels, representation.device),
        representation.glimpse,
        config.attention.reward,
    )
    return VecMonitor(Attention3DVecEnv(env))


def build_agent(config: TrainConfig, env: VecMonitor) -> BaseAlgorithm:
    """Return the agent that the configuration names."""
    initial_rate = initial_learning_rate(config)

    def learning_rate(progress_remaining: float) -> float:
        # An update comes after its batch's environment steps: the n-th batch's at n / steps of the way, or (an
        # off-policy algorithm's) a little before. The small number keeps rounding from adding a batch.
        batch = max(math.ceil((1 - progress_remaining) * config.steps - 1e-6) - 1, 0)
        return initial_rate * config.joint.learning_rate_factor(batch, config.steps)

    settings = agent_settings(config.agent, config.policy, config.agent_settings)
    return make_agent(
        config.agent,
        env,
        **{**settings, "learning_rate": learning_rate},
        seed=config.seed,
        device=pick_device(config.device),
    )


def make_agent(name: str, env: VecEnv, /, **settings: Any) -> BaseAlgorithm:
    """Make an agent by `agents.make`.

    Raises:
        ValueError: an error of `agents.make`, or a setting of the policy that the agent does not have.
        TypeError: an error of code of the user's own.
    """
    try:
        with explaining_settings(name):
            return agents.make(name, env, **settings)
    except TypeError as error:
        if name not in agents.ALGORITHMS and _raised_in(error) not in (*_THEIRS, "agents"):
            raise
        raise ValueError(f"the agent {name} can't be made with these settings: {error}") from error


@contextmanager
def explaining_settings(agent: str) -> Iterator[None]:
    """Turn what stable-baselines3 refuses by `assert`, when an agent is made or learns, into a `ValueError`."""
    try:
        yield
    except AssertionError as error:
        if _raised_in(error) not in _THEIRS:
            raise
        reason = " ".join(str(error).split()) or traceback.extract_tb(error.__traceback__)[-1].line
        raise ValueError(f"the agent {agent} can't be used with these settings: {reason}") from error


def _raised_in(error: Exception) -> str:
    """Return the package whose line raised an error."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def initial_learning_rate(config: TrainConfig) -> float:
    """Return the agent's own learning rate, or the policy's, or the algorithm's; 0 for what learns nothing.

    Raises:
        ValueError: unknown agent.
    """
    own = agent_settings(config.agent, config.policy, config.agent_settings)
    entry = agents.get_algorithm(config.agent)
    scoring = entry.scoring_defaults if config.attention.overview else {}
    return {**entry.defaults, **scoring, **own}.get("learning_rate", 0.0)


def agent_settings(agent: str, policy: PolicyConfig, own: Mapping[str, Setting]) -> dict[str, Any]:
    """Return what an agent is made with: the policy's settings, and over them its own.

    Args:
        agent: name of the agent.
        policy: settings of all agents' policies.
        own: settings of this agent, by the keywords of its constructor, in the types of YAML and JSON.

    Raises:
        ValueError: unknown agent or keyword, a value of another type, or networks that are too large.
    """
    entry = agents.get_algorithm(agent)
    check_size(agent, own.get("policy_kwargs") or {})
    settings = policy_settings(agent, policy)
    if policy.learning_rate is not None and entry.stand_alone is None:
        settings["learning_rate"] = policy.learning_rate
    given = read_settings(agent, entry.maker, own)
    policy_kwargs = {**settings.get("policy_kwargs", {}), **(given.get("policy_kwargs") or {})}
    return {**settings, **given, "policy_kwargs": policy_kwargs}


def for_its_weights(own: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return the settings of an agent that only acts: without those that take memory or write files."""
    return {name: value for name, value in own.items() if name not in _OF_LEARNING}


def check_size(agent: str, policy_kwargs: Setting) -> None:
    """Refuse networks so large that reading another person's file would use up the memory.

    Raises:
        ValueError: more weights than 8 layers of 4,096 units have between them, or than 512 small layers.
    """
    critics = policy_kwargs.get("n_critics", 1) if isinstance(policy_kwargs, dict) else 1
    if _weights(policy_kwargs) * (critics if isinstance(critics, int) else 1) > 8 * 4096**2:
        raise ValueError(
            f"the networks of the agent {agent} are too large: 8 layers of 4,096 units, all of its critics' "
            f"together, are the most, got policy_kwargs {str(policy_kwargs)[:200]}"
        )


def _weights(value: Setting) -> int:
    """Return about as many weights as layers of the sizes in a setting have, each 512 units at least."""
    if isinstance(value, dict | list):
        return sum(map(_weights, value.values() if isinstance(value, dict) else value))
    return max(value, 512) ** 2 if isinstance(value, int) else 0


def policy_settings(agent: str, policy: PolicyConfig) -> dict[str, Any]:
    """Return the policy's settings, besides the learning rate, that the agent of that name has."""
    entry = agents.get_algorithm(agent)
    if entry.policy is not AttentionPolicy:
        return {}
    of_policy = {"variance": policy.variance, "locator": policy.locator}
    if policy.inhibition:
        of_policy["inhibition"] = policy.inhibition
    settings: dict[str, Any] = {"normalize_advantage": policy.normalize_advantage, "policy_kwargs": of_policy}
    if issubclass(entry.build, REINFORCE):
        settings |= {"baseline": policy.baseline, "gradient_to_glimpse": policy.gradient_to_glimpse}
    return settings


def pick_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is a GPU if there is one.

    Raises:
        ValueError: this machine does not have the device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"the device {name!r} can't be used here: {error}") from error
    return device
