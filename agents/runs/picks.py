"""Choice of the episodes to look into, by name or by how they ended."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np

from agents.episodes.episode import Episode
from agents.episodes.gallery import Gallery

# A test tracklet that is searched for in the gallery, a training tracklet, or a clip of a bank.
Side = Literal["query", "train", "clip"]


@dataclass(frozen=True)
class Pick:
    """An episode to look into.

    Attributes:
        side: group that the tracklet or clip belongs to.
        number: number of the tracklet or clip in its group.
        label: a name for its files.
        why: reason why it was chosen.
    """

    side: Side
    number: int
    label: str
    why: str = field(default="it was asked for", compare=False)


@dataclass(frozen=True)
class Outcome:
    """Outcome of an episode.

    Attributes:
        pick: the episode.
        probability: probability of the true person.
        is_right: whether the person named is the true one.
        confidence: the probability of the person named.
    """

    pick: Pick
    probability: float
    is_right: bool
    confidence: float


class Source(Protocol):
    """Source of episodes: a run, or a policy on a bank."""

    def find(self, side: Side, name: str) -> Pick:
        """Return the episode that a number or name stands for, or raise a ValueError."""
        ...

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes of all episodes that can be chosen by outcome."""
        ...

    def record(self, pick: Pick, *, deterministic: bool = True, seed: int = 0) -> tuple[Episode, Gallery | None]:
        """Record an episode, and return it with the gallery that its clip is searched in."""
        ...


def choose(outcomes: Sequence[Outcome], *, worst: int, wrong: int, random: int, seed: int) -> list[Pick]:
    """Choose episodes by outcome, each once.

    Args:
        outcomes: outcomes of all episodes.
        worst: number of episodes to take in which the true person got the lowest probability.
        wrong: number of episodes to take in which another person was named, the most confident first.
        random: number of other episodes to take at random.
        seed: seed of the random choice.
    """
    by_probability = sorted(outcomes, key=lambda one: one.probability)
    mistakes = sorted((one for one in outcomes if not one.is_right), key=lambda one: -one.confidence)
    reasons: dict[Pick, list[str]] = {}
    for number, one in enumerate(by_probability[:worst], 1):
        reasons.setdefault(one.pick, []).append(
            f"probability of the true person, number {number} of {len(outcomes)}, the lowest first"
        )
    for number, one in enumerate(mistakes[:wrong], 1):
        reasons.setdefault(one.pick, []).append(
            f"mistake, number {number} of {len(mistakes)}, the most confident first"
        )
    others = [one.pick for one in outcomes if one.pick not in reasons]
    for place in np.random.default_rng(seed).permutation(len(others))[:random]:
        reasons[others[place]] = ["drawn at random"]
    return [replace(pick, why="; ".join(why)) for pick, why in reasons.items()]
