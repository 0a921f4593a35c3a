"""Agents without learning, to be compared with: random and centre bins."""

from typing import Any

import numpy as np


class RandomAgent:
    """Look anywhere, every place of [-1, 1] alike."""

    def __init__(self, seed: int = 0):
        self.generator = np.random.default_rng(seed)

    def predict(self, observation: dict[str, np.ndarray], **_: Any) -> tuple[np.ndarray, None]:
        """Return actions, float32 (N, 3)."""
        count = len(observation["location"])
        return self.generator.uniform(-1, 1, (count, 3)).astype(np.float32), None


class CentreAgent:
    """Look at the centre again and again."""

    def predict(self, observation: dict[str, np.ndarray], **_: Any) -> tuple[np.ndarray, None]:
        """Return actions, float32 (N, 3)."""
        return np.zeros((len(observation["location"]), 3), dtype=np.float32), None
