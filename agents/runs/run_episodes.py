"""The episodes of a run: on queries, judged by the gallery, or on training tracklets, judged by F_c."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from a3d_env.process import AttentionProcess
from a3d_env.render import draw_frame
from agents.controls import OTHER_CLIPS_CONTROLS, TABLE_CONTROLS, draws
from agents.episodes.episode import F_C, Episode
from agents.episodes.gallery import Gallery
from agents.episodes.record import Names, record_on
from agents.probes import gallery_judge
from agents.rollout import Agent, at_test, follow
from agents.runs.describe import Described, describe_tracklets, tracklet_bank
from agents.runs.model import Run
from agents.runs.picks import Outcome, Pick, Side
from agents.runs.scoring import labels, searched_tracklets
from backbone.data.clips import consecutive_clips
from backbone.data.tracklet import FrameFiles, Tracklet
from backbone.glimpse import GlimpseNetwork


@dataclass(frozen=True)
class GalleryJudges:
    """Judges of queries in F_c's place, and their answers.

    Attributes:
        by_camera: judge of the queries of each camera, and the number of each person that it knows.
        answers: answers to each query whose person can be found: its number, logits (num_people,), the person's
            number.
    """

    by_camera: dict[int, tuple[GlimpseNetwork, dict[int, int]]]
    answers: list[tuple[int, Tensor, int]]


class RunEpisodes:
    """Records episodes of a run. The gallery is described once, when it is first needed.

    Args:
        run: networks and data.
        agent: agent that chooses the bins.
        agent_name: display name of the agent.
        clip: number of the clip among a tracklet's consecutive ones, from 0; None for the middle one.

    Raises:
        ValueError: the agent goes by clips that are not there.
    """

    def __init__(self, run: Run, agent: Agent, agent_name: str, clip: int | None = None):
        if agent_name in OTHER_CLIPS_CONTROLS:
            raise ValueError(f"{agent_name} needs other clips than the one that is shown: take another agent")
        self.run, self.agent, self.agent_name, self.clip = run, at_test(agent), agent_name, clip
        self.tracklets = searched_tracklets(run.data)
        self._position = {id(tracklet): row for row, tracklet in enumerate(self.tracklets)}
        everybody = [*run.data.train, *self.tracklets]
        self._names = {tracklet.person: tracklet.person_name for tracklet in everybody}
        self._pictures: dict[int, np.ndarray] = {}

    def find(self, side: Side, name: str) -> Pick:
        """Return the tracklet of that number, name or folder; a query may be any tracklet of the test people.

        Raises:
            ValueError: there is none, or several.
        """
        if side == "clip":
            raise ValueError("--clip is for policies on a bank: a run's episodes are chosen by --query or --train")
        if name.isdecimal() and (name == "0" or not name.startswith("0")):  # else a folder's name, such as 0012
            numbered = self.run.data.query if side == "query" else self.run.data.train
            if int(name) >= len(numbered):
                raise ValueError(f"there is no {side} tracklet {name}: they are numbered 0 to {len(numbered) - 1}")
            number = self._position[id(numbered[int(name)])] if side == "query" else int(name)
            return Pick(side, number, f"{side}-{int(name)}{self._suffix}")
        named = self.tracklets if side == "query" else self.run.data.train
        found = [number for number, tracklet in enumerate(named) if _is_called(tracklet, name)]
        if len(found) != 1:
            examples = ", ".join(named[number].source for number in (found or range(len(named)))[:3])
            raise ValueError(
                f"{len(found) or 'no'} {side} tracklets are called {name}: give a number, a folder, or a name as "
                f"in {examples}"
            )
        plain = re.sub(r"[^\w.-]+", "-", named[found[0]].source.strip("/"))
        return Pick(side, found[0], f"{side}-{plain}{self._suffix}")

    def outcomes(self) -> list[Outcome]:
        """Say how the episodes of all queries end whose person is in the gallery, and which have the clip.

        Raises:
            ValueError: the agent chooses bins at random, so that an episode shown would be another one.
        """
        self._check_judged_by_gallery()
        if draws(self.agent):
            raise ValueError(f"{self.agent_name} chooses bins at random: choose its episodes by --query")
        outcomes = []
        for number, logits, truth in self._judged.answers:
            query = self.run.data.query[number]
            if self.clip is not None and self.clip >= self._num_clips(query):
                continue
            row, share = self._position[id(query)], logits.softmax(0)
            pick = Pick("query", row, f"query-{number}{self._suffix}")
            outcomes.append(Outcome(pick, float(share[truth]), int(share.argmax()) == truth, float(share.max())))
        return outcomes

    def record(self, pick: Pick, *, deterministic: bool = True, seed: int = 0) -> tuple[Episode, Gallery | None]:
        """Record the episode on a tracklet's clip, and return it with the gallery that it is searched in.

        Raises:
            ValueError: there is no such clip, or nobody who could be found or was trained on.
        """
        tracklet = (self.tracklets if pick.side == "query" else self.run.data.train)[pick.number]
        bank = tracklet_bank(self.run, tracklet, self.clip)
        judge, names, number = self._judge_of(pick.side, tracklet)
        identity = torch.full_like(bank.identity, number)
        reward = self.run.config.attention.reward if pick.side == "train" else "identity"
        process = AttentionProcess(dataclasses.replace(bank, identity=identity), judge, reward)
        episode = record_on(
            process,
            self.agent,
            deterministic=deterministic,
            seed=seed,
            names=Names(self.agent_name, names, F_C if pick.side == "train" else "the gallery"),
        )
        return episode, self._gallery(tracklet) if pick.side == "query" else None

    def _check_judged_by_gallery(self) -> None:
        if self.agent_name in TABLE_CONTROLS:
            raise ValueError(
                f"{self.agent_name} chooses by F_c's judgement of every bin, and F_c does not know the queries' "
                "people: take a training tracklet (--train), or another agent"
            )

    @property
    def _suffix(self) -> str:
        """Return the ending of file names that says which clip it is."""
        return "" if self.clip is None else f"-clip{self.clip}"

    def _num_clips(self, tracklet: Tracklet) -> int:
        return len(consecutive_clips(len(tracklet), self.run.config.load.num_frames))

    def _judge_of(self, side: Side, tracklet: Tracklet) -> tuple[GlimpseNetwork, list[str], int]:
        """Return the judge, the names of the people it knows, and the number of the tracklet's."""
        person, source = tracklet.person, tracklet.source
        if side == "train":
            if not self.run.knows_training_half:
                raise ValueError(f"F_c was not trained on {self.run.data.name}: its people can only be queries")
            names = [self._names[known] for known in self.run.people]
            return self.run.representation.glimpse, names, self.run.people.index(person)
        self._check_judged_by_gallery()
        judge = self._judged.by_camera.get(tracklet.camera)
        if judge is None or person not in judge[1]:
            raise ValueError(
                f"no other camera has person {person} of {source} in the gallery, so that nobody can be found; "
                "take another query, or a training tracklet (--train)"
            )
        return judge[0], [self._names[known] for known in judge[1]], judge[1][person]

    @cached_property
    @torch.no_grad()
    def _judged(self) -> "GalleryJudges":
        """The judges of the queries, made as sure of themselves as they are right."""
        representation = self.run.representation
        of_gallery = self._of_gallery().to(representation.device)
        cameras = sorted({tracklet.camera for tracklet in self.tracklets})
        judges = {camera: gallery_judge(self.run.data, of_gallery, camera, representation) for camera in cameras}
        by_camera = {camera: judge for camera, judge in judges.items() if judge is not None}
        answers = []
        for number, tracklet in enumerate(self.run.data.query):
            judge, numbers = by_camera.get(tracklet.camera, (None, {}))
            if judge is not None and tracklet.person in numbers:
                descriptor = self._described.read[self._position[id(tracklet)], None].to(of_gallery.device)
                answers.append((number, judge.identify(descriptor)[0].cpu(), numbers[tracklet.person]))
        scale = best_scale([(logits, truth) for _, logits, truth in answers])
        for judge, _ in by_camera.values():
            judge.identify.weight.mul_(scale)
            judge.identify.bias.mul_(scale)
        return GalleryJudges(by_camera, [(number, scale * logits, truth) for number, logits, truth in answers])

    def _of_gallery(self) -> Tensor:
        return self._described.descriptors[[self._position[id(tracklet)] for tracklet in self.run.data.gallery]]

    @cached_property
    def _described(self) -> Described:
        """The searched tracklets as the agent sees them, with the clip looked into."""
        return describe_tracklets(
            self.run, self.tracklets, "describing the gallery", agent=self.agent, clip=self.clip
        )

    def _gallery(self, query: Tracklet) -> Gallery:
        gallery = self.run.data.gallery
        return Gallery(
            self._of_gallery(),
            np.array([tracklet.person for tracklet in gallery]),
            np.array([tracklet.camera for tracklet in gallery]),
            [f"{one.source}: {self._names[one.person]}, camera {one.camera}" for one in gallery],
            query.person,
            query.camera,
            self._picture,
            self._compared,
            self.run.data.protocol.counts(*labels([query], gallery))[0],
        )

    @torch.no_grad()
    def _compared(self, descriptor: Tensor) -> Tensor:
        """Return what of an episode's [f_g, h_1..h_T], (D,), is compared with the gallery, (K,)."""
        comparison = self.run.representation.comparison
        return comparison.finish(comparison(descriptor[None].to(self.run.representation.device)))[0].cpu()

    def _picture(self, row: int) -> np.ndarray:
        """Draw the frame of a gallery tracklet's middle clip that most bins cover."""
        if row not in self._pictures:
            bank = tracklet_bank(self.run, self.run.data.gallery[row])
            bins = follow(self.agent, self.run.process(bank)).bins[0].tolist()
            ranges = bank.grid.frame_ranges[bins].reshape(-1, 2)
            counts = [
                sum(start <= frame < stop for start, stop in ranges) for frame in range(bank.grid.clip_size[0])
            ]
            self._pictures[row] = draw_frame(bank, 0, int(np.argmax(counts)), bins)
        return self._pictures[row]


def best_scale(answers: Sequence[tuple[Tensor, int]]) -> float:
    """Return what logits have to be multiplied by so that the true answers become most probable, on average.

    Of the powers of two from 2^-20 to 2^4, in steps of a quarter: probabilities that are all 0 or 1 say nothing.

    Args:
        answers: logits, float (num_people,), and the number of the true person.
    """
    scales = 2 ** torch.arange(-20, 4.25, 0.25)
    if not answers:
        return 1.0
    log_probs = [(scales[:, None] * logits).log_softmax(1)[:, truth] for logits, truth in answers]
    return float(scales[torch.stack(log_probs).mean(dim=0).argmax()])


def _is_called(tracklet: Tracklet, name: str) -> bool:
    """Tell whether a tracklet has that name, a name that ends so, or its images in that folder."""
    wanted = name.strip("/")
    if tracklet.source == name or tracklet.source.strip("/").endswith(f"/{wanted}"):
        return True
    frames = tracklet.frames
    return isinstance(frames, FrameFiles) and frames.paths[0].parent.resolve() == Path(name).resolve()
