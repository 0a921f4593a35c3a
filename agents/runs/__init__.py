"""A run: its configuration, training, checkpoint, scores and descriptors; what the commands share.

`from agents.runs import get_preset, strong, train, load_run, RunEpisodes` is what other programs need; each name
is imported when it is asked for, as torch takes seconds.
"""

import importlib
from typing import Any

_HOMES = {
    "TrainConfig": "config",
    "get_preset": "presets",
    "strong": "recipes",
    "train": "training",
    "load_model": "model",
    "load_run": "model",
    "RunEpisodes": "run_episodes",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Return what `_HOMES` has under the name."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
