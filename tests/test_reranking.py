"""k-reciprocal re-ranking against the paper's algorithm written out with full matrices."""

import numpy as np
import pytest
import torch

from backbone.metrics import Search, evaluate_retrieval
from backbone.reranking import reranked_distances


def literal(query, gallery, k1, k2, weight):
    """Follow the published code, line by line."""
    features = np.concatenate([query, gallery]).astype(np.float64)
    squared = ((features[:, None] - features[None]) ** 2).sum(2)
    squared = squared / squared.max(axis=1, keepdims=True)
    rank = np.argsort(squared, axis=1, kind="stable")
    size = len(features)
    weights = np.zeros((size, size))
    for i in range(size):
        forward = rank[i, : k1 + 1]
        reciprocal = [j for j in forward if i in rank[j, : k1 + 1]]
        expanded = list(reciprocal)
        for j in reciprocal:
            half = int(np.around(k1 / 2)) + 1
            theirs = [k for k in rank[j, :half] if j in rank[k, :half]]
            if len(set(theirs) & set(reciprocal)) > 2 / 3 * len(theirs):
                expanded += theirs
        members = np.unique(expanded)
        weights[i, members] = np.exp(-squared[i, members])
        weights[i] /= weights[i].sum()
    weights = np.stack([weights[rank[i, :k2]].mean(axis=0) for i in range(size)])
    count = len(query)
    jaccard = np.zeros((count, size))
    for i in range(count):
        for j in range(size):
            shared = np.minimum(weights[i], weights[j]).sum()
            jaccard[i, j] = 1 - shared / (2 - shared)
    return ((1 - weight) * jaccard + weight * squared[:count])[:, count:]


def people_and_features(num_people=12, each=6, seed=0):
    generator = np.random.default_rng(seed)
    people = np.repeat(np.arange(num_people), each)
    centres = generator.normal(size=(num_people, 6))
    return people, (centres[people] + 0.9 * generator.normal(size=(len(people), 6))).astype(np.float32)


@pytest.mark.parametrize(("k1", "k2", "weight"), [(20, 6, 0.3), (7, 3, 0.0), (5, 1, 0.5), (3, 2, 1.0)])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_published_algorithm(k1, k2, weight, seed):
    _, features = people_and_features(seed=seed)
    query, gallery = features[::6], np.delete(features, np.s_[::6], axis=0)
    chunks = reranked_distances(torch.from_numpy(query), torch.from_numpy(gallery), k1=k1, k2=k2, weight=weight)
    found = np.concatenate(list(chunks))
    np.testing.assert_allclose(found, literal(query, gallery, k1, k2, weight), atol=2e-6)


def test_neighbours_in_common_help_retrieval():
    people, features = people_and_features(num_people=40, each=8)
    rows = np.arange(len(people)) % 8 == 0
    parts = (features[rows], features[~rows], people[rows], people[~rows])
    cameras = (np.zeros(rows.sum(), int), np.ones((~rows).sum(), int))
    search = Search(*parts, *cameras)
    plain, reranked = evaluate_retrieval(search), evaluate_retrieval(search, rerank=True)
    assert reranked.mean_average_precision > plain.mean_average_precision + 1
    assert reranked.num_queries == plain.num_queries


def test_junk_has_no_say():
    people, features = people_and_features()
    rows = np.arange(len(people)) % 6 == 0
    gallery, others = features[~rows], people[~rows]
    junk = np.concatenate([gallery, features[rows] + 0.01])
    names = np.concatenate([others, np.full(rows.sum(), -1)])

    def score(gallery, others):
        cameras = (np.zeros(rows.sum(), int), np.ones(len(others), int))
        return evaluate_retrieval(Search(features[rows], gallery, people[rows], others, *cameras), rerank=True)

    assert score(junk, names) == score(gallery, others)


def test_a_gallery_smaller_than_k():
    (found,) = reranked_distances(torch.zeros(1, 2), torch.tensor([[1.0, 0], [0, 2]]))
    assert found.shape == (1, 2)
    assert found[0, 0] < found[0, 1]


@pytest.mark.parametrize("setting", [{"k1": 0, "k2": 2}, {"k2": 0}, {"k2": 30}, {"weight": 1.5}])
def test_settings_out_of_range_are_errors(setting):
    with pytest.raises(ValueError, match="k1 must be 1 or more"):
        reranked_distances(torch.zeros(2, 2), torch.ones(3, 2), **setting)


def test_where_all_are_in_one_place_nothing_is_found():
    descriptors, people = np.ones((6, 3), np.float32), np.arange(6)
    scores = evaluate_retrieval(
        Search(descriptors, descriptors, people, people, np.zeros(6, int), np.ones(6, int)), rerank=True
    )
    assert scores.cmc[1] == 0
