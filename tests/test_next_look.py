"""Every bin as the next look: what it pays and what retrieval gains, by hand."""

from types import SimpleNamespace

import numpy as np
import torch

from a3d_env.bins import BinGrid
from a3d_env.process import AttentionProcess
from backbone.descriptor import Comparison
from scripts.probe.next_look import NextLooks, correlation, reciprocal_rank
from scripts.probe.places import mean_places


def test_the_rank_of_the_first_match_is_behind_misses_of_its_score():
    scores = torch.tensor([5.0, 4.0, 3.0, 3.0, 1.0])
    match = torch.tensor([[0, 0, 1, 0, 1], [1, 0, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 0, 0]]).bool()
    miss = torch.tensor([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1], [0, 1, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
    found = reciprocal_rank(scores.expand(4, 5), match, miss)
    # Two nearer and a tie before it; first; one nearer, as the others do not count; nothing to find.
    np.testing.assert_allclose(found, [1 / 4, 1, 1 / 2, np.nan])


def test_the_correlation_of_rows_by_hand():
    first = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 4.0], [1.0, 2.0, 3.0], [0.1, 0.1, 0.1]])
    second = torch.tensor(
        [[2.0, 4.0, 6.0], [3.0, 2.0, 1.0], [0.0, 1.0, 0.0], [5.0, torch.nan, 5.0], [1.0, 2.0, 3.0]]
    )
    # Of the third row: deviations -4/3, -1/3, 5/3 and -1/3, 2/3, -1/3.
    expected = [1, -1, -(1 / 3) / (42 / 9 * 6 / 9) ** 0.5, np.nan, np.nan]
    np.testing.assert_allclose(correlation(first, second), expected, rtol=1e-6)


def test_each_bin_is_tried_as_the_next_look_and_retrieval_gains_by_it(random_case):
    """The gallery is what clip 0 shows at bin 3 (its person) and at bin 5 (another); clip 1 shows nobody in it."""
    grid = BinGrid((2, 3, 4), (1, 2, 3), (2, 6, 8))  # 2 x 2 x 2 bins
    bank, glimpse = random_case(num_clips=2, num_glimpses=2, grid=grid)
    process = AttentionProcess(bank, glimpse, "margin")
    clip, looks = torch.zeros(8, dtype=torch.long), torch.arange(8)
    ends = process.look(process.start(clip), looks)
    described, paid = process.descriptor(ends), process.judge(ends).reward
    queries, gallery = (
        [SimpleNamespace(person=person, camera=camera, clothes=None) for person in people]
        for camera, people in ((1, [7, 9]), (2, [7, 8]))
    )
    comparison = Comparison("concatenation", bank.num_channels, 2, 256)
    representation = SimpleNamespace(comparison=comparison, device=torch.device("cpu"))
    clips = SimpleNamespace(
        run=SimpleNamespace(representation=representation, grid=grid),
        tracklets=queries,
        tracklet=np.array([0, 1]),
    )
    locations = grid.locations[torch.tensor([5, 0])][:, None]
    tried = NextLooks(clips, gallery, described[[3, 5]], locations)
    best = tried.best_bins(process, torch.arange(2), torch.arange(2), lambda now: now.bins[:, -1])

    distance = torch.cdist(described, described[[3, 5]])
    rank = torch.where(distance[:, 0] < distance[:, 1], 1.0, 0.5)
    assert rank[[3, 5]].tolist() == [1, 0.5]
    reward, gain = tried.maps()
    assert gain.shape == (2, 2, 2)
    np.testing.assert_allclose(gain.reshape(-1), rank - 0.5)  # the agent looked at bin 5; clip 1 has no gain
    others = process.judge(process.look(process.start(clip + 1), looks)).reward
    np.testing.assert_allclose(reward.reshape(-1), (paid + others) / 2, rtol=1e-5, atol=1e-5)
    expected = np.corrcoef(paid, rank)[0, 1]
    np.testing.assert_allclose(tried.correlation, [expected, np.nan], rtol=1e-4)
    log_prob = AttentionProcess(bank, glimpse, "log_prob").judge(ends).reward
    assert best.bins[0, 1] == log_prob.argmax()


def test_maps_are_averaged_over_runs_of_the_same_bins():
    one, two = {"reward": np.zeros((1, 2, 2)), "gain": np.ones((1, 2, 2))}, {"reward": np.ones((1, 2, 2))}
    assert {name: found.tolist() for name, found in mean_places([one, two]).items()} == {
        "reward": [[[0.5] * 2] * 2]
    }
    assert mean_places([one, {"reward": np.ones((1, 2, 3))}]) == {}
