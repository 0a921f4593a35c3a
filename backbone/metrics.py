"""CMC, mAP and mINP of retrieval across cameras, pessimistic about ties."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from backbone.data.tracklet import JUNK
from backbone.protocol import OTHER_CAMERA, Protocol, check_labels


class Search(NamedTuple):
    """Queries, and the gallery in which they are searched: a descriptor, person and camera for each tracklet.

    Attributes:
        query: the queries' descriptors, float (Q, D), on a device that has float64.
        gallery: the gallery's descriptors, float (G, D); moved to the query's device.
        query_people: person ids of the queries, int (Q,).
        gallery_people: person ids of the gallery, int (G,).
        query_cameras: camera ids of the queries, int (Q,).
        gallery_cameras: camera ids of the gallery, int (G,).
        query_clothes: numbers of the queries' clothes, int (Q,); None if unknown.
        gallery_clothes: numbers of the gallery's clothes, int (G,); None if unknown.
        protocol: filter of the pairs that count.
    """

    query: Tensor | np.ndarray
    gallery: Tensor | np.ndarray
    query_people: np.ndarray
    gallery_people: np.ndarray
    query_cameras: np.ndarray
    gallery_cameras: np.ndarray
    query_clothes: np.ndarray | None = None
    gallery_clothes: np.ndarray | None = None
    protocol: Protocol = OTHER_CAMERA


Compared = tuple[int, np.ndarray, np.ndarray, np.ndarray]
"""A chunk of queries: index of its first query, and distances, matches and misses of the chunk (`compared`)."""


@dataclass(frozen=True)
class RetrievalScores:
    """Scores of a retrieval: the ranks at which queries find their person in a gallery.

    Attributes:
        cmc: the percentage of queries with a match among the first k of the ranking, by k.
        mean_average_precision: the mean over queries of the average precision, in percent.
        mean_inverse_penalty: mINP, the mean over queries of (number of matches / rank of the last match), in
            percent.
        num_queries: the number of queries that were scored: those with a match in the gallery.
        num_queries_without_match: the number of queries that were left out.
        queries: indices of the scored queries among all queries, ascending, int64 (num_queries,).
        first_ranks: the rank of each scored query's first match, from 1, int64 (num_queries,).
        average_precisions: the average precision of each scored query, float64 (num_queries,) in [0, 1].
    """

    cmc: dict[int, float]
    mean_average_precision: float
    mean_inverse_penalty: float
    num_queries: int
    num_queries_without_match: int
    queries: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64), compare=False, repr=False)
    first_ranks: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64), compare=False, repr=False)
    average_precisions: np.ndarray = field(default_factory=lambda: np.zeros(0), compare=False, repr=False)

    def as_dict(self) -> dict[str, float]:
        """Return the percentages by their usual names: R1, R5, ..., mAP, mINP."""
        ranks = {f"R{rank}": score for rank, score in self.cmc.items()}
        return ranks | {"mAP": self.mean_average_precision, "mINP": self.mean_inverse_penalty}


@dataclass(frozen=True)
class Scoring:
    """A scoring protocol. Three are in use for MARS; their scores differ by percentage points.

    Attributes:
        queries_in_gallery: whether the gallery also keeps the tracklets that are queries. Without them some
            queries have no match and are left out.
        average_precision: the average precision's definition, by its name in `evaluate_retrieval`.
    """

    queries_in_gallery: bool
    average_precision: str


SCORINGS = {
    "standard": Scoring(queries_in_gallery=True, average_precision="standard"),
    "official": Scoring(queries_in_gallery=True, average_precision="official"),
    "torchreid": Scoring(queries_in_gallery=False, average_precision="standard"),
}
"""Protocols by name. standard: most recent papers; official: the code of MARS; torchreid: the library."""


def get_scoring(name: str) -> Scoring:
    """Return the scoring of that name.

    Raises:
        ValueError: unknown name.
    """
    if name not in SCORINGS:
        raise ValueError(f"unknown scoring {name!r}; known: {', '.join(SCORINGS)}")
    return SCORINGS[name]


def evaluate_retrieval(
    search: Search,
    *,
    ranks: Sequence[int] = (1, 5, 10, 20),
    chunk_size: int = 256,
    average_precision: str = "standard",
    rerank: bool = False,
) -> RetrievalScores:
    """Rank the gallery for each query by Euclidean distance, and score the ranking.

    For each query, gallery tracklets that do not count by the protocol are dropped (by the usual one those of the
    same person and the same camera), and so is junk (person -1) altogether. A miss at the distance of a match
    ranks before it, so descriptors that collapsed to one point score near zero. Queries without a match are left
    out and counted.

    Args:
        search: queries and gallery.
        ranks: the ranks of the CMC, each 1 or more.
        chunk_size: the number of queries whose distances to the gallery are in memory at a time.
        average_precision: `standard`, the mean over matches of the precision at the match, or
            `official`, as in the code of MARS: the mean of that and the precision one rank before.
        rerank: whether to re-rank the gallery by k-reciprocal neighbours first (`backbone.reranking`).

    Returns:
        Percentages in [0, 100].

    Raises:
        ValueError: an argument is of the wrong shape, kind or length, a descriptor isn't finite, an
            option is unknown, or no query has a match.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be 1 or more, got {chunk_size}")
    chunks = compared(search, chunk_size=chunk_size, rerank=rerank)
    match = search.protocol.match
    return score_ranking(chunks, ranks=ranks, average_precision=average_precision, match=match)


def score_ranking(
    chunks: Iterable[Compared],
    *,
    ranks: Sequence[int] = (1, 5, 10, 20),
    average_precision: str = "standard",
    match: str = OTHER_CAMERA.match,
) -> RetrievalScores:
    """Score queries that were compared with a gallery.

    Args:
        chunks: the chunks that `compared` yields.
        ranks: the ranks of the CMC, each 1 or more.
        average_precision: `standard` or `official`, see `evaluate_retrieval`.
        match: words for what a match is, for the error.

    Raises:
        ValueError: an option is unknown, or no query has a match.
    """
    if average_precision not in AVERAGE_PRECISION:
        known = ", ".join(AVERAGE_PRECISION)
        raise ValueError(f"unknown average_precision {average_precision!r}: known are {known}")
    if not ranks or min(ranks) < 1:
        raise ValueError(f"ranks must be one or more numbers from 1 up, got {tuple(ranks)}")
    num_queries, queries, first_ranks, precisions, penalties = 0, [], [], [], []
    for start, distances, matches, misses in chunks:
        num_queries += len(distances)
        for row, match_ranks in _match_ranks(distances, matches, misses):
            queries.append(start + row)
            first_ranks.append(match_ranks[0])
            precisions.append(AVERAGE_PRECISION[average_precision](match_ranks))
            penalties.append(len(match_ranks) / match_ranks[-1])
    if not first_ranks:
        raise ValueError(f"none of the {num_queries} queries has a match in the gallery: no tracklet of {match}")
    return RetrievalScores(
        cmc={rank: 100 * float(np.mean(np.array(first_ranks) <= rank)) for rank in ranks},
        mean_average_precision=100 * float(np.mean(precisions)),
        mean_inverse_penalty=100 * float(np.mean(penalties)),
        num_queries=len(first_ranks),
        num_queries_without_match=num_queries - len(first_ranks),
        queries=np.array(queries),
        first_ranks=np.array(first_ranks),
        average_precisions=np.array(precisions),
    )


def compared(search: Search, *, chunk_size: int = 256, rerank: bool = False) -> Iterator[Compared]:
    """Compare queries with a gallery, a chunk at a time; arguments and errors are those of `evaluate_retrieval`.

    Yields:
        The first query's index; the squared distances (or those after re-ranking), float32 (num_queries, G); a
        mask of matches, the same person, and a mask of misses, another person, bool (num_queries, G): by the usual
        protocol, matches are by another camera. The G columns hold no junk; a column that is neither match nor
        miss does not count.
    """
    query = _descriptors("query", search.query)
    gallery = _descriptors("gallery", search.gallery).to(query.device)
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            "query and gallery must have the same number of columns, "
            f"got {tuple(query.shape)} and {tuple(gallery.shape)}"
        )
    asked = check_labels("query", search.query_people, search.query_cameras, search.query_clothes, len(query))
    searched = check_labels(
        "gallery", search.gallery_people, search.gallery_cameras, search.gallery_clothes, len(gallery)
    )

    keep = np.flatnonzero(searched.people != JUNK)
    gallery = gallery[torch.from_numpy(keep).to(gallery.device)]
    searched = searched.part(keep)

    chunks = _distances_in_chunks(query, gallery, chunk_size)
    if rerank:
        from backbone.reranking import CHUNK, reranked_distances  # scipy takes a while to import

        starts = itertools.count(0, CHUNK)
        chunks = (
            (start + row, reranked[row : row + chunk_size])
            for start, reranked in zip(starts, reranked_distances(query, gallery), strict=False)
            for row in range(0, len(reranked), chunk_size)
        )
    for start, distances in chunks:
        chunk = asked.part(slice(start, start + len(distances)))
        same_person = chunk.people[:, None] == searched.people
        counts = search.protocol.counts(chunk, searched)
        yield start, distances, same_person & counts, ~same_person & counts


def _match_ranks(distances: np.ndarray, match: np.ndarray, miss: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each row with a match and the ranks of its matches, ascending, from 1.

    A match ranks behind nearer matches and behind all misses at its distance or nearer. So it is enough to sort
    the misses and to look up each match among them by binary search.

    Args:
        distances: float32 (num_queries, G).
        match: bool (num_queries, G).
        miss: bool (num_queries, G); a tracklet that is neither match nor miss is ignored.
    """
    misses = np.sort(np.where(miss, distances, np.inf), axis=1)
    for row in np.flatnonzero(match.any(axis=1)):
        matches = np.sort(distances[row, match[row]])
        yield int(row), np.searchsorted(misses[row], matches, side="right") + np.arange(1, len(matches) + 1)


def _distances_in_chunks(query: Tensor, gallery: Tensor, chunk_size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first query's index and the squared distances, float32 (num_queries, G), of each chunk.

    A matrix product may round equal columns differently. So distances are computed once for each distinct
    descriptor, and copied to all tracklets that have it: tied tracklets get exactly equal distances.
    Float64 is needed because |q|^2 + |g|^2 - 2 q.g cancels if q and g are near each other and far from 0.
    """
    distinct, tracklet_to_distinct = torch.unique(gallery, dim=0, return_inverse=True)
    distinct = distinct.double()
    squared_norm = (distinct * distinct).sum(dim=1)
    for start in range(0, len(query), chunk_size):
        chunk = query[start : start + chunk_size].double()
        distances = torch.addmm(squared_norm, chunk, distinct.T, alpha=-2)
        distances += (chunk * chunk).sum(dim=1, keepdim=True)
        yield start, distances.float().index_select(1, tracklet_to_distinct).cpu().numpy()


def _standard_average_precision(match_ranks: np.ndarray) -> float:
    """Mean over the matches j of j / rank_j."""
    return float(np.mean(np.arange(1, len(match_ranks) + 1) / match_ranks))


def _official_average_precision(match_ranks: np.ndarray) -> float:
    """Mean over the matches of the precision there and one rank before, 1 before the first rank (MARS)."""
    matches_before = np.arange(len(match_ranks))
    before = np.where(match_ranks > 1, matches_before / np.maximum(match_ranks - 1, 1), 1)
    return float(np.mean(((matches_before + 1) / match_ranks + before) / 2))


AVERAGE_PRECISION: dict[str, Callable[[np.ndarray], float]] = {
    "standard": _standard_average_precision,
    "official": _official_average_precision,
}
"""Functions from the ranks of one query's matches (ascending, from 1) to its average precision in [0, 1]."""


def _descriptors(name: str, values: Tensor | np.ndarray) -> Tensor:
    tensor = values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    if tensor.ndim != 2 or not tensor.is_floating_point() or 0 in tensor.shape:
        raise ValueError(
            f"{name} must be floating-point descriptors, one or more rows of one or more numbers, "
            f"got {tensor.dtype} of shape {tuple(tensor.shape)}"
        )
    if not bool(tensor.isfinite().all()):
        num_bad = int((~tensor.isfinite()).any(dim=1).sum())
        raise ValueError(f"{name} must be finite, got NaN or infinity in {num_bad} of {len(tensor)} rows")
    return tensor.float()
