"""The best bins for the clips of queries: people whom F_c does not know."""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from a3d_env.process import AttentionProcess, Episodes
from agents.oracles import best_bins
from agents.probes import gallery_judge, looking_at
from agents.rollout import Agent, agent_choice, at_test
from backbone.data import ReidData
from backbone.glimpse import GlimpseNetwork
from backbone.representation import Representation
from scripts.probe.clip_set import ClipSet


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
        self.judges: dict[int, tuple[GlimpseNetwork, dict[int, int]]] = {}
        position = {id(tracklet): row for row, tracklet in enumerate(clips.tracklets)}
        of_gallery = descriptors[[position[id(tracklet)] for tracklet in data.gallery]].to(representation.device)
        for camera in {tracklet.camera for tracklet in data.query}:
            if (judge := gallery_judge(data, of_gallery, camera, representation)) is not None:
                self.judges[camera] = judge
        self.camera = np.array([tracklet.camera for tracklet in clips.tracklets])[clips.tracklet]
        queries = {position[id(tracklet)] for tracklet in data.query}
        self.judged = np.array(
            [
                tracklet in queries and camera in self.judges and person in self.judges[camera][1]
                for tracklet, camera, person in zip(clips.tracklet, self.camera, clips.person, strict=True)
            ]
        )

    def __call__(self, process: AttentionProcess, numbers: Tensor) -> Episodes:
        """Look at the best bins, if there is a judge."""
        bank = process.bank
        places = self.locations[numbers].to(bank.device)
        camera, judged = self.camera[numbers], self.judged[numbers]
        for name in np.unique(camera[judged]).tolist():
            judge, number_of = self.judges[name]
            rows = torch.from_numpy(np.flatnonzero(judged & (camera == name)))
            identity = torch.zeros_like(bank.identity)
            for row in rows.tolist():
                identity[row] = number_of[int(self.clips.person[numbers[row]])]
            judging = AttentionProcess(dataclasses.replace(bank, identity=identity), judge, "log_prob")
            rows = rows.to(bank.device)
            episodes = best_bins(judging, rows, agent_choice(self.agent, judging))
            places[rows] = process.locations[episodes.bins[:, 1:]]
        return looking_at(places)(process, torch.arange(len(bank)))
