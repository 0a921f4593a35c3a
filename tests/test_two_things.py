"""People named by two things: others carry each of them, and the truth looks at both in turn."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid
from a3d_env.process import AttentionProcess
from agents.oracles import truth_bins
from agents.rollout import finish, found_shares, hit_shares, overlap_shares
from backbone.data.sets import synthetic as module
from backbone.data.sets.drawing import PLACES
from backbone.data.sets.synthetic import read_synthetic
from backbone.data.sets.synthetic_settings import FAR_APART, SyntheticConfig, benchmark, two_things
from backbone.glimpse import GlimpseNetwork

GRID = BinGrid(feature_size=(2, 4, 2), bin_size=(1, 2, 1), clip_size=(2, 16, 8))


def test_pairs_name_people_and_one_thing_leaves_a_few():
    people = module._people(two_things())
    pairs = [(one.top, one.bottom, one.things) for one in people]
    assert len(set(pairs)) == len(people) == 440
    for one in people:
        heights = [PLACES[thing.place][1] for thing in one.things]
        assert len(one.things) == 2
        assert abs(heights[0] - heights[1]) >= FAR_APART
    test = people[240:]
    alike = Counter((one.top, one.bottom, thing) for one in test for thing in one.things)
    others = [alike[one.top, one.bottom, thing] - 1 for one in test for thing in one.things]
    assert 2 < np.mean(others) < 5  # who share clothes and that thing


def test_each_thing_has_a_box_and_they_come_into_sight_at_their_own_times(tmp_path):
    config = replace(two_things(), num_train_people=20, num_test_people=4, tracklets_per_camera=1)
    train, _ = read_synthetic(config, tmp_path)
    boxes = np.stack([one.truth_boxes for one in train])
    assert boxes.shape == (40, 12, 2, 4)
    seen = ~np.isnan(boxes[..., 0])
    assert 0.5 < seen[..., 0].mean() < 0.72
    assert 0.5 < seen[..., 1].mean() < 0.72
    assert abs(np.corrcoef(seen[..., 0].ravel(), seen[..., 1].ravel())[0, 1]) < 0.3
    heights = boxes[..., 1]  # of both things where both are in sight: apart
    assert np.nanmin(np.abs(heights[..., 0] - heights[..., 1])) > 0.2


def test_drawings_of_one_thing_keep_their_names():
    """The key of the benchmark's drawings is that of before there were two things."""
    assert benchmark().key == "synthetic-ebcbafbac3e3fd7e"
    assert two_things().key != "synthetic-ebcbafbac3e3fd7e"


@pytest.mark.parametrize("config", [two_things(), SyntheticConfig(num_colours=3)])
def test_no_more_people_than_looks_are_drawn(config):
    looks = config.num_outfits * len(config.all_things())
    with pytest.raises(ValueError, match=f"at most {looks} looks"):
        replace(config, num_test_people=looks + 1)


def test_more_than_two_are_refused():
    with pytest.raises(ValueError, match="num_things must be 1 or 2, got 3"):
        SyntheticConfig(num_things=3)


def bank_of(boxes) -> FeatureBank:
    count = len(boxes)
    torch.manual_seed(0)
    features = torch.randn(count, 3, *GRID.feature_size)
    names = [str(number) for number in range(count)]
    return FeatureBank.from_feature_map(features, GRID, torch.zeros(count, dtype=torch.long), names, boxes)


def things(*seen: tuple[bool, bool]) -> np.ndarray:
    """Return boxes of two things, at the top left and the bottom right, in the first frame, if they are seen."""
    boxes = np.full((len(seen), 2, 2, 4), np.nan)
    for clip, (first, second) in enumerate(seen):
        if first:
            boxes[clip, 0, 0] = [0, 0, 4, 4]
        if second:
            boxes[clip, 0, 1] = [4, 12, 8, 16]
    return boxes


def test_the_truth_looks_at_things_in_turn_and_passes_over_hidden_ones():
    bank = bank_of(things((True, True), (False, True), (False, False)))
    process = AttentionProcess(bank, GlimpseNetwork(3, 4, 2))
    bins = finish(process, process.start(), truth_bins(process)).bins
    corners = GRID.corners[bins[:, 1:]]  # (clips, glimpses, 3)
    top_left, bottom_right = [0, 0, 0], [0, 2, 1]
    assert corners[0].tolist() == [top_left, bottom_right, top_left]
    assert corners[1].tolist() == [bottom_right] * 3
    assert bins[2].tolist() == [GRID.centre] * 4


def test_found_counts_things_and_overlap_pairs_by_hand():
    bank = bank_of(things((True, True), (False, True)))
    process = AttentionProcess(bank, GlimpseNetwork(3, 4, 2))
    top_left, half = (GRID.chosen(torch.tensor([corner]))[0] for corner in ([0, 0, 0], [0, 1, 0]))
    # `half` has one of two rows in common with the first
    chosen = iter([torch.stack([top_left, top_left]), torch.stack([half, top_left]), torch.stack([half, half])])
    episodes = finish(process, process.start(), lambda now: next(chosen))
    assert found_shares(bank, episodes).tolist() == [0.5, 0.0]
    assert hit_shares(bank, episodes)[1] == 0
    # pairs: (first, half) 0.5, (first, half) 0.5, (half, half) 1; and (first, first) 1, twice 0.5
    assert overlap_shares(bank, episodes).tolist() == pytest.approx([2 / 3, 2 / 3])
