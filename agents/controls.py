"""Controls, agents without learning to compare others with: random bins, the centre, the true place, the best bin.

`ControlAgent` is a control that can be followed; `agents.control_algorithm` makes it an algorithm for joint
training.
"""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from a3d_env.process import AttentionProcess, Episodes
from agents.oracles import next_values, truth_bins
from agents.rollout import finish

# A process, and N of its episodes.
FullState = tuple[AttentionProcess, Episodes]
# A control takes the number N of actions, the scene (None if only observations are known) and a random generator,
# and returns actions, float32 (N, 3).
Control = Callable[[int, FullState | None, np.random.Generator], np.ndarray]


def random_actions(count: int, full_state: FullState | None, generator: np.random.Generator) -> np.ndarray:
    """Look at a location drawn uniformly from [-1, 1]^3."""
    return generator.uniform(-1, 1, (count, 3)).astype(np.float32)


def centre_actions(count: int, full_state: FullState | None, generator: np.random.Generator) -> np.ndarray:
    """Look again and again at the centre bin, where episodes begin (Algorithm 1).

    Without a scene, the number of bins is not known, and the action is the middle of [-1, 1]^3. Along an axis with
    an even number of positions it lies between two bins, either of which may be taken.
    """
    if full_state is None:
        return np.zeros((count, 3), dtype=np.float32)
    process, _ = full_state
    return np.tile(process.locations[process.bank.grid.centre].cpu().numpy(), (count, 1))


def truth_actions(count: int, full_state: FullState | None, generator: np.random.Generator) -> np.ndarray:
    """Look at the bin on the identifying thing (`agents.oracles.truth_bins`).

    Raises:
        ValueError: the bank does not know the identifying thing, or only observations are known.
    """
    process, episodes = _known(full_state, "the truth")
    return process.locations[truth_bins(process)(episodes)].cpu().numpy()


def best_actions(count: int, full_state: FullState | None, generator: np.random.Generator) -> np.ndarray:
    """Look at the bin with the largest reward if the episode stays there, computed from the bank: an oracle.

    Raises:
        ValueError: only observations are known.
    """
    process, episodes = _known(full_state, "best")
    return process.locations[_best_bins(process, episodes)].cpu().numpy()


def swapped_actions(count: int, full_state: FullState | None, generator: np.random.Generator) -> np.ndarray:
    """Look where `best` looks in a clip of another person, as a policy would that does not read its own clip.

    Raises:
        ValueError: only observations are known, or one person has more than half of the clips.
    """
    process, episodes = _known(full_state, "swapped")
    partners = torch.from_numpy(swap_partners(process.bank.identity.cpu().numpy()))
    plan = _best_plan(process, partners.to(process.bank.device)[episodes.clip])
    return process.locations[plan[:, episodes.num_glimpses - 1]].cpu().numpy()


def swap_partners(person: Sequence[int] | np.ndarray, seed: int = 0) -> np.ndarray:
    """Assign to each clip a clip of another person, so that each clip is assigned once.

    The clips of one person get clips of several people. If all were of one other person, their similarity would
    identify the first.

    Args:
        person: the person of each clip, int (num_clips,).
        seed: seed of the random assignment.

    Returns:
        int64 (num_clips,), a permutation.

    Raises:
        ValueError: one person has more than half of the clips, so that there are not enough others.
    """
    _, number = np.unique(np.asarray(person), return_inverse=True)
    most = int(np.bincount(number).max(initial=0))
    if 2 * most > len(number):
        raise ValueError(
            f"one person has {most} of {len(number)} clips: swapping with other people's needs at most half"
        )
    generator = np.random.default_rng(seed)
    partners = generator.permutation(len(number))
    for clip in generator.permutation(len(number)):
        own = number[clip]
        if number[partners[clip]] != own:
            continue
        # Exchange with another person's clip that got none of this person's clips; there always is one.
        able = np.flatnonzero((number != own) & (number[partners] != own))
        other = generator.choice(able)
        partners[[clip, other]] = partners[[other, clip]]
    return partners


def mean_actions(count: int, full_state: FullState | None, generator: np.random.Generator) -> np.ndarray:
    """Look, at each step, at the mean of the locations that `best` looks at, over up to 256 clips of the bank.

    Raises:
        ValueError: only observations are known.
    """
    process, episodes = _known(full_state, "mean")
    if process not in _MEANS:
        clips = torch.arange(len(process.bank), device=process.bank.device)
        some = clips[:: -(-len(clips) // MEAN_CLIPS)]
        _MEANS[process] = process.locations[_best_plan(process, some)].mean(dim=0)
    return np.tile(_MEANS[process][episodes.num_glimpses - 1].cpu().numpy(), (count, 1))


MEAN_CLIPS = 256
_MEANS: "WeakKeyDictionary[AttentionProcess, Tensor]" = WeakKeyDictionary()  # (T - 1, 3) each


def _known(full_state: FullState | None, name: str) -> FullState:
    if full_state is None:
        raise ValueError(f"{name} is not in an observation: use choose(process, episodes)")
    return full_state


def _best_bins(process: AttentionProcess, episodes: Episodes) -> Tensor:
    """Return the bin with the largest reward if the rest of the episode stays there, int64 (N,)."""
    if process.glimpse.num_glimpses < 2:  # there is nothing to decide
        return torch.full_like(episodes.clip, process.bank.grid.centre)
    return next_values(process, episodes, lambda now: now.bins[:, -1]).argmax(1)


def _best_plan(process: AttentionProcess, clip: Tensor) -> Tensor:
    """Return the bins that `best` looks at on these clips, int64 (N, T - 1)."""
    return finish(process, process.start(clip), lambda now: _best_bins(process, now)).bins[:, 1:]


CONTROLS: dict[str, Control] = {
    "random": random_actions,
    "centre": centre_actions,
    "mean": mean_actions,
    "swapped": swapped_actions,
    "best": best_actions,
    "truth": truth_actions,
}


# Controls that use F_c's predictions for every bin, and so need people that F_c was trained on.
TABLE_CONTROLS = ("mean", "swapped", "best")
# Those of them that use other clips than the one they look at.
OTHER_CLIPS_CONTROLS = ("mean", "swapped")


def get_control(name: str) -> Control:
    """Return the control of that name.

    Raises:
        ValueError: unknown name.
    """
    if name not in CONTROLS:
        raise ValueError(f"unknown control {name!r}; known: {', '.join(CONTROLS)}")
    return CONTROLS[name]


class ControlAgent:
    """An agent without learning, with the `predict` of a stable-baselines3 algorithm, and `choose`.

    Args:
        name: a name of `CONTROLS`.
        seed: seed of the random numbers of `random`; the other controls draw none.

    Raises:
        ValueError: unknown name.
    """

    def __init__(self, name: str, seed: int = 0):
        self.name = name
        self.seed = seed
        self.control = get_control(name)
        self.generator = np.random.default_rng(seed)

    def predict(
        self, observation: np.ndarray | dict[str, np.ndarray], *_: Any, **__: Any
    ) -> tuple[np.ndarray, None]:
        """Return actions, float32 (N, 3), one for each row of a batched observation.

        Raises:
            ValueError: the control needs more than an observation: mean, swapped, best or truth.
        """
        assert isinstance(observation, dict)
        return self.control(len(observation["location"]), None, self.generator), None

    def at_test(self) -> "ControlAgent":
        """Return the same control with newly seeded random numbers."""
        return ControlAgent(self.name, self.seed)

    def choose(self, process: AttentionProcess, episodes: Episodes) -> Tensor:
        """Return the bin that each episode looks at next, int64 (N,).

        Raises:
            ValueError: the control is `truth`, and the bank does not know the identifying thing.
        """
        return as_bins(self.control(len(episodes), (process, episodes), self.generator), process)


class PlannedAgent:
    """An agent that looks at given bins, the same for every clip.

    Args:
        bins: the bins of glimpses 2 to T, int64 (T - 1,).
    """

    def __init__(self, bins: Tensor):
        self.bins = bins

    def predict(self, *_: Any, **__: Any) -> tuple[np.ndarray, None]:
        """Raise an error, as an observation does not tell which glimpse comes next.

        Raises:
            ValueError: always.
        """
        raise ValueError("an observation does not tell which glimpse comes next: call choose(process, episodes)")

    def choose(self, process: AttentionProcess, episodes: Episodes) -> Tensor:
        """Return the bin that each episode looks at next, int64 (N,)."""
        return self.bins[episodes.num_glimpses - 1].to(episodes.clip.device).expand(len(episodes))


def draws(agent: object) -> bool:
    """Tell whether an agent looks at random locations, even at test time."""
    return isinstance(agent, ControlAgent) and agent.name == "random"


def as_bins(actions: np.ndarray, process: AttentionProcess) -> Tensor:
    """Return the bins nearest to actions (N, 3), int64 (N,), on the process's device."""
    return process.bank.grid.nearest(torch.from_numpy(actions)).to(process.bank.device)


def random_agent(seed: int = 0) -> ControlAgent:
    """Return an agent that looks at locations drawn uniformly from [-1, 1]^3."""
    return ControlAgent("random", seed)


def centre_agent() -> ControlAgent:
    """Return an agent that looks at the centre bin again and again."""
    return ControlAgent("centre")


def truth_agent() -> ControlAgent:
    """Return an agent that looks at the bin on the identifying thing."""
    return ControlAgent("truth")
