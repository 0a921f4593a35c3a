"""Who decides where to look: algorithms by name, made for the environment's short episodes."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from sb3_contrib import QRDQN, TQC, TRPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from a3d_env.interface import ActionMode
from a3d_env.sb3 import ActionModeWrapper, Attention3DVecEnv
from agents.control_algorithm import ControlAlgorithm, ControlPolicy
from agents.extractors import OverviewReader
from agents.policy import AttentionPolicy
from agents.reinforce import REINFORCE
from agents.settings import known_settings, plain
from agents.stand_alone import NoPolicy, StandAlone, stands_alone
from backbone.own import load_own
from backbone.own import trust as trust


@dataclass(frozen=True)
class Algorithm:
    """One entry of the registry.

    Attributes:
        build: the algorithm's class.
        policy: its policy's class or stable-baselines3's name of it.
        defaults: settings that suit episodes of T - 1 steps.
        policy_kwargs: how to make the policy.
        action_mode: what its actions are.
        whole_episodes: whether `n_steps` has to be the length of the episode (on-policy algorithms).
        kin: the name of the entry whose settings these are; None for the registry's own.
        stand_alone: the class, or the object, of an algorithm that is none of stable-baselines3's.
    """

    build: type[BaseAlgorithm]
    policy: type[BasePolicy] | str = AttentionPolicy
    defaults: dict[str, Any] = field(default_factory=dict)
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    action_mode: ActionMode = "continuous"
    whole_episodes: bool = True
    kin: str | None = field(default=None, compare=False)
    stand_alone: Any = None

    @property
    def maker(self) -> Any:
        """What takes the settings: the algorithm's class, or an object that takes none."""
        return self.build if self.stand_alone is None else self.stand_alone


# On-policy: returns are what was earned, as episodes are short and never cut.
_RETURNS = {"gamma": 1.0, "gae_lambda": 1.0}
# F_a is one layer, or a small locator: it takes larger steps than a network of several layers.
_ACTOR_CRITIC = {**_RETURNS, "ent_coef": 0.0, "learning_rate": 3e-3}
# Several epochs on the same few episodes: 3e-3 has 35% of the gain on a bank, this 65% (benchmarks/compare.md).
_PPO = {**_ACTOR_CRITIC, "n_epochs": 4, "learning_rate": 5e-4}
_PPO_MLP = {**_PPO, "learning_rate": 1e-3}
# Off-policy: the replay is short, for the features in it get stale in joint training, and each transition is used
# about 16 times where 64 episodes run at once. Values have only T - 1 steps to travel, and few updates: targets
# follow ten times as fast as usual.
_REPLAY = {
    "gamma": 1.0, "buffer_size": 10_000, "learning_starts": 1000, "batch_size": 256, "gradient_steps": 4,
    "learning_rate": 1e-3,
}  # fmt: skip
# The usual 1 is as much as the largest reward, and would be paid for looking anywhere.
_ENTROPY = {"tau": 0.05, "ent_coef": "auto_0.05"}
# TD3 and DDPG explore by nothing else.
_NOISE = {"tau": 0.05, "action_noise": NormalActionNoise(np.zeros(3), np.full(3, 0.6))}
_EPSILON = {"train_freq": 1, "exploration_fraction": 0.5, "target_update_interval": 500}


def _replaying(
    build: type[BaseAlgorithm], defaults: dict[str, Any], mode: ActionMode = "continuous", **policy_kwargs: Any
) -> Algorithm:
    return Algorithm(build, "MultiInputPolicy", {**_REPLAY, **defaults}, policy_kwargs, mode, whole_episodes=False)


def _among_bins(build: type[BaseAlgorithm], defaults: dict[str, Any], mode: ActionMode) -> Algorithm:
    return Algorithm(build, "MultiInputPolicy", defaults, action_mode=mode)


def _control(name: str) -> Algorithm:
    return Algorithm(ControlAlgorithm, ControlPolicy, policy_kwargs={"control": name})


ALGORITHMS: dict[str, Algorithm] = {
    # A location, drawn from the policy that the paper describes.
    "reinforce": Algorithm(REINFORCE, defaults={"learning_rate": 3e-3}),
    "a2c": Algorithm(A2C, defaults={**_ACTOR_CRITIC, "use_rms_prop": False}),
    "ppo": Algorithm(PPO, defaults=_PPO),
    "trpo": Algorithm(TRPO, defaults={**_RETURNS, "learning_rate": 1e-3}),
    # A location, by a network of the algorithm's own.
    "sac": _replaying(SAC, _ENTROPY),
    "tqc": _replaying(TQC, _ENTROPY),
    "td3": _replaying(TD3, _NOISE),
    "ddpg": _replaying(DDPG, _NOISE),
    # One of all bins.
    "dqn": _replaying(DQN, _EPSILON, "discrete"),
    "qrdqn": _replaying(QRDQN, _EPSILON, "discrete", n_quantiles=25),
    "ppo-discrete": _among_bins(PPO, _PPO_MLP, "discrete"),
    "ppo-multidiscrete": _among_bins(PPO, _PPO_MLP, "multidiscrete"),
    # Those that do not learn where to look: the policy at its initialisation, and controls.
    "untrained": Algorithm(REINFORCE, defaults={"policy_weight": 0.0}),
    "random": _control("random"),
    "centre": _control("centre"),
    "mean": _control("mean"),
    "swapped": _control("swapped"),
    "best": _control("best"),
    "truth": _control("truth"),
}  # fmt: skip


def get_algorithm(name: str) -> Algorithm:
    """Return an entry of the registry, or one made for a class of your own.

    Args:
        name: a name of `ALGORITHMS`, or `module:Class`, an algorithm that can be imported. Of a stable-baselines3
            one, actions, policy and settings are those of the entry that it inherits from (a subclass of REINFORCE
            is set up as `reinforce` is), but for what it says in its attribute `action_mode`. One that inherits
            from none has locations, the `AttentionPolicy` if it is on-policy, else "MultiInputPolicy", and of the
            settings that the registry's algorithms share (gamma 1, a learning rate of 1e-3, a short replay) those
            that it has. Anything else with `learn` and `predict` stands alone (`agents.stand_alone`).

    Raises:
        ValueError: unknown name, or no such algorithm.
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    if ":" not in name:
        raise ValueError(f"unknown agent {name!r}; known: {', '.join(ALGORITHMS)}, or module:Class of your own")
    found = load_own(name, "agent")
    if isinstance(found, type) and issubclass(found, BaseAlgorithm):
        return _of_its_kind(found) or _of_no_kind(found)
    if stands_alone(found):
        mode: ActionMode = getattr(found, "action_mode", "continuous")
        return Algorithm(StandAlone, NoPolicy, action_mode=mode, whole_episodes=False, stand_alone=found)
    raise ValueError(
        f"the agent {name!r} is no stable-baselines3 algorithm, and has no learn and predict of its own: {found!r}"
    )


def _of_its_kind(build: type[BaseAlgorithm]) -> Algorithm | None:
    """Return the entry of the nearest algorithm that a class inherits from, of several that of its action mode."""
    mode = getattr(build, "action_mode", None)
    for base in build.__mro__:
        names = [name for name, entry in ALGORITHMS.items() if entry.build is base and name != "untrained"]
        if names:
            kin = next((name for name in names if ALGORITHMS[name].action_mode == mode), names[0])
            entry = ALGORITHMS[kin]
            return replace(entry, build=build, kin=kin, action_mode=mode or entry.action_mode)
    return None


def _of_no_kind(build: type[BaseAlgorithm]) -> Algorithm:
    """Return an entry for a class that inherits from none of the registry's: the settings that those share."""
    is_on_policy = issubclass(build, OnPolicyAlgorithm)
    # Its own kind of actor and critic, if it says so (as one with a memory does), else the one of all here.
    own = build.policy_aliases.get("MultiInputPolicy", ActorCriticPolicy if is_on_policy else None)
    shared = {**_RETURNS, "ent_coef": 0.0, "learning_rate": 1e-3} if is_on_policy else _REPLAY
    known = known_settings(build)
    return Algorithm(
        build,
        AttentionPolicy if is_on_policy and own and issubclass(own, ActorCriticPolicy) else "MultiInputPolicy",
        {name: value for name, value in shared.items() if name in known},
        action_mode=getattr(build, "action_mode", "continuous"),
        whole_episodes=is_on_policy,
    )


def describe(name: str, /, **overrides: Any) -> str:
    """Say in a line how an agent of that name is set up, with those settings over the entry's own."""
    entry = get_algorithm(name)
    policy = entry.policy if isinstance(entry.policy, str) else entry.policy.__name__
    if entry.stand_alone is not None:
        first = "is no stable-baselines3 algorithm and sets itself up"
    elif entry.kin is not None:
        first = f"is set up as {entry.kin} is: {policy}"
    else:
        first = f"is set up with {policy}"
    settings = {name: plain(value) for name, value in {**entry.defaults, **overrides}.items()}
    return ", ".join(
        [f"{name} {first}", f"{entry.action_mode} actions", *(f"{k} {v}" for k, v in settings.items())]
    )


def make(
    name: str, env: VecEnv, /, *, policy_kwargs: dict[str, Any] | None = None, **overrides: Any
) -> BaseAlgorithm:
    """Make an agent for an A3D environment.

    Args:
        name: as in `get_algorithm`.
        env: the environment, as a stable-baselines3 VecEnv. A bare `Attention3DVecEnv` gets a `VecMonitor` around
            it, so that the episodes' rewards are logged; algorithms that choose among bins get it with an
            `ActionModeWrapper`, unless it has their action mode. One to evaluate them on, as for `evaluate_policy`
            and `EvalCallback`, needs that wrapper, too.
        policy_kwargs: settings of the policy, such as `variance` of an `AttentionPolicy`; what looks at an
            overview gets the environment's `overview_locations`.
        overrides: settings of the algorithm, over the entry's defaults (`agents.settings.known_settings`).

    Raises:
        ValueError: unknown name, no overview to choose from, or an environment whose actions are not the
            algorithm's.
        TypeError: a setting that the algorithm or its policy does not have.
    """
    entry = get_algorithm(name)
    env = _fitting(entry, env)
    settings = {**entry.defaults, **overrides}
    if entry.stand_alone is not None:
        settings.pop("device", None)  # its own business
        return StandAlone(env, entry.stand_alone, **settings)
    if entry.whole_episodes:
        settings.setdefault("n_steps", env.get_attr("num_decisions")[0])
    if issubclass(entry.build, PPO | TRPO):
        settings.setdefault("batch_size", settings["n_steps"] * env.num_envs)
    policy_kwargs = {**entry.policy_kwargs, **(policy_kwargs or {})}
    locations = env.get_attr("overview_locations")[0].tolist()
    if entry.policy == "MultiInputPolicy":
        policy_kwargs.setdefault("features_extractor_class", OverviewReader)
        policy_kwargs.setdefault("features_extractor_kwargs", {"overview_locations": locations})
    elif policy_kwargs.get("locator", "linear") != "linear":
        policy_kwargs.setdefault("overview_locations", locations)
    return entry.build(entry.policy, env, policy_kwargs=policy_kwargs, **settings)


def load(name: str, path: str | Path, env: VecEnv, **settings: Any) -> BaseAlgorithm:
    """Load what an agent wrote by its `save`, to go on with in an A3D environment.

    Such a file can hold code, which runs: load your own only. stable-baselines3's own `load` takes the environment
    as it is, and so refuses it where the algorithm chooses among bins; here it is fitted as `make` does.

    Args:
        name: of the agent, as in `get_algorithm`.
        path: what `save` was given.
        env: as in `make`.
        settings: of stable-baselines3's `load`, such as `device`.

    Raises:
        ValueError: unknown name, an algorithm that is none of stable-baselines3's, or an environment that differs
            from the one trained in.
    """
    entry = get_algorithm(name)
    if entry.stand_alone is not None:
        raise ValueError(f"{name} is no stable-baselines3 algorithm: it has its own way to be loaded")
    return entry.build.load(path, env=_fitting(entry, env), **settings)


def _fitting(entry: Algorithm, env: VecEnv) -> VecEnv:
    """Return the environment with what an algorithm needs around it."""
    if isinstance(env, Attention3DVecEnv):
        env = VecMonitor(env)
    if env.get_attr("action_mode")[0] != entry.action_mode:
        env = ActionModeWrapper(env, entry.action_mode)
    return env
