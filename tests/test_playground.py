"""The made-up bank: the same each time, hopeless for who looks nowhere, won by who looks right."""

import numpy as np
import pytest
import torch

from a3d_env.playground import _compute, playground
from a3d_env.process import AttentionProcess


@pytest.fixture(scope="module")
def large():
    return playground(num_clips=256)


def success(bank, glimpse, choose):
    """Play two episodes on each clip, choose(step) the bins (N,), and return the share of right answers."""
    process = AttentionProcess(bank, glimpse)
    episodes = process.start(torch.arange(len(bank)).repeat(2))
    while not process.is_over(episodes):
        episodes = process.look(episodes, choose(episodes))
    return process.judge(episodes).is_right.float().mean().item()


@pytest.mark.slow
def test_it_is_the_same_each_time_and_leaves_the_generator_alone(played):
    state = torch.get_rng_state()
    _compute.cache_clear()
    bank, glimpse = playground()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(bank.bins, played[0].bins)
    assert all(torch.equal(a, b) for a, b in zip(glimpse.parameters(), played[1].parameters(), strict=True))
    assert not torch.equal(bank.bins, playground(seed=1)[0].bins)


def test_no_call_sees_what_another_did_to_its_copy():
    bank, glimpse = playground()
    bank.bins.zero_()
    glimpse.identify.weight.zero_()
    bank, glimpse = playground()
    assert bank.bins.any()
    assert glimpse.identify.weight.any()


def test_its_parts(played):
    bank, glimpse = played
    assert (len(bank), bank.num_channels, glimpse.num_glimpses, glimpse.num_identities) == (64, 19, 4, 8)
    assert bank.identity.bincount().tolist() == [8] * 8
    assert not any(p.requires_grad for p in glimpse.parameters())
    assert not bank.global_feature.any()
    small, glimpse = playground(num_clips=6, num_identities=3, num_glimpses=2)
    assert (len(small), glimpse.num_glimpses, glimpse.num_identities) == (6, 2, 3)


def test_the_truth_is_where_the_code_is(played):
    bank, _ = played
    energy = bank.bins[:, :, :16].square().sum(2).numpy()  # of the identity's code
    for clip in range(len(bank)):
        assert bank.hits[clip, energy[clip].argmax()]
    assert 0.02 < bank.hits.mean() < 0.5
    # three frames of 32 x 16 pixels, in another colour than the room
    seen = ~np.isnan(bank.truth_boxes[:, :, 0, 0])
    assert (seen.sum(1) == 3).all()
    for clip, frame in zip(*np.nonzero(seen), strict=True):
        x0, y0, x1, y1 = bank.truth_boxes[clip, frame, 0].astype(int)
        assert (x1 - x0, y1 - y0) == (16, 32)
        differs = (bank.frames[clip, frame] != 90).any(2)
        assert differs.sum() == 16 * 32
        assert differs[y0:y1, x0:x1].all()
    assert (bank.frames[~seen] == 90).all()


def test_looking_right_beats_random_which_beats_looking_nowhere(large):
    bank, glimpse = large
    generator = torch.Generator().manual_seed(0)
    hits = torch.from_numpy(bank.hits).float()

    def truth(episodes):
        return torch.multinomial(hits[episodes.clip], 1, generator=generator)[:, 0]

    def anywhere(episodes):
        return torch.randint(bank.grid.num_bins, (len(episodes),), generator=generator)

    def nowhere(episodes):
        return torch.multinomial(1 - hits[episodes.clip], 1, generator=generator)[:, 0]

    right, random, wrong = (success(bank, glimpse, choose) for choose in (truth, anywhere, nowhere))
    assert right > 0.9
    assert right > random + 0.2
    assert random > wrong + 0.1
    assert random > 1 / 8 + 0.1


def test_every_cell_says_where_the_truth_is(large):
    """One glimpse anywhere is enough to know where to look next."""
    bank, glimpse = large
    grid = bank.grid
    free = torch.tensor([3, 12, 6])  # the thing's last corner: 6 - 3, 16 - 4, 8 - 2
    corner = (bank.bins[:, grid.centre, 16:] / 2 + 1) / 2 * free
    middle = corner + torch.tensor([1.5, 2, 1])
    wanted = middle - torch.tensor([2, 3, 1.5])  # the corner of a bin around it
    action = 2 * wanted / torch.tensor([2, 10, 5]) - 1
    assert bank.hits[np.arange(len(bank)), grid.nearest(action)].all()
    assert success(bank, glimpse, lambda episodes: grid.nearest(action[episodes.clip])) > 0.9
