"""The registry of algorithms, set up for the environment's short episodes, and how an agent is made or loaded."""

import reprlib
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
from a3d_env.sb3 import ActionModeWrapper, Attention3DVecEnv, process_of
from agents.control_algorithm import ControlAlgorithm, ControlPolicy
from agents.extractors import OverviewReader
from agents.place_scores import HiddenStateAndPlaces
from agents.policy import AttentionPolicy
from agents.reinforce import REINFORCE
from agents.scoring_policies import (
    BinScoringDQNPolicy,
    BinScoringPolicy,
    BinScoringQRDQNPolicy,
    LocationScoringSACPolicy,
    LocationScoringTD3Policy,
    LocationScoringTQCPolicy,
)
from agents.settings import known_settings, plain
from agents.stand_alone import NoPolicy, StandAlone, stands_alone
from backbone.own import load_own


@dataclass(frozen=True)
class Algorithm:
    """One entry of the registry.

    Attributes:
        build: the algorithm's class.
        policy: the class of the algorithm's policy, or stable-baselines3's name of it.
        defaults: settings of the algorithm that suit episodes of T - 1 steps.
        policy_kwargs: settings of the policy.
        action_mode: form of the actions: continuous, discrete or multidiscrete.
        whole_episodes: whether `n_steps` has to be the length of an episode (on-policy algorithms).
        kin: the name of the entry whose settings a user's own class gets; None for the registry's own entries.
        stand_alone: the class, or an object, of an algorithm that does not inherit from stable-baselines3's.
        scoring: the class of the policy that scores the overview's places, if the environment has an overview.
        scoring_defaults: settings that replace `defaults` with that policy.
    """

    build: type[BaseAlgorithm]
    policy: type[BasePolicy] | str = AttentionPolicy
    defaults: dict[str, Any] = field(default_factory=dict)
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    action_mode: ActionMode = "continuous"
    whole_episodes: bool = True
    kin: str | None = field(default=None, compare=False)
    stand_alone: Any = None
    scoring: type[BasePolicy] | None = None
    scoring_defaults: dict[str, Any] = field(default_factory=dict)

    @property
    def maker(self) -> Any:
        """The algorithm's class, which takes the settings, or an object, which takes none."""
        return self.build if self.stand_alone is None else self.stand_alone


# On-policy: returns are sums of rewards without bootstrapping, as episodes are short and always complete.
_RETURNS = {"gamma": 1.0, "gae_lambda": 1.0}
# F_a is one layer, or a small locator: it takes larger steps than a network of several layers.
_ACTOR_CRITIC = {**_RETURNS, "ent_coef": 0.0, "learning_rate": 3e-3}
# Several epochs on the same few episodes: 3e-3 has 35% of the gain on a bank, this 65% (benchmarks/compare.md).
_PPO = {**_ACTOR_CRITIC, "n_epochs": 4, "learning_rate": 5e-4}
_PPO_MLP = {**_PPO, "learning_rate": 1e-3}
# Off-policy: the replay buffer is short, because features in it become outdated in joint training; each transition
# is used about 16 times if 64 episodes run at once. Values propagate over T - 1 steps only, and in few updates:
# the target networks are updated ten times as fast as usual.
_REPLAY = {
    "gamma": 1.0, "buffer_size": 10_000, "learning_starts": 1000, "batch_size": 256, "gradient_steps": 4,
    "learning_rate": 1e-3,
}  # fmt: skip
# The usual entropy coefficient of 1 weighs as much as the largest reward, and would favour looking anywhere.
_ENTROPY = {"tau": 0.05, "ent_coef": "auto_0.05"}
# TD3 and DDPG explore by this noise alone.
_NOISE = {"tau": 0.05, "action_noise": NormalActionNoise(np.zeros(3), np.full(3, 0.6))}
_EPSILON = {"train_freq": 1, "exploration_fraction": 0.5, "target_update_interval": 500}


def _replaying(
    build: type[BaseAlgorithm],
    defaults: dict[str, Any],
    scoring: type[BasePolicy],
    mode: ActionMode = "continuous",
    **policy_kwargs: Any,
) -> Algorithm:
    defaults = {**_REPLAY, **defaults}
    return Algorithm(
        build,
        "MultiInputPolicy",
        defaults,
        policy_kwargs,
        mode,
        whole_episodes=False,
        scoring=scoring,
        scoring_defaults={"gradient_steps": 2},
    )


def _among_bins(build: type[BaseAlgorithm], defaults: dict[str, Any], mode: ActionMode) -> Algorithm:
    return Algorithm(
        build,
        "MultiInputPolicy",
        defaults,
        action_mode=mode,
        scoring=BinScoringPolicy,
        scoring_defaults={"learning_rate": _PPO["learning_rate"]},
    )


def _control(name: str) -> Algorithm:
    return Algorithm(ControlAlgorithm, ControlPolicy, policy_kwargs={"control": name})


ALGORITHMS: dict[str, Algorithm] = {
    # A location, drawn from the policy that the paper describes.
    "reinforce": Algorithm(REINFORCE, defaults={"learning_rate": 3e-3}),
    "a2c": Algorithm(A2C, defaults={**_ACTOR_CRITIC, "use_rms_prop": False}),
    "ppo": Algorithm(PPO, defaults=_PPO),
    "trpo": Algorithm(TRPO, defaults={**_RETURNS, "learning_rate": 1e-3}),
    # A location, by a network of the algorithm's own.
    "sac": _replaying(SAC, _ENTROPY, LocationScoringSACPolicy),
    "tqc": _replaying(TQC, _ENTROPY, LocationScoringTQCPolicy),
    "td3": _replaying(TD3, _NOISE, LocationScoringTD3Policy),
    "ddpg": _replaying(DDPG, _NOISE, LocationScoringTD3Policy),
    # One of all bins.
    "dqn": _replaying(DQN, _EPSILON, BinScoringDQNPolicy, "discrete"),
    "qrdqn": _replaying(QRDQN, _EPSILON, BinScoringQRDQNPolicy, "discrete", n_quantiles=25),
    "ppo-discrete": _among_bins(PPO, _PPO_MLP, "discrete"),
    "ppo-multidiscrete": _among_bins(PPO, _PPO_MLP, "multidiscrete"),
    # Agents that do not learn where to look: the policy at its initialisation, and controls.
    "untrained": Algorithm(REINFORCE, defaults={"policy_weight": 0.0}),
    "random": _control("random"),
    "centre": _control("centre"),
    "mean": _control("mean"),
    "swapped": _control("swapped"),
    "best": _control("best"),
    "truth": _control("truth"),
}  # fmt: skip


def get_algorithm(name: str) -> Algorithm:
    """Return an entry of the registry, or an entry for a class of your own.

    Args:
        name: a name of `ALGORITHMS`, or `module:Class`, an algorithm that can be imported. A class that inherits
            from an entry's algorithm gets this entry's actions, policy and settings (a subclass of REINFORCE those
            of `reinforce`); its attribute `action_mode`, if it has one, chooses other actions. Any other
            stable-baselines3 algorithm gets locations as actions, the `AttentionPolicy` if it is on-policy,
            otherwise "MultiInputPolicy", and those settings that the registry's algorithms share (gamma 1, a
            learning rate of 1e-3, a short replay buffer) and that its constructor takes. Any other class with
            `learn` and `predict` is used as it is (`agents.stand_alone`).

    Raises:
        ValueError: unknown name, or a class that can't be imported or is no algorithm.
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
    """Return the entry of the nearest algorithm that a class inherits from; of several, by its action mode."""
    mode = getattr(build, "action_mode", None)
    for base in build.__mro__:
        names = [name for name, entry in ALGORITHMS.items() if entry.build is base and name != "untrained"]
        if names:
            kin = next((name for name in names if ALGORITHMS[name].action_mode == mode), names[0])
            entry = ALGORITHMS[kin]
            return replace(entry, build=build, kin=kin, action_mode=mode or entry.action_mode)
    return None


def _of_no_kind(build: type[BaseAlgorithm]) -> Algorithm:
    """Return an entry, with the settings that all entries share, for a class that inherits from none of them."""
    is_on_policy = issubclass(build, OnPolicyAlgorithm)
    # The class's own kind of actor and critic, if it has one (as recurrent algorithms do), else the usual one.
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
    """Describe in one line how an agent of that name is set up, if `overrides` replace settings of its entry."""
    entry = get_algorithm(name)
    policy = entry.policy if isinstance(entry.policy, str) else entry.policy.__name__
    if entry.stand_alone is not None:
        first = "is no stable-baselines3 algorithm and sets itself up"
    elif entry.kin is not None:
        first = f"is set up as {entry.kin} is: {policy}"
    else:
        first = f"is set up with {policy}"
    if entry.scoring is not None:
        first += f" ({entry.scoring.__name__} with an overview)"
    settings = {name: plain(value) for name, value in {**entry.defaults, **overrides}.items()}
    return ", ".join(
        [f"{name} {first}", f"{entry.action_mode} actions", *(f"{k} {_shown(v)}" for k, v in settings.items())]
    )


def _shown(value: Any) -> str:
    """Return a setting as text; of long lists, such as the locations of an overview, the first values alone."""
    short = reprlib.Repr()
    short.maxlist, short.maxdict, short.maxstring = 4, 100, 1000
    return value if isinstance(value, str) else short.repr(value)


def make(
    name: str, env: VecEnv, /, *, policy_kwargs: dict[str, Any] | None = None, **overrides: Any
) -> BaseAlgorithm:
    """Make an agent for an A3D environment.

    Args:
        name: the algorithm's name, or `module:Class` (`get_algorithm`).
        env: the environment, as a stable-baselines3 VecEnv. An `Attention3DVecEnv` without wrappers is wrapped in
            a `VecMonitor`, so that the episodes' rewards are logged; for algorithms that choose among bins it is
            wrapped in an `ActionModeWrapper`, unless it has their action mode. An environment to evaluate such
            agents in, by `evaluate_policy` or `EvalCallback`, needs that wrapper, too.
        policy_kwargs: settings of the policy, such as `variance` of an `AttentionPolicy`; a policy that reads an
            overview gets the environment's `overview_locations`.
        overrides: settings of the algorithm that replace the entry's defaults (`agents.settings.known_settings`).

    Raises:
        ValueError: unknown name, no overview to choose from, or an environment whose actions are not the
            algorithm's.
        TypeError: a setting that the algorithm or its policy does not have.
    """
    entry = get_algorithm(name)
    env = _fitting(entry, env)
    locations = env.get_attr("overview_locations")[0].tolist()
    policy_kwargs = {**entry.policy_kwargs, **(policy_kwargs or {})}
    # A user's own reader of observations, and gSDE, which needs a last layer, keep stable-baselines3's networks.
    is_plain = "features_extractor_class" in policy_kwargs or overrides.get("use_sde", False)
    policy = entry.scoring if entry.scoring and locations and not is_plain else entry.policy
    settings = {**entry.defaults, **(entry.scoring_defaults if policy is entry.scoring else {}), **overrides}
    if entry.stand_alone is not None:
        settings.pop("device", None)  # the algorithm chooses its device itself
        return StandAlone(env, entry.stand_alone, **settings)
    if entry.whole_episodes:
        settings.setdefault("n_steps", env.get_attr("num_decisions")[0])
    if issubclass(entry.build, PPO | TRPO):
        settings.setdefault("batch_size", settings["n_steps"] * env.num_envs)
    if policy is entry.scoring:
        positions = process_of(env).bank.grid.positions
        policy_kwargs["features_extractor_class"] = HiddenStateAndPlaces
        policy_kwargs["features_extractor_kwargs"] = {"overview_locations": locations, "positions": positions}
        policy_kwargs.setdefault("net_arch", [256, 256])  # of the state's value
    elif policy == "MultiInputPolicy":
        policy_kwargs.setdefault("features_extractor_class", OverviewReader)
        policy_kwargs.setdefault("features_extractor_kwargs", {"overview_locations": locations})
    elif policy_kwargs.get("locator", "linear") != "linear":
        policy_kwargs.setdefault("overview_locations", locations)
    return entry.build(policy, env, policy_kwargs=policy_kwargs, **settings)


def load(name: str, path: str | Path, env: VecEnv, **settings: Any) -> BaseAlgorithm:
    """Load an agent from a file of its `save`, to train it further or use it in an A3D environment.

    Such a file can hold code, which is run: load only files of your own. stable-baselines3's `load` does not wrap
    the environment, and so refuses it if the algorithm chooses among bins; this function wraps it as `make` does.

    Args:
        name: the agent's name, or `module:Class` (`get_algorithm`).
        path: the path that `save` was given.
        env: the environment, as for `make`.
        settings: keyword arguments of stable-baselines3's `load`, such as `device`.

    Raises:
        ValueError: unknown name, an algorithm that is not of stable-baselines3, or an environment whose spaces
            differ from those of the one that the agent was trained in.
    """
    entry = get_algorithm(name)
    if entry.stand_alone is not None:
        raise ValueError(f"{name} is no stable-baselines3 algorithm: load it by its own functions")
    return entry.build.load(path, env=_fitting(entry, env), **settings)


def _fitting(entry: Algorithm, env: VecEnv) -> VecEnv:
    """Return the environment in the wrappers that an algorithm needs."""
    if isinstance(env, Attention3DVecEnv):
        env = VecMonitor(env)
    if env.get_attr("action_mode")[0] != entry.action_mode:
        env = ActionModeWrapper(env, entry.action_mode)
    return env
