"""Code of the user's own in a run: what its settings name as `module:name`."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from backbone.config import TIMM
from backbone.own import check_trusted, is_own, is_trusted, make_own, trust

if TYPE_CHECKING:
    from stable_baselines3.common.callbacks import BaseCallback

# The settings that can name such code, in whatever group they are: an agent's own can name a locator, too.
KINDS = {"agent": "an agent", "name": "a backbone", "reward": "a reward", "locator": "a locator"}


def own_code(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield kind and name of all code that settings name as module:name, such as ("a reward", "mine:pay")."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from own_code(value)
        elif key in KINDS and isinstance(value, str) and is_own(value):
            is_timms = key == "name" and value.startswith(TIMM)
            if not is_timms:
                yield KINDS[key], value


def check_own_code(settings: Mapping[str, Any], source: object) -> None:
    """Refuse settings of a file that name code which nobody has vouched for.

    Raises:
        ValueError: `backbone.own.trust` was not told of a name.
    """
    kinds = {name: kind for kind, name in own_code(settings) if not is_trusted(name)}
    if kinds:
        check_trusted(",".join(kinds), source, "code" if len(kinds) > 1 else next(iter(kinds.values())))


def trust_own_code(settings: Mapping[str, Any]) -> None:
    """Let files name the code that these settings name: they came from the command line."""
    for _, name in own_code(settings):
        trust(name)


def own_callbacks(names: str) -> list["BaseCallback"]:
    """Return the user's own callbacks, named as module:name with commas, in that order.

    Raises:
        ValueError: no such name, or no callback that is made without arguments.
    """
    from stable_baselines3.common.callbacks import BaseCallback

    asked = [name.strip() for name in names.split(",") if name.strip()]
    return [make_own(name, "callback", BaseCallback) for name in asked]  # type: ignore[type-abstract]
