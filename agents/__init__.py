"""Who decides where to look: algorithms by name, made for the environment's short episodes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv

from agents.control_algorithm import ControlAlgorithm, ControlPolicy
from agents.locator import HiddenState
from agents.policy import AttentionPolicy
from agents.reinforce import REINFORCE


@dataclass(frozen=True)
class Algorithm:
    """One entry of the registry.

    Attributes:
        build: the algorithm's class.
        policy: its policy's class or stable-baselines3's name of it.
        policy_kwargs: how to make the policy.
        defaults: settings that suit episodes of T - 1 steps.
        whole_episodes: whether `n_steps` has to be the length of the episode (on-policy algorithms).
    """

    build: Callable[..., BaseAlgorithm]
    policy: type[BasePolicy] | str = AttentionPolicy
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    whole_episodes: bool = True


_UNDISCOUNTED = {"gamma": 1.0, "gae_lambda": 1.0, "ent_coef": 0.0}
_OFF_POLICY_POLICY = {"features_extractor_class": HiddenState}

ALGORITHMS: dict[str, Algorithm] = {
    "reinforce": Algorithm(REINFORCE),
    "a2c": Algorithm(A2C, defaults={**_UNDISCOUNTED, "use_rms_prop": False}),
    "ppo": Algorithm(PPO, defaults={**_UNDISCOUNTED, "n_epochs": 4}),
    # The replay holds features of earlier representations: keep it short.
    "sac": Algorithm(
        SAC,
        "MultiInputPolicy",
        _OFF_POLICY_POLICY,
        {"gamma": 1.0, "buffer_size": 10_000, "learning_starts": 300, "batch_size": 256},
        whole_episodes=False,
    ),
    # Those that do not learn where to look: the policy at its initialisation, and controls.
    "untrained": Algorithm(REINFORCE, defaults={"policy_weight": 0.0}),
    "random": Algorithm(ControlAlgorithm, ControlPolicy, {"control": "random"}),
    "centre": Algorithm(ControlAlgorithm, ControlPolicy, {"control": "centre"}),
    "truth": Algorithm(ControlAlgorithm, ControlPolicy, {"control": "truth"}),
}


def make(
    name: str, env: VecEnv, *, policy_kwargs: dict[str, Any] | None = None, **overrides: Any
) -> BaseAlgorithm:
    """Make an agent for an A3D environment.

    Args:
        name: a name of `ALGORITHMS`.
        env: the environment, as a stable-baselines3 VecEnv.
        policy_kwargs: settings of the policy, such as `variance` of an `AttentionPolicy`; its `locator="mixture"`
            gets the environment's `overview_locations`.
        overrides: settings of the algorithm, over the entry's defaults.

    Raises:
        ValueError: unknown name, or no overview to choose from.
        TypeError: a setting that the algorithm or its policy does not have.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"unknown agent {name!r}; known: {', '.join(ALGORITHMS)}")
    entry = ALGORITHMS[name]
    settings = {**entry.defaults, **overrides}
    if entry.whole_episodes:
        settings.setdefault("n_steps", env.get_attr("num_decisions")[0])
    if name == "ppo":
        settings.setdefault("batch_size", settings["n_steps"] * env.num_envs)
    policy_kwargs = {**entry.policy_kwargs, **(policy_kwargs or {})}
    if policy_kwargs.get("locator") == "mixture":
        policy_kwargs.setdefault("overview_locations", env.get_attr("overview_locations")[0].tolist())
    return entry.build(entry.policy, env, policy_kwargs=policy_kwargs, **settings)
