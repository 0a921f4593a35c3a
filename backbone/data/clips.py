"""Clips out of tracklets, and the identity sampler, as functions of a seed and a step.

A batch is a function of (seed, step) alone, so that a resumed run sees the batches of an uninterrupted one.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from backbone.data.tracklet import Tracklet


def consecutive_clips(tracklet_length: int, num_frames: int) -> list[np.ndarray]:
    """Cut a tracklet into clips without gaps (section IV-A), each int64 (num_frames,); the last one is padded."""
    return [_padded(start, num_frames, tracklet_length) for start in range(0, tracklet_length, num_frames)]


def _padded(start: int, num_frames: int, tracklet_length: int) -> np.ndarray:
    return np.minimum(np.arange(start, start + num_frames), tracklet_length - 1)


FrameSampling = Literal["consecutive", "spread"]


def spread_clip(tracklet_length: int, num_frames: int, generator: np.random.Generator) -> np.ndarray:
    """Draw one frame from each of `num_frames` equal parts of a tracklet, ascending, int64 (num_frames,).

    Restricted random sampling (Li et al., "Diversity Regularized Spatiotemporal Attention", CVPR 2018). A tracklet
    shorter than the clip has some of its frames drawn twice.
    """
    edges = np.arange(num_frames + 1) * tracklet_length / num_frames
    drawn = generator.uniform(edges[:-1], edges[1:]).astype(np.int64)
    return np.minimum(drawn, tracklet_length - 1)


@dataclass(eq=False)
class IdentitySampler:
    """Draws P persons x K clips a batch; every person comes once an epoch.

    Args:
        tracklets: tracklets to draw clips from.
        num_people: P, the number of people of a batch.
        clips_per_person: K, the number of clips of each person.
        num_frames: L, the number of frames of a clip.
        seed: seed of all draws.
        sampling: sampling of a clip's frames: `consecutive` ones, or `spread` over the tracklet (`spread_clip`).

    Raises:
        ValueError: there are fewer people than P, or a number below 1.
    """

    tracklets: Sequence[Tracklet]
    num_people: int
    clips_per_person: int
    num_frames: int
    seed: int
    sampling: FrameSampling = "consecutive"

    def __post_init__(self) -> None:
        if min(self.num_people, self.clips_per_person, self.num_frames) < 1:
            raise ValueError(
                f"a batch needs 1 or more people, clips of each and frames, got {self.num_people}, "
                f"{self.clips_per_person} and {self.num_frames}"
            )
        self._epoch: tuple[int, np.ndarray] | None = None  # the order of people in the epoch drawn last
        self._by_person: dict[int, list[int]] = defaultdict(list)
        for index, tracklet in enumerate(self.tracklets):
            self._by_person[tracklet.person].append(index)
        if len(self._by_person) < self.num_people:
            raise ValueError(
                f"a batch of {self.num_people} people needs as many to train on, got {len(self._by_person)}: "
                "make the batch smaller (--load.num-people) or give more people"
            )

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in which nearly all people come once; each epoch other people are left over."""
        return len(self._by_person) // self.num_people

    def batch(self, step: int) -> list[tuple[int, np.ndarray]]:
        """Return the clips of batch number `step`: P x K pairs of tracklet index and frame indices.

        A person's tracklets are used in turn, in random order; one that comes again starts at another frame
        where it can.
        """
        epoch, position = divmod(step, self.batches_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            drawn = np.random.default_rng([self.seed, 0, epoch]).permutation(sorted(self._by_person))
            self._epoch = epoch, drawn
        people = self._epoch[1][position * self.num_people : (position + 1) * self.num_people]
        generator = np.random.default_rng([self.seed, 1, step])
        return [clip for person in people for clip in self._clips_of(int(person), generator)]

    def _clips_of(self, person: int, generator: np.random.Generator) -> list[tuple[int, np.ndarray]]:
        order = generator.permutation(self._by_person[person])
        used: dict[int, set[int]] = defaultdict(set)
        clips = []
        for turn in range(self.clips_per_person):
            index = int(order[turn % len(order)])
            length = len(self.tracklets[index])
            if self.sampling == "spread":
                clips.append((index, spread_clip(length, self.num_frames, generator)))
                continue
            starts = np.arange(max(length - self.num_frames, 0) + 1)
            fresh = np.setdiff1d(starts, list(used[index]))
            start = int(generator.choice(fresh if len(fresh) else starts))
            used[index].add(start)
            clips.append((index, _padded(start, self.num_frames, length)))
        return clips
