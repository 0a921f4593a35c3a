"""Agents, which decide where to look: `make`, `load` and the registry `ALGORITHMS` (agents/registry.py).

The names of the registry are imported when they are asked for, as torch and stable-baselines3 take seconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

from backbone.own import trust

if TYPE_CHECKING:
    from agents.registry import ALGORITHMS, Algorithm, AttentionPolicy, describe, get_algorithm, load, make

__all__ = ["ALGORITHMS", "Algorithm", "AttentionPolicy", "describe", "get_algorithm", "load", "make", "trust"]


def __getattr__(name: str) -> Any:
    """Return what the registry has under the name."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("agents.registry"), name)
