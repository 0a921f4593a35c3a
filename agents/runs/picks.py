"""Which episodes to look into: by name, or by how they ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from agents.episodes.episode import Episode
from agents.episodes.gallery import Gallery

# A test tracklet that is searched for in the gallery, a training tracklet, or a clip of a bank.
Side = Literal["query", "train", "clip"]


@dataclass(frozen=True)
class Pick:
    """One episode to look into.

    Attributes:
        side: what it is of.
        number: of the tracklet or clip, among those of its side.
        label: a name for its files.
    """

    side: Side
    number: int
    label: str


@dataclass(frozen=True)
class Outcome:
    """How an episode ended.

    Attributes:
        pick: which.
        probability: of the true person.
        is_right: whether that is the person named.
        confidence: the probability of the person named.
    """

    pick: Pick
    probability: float
    is_right: bool
    confidence: float


class Source(Protocol):
    """Where episodes come from: a run, or a policy on a bank."""

    def find(self, side: Side, name: str) -> Pick:
        """Return the episode that a number or name stands for, or raise a ValueError."""
        ...

    def outcomes(self) -> list[Outcome]:
        """Say how all episodes end that can be chosen by it."""
        ...

    def record(self, pick: Pick, *, deterministic: bool = True, seed: int = 0) -> tuple[Episode, Gallery | None]:
        """Record an episode, and say what its clip is searched in."""
        ...


def choose(outcomes: Sequence[Outcome], *, worst: int, wrong: int, random: int, seed: int) -> list[Pick]:
    """Choose episodes by outcome, each once.

    Args:
        outcomes: of all.
        worst: so many in which the true person got the least.
        wrong: so many in which another was named, the surest first.
        random: so many others, drawn by the seed.
        seed: of these.
    """
    by_probability = sorted(outcomes, key=lambda one: one.probability)
    mistakes = sorted((one for one in outcomes if not one.is_right), key=lambda one: -one.confidence)
    chosen = list(dict.fromkeys(one.pick for one in [*by_probability[:worst], *mistakes[:wrong]]))
    others = [one.pick for one in outcomes if one.pick not in chosen]
    return chosen + [others[place] for place in np.random.default_rng(seed).permutation(len(others))[:random]]
