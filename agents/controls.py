"""Agents without learning, to be compared with: random and centre bins."""

from collections.abc import Callable

import numpy as np

# Takes the number of actions, returns them, float32 (N, 3).
Choice = Callable[[int], np.ndarray]


class ControlAgent:
    """An agent that chooses without looking, with the `predict` of a stable-baselines3 algorithm."""

    def __init__(self, choose: Choice):
        self.choose = choose

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, None]:
        """Return actions, float32 (N, 3), one for each row of a batched observation."""
        assert isinstance(observation, dict)
        return self.choose(len(observation["location"])), None


def random_agent(seed: int = 0) -> ControlAgent:
    """Return an agent that looks anywhere, every place of [-1, 1] alike."""
    generator = np.random.default_rng(seed)
    return ControlAgent(lambda count: generator.uniform(-1, 1, (count, 3)).astype(np.float32))


def centre_agent() -> ControlAgent:
    """Return an agent that looks at the centre again and again."""
    return ControlAgent(lambda count: np.zeros((count, 3), dtype=np.float32))
