"""The Markov decision process of recurrent 3D attention, as a Gymnasium environment.

Importing this package registers `A3D/Attention3D-v0`; `gymnasium.make("a3d_env:A3D/Attention3D-v0")` imports it.
"""

import importlib
from typing import Any

import gymnasium

from a3d_env.rooms import check_packages

check_packages()

# Imported when they are asked for, as torch takes seconds.
_HOMES = {"AttentionProcess": "process", "BinGrid": "bins", "FeatureBank": "bank"}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Return what `_HOMES` has under the name."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


gymnasium.register(
    id="A3D/Attention3D-v0",
    entry_point="a3d_env.env:Attention3DEnv",
    vector_entry_point="a3d_env.vector:Attention3DVectorEnv",
)
