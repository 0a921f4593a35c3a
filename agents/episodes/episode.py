"""Episode: one recorded episode, with all that is needed to inspect it and to replay it with other glimpses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from a3d_env.process import AttentionProcess, Episodes
from agents.controls import draws
from agents.episodes.decision import Decision, bin_values, decide
from agents.oracles import next_values
from agents.rollout import Agent, agent_choice, at_test, finish

if TYPE_CHECKING:  # both draw, and take a second to import
    import matplotlib.figure

    from agents.episodes.gallery import Gallery

# Name of the judge of an episode's identity, by default.
F_C = "F_c"

Corner = tuple[int, int, int]  # of a bin, in cells: time, height, width


@dataclass(frozen=True)
class RewardMap:
    """The exact results of an episode for every bin that one of its glimpses could have been at.

    The rest of the episode follows the agent without exploring. Arrays are float32 (positions along time, height,
    width), so that `probability[3, 5, 1]` is that of the bin whose corner is the cell (3, 5, 1).

    Attributes:
        probability: probability of the true identity at the episode's end.
        reward: the episode's reward.
        value: the return that the agent expects: Q of the bin, or V after looking there; NaN if the agent has
            neither, or has V and the glimpse is the last.
    """

    probability: np.ndarray
    reward: np.ndarray
    value: np.ndarray

    @property
    def best(self) -> Corner:
        """The corner of the bin with the largest probability."""
        time, height, width = np.unravel_index(int(self.probability.argmax()), self.probability.shape)
        return int(time), int(height), int(width)


@dataclass(frozen=True, eq=False, repr=False)
class Episode:
    """An agent's episode on one clip. `record_episode` makes it.

    Glimpses are numbered from 1, the centre, to T; the agent decides on glimpses 2 to T.

    Attributes:
        process: the decision process over a bank of this clip alone, with F_o, F_h and F_c as they were.
        agent: the agent, prepared for test; None if the episode was loaded without one. It is not a copy: if it is
            trained further, reward maps and replays that are computed later follow the later agent.
        agent_name: the agent's display name.
        identity_names: display names of F_c's outputs.
        bins: the bins of glimpses 1 to T, int64 (T,).
        hidden: h_1..h_T, float32 (T, 256).
        decisions: the agent's decisions on glimpses 2 to T.
        beliefs: each identity's probability after each glimpse, if the episode stayed at that bin to its end,
            float32 (T, num_identities). The last row has F_c's final probabilities.
        probabilities: each identity's probability at the end, float32 (num_identities,).
        reward: the reward at the end.
        is_sample: whether the agent explored.
        judge: name of the classifier that predicts the identity, F_c or one in its place; the agent's value can be
            compared with the reward only if it is F_c.
        changes: the glimpses that were changed, by number, as corners (time, height, width).
        original: the episode without these changes; None if there are none.
        stored_maps: the reward maps of an episode that was read from a file.
    """

    process: AttentionProcess
    agent: Agent | None
    agent_name: str
    identity_names: tuple[str, ...]
    bins: Tensor
    hidden: Tensor
    decisions: tuple[Decision, ...]
    beliefs: Tensor
    probabilities: Tensor
    reward: float
    is_sample: bool = False
    judge: str = F_C
    changes: Mapping[int, Corner] | None = None
    original: "Episode | None" = None
    stored_maps: tuple[RewardMap, ...] | None = None

    def __repr__(self) -> str:
        """Return the agent's name, the tracklet and the result."""
        end = "right" if self.is_right else "wrong"
        return f"<Episode of {self.agent_name} on {self.tracklet}: {end}, reward {self.reward:.3f}>"

    @property
    def num_glimpses(self) -> int:
        """T."""
        return len(self.bins)

    @property
    def tracklet(self) -> str:
        """The display name of the clip's tracklet."""
        return self.process.bank.tracklet[0]

    @property
    def true_identity(self) -> int:
        """The true identity's index among F_c's outputs."""
        return int(self.process.bank.identity)

    @property
    def identity(self) -> int:
        """The most probable identity, as its index among F_c's outputs."""
        return int(self.probabilities.argmax())

    @property
    def is_right(self) -> bool:
        """Whether the most probable identity is the true one."""
        return self.identity == self.true_identity

    @property
    def probability(self) -> float:
        """The true identity's probability at the end."""
        return float(self.probabilities[self.true_identity])

    @property
    def hits(self) -> list[bool] | None:
        """Whether each glimpse's bin covers the identifying thing; None if it is not known."""
        hits = self.process.bank.hits
        return None if hits is None else hits[0, self.bins.numpy()].tolist()

    @property
    def advantages(self) -> list[float]:
        """The advantage of each decision: reward - V(h_t); NaN if V is not known."""
        comparable = self.judge == F_C
        return [self.reward - decision.value if comparable else float("nan") for decision in self.decisions]

    @property
    def hidden_changes(self) -> list[float]:
        """The change of the hidden state by each glimpse: |h_t - h_{t-1}|, with h_0 = 0."""
        before = torch.cat([torch.zeros(1, self.hidden.shape[1]), self.hidden])[:-1]
        return (self.hidden - before).norm(dim=1).tolist()

    @property
    def descriptor(self) -> Tensor:
        """[f_g, h_1..h_T], float32 (C_g + 256 T,)."""
        return torch.cat([self.process.bank.global_feature[0].cpu(), self.hidden.flatten()])

    @property
    def has_maps(self) -> bool:
        """Whether there are reward maps: there are decisions, by an agent that is known and not random."""
        known = self.stored_maps is not None or (self.agent is not None and not draws(self.agent))
        return bool(self.decisions) and known

    def corner(self, number: int) -> Corner:
        """Return the corner of a glimpse's bin, in cells: time, height, width."""
        return _corner(self.process.bank.grid.corners[self.bins[number - 1]])

    def reward_map(self, number: int) -> RewardMap:
        """Return the results that each bin would have led to at a glimpse, 2 to T.

        For a control that looks at random, a bin's result is that of one random episode, not exact.

        Raises:
            ValueError: the agent does not decide on that glimpse, or the episode was loaded without its agent.
        """
        if not 2 <= number <= self.num_glimpses:
            raise ValueError(
                f"the agent decides on glimpses 2 to {self.num_glimpses}, there is no map of {number}"
            )
        return self.maps[number - 2]

    @cached_property
    def maps(self) -> tuple[RewardMap, ...]:
        """The reward maps of glimpses 2 to T.

        Raises:
            ValueError: the episode was loaded without its agent, and the file had none.
        """
        if self.stored_maps is not None:
            return self.stored_maps
        agent = self._need_agent("a reward map")
        return tuple(self._map(agent, self._before(number)) for number in range(2, self.num_glimpses + 1))

    def replay(self, changes: Mapping[int, Sequence[int]] | None = None) -> "Episode":
        """Play the episode again with some glimpses at other bins.

        Glimpses before the first change are as recorded; glimpses after it that are not changed are chosen by the
        agent, without exploring. Without changes everything is as recorded, bit for bit.

        Args:
            changes: corners (time, height, width) of the bins to look at, in cells, by the glimpse's number, 2 to
                T.

        Returns:
            The new episode. If it has changes, its `original` is this episode, or this episode's own `original`.

        Raises:
            ValueError: a glimpse or bin that does not exist, or the agent is needed, and the episode was loaded
                without.
        """
        if not changes:
            return self._play({}, self.decisions, self.changes, self.original)
        grid = self.process.bank.grid
        bins: dict[int, int] = {}
        for number, corner in sorted(changes.items()):
            if not 2 <= number <= self.num_glimpses:
                raise ValueError(
                    f"glimpse {number} can't be changed: glimpses 2 to {self.num_glimpses} can, 1 is the centre"
                )
            if np.ndim(corner) != 1 or not all(isinstance(cell, int | np.integer) for cell in corner):
                raise ValueError(f"a bin's corner is 3 whole numbers (time, height, width), got {corner!r}")
            bins[number] = grid.index(corner)
        first = min(bins)
        if len(bins) < self.num_glimpses + 1 - first:
            self._need_agent("an episode after a changed glimpse")
        kept = {number: corner for number, corner in (self.changes or {}).items() if number < first}
        made = {number: _corner(grid.corners[index]) for number, index in bins.items()}
        forced = {number: grid.locations[index] for number, index in bins.items()}
        return self._play(forced, self.decisions[: first - 2], kept | made, self.original or self)

    def _play(
        self,
        forced: Mapping[int, Tensor],
        recorded: Sequence[Decision],
        changes: Mapping[int, Corner] | None,
        original: "Episode | None",
    ) -> "Episode":
        return play(
            self.process,
            self.agent,
            recorded=recorded,
            forced=forced,
            deterministic=True,
            agent_name=self.agent_name,
            identity_names=self.identity_names,
            is_sample=self.is_sample,
            judge=self.judge,
            changes=changes,
            original=original,
            stored_maps=None if forced else self.stored_maps,
        )

    def figure(self) -> "matplotlib.figure.Figure":
        """Draw the episode: the frames with the bins, the bins in the clip's volume, and the reward maps."""
        from agents.episodes.figure import draw_episode

        return draw_episode(self)

    def to_html(self, path: Path | str, gallery: "Gallery | None" = None, index: str | None = None) -> Path:
        """Write a self-contained HTML page (`agents.episodes.page`).

        Args:
            path: path of the page; its folder is made if it does not exist.
            gallery: the gallery in which the clip is searched, for ranked lists.
            index: name of a page beside this one that leads to the other episodes; this page gets a link to it.
        """
        from agents.episodes.page import write_page

        return write_page(Path(path), self, gallery, index)

    def save(self, path: Path | str) -> Path:
        """Write the episode, without its agent, to a .npz file (`agents.episodes.file`)."""
        from agents.episodes.file import save_episode

        return save_episode(Path(path), self)

    @staticmethod
    def load(path: Path | str, agent: Agent | None = None) -> "Episode":
        """Read an episode from a file; computing replays needs its agent.

        Raises:
            ValueError: the file is missing, damaged, or not an episode.
        """
        from agents.episodes.file import load_episode

        return load_episode(Path(path), agent)

    def _need_agent(self, what: str) -> Agent:
        if self.agent is None:
            raise ValueError(f"{what} needs the agent: load the episode with it, Episode.load(path, agent=...)")
        return self.agent

    def _before(self, number: int) -> Episodes:
        """Return the state of the episode before its `number`-th glimpse."""
        bins, hidden = self.bins[None, : number - 1], self.hidden[None, : number - 1]
        device = self.process.bank.device
        return Episodes(torch.zeros(1, dtype=torch.long, device=device), bins.to(device), hidden.to(device))

    def _map(self, agent: Agent, before: Episodes) -> RewardMap:
        rest, positions = agent_choice(agent, self.process), self.process.bank.grid.positions
        log_prob = next_values(self.process, before, rest, "log_prob")[0]
        reward = next_values(self.process, before, rest)[0]
        value = bin_values(agent, self.process, before)
        return RewardMap(*(part.cpu().view(positions).numpy() for part in (log_prob.exp(), reward, value)))


@torch.no_grad()
def play(
    process: AttentionProcess,
    agent: Agent | None,
    *,
    recorded: Sequence[Decision],
    forced: Mapping[int, Tensor],
    deterministic: bool,
    **of_episode: Any,
) -> Episode:
    """Play an episode.

    Args:
        process: the process over a bank of one clip.
        agent: the agent.
        recorded: decisions on the first glimpses, which are taken as they are.
        forced: locations of glimpses, by number, that replace the agent's choice.
        deterministic: whether the agent decides without exploring.
        of_episode: other attributes of the episode.
    """
    agent = None if agent is None else at_test(agent)  # a control's random numbers begin anew
    now = process.start(torch.zeros(1, dtype=torch.long, device=process.bank.device))
    states, decisions = [now], list(recorded)
    for number in range(2, process.glimpse.num_glimpses + 1):
        if number - 2 >= len(decisions):
            if agent is None:
                decisions.append(Decision.unknown(forced[number], process.bank.grid.num_bins))
            else:
                decisions.append(decide(agent, process, now, forced.get(number), deterministic=deterministic))
        now = process.step(now, decisions[number - 2].action[None].to(process.bank.device))
        states.append(now)

    def stay(episodes: Episodes) -> Episodes:
        return finish(process, episodes, process.current_bin)

    beliefs = [process.verdict(stay(state)).logits.softmax(1)[0].cpu() for state in states]
    ended = stay(now)  # with T of 0 or 1 the only step is still to be taken
    return Episode(
        process=process,
        agent=agent,
        bins=ended.bins[0].cpu(),
        hidden=ended.hidden[0].cpu(),
        decisions=tuple(decisions),
        beliefs=torch.stack(beliefs)[: process.glimpse.num_glimpses],  # with T = 0 there is no glimpse
        probabilities=beliefs[-1],
        reward=float(process.judge(ended).reward),
        **of_episode,
    )


def _corner(cells: Tensor) -> Corner:
    time, height, width = cells.tolist()
    return time, height, width
