"""The retrieval of an episode's person in a gallery."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from backbone.data.tracklet import JUNK

Kind = Literal["true", "wrong", "junk", "same camera", "left out"]


@dataclass(frozen=True)
class Candidate:
    """One tracklet of a ranked gallery.

    Attributes:
        row: index of the tracklet in the gallery.
        rank: rank among the tracklets that count, from 1; None for those that do not.
        kind: `true`, the query's person by another camera; `wrong`, another person; or `junk`, `same camera` and
            `left out` (by the data's protocol), which do not count.
        distance: Euclidean distance to the query.
    """

    row: int
    rank: int | None
    kind: Kind
    distance: float


@dataclass(frozen=True)
class Ranking:
    """A gallery in the order of its distance to one query, the nearest first.

    Attributes:
        candidates: all tracklets of the gallery.
    """

    candidates: tuple[Candidate, ...]

    @property
    def true_match(self) -> Candidate | None:
        """The nearest tracklet of the query's person by another camera."""
        return next((one for one in self.candidates if one.kind == "true"), None)

    @property
    def nearest_wrong(self) -> Candidate | None:
        """The nearest tracklet of another person."""
        return next((one for one in self.candidates if one.kind == "wrong"), None)

    def first(self, count: int) -> list[Candidate]:
        """Return the first `count` candidates, and the true match if it comes later."""
        shown = list(self.candidates[:count])
        match = self.true_match
        return shown if match is None or match in shown else [*shown, match]


@dataclass(frozen=True)
class Gallery:
    """The tracklets of a gallery, and the person and camera of the query that is searched in it.

    Attributes:
        descriptors: descriptors of the gallery's tracklets, float32 (G, K).
        people: person ids of the tracklets, int64 (G,); -1 is junk.
        cameras: camera ids of the tracklets, int64 (G,).
        names: display names of the tracklets.
        person: person id of the query.
        camera: camera id of the query.
        picture: function that draws a tracklet, by its row: uint8 (height, width, 3), RGB; None for no pictures.
        compare: function from an episode's descriptor [f_g, h_1..h_T], (D,), to the features that are compared,
            (K,); None compares the descriptor itself.
        counts: mask of the tracklets that count by the data's protocol, bool (G,); None leaves out only those of
            the query's person by its camera.

    Raises:
        ValueError: the parts do not fit each other.
    """

    descriptors: Tensor
    people: np.ndarray
    cameras: np.ndarray
    names: Sequence[str]
    person: int
    camera: int
    picture: Callable[[int], np.ndarray] | None = None
    compare: Callable[[Tensor], Tensor] | None = None
    counts: np.ndarray | None = None

    def __post_init__(self) -> None:
        lengths = {len(part) for part in (self.descriptors, self.people, self.cameras, self.names)}
        if len(lengths) > 1 or self.descriptors.ndim != 2:
            raise ValueError(
                f"a gallery has a descriptor, person, camera and name for each tracklet, got "
                f"{tuple(self.descriptors.shape)}, {len(self.people)}, {len(self.cameras)}, {len(self.names)}"
            )

    def rank(self, descriptor: Tensor) -> Ranking:
        """Order the gallery by distance to an episode's descriptor, (D,); at equal distances, wrong ones first.

        Raises:
            ValueError: the descriptor has another length.
        """
        if self.compare is not None:
            descriptor = self.compare(descriptor)
        if descriptor.shape != self.descriptors.shape[1:]:
            raise ValueError(
                f"the gallery's descriptors have {self.descriptors.shape[1]} numbers, this one is "
                f"{tuple(descriptor.shape)}"
            )
        distances = torch.linalg.vector_norm(self.descriptors.double() - descriptor.double(), dim=1).numpy()
        kinds = [self._kind(row) for row in range(len(self.people))]
        order = np.lexsort([[kind == "true" for kind in kinds], distances])
        candidates, rank = [], 0
        for row in order.tolist():
            counts = kinds[row] in ("true", "wrong")
            rank += counts
            candidates.append(Candidate(row, rank if counts else None, kinds[row], float(distances[row])))
        return Ranking(tuple(candidates))

    def _kind(self, row: int) -> Kind:
        if self.people[row] == JUNK:
            return "junk"
        same_person = self.people[row] == self.person
        if same_person and self.cameras[row] == self.camera:
            return "same camera"
        if self.counts is not None and not self.counts[row]:
            return "left out"
        return "true" if same_person else "wrong"
