"""An algorithm's settings, by the keywords of its constructor: which there are, and their values as plain text."""

import inspect
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from dacite.types import is_instance
from stable_baselines3.common.noise import NormalActionNoise

from agents.stand_alone import StandAlone

# What whoever makes an agent gives, or a subclass says of itself.
GIVEN = (
    "self", "policy", "env", "seed", "device", "support_multi_env", "supported_action_spaces", "_init_setup_model",
)  # fmt: skip
# Functions of how much of the training is left, 1 at its beginning.
SCHEDULES = ("learning_rate", "clip_range", "clip_range_vf")

Setting = bool | int | float | str | None | list[Any] | dict[str, Any]  # as YAML and JSON have it


def known_settings(build: object) -> dict[str, inspect.Parameter]:
    """Return the keywords that an algorithm's class takes, those that it hands on to its parents included.

    Args:
        build: the class; an object, which is made already, takes none.
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
    """Return settings as the constructor takes them, of plain values.

    Lists become tuples where the constructor wants those; a number as `action_noise` is the standard deviation of
    Gaussian noise on each of a location's coordinates.

    Args:
        agent: its name, for the error.
        build: as in `known_settings`.
        values: by keyword, as YAML and JSON have them.

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
    if wanted is parameter.empty or isinstance(wanted, str):  # an algorithm of the user's own that does not say
        return value
    for candidate in (value, tuple(value) if isinstance(value, list) else value):
        if is_instance(candidate, wanted):
            return candidate
    raise _other_type(agent, parameter, value)


def _takes_bool(wanted: Any) -> bool:
    """Tell whether an annotation, or one of those it is made of, is of yes or no: True is an int to Python."""
    if wanted in (bool, Any, object, inspect.Parameter.empty) or isinstance(wanted, str | bool):
        return True
    return any(_takes_bool(one) for one in get_args(wanted))


def _other_type(agent: str, parameter: inspect.Parameter, value: Setting) -> ValueError:
    wanted = inspect.formatannotation(parameter.annotation)
    return ValueError(f"the setting {parameter.name} of the agent {agent} must be {wanted}, got {value!r}")


def settings_used(agent: object) -> dict[str, Setting]:
    """Return what an agent was really made with, by keyword; schedules by their value at the beginning."""
    if isinstance(agent, StandAlone):
        return {name: plain(value) for name, value in agent.settings.items()}
    return {
        name: plain(getattr(agent, name), is_schedule=name in SCHEDULES)
        for name in known_settings(type(agent))
        if hasattr(agent, name)
    }


def plain(value: Any, *, is_schedule: bool = False) -> Setting:
    """Return a setting for JSON: numbers and texts as they are, classes by name, the rest by its own text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_schedule and callable(value):
        return float(value(1.0))
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return f"{value.__module__}.{value.__qualname__}" if isinstance(value, type) else str(value)
