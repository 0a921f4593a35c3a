"""The nearest tracklets of a gallery, found by faiss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:  # it takes a while to import
    import faiss

IndexName = Literal["exact", "hnsw"]

# Parameters of HNSW (Malkov and Yashunin, 2016): links of a node; nodes examined in building and in searching.
LINKS, TRIED_BUILDING, TRIED_SEARCHING = 32, 200, 256


@dataclass(frozen=True)
class Found:
    """The nearest gallery rows of Q queries, the nearest first.

    Attributes:
        rows: indices of gallery rows, int64 (Q, K); -1 if the gallery has fewer than K that count.
        distances: Euclidean distances, float64 (Q, K); infinite where `rows` is -1.
    """

    rows: np.ndarray
    distances: np.ndarray


def nearest(
    query: np.ndarray,
    gallery: np.ndarray,
    count: int,
    *,
    allowed: Callable[[int], np.ndarray] | None = None,
    groups: np.ndarray | None = None,
    index: IndexName = "exact",
) -> Found:
    """Find the `count` gallery rows nearest to each query.

    faiss searches descriptors from which the gallery's mean is subtracted, because its distances lose digits far
    from 0. The distances of the rows found are then computed again in float64.

    Args:
        query: float32 (Q, D).
        gallery: float32 (G, D).
        count: K, 1 or more; the size of the gallery if that is smaller.
        allowed: function of a group's number that returns a mask, bool (G,), of the gallery rows that may be found
            by the group's queries; None: all rows.
        groups: the number of each query's group, int (Q,); by default 0 for all.
        index: `exact` compares with every row; `hnsw` searches a graph, compares with few rows, and may miss some.

    Raises:
        ValueError: the sizes do not fit each other, or unknown index.
    """
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1] or count < 1:
        raise ValueError(
            f"a search needs queries (Q, D), a gallery (G, D) and a count of 1 or more, got {query.shape}, "
            f"{gallery.shape} and {count}"
        )
    count = min(count, len(gallery))
    rows = np.full((len(query), count), -1, dtype=np.int64)
    if not count or not len(query):
        return Found(rows, np.full(rows.shape, np.inf))
    mean = gallery.mean(axis=0, dtype=np.float64)
    centred, others = (query - mean).astype(np.float32), (gallery - mean).astype(np.float32)
    whole = build_index(others, index) if allowed is None or index == "exact" else None
    groups = np.zeros(len(query), dtype=np.int64) if groups is None or allowed is None else groups
    for group in np.unique(groups):
        of_group = np.flatnonzero(groups == group)
        asked = np.ascontiguousarray(centred[of_group])
        members = None if allowed is None else np.flatnonzero(allowed(int(group)))
        if whole is not None:
            _, rows[of_group] = whole.search(asked, count, params=_settings(index, members))
        elif members is not None and len(members):
            # A graph of the allowed rows alone: in the graph of all rows, the search can end among rows not
            # allowed.
            built, most = build_index(others[members], index), min(count, len(members))
            _, found = built.search(asked, most, params=_settings(index, None))
            rows[of_group, :most] = np.where(found < 0, -1, members[found])
    distances = np.full(rows.shape, np.inf)
    for place, found in enumerate(rows):
        some = found[found >= 0]
        difference = gallery[some].astype(np.float64) - query[place].astype(np.float64)
        exact = np.linalg.norm(difference, axis=1)
        order = np.argsort(exact, kind="stable")
        rows[place, : len(some)], distances[place, : len(some)] = some[order], exact[order]
    return Found(rows, distances)


def build_index(gallery: np.ndarray, index: IndexName) -> "faiss.Index":
    """Return faiss's index of that name over the gallery, float32 (G, D).

    Raises:
        ValueError: unknown name.
    """
    if index not in get_args(IndexName):
        raise ValueError(f"unknown index {index!r}; known: {', '.join(get_args(IndexName))}")
    import faiss

    if index == "exact":
        built = faiss.IndexFlatL2(gallery.shape[1])
    else:
        built = faiss.IndexHNSWFlat(gallery.shape[1], LINKS)
        built.hnsw.efConstruction = TRIED_BUILDING
    built.add(np.ascontiguousarray(gallery, dtype=np.float32))
    return built


def _settings(index: IndexName, allowed: np.ndarray | None) -> "faiss.SearchParameters":
    import faiss

    selector = {} if allowed is None else {"sel": faiss.IDSelectorBatch(allowed)}
    if index == "hnsw":
        return faiss.SearchParametersHNSW(efSearch=TRIED_SEARCHING, **selector)
    return faiss.SearchParameters(**selector)
