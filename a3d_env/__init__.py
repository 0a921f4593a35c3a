"""The Markov decision process of recurrent 3D attention, as a Gymnasium environment.

Importing this package registers `A3D/Attention3D-v0`; `gymnasium.make("a3d_env:A3D/Attention3D-v0")` imports it.
"""

import gymnasium

from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid
from a3d_env.process import AttentionProcess
from a3d_env.rooms import check_packages

check_packages()

__all__ = ["AttentionProcess", "BinGrid", "FeatureBank"]

gymnasium.register(
    id="A3D/Attention3D-v0",
    entry_point="a3d_env.env:Attention3DEnv",
    vector_entry_point="a3d_env.vector:Attention3DVectorEnv",
)
