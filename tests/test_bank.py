"""The bank's parts, and the errors of those that do not fit."""

import dataclasses

import numpy as np
import pytest
import torch

from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid

GRID = BinGrid((2, 3, 2), (1, 2, 1), (2, 6, 4))


@pytest.fixture
def parts():
    return {
        "grid": GRID,
        "bins": torch.zeros(3, GRID.num_bins, 5),
        "global_feature": torch.zeros(3, 5),
        "identity": torch.tensor([0, 1, 2]),
        "tracklet": ["a", "b", "c"],
        "frames": np.zeros((3, 2, 6, 4, 3), dtype=np.uint8),
        "truth_boxes": np.full((3, 2, 4), np.nan),
    }


def test_from_feature_map_pools_and_forgets_gradients():
    feature_map = torch.arange(24.0).reshape(2, 1, 2, 3, 2).requires_grad_()
    bank = FeatureBank.from_feature_map(feature_map, GRID, torch.tensor([3, 4]), ["a", "b"])
    # clip 1 holds 12 to 23; a bin is two cells below each other, which are 2 apart
    assert bank.bins[1, :, 0].tolist() == [13, 14, 15, 16, 19, 20, 21, 22]
    assert bank.global_feature.tolist() == [[5.5], [17.5]]
    assert bank.identity.tolist() == [3, 4]
    assert bank.bins.requires_grad
    assert bank.global_feature.requires_grad
    assert not bank.detached().bins.requires_grad
    assert not bank.detached().global_feature.requires_grad
    assert (len(bank), bank.num_channels, bank.device.type) == (2, 1, "cpu")
    assert bank.hits is None


def test_a_pooled_global_feature_takes_the_place_of_the_mean(parts):
    feature_map, pooled = torch.randn(3, 5, 2, 3, 2), torch.randn(3, 5)
    identity, tracklet = parts["identity"], parts["tracklet"]
    bank = FeatureBank.from_feature_map(feature_map, GRID, identity, tracklet, global_feature=pooled)
    assert bank.global_feature is pooled
    with pytest.raises(ValueError, match=r"FeatureBank\.global_feature has shape \(2, 5\)"):
        FeatureBank.from_feature_map(feature_map, GRID, identity, tracklet, global_feature=pooled[:2])


def test_hits_are_the_grids(parts):
    parts["truth_boxes"][1, 0] = [2, 0, 4, 4]  # frame 0, right column, upper two cells
    hits = FeatureBank(**parts).hits
    expected = np.zeros((3, GRID.num_bins), dtype=bool)
    expected[1, [GRID.index([0, 0, 1]), GRID.index([0, 1, 1])]] = True  # the second covers half of it
    np.testing.assert_array_equal(hits, expected)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("bins", torch.zeros(3, GRID.num_bins + 1, 5)),
        ("global_feature", torch.zeros(3, 4)),
        ("identity", torch.zeros(2, dtype=torch.long)),
        ("tracklet", ["a", "b"]),
        ("frames", np.zeros((3, 2, 6, 5, 3), dtype=np.uint8)),
        ("truth_boxes", np.zeros((3, 3, 4))),
    ],
)
def test_parts_that_do_not_fit_are_named(parts, name, wrong):
    with pytest.raises(ValueError, match=rf"FeatureBank\.{name} has shape"):
        FeatureBank(**{**parts, name: wrong})


def test_frames_and_truth_may_be_missing(parts):
    bank = dataclasses.replace(FeatureBank(**parts), frames=None, truth_boxes=None)
    assert bank.hits is None


def test_a_blank_bank_is_one_clip_of_zeros():
    bank = FeatureBank.blank(GRID, 7)
    assert (len(bank), bank.num_channels) == (1, 7)
    assert bank.bins.shape == (1, GRID.num_bins, 7)
    assert not bank.bins.any()
    assert not bank.global_feature.any()
