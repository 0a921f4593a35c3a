"""The nearest tracklets of a gallery, found by faiss."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:  # it takes a while to import
    import faiss

IndexName = Literal["exact", "hnsw"]

# Parameters of HNSW (Malkov and Yashunin, 2016): links of a node; nodes examined in building and in searching.
LINKS, TRIED_BUILDING, TRIED_SEARCHING = 32, 200, 256
BLOCK_BYTES = 2**26  # of float32: the part of a gallery that is copied at a time

Allowed = Callable[[int], np.ndarray]


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
    allowed: Allowed | None = None,
    groups: np.ndarray | None = None,
    index: IndexName = "exact",
) -> Found:
    """Find the `count` gallery rows nearest to each query; `exact` takes little memory beside a mapped gallery.

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
    if index not in get_args(IndexName):
        raise ValueError(f"unknown index {index!r}; known: {', '.join(get_args(IndexName))}")
    count = min(count, len(gallery))
    rows = np.full((len(query), count), -1, dtype=np.int64)
    if not count or not len(query):
        return Found(rows, np.full(rows.shape, np.inf))
    mean = gallery.mean(axis=0, dtype=np.float64)
    centred = (query - mean).astype(np.float32)
    if index == "exact":
        blocks = ((gallery[part] - mean).astype(np.float32) for part in blocks_of(*gallery.shape))
        rows = scan(centred, blocks, count, allowed=allowed, groups=groups)
    else:
        import faiss

        others = (gallery - mean).astype(np.float32)
        for of_group, members in members_of_groups(len(query), len(gallery), allowed, groups):
            # A graph of the allowed rows alone: in the graph of all rows, the search can end among rows not
            # allowed.
            most, settings = min(count, len(members)), faiss.SearchParametersHNSW(efSearch=TRIED_SEARCHING)
            _, found = _graph(others[members]).search(centred[of_group], most, params=settings)
            rows[of_group, :most] = np.where(found < 0, -1, members[found])
    distances = np.full(rows.shape, np.inf)
    for place, found in enumerate(rows):
        some = found[found >= 0]
        difference = gallery[some].astype(np.float64) - query[place].astype(np.float64)
        exact = np.linalg.norm(difference, axis=1)
        order = np.argsort(exact, kind="stable")
        rows[place, : len(some)], distances[place, : len(some)] = some[order], exact[order]
    return Found(rows, distances)


def scan(
    asked: np.ndarray,
    blocks: Iterable[np.ndarray],
    count: int,
    *,
    allowed: Allowed | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Return the rows of a gallery that are nearest to each query, by comparing with every row.

    Args:
        asked: queries, float32 (Q, D), near 0 for the sake of faiss's distances.
        blocks: parts of the gallery in order, float32 (B, D) each, of which one is in memory at a time.
        count: K, 1 or more.
        allowed: as for `nearest`.
        groups: as for `nearest`.

    Returns:
        int64 (Q, K), the nearest first; -1 where too few rows count, or are near enough for float32.
    """
    import faiss

    groups = np.zeros(len(asked), dtype=np.int64) if groups is None or allowed is None else groups
    masks = {group: None if allowed is None else allowed(int(group)) for group in np.unique(groups)}
    rows = np.full((len(asked), count), -1, dtype=np.int64)
    nearest_yet = np.full(rows.shape, np.inf, dtype=np.float32)
    start = 0
    for block in blocks:
        for group, mask in masks.items():
            of_group = np.flatnonzero(groups == group)
            members = np.arange(len(block)) if mask is None else np.flatnonzero(mask[start : start + len(block)])
            if not len(members):
                continue
            part = block if len(members) == len(block) else block[members]
            distances, found = faiss.knn(np.ascontiguousarray(asked[of_group]), part, min(count, len(part)))
            is_found = found >= 0  # not where a square is more than float32 holds
            some, distances = np.where(is_found, start + members[found], -1), np.where(is_found, distances, np.inf)
            all_rows = np.concatenate([rows[of_group], some], axis=1)
            all_distances = np.concatenate([nearest_yet[of_group], distances], axis=1)
            best = np.argsort(all_distances, axis=1, kind="stable")[:, :count]
            rows[of_group] = np.take_along_axis(all_rows, best, axis=1)
            nearest_yet[of_group] = np.take_along_axis(all_distances, best, axis=1)
        start += len(block)
    return rows


def blocks_of(count: int, num_numbers: int) -> Iterator[slice]:
    """Yield the parts of a gallery's rows that are copied one at a time."""
    size = max(BLOCK_BYTES // (4 * max(num_numbers, 1)), 1)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def members_of_groups(
    num_queries: int, num_gallery: int, allowed: Allowed | None, groups: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the queries of each group with the gallery rows that they may find, where there are any."""
    if allowed is None:
        yield np.arange(num_queries), np.arange(num_gallery)
        return
    groups = np.zeros(num_queries, dtype=np.int64) if groups is None else groups
    for group in np.unique(groups):
        if len(members := np.flatnonzero(allowed(int(group)))):
            yield np.flatnonzero(groups == group), members


def _graph(gallery: np.ndarray) -> "faiss.Index":
    import faiss

    built = faiss.IndexHNSWFlat(gallery.shape[1], LINKS)
    built.hnsw.efConstruction = TRIED_BUILDING
    built.add(np.ascontiguousarray(gallery, dtype=np.float32))
    return built
