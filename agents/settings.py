"""An algorithm's settings: the keywords of its constructor, and their values as plain data (for YAML and JSON)."""

import inspect
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from dacite.types import is_instance
from stable_baselines3.common.noise import NormalActionNoise

from agents.stand_alone import StandAlone

# Keywords that are no settings: `agents.make` gives them, or subclasses fix them.
GIVEN = (
    "self", "policy", "env", "seed", "device", "support_multi_env", "supported_action_spaces", "_init_setup_model",
)  # fmt: skip
# Settings that become functions of the remaining share of the training, which is 1 at the beginning.
SCHEDULES = ("learning_rate", "clip_range", "clip_range_vf")

Setting = bool | int | float | str | None | list[Any] | dict[str, Any]  # the types of YAML and JSON


def known_settings(build: object) -> dict[str, inspect.Parameter]:
    """Return the keywords that an algorithm's class takes, with those that it passes on to its parents.

    Args:
        build: the class; an object, which is already made, takes none.
    """
    makers = [vars(base).get("__init__") for base in build.__mro__] if isinstance(build, type) else []
    found: dict[str, inspect.Parameter] = {}
    for maker in makers:
        if maker is None or maker is object.__init__:
            continue
        parameters = list(inspect.signature(maker).parameters.values())
        for one in parameters:
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
                found.setdefault(one.name, one)
        if not any(one.kind == one.VAR_KEYWORD for one in parameters):
            break
    return {name: one for name, one in found.items() if name not in GIVEN}


def read_settings(agent: str, build: object, values: Mapping[str, Setting]) -> dict[str, Any]:
    """Convert plain values to the types that the constructor takes.

    Lists become tuples if the constructor takes tuples; a number for `action_noise` is the standard deviation of
    Gaussian noise on each of a location's coordinates.

    Args:
        agent: the agent's name, for the error.
        build: the algorithm's class, or an object.
        values: plain values by keyword, of the types of YAML and JSON.

    Raises:
        ValueError: a keyword that the algorithm does not have, or a value of another type.
    """
    known = known_settings(build)
    if unknown := [name for name in values if name not in known]:
        raise ValueError(f"the agent {agent} has no setting {', '.join(unknown)}; known: {', '.join(known)}")
    return {name: _as_wanted(agent, known[name], value) for name, value in values.items()}


def _as_wanted(agent: str, parameter: inspect.Parameter, value: Setting) -> Any:
    wanted = parameter.annotation
    if isinstance(value, bool) and not _takes_bool(wanted):
        raise _other_type(agent, parameter, value)
    if parameter.name == "action_noise" and isinstance(value, int | float):
        return NormalActionNoise(np.zeros(3), np.full(3, value))
    if wanted is parameter.empty or isinstance(wanted, str):  # a user's own algorithm without annotations
        return value
    for candidate in (value, tuple(value) if isinstance(value, list) else value):
        if is_instance(candidate, wanted):
            return candidate
    raise _other_type(agent, parameter, value)


def _takes_bool(wanted: Any) -> bool:
    """Tell whether an annotation allows a bool, which has to be asked because a bool is also an int."""
    if wanted in (bool, Any, object, inspect.Parameter.empty) or isinstance(wanted, str | bool):
        return True
    return any(_takes_bool(one) for one in get_args(wanted))


def _other_type(agent: str, parameter: inspect.Parameter, value: Setting) -> ValueError:
    wanted = inspect.formatannotation(parameter.annotation)
    return ValueError(f"the setting {parameter.name} of the agent {agent} must be {wanted}, got {value!r}")


def settings_used(agent: object) -> dict[str, Setting]:
    """Return the settings that an agent was made with, by keyword; of schedules the initial value."""
    if isinstance(agent, StandAlone):
        return {name: plain(value) for name, value in agent.settings.items()}
    return {
        name: plain(getattr(agent, name), is_schedule=name in SCHEDULES)
        for name in known_settings(type(agent))
        if hasattr(agent, name)
    }


def plain(value: Any, *, is_schedule: bool = False) -> Setting:
    """Return a setting as plain data for JSON: numbers and texts as they are, classes by name, others by `str`."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_schedule and callable(value):
        return float(value(1.0))
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return f"{value.__module__}.{value.__qualname__}" if isinstance(value, type) else str(value)
