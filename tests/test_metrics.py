"""Retrieval scores against hand-computed numbers and an obvious loop."""

import numpy as np
import pytest
import torch

from backbone.metrics import AVERAGE_PRECISION, RetrievalScores, Search, evaluate_retrieval


def retrieval_loop(query, gallery, query_people, gallery_people, query_cameras, gallery_cameras, official):
    """The scores as one would say them; returns R1, R5, R10, R20, mAP, mINP and the queries scored."""
    first_ranks, precisions, penalties = [], [], []
    for q in range(len(query)):
        ranking = []  # (distance, is a match): at one distance, misses (False) sort first
        for g in range(len(gallery)):
            same_person = query_people[q] == gallery_people[g]
            if gallery_people[g] == -1 or (same_person and query_cameras[q] == gallery_cameras[g]):
                continue
            ranking.append((float(np.square(query[q] - gallery[g]).sum()), bool(same_person)))
        ranking.sort()
        if not any(match for _, match in ranking):
            continue
        num_matches, precision_before, total, first_rank = 0, 1.0, 0.0, None
        for rank, (_, match) in enumerate(ranking, start=1):
            num_matches += match
            precision = num_matches / rank
            if match:
                total += (precision + precision_before) / 2 if official else precision
                first_rank = first_rank or rank
                last_rank = rank
            precision_before = precision
        first_ranks.append(first_rank)
        precisions.append(total / num_matches)
        penalties.append(num_matches / last_rank)
    cmc = [100 * np.mean([rank <= k for rank in first_ranks]) for k in (1, 5, 10, 20)]
    return [*cmc, 100 * np.mean(precisions), 100 * np.mean(penalties)], len(first_ranks)


def random_case(seed: int, num_queries: int = 40, num_gallery: int = 150):
    """Descriptors of few small integers (exact, with many ties), junk, and every camera for everyone."""
    rng = np.random.default_rng(seed)
    query = rng.integers(-2, 3, (num_queries, 4)).astype(np.float32)
    gallery = rng.integers(-2, 3, (num_gallery, 4)).astype(np.float32)
    gallery[: num_queries // 2] = query[: num_queries // 2]
    return (
        query,
        gallery,
        rng.integers(0, 30, num_queries),
        rng.integers(-1, 30, num_gallery),
        rng.integers(1, 3, num_queries),
        rng.integers(1, 3, num_gallery),
    )


@pytest.mark.parametrize("average_precision", AVERAGE_PRECISION)
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_loop(seed: int, average_precision: str) -> None:
    case = random_case(seed)
    expected, num_queries = retrieval_loop(*case, official=average_precision == "official")
    scores = evaluate_retrieval(Search(*case), average_precision=average_precision)
    assert [*scores.as_dict().values()] == pytest.approx(expected)
    assert (scores.num_queries, scores.num_queries_without_match) == (num_queries, 40 - num_queries)


@pytest.mark.parametrize("chunk_size", [1, 7, 40, 1000])
def test_chunk_size_changes_nothing(chunk_size: int) -> None:
    search = Search(*random_case(0))
    assert evaluate_retrieval(search, chunk_size=chunk_size) == evaluate_retrieval(search)


def test_tensors_equal_arrays() -> None:
    case = random_case(0)
    from_tensors = evaluate_retrieval(Search(*map(torch.from_numpy, case)))
    assert from_tensors == evaluate_retrieval(Search(*case))


def test_by_hand() -> None:
    # One query of person 7 by camera 1 at 0, and a gallery in the order of distance:
    # same camera (dropped), miss, junk (dropped), match, miss, match: the matches rank 2 and 4.
    gallery = np.arange(6, dtype=np.float32)[:, None]
    people, cameras = [7, 3, -1, 7, 0, 7], [1, 1, 2, 2, 2, 3]
    search = Search(np.zeros((1, 1), np.float32), gallery, [7], people, [1], cameras)
    assert evaluate_retrieval(search, ranks=(1, 2)) == RetrievalScores(
        cmc={1: 0.0, 2: 100.0},
        mean_average_precision=100 * (1 / 2 + 2 / 4) / 2,
        mean_inverse_penalty=100 * 2 / 4,
        num_queries=1,
        num_queries_without_match=0,
    )
    # The same behind a query without a match: what each query scored says which one it was.
    descriptors, ids = np.zeros((2, 1), np.float32), ([5, 7], people, [1, 1], cameras)
    each = evaluate_retrieval(Search(descriptors, gallery, *ids))
    assert (each.queries.tolist(), each.first_ranks.tolist(), each.average_precisions.tolist()) == (
        [1],
        [2],
        [0.5],
    )
    official = evaluate_retrieval(search, average_precision="official")
    assert official.mean_average_precision == pytest.approx(100 * ((1 / 2 + 0) / 2 + (2 / 4 + 1 / 3) / 2) / 2)
    assert official.as_dict().keys() == {"R1", "R5", "R10", "R20", "mAP", "mINP"}


@pytest.mark.parametrize("average_precision", AVERAGE_PRECISION)
def test_perfect_descriptors_score_100(average_precision: str) -> None:
    people = np.repeat(np.arange(50), 2)
    descriptors = np.eye(50, dtype=np.float32)[people]
    search = Search(descriptors, descriptors, people, people, np.ones(100, int), np.full(100, 2))
    scores = evaluate_retrieval(search, average_precision=average_precision)
    assert set(scores.as_dict().values()) == {100.0}


@pytest.mark.parametrize("num_gallery", [50, 1001])
@pytest.mark.parametrize("num_numbers", [1, 37, 256])
def test_collapsed_descriptors_score_near_zero(num_gallery: int, num_numbers: int) -> None:
    # A plain matrix product rounds equal columns differently here, and so breaks ties by chance.
    descriptor = np.random.default_rng(0).normal(size=num_numbers).astype(np.float32)
    people = np.arange(num_gallery)
    descriptors = np.tile(descriptor, (num_gallery, 1))
    query = np.random.default_rng(1).normal(size=(num_gallery, num_numbers)).astype(np.float32)
    for queries in (descriptors, query):
        cameras = np.ones(num_gallery, int), np.full(num_gallery, 2)
        scores = evaluate_retrieval(Search(queries, descriptors, people, people, *cameras))
        assert scores.cmc == {1: 0, 5: 0, 10: 0, 20: 0}
        assert scores.mean_average_precision == pytest.approx(100 / num_gallery)


def test_far_from_the_origin() -> None:
    query, gallery, *ids = random_case(0)
    far = Search(query + 4096, gallery + 4096, *ids)
    assert evaluate_retrieval(far) == evaluate_retrieval(Search(query, gallery, *ids))


def test_arguments_stay_as_they_are() -> None:
    case = random_case(0)
    copies = [array.copy() for array in case]
    evaluate_retrieval(Search(*case))
    for array, copy in zip(case, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


NAMES = ("query", "gallery", "query_people", "gallery_people", "query_cameras", "gallery_cameras")


@pytest.mark.parametrize("index", range(6), ids=NAMES)
def test_length_mismatch_names_the_argument(index: int) -> None:
    case = list(random_case(0))
    case[index] = case[index][:-1]
    with pytest.raises(ValueError, match=NAMES[index].split("_")[0]):
        evaluate_retrieval(Search(*case))


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_descriptors_must_be_finite(index: int, bad: float) -> None:
    case = list(random_case(0))
    case[index][3, 2] = bad
    with pytest.raises(ValueError, match=f"{NAMES[index]} must be finite, got NaN or infinity in 1 of"):
        evaluate_retrieval(Search(*case))


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"query": np.zeros(40, np.float32)}, r"query must be .* got torch.float32 of shape \(40,\)"),
        ({"gallery": np.zeros((150, 4), int)}, r"gallery must be floating-point .* got torch.int64"),
        ({"gallery": np.zeros((150, 3), np.float32)}, r"got \(40, 4\) and \(150, 3\)"),
        ({"query_people": np.zeros(40)}, r"query_people must be 40 integers, .* got float64"),
        ({"gallery_cameras": np.zeros((150, 8), int)}, r"gallery_cameras must be 150 .* shape \(150, 8\)"),
        ({"query_people": np.full(40, 99)}, "none of the 40 queries has a match"),
        ({"ranks": (0, 1)}, r"ranks must be .* got \(0, 1\)"),
        ({"chunk_size": 0}, "chunk_size must be 1 or more, got 0"),
        ({"average_precision": "coco"}, "'coco': known are standard, official"),
    ],
)
def test_errors(replaced: dict, message: str) -> None:
    options = {name: value for name, value in replaced.items() if name not in NAMES}
    parts = {name: value for name, value in replaced.items() if name in NAMES}
    with pytest.raises(ValueError, match=message):
        evaluate_retrieval(Search(*random_case(0))._replace(**parts), **options)
