"""Agents, which decide where to look: `make`, `load` and the registry `ALGORITHMS` (agents/registry.py).

The names of the registry are imported when they are asked for, as torch and stable-baselines3 take seconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

from backbone.own import trust as trust

if TYPE_CHECKING:
    from agents.registry import ALGORITHMS as ALGORITHMS
    from agents.registry import Algorithm as Algorithm
    from agents.registry import AttentionPolicy as AttentionPolicy
    from agents.registry import describe as describe
    from agents.registry import get_algorithm as get_algorithm
    from agents.registry import load as load
    from agents.registry import make as make


def __getattr__(name: str) -> Any:
    """Return what the registry has under the name."""
    if not name.startswith("_"):
        registry = importlib.import_module("agents.registry")
        if hasattr(registry, name):
            return getattr(registry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
