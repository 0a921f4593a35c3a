"""Settings of single algorithms on a command line: `--agents FILE.yaml`, and `--agents.NAME.KEYWORD VALUE`."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import agents
from agents.runs.own import check_own_code
from backbone.own import check_trusted

Settings = dict[str, dict[str, Any]]  # values by agent and keyword


class Loader(yaml.SafeLoader):
    """Reads 3e-4 as a number, which YAML 1.1 takes for a text."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


@dataclass(frozen=True)
class AgentSettings:
    """Settings of single algorithms on a command line.

    Attributes:
        of_files: settings in the files, which may be of more agents than are used.
        of_flags: settings in flags, which go before those of the files.
    """

    of_files: Settings = field(default_factory=dict)
    of_flags: Settings = field(default_factory=dict)

    def of(self, agent: str) -> dict[str, Any]:
        """Return the settings of one agent."""
        return {**self.of_files.get(agent, {}), **self.of_flags.get(agent, {})}

    def check(self, used: Collection[str]) -> None:
        """Refuse settings that nobody would take.

        Raises:
            ValueError: flags for an agent that is not used, unknown agents or keywords, or values of another type.
        """
        for name in self.of_flags:
            if name not in used:
                raise ValueError(f"--agents.{name} sets up an agent that is not used here: {', '.join(used)}")
        for name in {**self.of_files, **self.of_flags}:
            if name in used or ":" not in name:  # another agent of the user's own is not imported for this
                from agents.settings import read_settings  # it needs stable-baselines3

                read_settings(name, agents.get_algorithm(name).maker, self.of(name))


def take_agent_settings(argv: list[str]) -> tuple[list[str], AgentSettings]:
    """Take the settings of single algorithms out of a command line.

    Args:
        argv: the arguments.

    Returns:
        Arguments that are left, and the settings.

    Raises:
        ValueError: a flag without a keyword or a value, or a file that holds no settings.
    """
    words, rest = list(argv), []
    of_files: Settings = {}
    of_flags: Settings = {}
    while words:
        flag, separator, value = words.pop(0).partition("=")
        is_file = flag == "--agents" and (value or "".join(words[:1])).endswith((".yaml", ".yml"))
        if not (is_file or flag.startswith("--agents.")):
            rest.append(flag + separator + value)
            continue
        if not separator:
            if not words:
                raise ValueError(f"{flag} needs a value")
            value = words.pop(0)
        if is_file:
            of_files |= read_agents_file(Path(value))
            continue
        name, dot, keyword = flag.removeprefix("--agents.").rpartition(".")
        if not dot:
            raise ValueError(f"{flag} needs an agent and a keyword, as in --agents.ppo.learning-rate 3e-4")
        of_flags.setdefault(name, {})[keyword.replace("-", "_")] = _read(value, flag)
    return rest, AgentSettings(of_files, of_flags)


def read_agents_file(path: Path) -> Settings:
    """Read a file of settings: agent -> keyword -> value.

    Raises:
        ValueError: the file can't be read, is no YAML, holds something else, or names code that nobody has vouched
            for.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # no UTF-8 is a ValueError
        raise ValueError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error
    content = _read(text, path)
    if not (isinstance(content, Mapping) and all(isinstance(one, Mapping) for one in content.values())):
        raise ValueError(f"{path} must hold settings by agent and keyword, as in\nppo:\n  learning_rate: 3e-4")
    for name in content:
        if ":" in str(name):
            check_trusted(name, path, "an agent")
    check_own_code(content, path)
    return {str(name): {str(key): value for key, value in one.items()} for name, one in content.items()}


def _read(text: str, source: object) -> Any:
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError) as error:  # of a date that can't be, too
        raise ValueError(f"{source} is no YAML that can be read: {' '.join(str(error).split())}") from error
