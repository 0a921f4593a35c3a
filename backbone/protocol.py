"""Protocols: which pairs of a query and a gallery tracklet count, by their labels."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Labels(NamedTuple):
    """Labels of N tracklets.

    Attributes:
        people: person ids, int (N,).
        cameras: camera ids, int (N,).
        clothes: numbers of the clothes, the same for the same clothes of a person, int (N,); None if unknown.
    """

    people: np.ndarray
    cameras: np.ndarray
    clothes: np.ndarray | None = None

    def part(self, rows: slice | np.ndarray) -> "Labels":
        """Return the labels of some of the tracklets."""
        return Labels(self.people[rows], self.cameras[rows], None if self.clothes is None else self.clothes[rows])


Counts = Callable[[Labels, Labels], np.ndarray]
"""Function from the labels of Q queries and G gallery tracklets to a mask of the pairs that count, bool (Q, G)."""


@dataclass(frozen=True)
class Protocol:
    """A protocol of a search: a pair that does not count is neither match nor miss.

    Attributes:
        name: name that selects the protocol.
        match: words for what a match is.
        counts: filter of the pairs.
    """

    name: str
    match: str
    counts: Counts

    def without_match(self, query: Labels, gallery: Labels, chunk_size: int = 256) -> int:
        """Return the number of queries that no gallery tracklet matches."""
        matchless = 0
        for start in range(0, len(query.people), chunk_size):
            chunk = query.part(slice(start, start + chunk_size))
            same_person = chunk.people[:, None] == gallery.people
            matchless += int((~(same_person & self.counts(chunk, gallery)).any(axis=1)).sum())
        return matchless


def check_labels(
    side: str, people: np.ndarray, cameras: np.ndarray, clothes: np.ndarray | None, length: int
) -> Labels:
    """Return the labels of a search's queries or gallery.

    Raises:
        ValueError: labels that are not one integer for each tracklet; the message begins with `side`.
    """
    return Labels(
        _ids(f"{side}_people", people, length),
        _ids(f"{side}_cameras", cameras, length),
        None if clothes is None else _ids(f"{side}_clothes", clothes, length),
    )


def _ids(name: str, values: ArrayLike, length: int) -> np.ndarray:
    ids = np.asarray(values)
    if ids.shape != (length,) or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"{name} must be {length} integers, one for each tracklet, got {ids.dtype} of shape {ids.shape}"
        )
    return ids.astype(np.int64)


def between(name: str, query_cameras: Iterable[int], gallery_cameras: Iterable[int], match: str) -> Protocol:
    """Return the protocol of queries by some cameras, searched among what others have seen."""
    return Protocol(name, match, partial(_between, tuple(query_cameras), tuple(gallery_cameras)))


def _other_camera(query: Labels, gallery: Labels) -> np.ndarray:
    same_person = query.people[:, None] == gallery.people
    return ~(same_person & (query.cameras[:, None] == gallery.cameras))


def _clothes(same: bool, query: Labels, gallery: Labels) -> np.ndarray:
    if query.clothes is None or gallery.clothes is None:
        name = (SAME_CLOTHES if same else CLOTH_CHANGING).name
        raise ValueError(f"the protocol {name} needs to know each tracklet's clothes, and they are not known here")
    same_person = query.people[:, None] == gallery.people
    same_clothes = query.clothes[:, None] == gallery.clothes
    return _other_camera(query, gallery) & (~same_person | (same_clothes == same))


def _between(
    query_cameras: tuple[int, ...], gallery_cameras: tuple[int, ...], query: Labels, gallery: Labels
) -> np.ndarray:
    between = np.isin(query.cameras, query_cameras)[:, None] & np.isin(gallery.cameras, gallery_cameras)
    return _other_camera(query, gallery) & between


OTHER_CAMERA = Protocol("other_camera", "the same person by another camera", _other_camera)
"""The usual protocol: tracklets of the query's person by its own camera do not count."""
SAME_CLOTHES = Protocol(
    "same_clothes", "the same person in the same clothes by another camera", partial(_clothes, True)
)
"""The same, and tracklets of the query's person in other clothes do not count."""
CLOTH_CHANGING = Protocol(
    "cloth_changing", "the same person in other clothes by another camera", partial(_clothes, False)
)
"""The same, and tracklets of the query's person in the query's clothes do not count."""
