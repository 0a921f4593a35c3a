"""k-reciprocal re-ranking (Zhong et al., CVPR 2017), in memory that grows with the gallery, not with its square.

Two tracklets are alike if each is among the other's nearest, and if they have such neighbours in common. Each of
the N tracklets (queries and gallery together) has a sparse row of weights over its neighbours. The Jaccard
distance of two rows is averaged with the distance of the descriptors.
"""

from collections.abc import Iterator

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

CHUNK = 512  # rows of distances in memory at a time

Neighbours = np.ndarray  # int64 (N, k1 + 1), the nearest first, the tracklet itself included


def reranked_distances(
    query: Tensor, gallery: Tensor, *, k1: int = 20, k2: int = 6, weight: float = 0.3
) -> Iterator[np.ndarray]:
    """Return the distances of queries to a gallery after re-ranking, `CHUNK` queries at a time.

    Args:
        query: float (Q, D).
        gallery: float (G, D).
        k1: number of nearest tracklets that count as neighbours.
        k2: number of nearest tracklets whose rows are averaged.
        weight: weight of the descriptors' distance in the average, lambda in the paper, in [0, 1].

    Returns:
        Chunks, float32 (CHUNK or fewer, G), in [0, 1]: dissimilarities, not Euclidean distances.

    Raises:
        ValueError: a setting is out of range.
    """
    if not (1 <= k2 <= k1 + 1 and 0 <= weight <= 1):
        raise ValueError(
            f"k1 must be 1 or more, k2 from 1 to k1 + 1 and weight in [0, 1], got {k1}, {k2}, {weight}"
        )
    return _in_chunks(query, gallery, k1, k2, weight)


def _in_chunks(query: Tensor, gallery: Tensor, k1: int, k2: int, weight: float) -> Iterator[np.ndarray]:
    features = torch.cat([query, gallery]).float()
    features = features - features.mean(dim=0)  # keeps distances, and loses fewer digits to cancellation
    neighbours, largest = _nearest(features, k1 + 1)
    rows = _encodings(features, neighbours, largest, k1)
    rows = _averaged(rows, neighbours[:, :k2])
    count = len(query)
    by_column = rows[count:].tocsc()
    for start in range(0, count, CHUNK):
        chunk = slice(start, min(start + CHUNK, count))
        own = _squared(features[chunk], features[count:]).cpu().numpy() / largest[chunk, None]
        shared = _shared(rows[chunk], by_column).toarray()
        yield ((1 - weight) * (1 - shared / (2 - shared)) + weight * own).astype(np.float32)


def _squared(some: Tensor, others: Tensor) -> Tensor:
    """Return squared distances, float32 (n, N)."""
    product = torch.addmm((others * others).sum(1), some, others.T, alpha=-2)
    return (product + (some * some).sum(1, keepdim=True)).clamp(min=0)


def _nearest(features: Tensor, count: int) -> tuple[Neighbours, np.ndarray]:
    """Return each tracklet's nearest, and its largest squared distance to any, (N,)."""
    nearest, largest = [], []
    for start in range(0, len(features), CHUNK):
        squared = _squared(features[start : start + CHUNK], features)
        largest.append(squared.amax(dim=1))
        nearest.append(squared.topk(min(count, len(features)), dim=1, largest=False).indices)
    # If all descriptors are equal the largest distance is 0: the clamp avoids 0 / 0.
    return torch.cat(nearest).cpu().numpy(), torch.cat(largest).clamp(min=1e-12).cpu().numpy()


def _reciprocal(neighbours: Neighbours, one: int, count: int) -> np.ndarray:
    """Return those of the `count` nearest of tracklet `one` that have it among their own `count` nearest."""
    forward = neighbours[one, :count]
    return forward[(neighbours[forward, :count] == one).any(axis=1)]


def _encodings(features: Tensor, neighbours: Neighbours, largest: np.ndarray, k1: int) -> scipy.sparse.csr_matrix:
    """Return weights (N, N) of each tracklet over its k-reciprocal neighbours and theirs; each row sums to 1."""
    half = int(np.around(k1 / 2)) + 1
    columns, weights = [], []
    for one in range(len(neighbours)):
        own = _reciprocal(neighbours, one, k1 + 1)
        expanded = [own]
        for other in own.tolist():
            theirs = _reciprocal(neighbours, other, half)
            if len(np.intersect1d(theirs, own)) > 2 / 3 * len(theirs):
                expanded.append(theirs)
        members = np.unique(np.concatenate(expanded))
        squared = _squared(features[one : one + 1], features[torch.from_numpy(members)])[0].cpu().numpy()
        values = np.exp(-squared / largest[one])
        columns.append(members)
        weights.append(values / values.sum())
    ends = np.cumsum([0, *map(len, columns)])
    shape = (len(neighbours), len(neighbours))
    return scipy.sparse.csr_matrix((np.concatenate(weights), np.concatenate(columns), ends), shape=shape)


def _averaged(rows: scipy.sparse.csr_matrix, neighbours: Neighbours) -> scipy.sparse.csr_matrix:
    """Average each tracklet's row over its nearest tracklets (local query expansion)."""
    count, size = neighbours.shape
    data = np.full(neighbours.size, 1 / size)
    mean = scipy.sparse.csr_matrix((data, neighbours.ravel(), np.arange(0, neighbours.size + 1, size)), rows.shape)
    assert mean.shape[0] == count
    return (mean @ rows).tocsr()


def _shared(some: scipy.sparse.csr_matrix, by_column: scipy.sparse.csc_matrix) -> scipy.sparse.csr_matrix:
    """Return the overlap sum_l min(V_il, V_jl) of all pairs of rows, sparse (n, m)."""
    columns, values, ends = [], [], [0]
    for row in range(some.shape[0]):
        part = slice(some.indptr[row], some.indptr[row + 1])
        found, minima = [], []
        for column, value in zip(some.indices[part], some.data[part], strict=True):
            entries = slice(by_column.indptr[column], by_column.indptr[column + 1])
            found.append(by_column.indices[entries])
            minima.append(np.minimum(by_column.data[entries], value))
        members, places = np.unique(np.concatenate(found), return_inverse=True)
        columns.append(members)
        values.append(np.bincount(places, weights=np.concatenate(minima), minlength=len(members)))
        ends.append(ends[-1] + len(members))
    shape = (some.shape[0], by_column.shape[0])
    return scipy.sparse.csr_matrix((np.concatenate(values), np.concatenate(columns), ends), shape=shape)
