"""Scoring at the size of MARS: the same as the plain way, and in bounded memory."""

from dataclasses import replace

import numpy as np
import pytest

from backbone.metrics import evaluate_retrieval
from scripts.benchmark.scoring_cost import MARS_SIZE, ScoringCost, Size, draw_case, score_plainly, scoring_cost


@pytest.mark.parametrize("seed", range(3))
def test_the_plain_way_scores_the_same(seed):
    case = draw_case(Size(150, 900, 16), seed)
    scores = evaluate_retrieval(case)
    assert score_plainly(case) == pytest.approx((scores.cmc[1], scores.mean_average_precision), abs=1e-6)
    assert 5 < scores.cmc[1] < 95
    assert scores.num_queries_without_match > 0


def test_a_case_is_of_its_size_with_distractors_and_centres():
    case = draw_case(Size(700, 3000, 8))
    assert (tuple(case.query.shape), tuple(case.gallery.shape)) == ((700, 8), (3000, 8))
    assert (case.gallery_people == 0).mean() == pytest.approx(0.3)
    assert set(case.query_people.tolist()) == set(range(1, 635))
    assert set(np.concatenate([case.query_cameras, case.gallery_cameras]).tolist()) == set(range(1, 7))
    distances = (case.query[:, None] - case.gallery[None, :2100]).square().sum(2).numpy()
    is_same = case.query_people[:, None] == case.gallery_people[:2100]
    assert distances[is_same].mean() < 0.7 * distances[~is_same].mean()  # 2 against 4 of each number


@pytest.mark.slow
def test_scoring_mars_takes_less_than_1500_megabytes():
    """Two chunks of its queries are scored, as the others only add their own numbers in float64."""
    assert Size(1980, 11_310, 3072) == MARS_SIZE
    cost = scoring_cost("scoring", replace(MARS_SIZE, num_queries=512))
    assert cost.what == "scoring 512 x 11,310 of 3,072 numbers"
    # it is measured: there is at least the gallery in float64
    assert 8 * 11_310 * 3072 < cost.peak_bytes < 1.5e9 - 8 * (1980 - 512) * 3072
    assert cost.cpu_seconds > 0


@pytest.mark.parametrize(
    ("work", "what"),
    [
        ("re-ranking", "re-ranking 20 x 200 of 8 numbers"),
        ("ranking", "ranking 20 x 200 of 8 numbers, distances given"),
    ],
)
def test_its_parts_are_measured_too(work, what, runs_here):
    with runs_here():
        cost = scoring_cost(work, Size(20, 200, 8))
    assert cost.what == what
    assert min(cost.seconds, cost.cpu_seconds, cost.peak_bytes + 1) > 0


def test_a_cost_is_said_in_a_line():
    cost = ScoringCost("scoring", seconds=4.06, cpu_seconds=4.26, peak_bytes=2000 * 2**20)
    assert str(cost) == "scoring: 4.06 s, 4.26 CPU s, 2,000 MiB above what was given"
