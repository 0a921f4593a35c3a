"""The best bins for the clips of queries: people whom F_c does not know."""

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from a3d_env.process import AttentionProcess, Episodes
from agents.probes import gallery_judge, looking_at
from agents.rollout import Agent, agent_choice, at_test
from backbone.data import ReidData
from backbone.glimpse import GlimpseNetwork
from backbone.representation import Representation
from scripts.probe.clip_set import ClipSet
from scripts.probe.next_look import NextLooks


class QueryOracle:
    """An `EpisodeRule`: best bins on queries' clips, by a judge in F_c's place; on other clips the policy's mean.

    F_c does not know the people of the queries. So the judge is the softmax of negative squared distances to each
    person's mean descriptor, the policy's, over the gallery tracklets of other cameras: the bin is taken that
    brings the clip nearest to its own person relative to the others.

    Args:
        agent: agent that decides the rest of an episode.
        clips: clips of `searched_tracklets(data)`.
        data: queries and gallery.
        representation: F_o, F_h, and what is compared.
        descriptors: descriptors of the tracklets, by the policy's mean, float32 (num_tracklets, D).
        locations: locations that the policy's mean looked at in each clip, float32 (num_clips, T - 1, 3).

    Attributes:
        next_looks: measurements of every bin as the first look of the judged clips.
        judged: mask of the clips that have a judge: those of queries with their person in another camera, bool
            (num_clips,).
    """

    def __init__(
        self,
        agent: Agent,
        clips: ClipSet,
        data: ReidData,
        representation: Representation,
        descriptors: Tensor,
        locations: Tensor,
    ):
        self.agent, self.clips, self.locations = at_test(agent), clips, locations
        judges: dict[int, tuple[GlimpseNetwork, dict[int, int]]] = {}
        position = {id(tracklet): row for row, tracklet in enumerate(clips.tracklets)}
        of_gallery = descriptors[[position[id(tracklet)] for tracklet in data.gallery]].to(representation.device)
        for camera in {tracklet.camera for tracklet in data.query}:
            if (judge := gallery_judge(data, of_gallery, camera, representation)) is not None:
                judges[camera] = judge
        self.next_looks = NextLooks(clips, data.gallery, of_gallery, locations, data.protocol)
        self.judges = {camera: judge for camera, (judge, _) in judges.items()}
        queries = {position[id(tracklet)] for tracklet in data.query}
        number = torch.tensor(
            [
                judges[one.camera][1].get(one.person, -1) if row in queries and one.camera in judges else -1
                for row, one in enumerate(clips.tracklets)
            ]
        )
        self.camera = torch.tensor([tracklet.camera for tracklet in clips.tracklets])[clips.tracklet]
        self.number = number[clips.tracklet]  # of the clip's person among the judge's outputs, -1 without a judge
        self.judged = (self.number >= 0).numpy()

    def judgings(self, process: AttentionProcess, numbers: Tensor) -> Iterator[tuple[Tensor, AttentionProcess]]:
        """Yield the clips of the process that each judge judges, int64 (N,), and the process in which it does.

        Args:
            process: process of some of the clips.
            numbers: numbers of these among all clips, int64, on the CPU.
        """
        bank, number = process.bank, self.number[numbers]
        identity = number.clamp(min=0).to(bank.device)
        for camera, judge in self.judges.items():
            is_own = (number >= 0) & (self.camera[numbers] == camera)
            if bool(is_own.any()):
                own = dataclasses.replace(bank, identity=identity * is_own.to(bank.device))
                yield is_own.nonzero().squeeze(1).to(bank.device), AttentionProcess(own, judge, "log_prob")

    def log_prob(self, process: AttentionProcess, numbers: Tensor, episodes: Episodes) -> Tensor:
        """Return the log-probability of the true person by the judge for one episode on each clip.

        Returns:
            float32 (N,) on the CPU; NaN where there is no judge.
        """
        paid = torch.full((len(numbers),), torch.nan)
        for rows, judging in self.judgings(process, numbers):
            parts = {name: getattr(episodes, name)[rows] for name in ("clip", "bins", "hidden")}
            paid[rows.cpu()] = judging.judge(dataclasses.replace(episodes, **parts)).reward.cpu()
        return paid

    def __call__(self, process: AttentionProcess, numbers: Tensor) -> Episodes:
        """Look at the best bins, if there is a judge."""
        places = self.locations[numbers].to(process.bank.device)
        for rows, judging in self.judgings(process, numbers):
            episodes = self.next_looks.best_bins(judging, numbers, rows, agent_choice(self.agent, judging))
            places[rows] = process.locations[episodes.bins[:, 1:]]
        return looking_at(places)(process, torch.arange(len(process.bank)))
