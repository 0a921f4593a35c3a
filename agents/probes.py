"""Comparisons that test whether an agent chooses bins by the clip that it looks at.

A policy that looks at the same places in all clips may score well. So an agent is compared with its own mean
locations, and with its own locations on another person's clip.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from a3d_env.process import AttentionProcess, Episodes
from agents.rollout import Agent, agent_choice, at_test, finish, follow
from backbone.data import ReidData
from backbone.data.tracklet import JUNK
from backbone.descriptor import Comparison, as_linear
from backbone.glimpse import GlimpseNetwork
from backbone.representation import Representation

# A rule for running episodes: takes a process and the numbers of its N clips among all clips that are looked at,
# int64 (N,) on the CPU; returns a finished episode on each.
EpisodeRule = Callable[[AttentionProcess, Tensor], Episodes]


def following(agent: Agent, *, deterministic: bool = True) -> EpisodeRule:
    """Return the rule by which an agent looks: by its policy's mean, or by a sample."""
    tested = at_test(agent)
    return lambda process, _: follow(tested, process, deterministic=deterministic)


def looking_at(locations: Tensor) -> EpisodeRule:
    """Return the rule that looks at given locations.

    Args:
        locations: locations for all clips, float (num_clips, T - 1, 3), in [-1, 1].
    """

    def watch(process: AttentionProcess, numbers: Tensor) -> Episodes:
        planned = locations[numbers].to(process.bank.device)
        # one glimpse at the centre is behind the first decision
        return finish(process, process.start(), lambda now: planned[:, now.num_glimpses - 1])

    return watch


class RecordingRule:
    """The rule by which an agent looks without exploring, which records its locations: an `EpisodeRule`.

    Args:
        agent: the agent.
    """

    def __init__(self, agent: Agent):
        self.agent = at_test(agent)
        self._actions: list[Tensor] = []

    def __call__(self, process: AttentionProcess, numbers: Tensor) -> Episodes:
        """Follow the agent on the next clips, in order."""
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
    """Return each step's mean location, repeated for every clip, (num_clips, T - 1, 3)."""
    return locations.mean(dim=0, keepdim=True).expand_as(locations)


@torch.no_grad()
def judge_by_means(glimpse: GlimpseNetwork, comparison: Comparison, means: Tensor) -> GlimpseNetwork:
    """Return a glimpse network in which a classifier of other people replaces F_c.

    Its logits score how near a clip is to each person's mean descriptor (`as_linear`): by negative squared
    distance, or by cosine times the length of the clip's descriptor.

    Args:
        glimpse: the network whose F_o and F_h are shared.
        comparison: the map to the features that are compared.
        means: the people's mean descriptors, float32 (num_people, K).
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
    """Return the network that judges queries of a camera by the gallery, in F_c's place (`judge_by_means`).

    Args:
        data: queries and gallery.
        of_gallery: descriptors of the gallery's tracklets, float32 (G, D).
        camera: the camera of the queries.
        representation: the networks F_o and F_h, and the comparison.

    Returns:
        The network, and the index among its outputs of each person that another camera has seen; None if there is
        no such person.
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
