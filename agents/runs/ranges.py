"""Ranges of settings that `a3d tune` searches, declared in a YAML file by the names of the flags of a3d train."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dacite
import yaml

from agents.runs.agent_flags import Loader

if TYPE_CHECKING:
    from optuna.trial import Trial

Choice = str | int | float
EXAMPLE = "joint.learning_rate: {low: 1e-4, high: 1e-3, log: true}\npolicy.variance: [0.03, 0.05]"


@dataclass(frozen=True)
class Range:
    """Values from one number to another: whole ones if both are.

    Attributes:
        low: smallest value.
        high: largest value.
        log: whether values are drawn evenly by their logarithm.
    """

    low: int | float
    high: int | float
    log: bool = False

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf or (self.log and self.low <= 0):
            raise ValueError(
                f"low must be below high, both finite, and above 0 with log, got {self.low} and {self.high}"
            )

    def suggest(self, trial: "Trial", name: str) -> Choice:
        """Return the value of a trial."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    @property
    def examples(self) -> list[Choice]:
        """Values to check the setting's type by."""
        return [self.low, self.high]


@dataclass(frozen=True)
class Choices:
    """Values to choose from; a list of several numbers is a text, as on a command line."""

    examples: list[Choice]

    def suggest(self, trial: "Trial", name: str) -> Choice:
        """Return the value of a trial."""
        return trial.suggest_categorical(name, self.examples)


Ranges = dict[str, Range | Choices]


def read_ranges(path: Path) -> Ranges:
    """Read ranges by setting.

    Raises:
        ValueError: the file can't be read, or holds something else; the message says what and where.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise ValueError(f"{path} can't be read: {reason}") from error
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path} must hold ranges by setting, as in\n{EXAMPLE}")
    return {str(name).replace("-", "_"): _read(one, f"{path}: {name}") for name, one in content.items()}


def _read(value: Any, where: str) -> Range | Choices:
    try:
        if isinstance(value, list) and value:
            return Choices([_choice(one) for one in value])
        return dacite.from_dict(Range, value, dacite.Config(strict=True))
    except (dacite.DaciteError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{where} must be {{low: NUMBER, high: NUMBER}}, with log: true or without, or a list of values, got "
            f"{value!r:.100}: {error}"
        ) from error


def _choice(value: Any) -> Choice:
    if isinstance(value, bool):
        raise ValueError("true and false are flags without a value: run a study for each")
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value if isinstance(value, str | int | float) else str(value)


def flags(values: Mapping[str, Choice]) -> list[str]:
    """Return the flags of a3d train that set these values."""
    return [
        word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", *str(value).split(" "))
    ]
