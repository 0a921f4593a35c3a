"""What an agent is compared with, to tell whether it looks at the right place in the clip before it.

A policy that looks at one place in every clip, or wherever the last clip had something, may score well: it is
compared with its own mean location and with its own locations on another clip.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from a3d_env.process import AttentionProcess, Episodes
from agents.oracles import best_bins
from agents.rollout import Agent, agent_choice, at_test, finish, follow
from backbone.data import ReidData
from backbone.data.tracklet import JUNK
from backbone.descriptor import Comparison, as_linear
from backbone.glimpse import GlimpseNetwork
from backbone.representation import Representation

# Takes a process and the numbers of its N clips among all that are looked at, int64 (N,) on the CPU; returns a
# finished episode on each.
Watch = Callable[[AttentionProcess, Tensor], Episodes]


def following(agent: Agent, *, deterministic: bool = True) -> Watch:
    """Return what an agent does: its mean, or a sample."""
    tested = at_test(agent)
    return lambda process, _: follow(tested, process, deterministic=deterministic)


def best_following(agent: Agent) -> Watch:
    """Return at each glimpse the bin that makes the true identity most probable if the agent decides the rest."""
    tested = at_test(agent)
    return lambda process, _: best_bins(process, None, agent_choice(tested, process))


def looking_at(locations: Tensor) -> Watch:
    """Return episodes at locations that were settled before.

    Args:
        locations: of all clips, float (num_clips, T - 1, 3), in [-1, 1].
    """

    def watch(process: AttentionProcess, numbers: Tensor) -> Episodes:
        planned = locations[numbers].to(process.bank.device)
        # one glimpse at the centre is behind the first decision
        return finish(process, process.start(), lambda now: planned[:, now.num_glimpses - 1])

    return watch


class Recording:
    """An agent's mean, which remembers where it looked: a `Watch`.

    Args:
        agent: the agent.
    """

    def __init__(self, agent: Agent):
        self.agent = at_test(agent)
        self._actions: list[Tensor] = []

    def __call__(self, process: AttentionProcess, numbers: Tensor) -> Episodes:
        """Follow the agent on the next clips; they come in order."""
        choose, actions = agent_choice(self.agent, process), []

        def remember(now: Episodes) -> Tensor:
            chosen = choose(now)
            if not chosen.is_floating_point():
                actions.append(process.locations[process.bank.grid.chosen(chosen)].cpu())
            else:
                actions.append(chosen.clamp(-1, 1).float().cpu())
            return chosen

        episodes = finish(process, process.start(), remember)
        self._actions.append(torch.stack(actions, dim=1))
        return episodes

    def locations(self) -> Tensor:
        """Return the actions, clipped to [-1, 1], on all clips so far, float32 (num_clips, T - 1, 3)."""
        return torch.cat(self._actions)


def mean_locations(locations: Tensor) -> Tensor:
    """Return each step's mean location in the place of every clip's own, (num_clips, T - 1, 3)."""
    return locations.mean(dim=0, keepdim=True).expand_as(locations)


@torch.no_grad()
def judge_by_means(glimpse: GlimpseNetwork, comparison: Comparison, means: Tensor) -> GlimpseNetwork:
    """Return the glimpse network with a judge of other people in F_c's place.

    Its logits tell how near a clip is to each person's mean descriptor, as it is compared (`as_linear`): negative
    squared distances, or cosines times the clip's length.

    Args:
        glimpse: whose F_o and F_h are shared.
        comparison: what is compared.
        means: float32 (num_people, K).
    """
    judge = GlimpseNetwork(glimpse.num_channels, glimpse.num_glimpses, len(means))
    judge.to(glimpse.identify.weight.device)
    judge.embed_observation, judge.embed_hidden = glimpse.embed_observation, glimpse.embed_hidden
    weight, bias = as_linear(comparison, means)
    judge.identify.weight.copy_(weight)
    judge.identify.bias.copy_(bias)
    return judge


def gallery_judge(
    data: ReidData, of_gallery: Tensor, camera: int, representation: Representation
) -> tuple[GlimpseNetwork, dict[int, int]] | None:
    """Return who judges queries of a camera in F_c's place (`agents.probes.judge_by_means`).

    Args:
        data: queries and gallery.
        of_gallery: the gallery tracklets' descriptors, float32 (G, D).
        camera: the queries'.
        representation: F_o, F_h, and what is compared.

    Returns:
        The judge, and the number of each person that it knows: those whom another camera has; None if there is
        nobody.
    """
    rows: dict[int, list[int]] = {}
    for row, tracklet in enumerate(data.gallery):
        if tracklet.camera != camera and tracklet.person != JUNK:
            rows.setdefault(tracklet.person, []).append(row)
    if not rows:
        return None
    means = torch.stack([of_gallery[row].mean(dim=0) for row in rows.values()])
    return judge_by_means(representation.glimpse, representation.comparison, means), {
        person: number for number, person in enumerate(rows)
    }
