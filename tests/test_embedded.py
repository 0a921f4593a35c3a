"""A glimpse by the table of embedded bins is the glimpse network's, and follows its weights."""

import copy

import pytest
import torch

from a3d_env.process import AttentionProcess


@pytest.fixture
def frozen(random_case):
    bank, glimpse = random_case(19, num_clips=3)
    return bank, glimpse.requires_grad_(False)


def play(process):
    episodes = process.start(torch.tensor([0, 2, 2, 1]))
    for bins in ([0, 5, 5, 197], [3, 5, 9, 197], [0, 0, 0, 0]):
        episodes = process.look(episodes, torch.tensor(bins))
    return episodes.hidden


def test_the_table_gives_the_networks_hidden_states(frozen):
    fast, exact = (AttentionProcess(*frozen, exact=exact) for exact in (False, True))
    for _ in range(2):  # the second time from the table
        torch.testing.assert_close(play(fast), play(exact), rtol=0, atol=1e-6)
    table = fast._embedded_bins()
    assert table.is_known.sum() == 3 + 7  # the centres; (0, 0), (2, 5), (1, 197), (0, 3), (2, 9), (2, 0), (1, 0)
    assert exact._embedded_bins() is None


def test_new_weights_and_features_begin_a_new_table(frozen):
    bank, glimpse = frozen
    fast, exact = (AttentionProcess(bank, glimpse, exact=exact) for exact in (False, True))
    play(fast)
    for change in (lambda: glimpse.embed_hidden.h2h.weight.mul_(2), lambda: bank.bins.mul_(-1)):
        change()
        torch.testing.assert_close(play(fast), play(exact), rtol=0, atol=2e-6)
    glimpse.load_state_dict({name: value / 3 for name, value in glimpse.state_dict().items()})
    torch.testing.assert_close(play(fast), play(exact), rtol=0, atol=2e-6)


def test_features_and_networks_that_take_others_place_begin_a_new_table(frozen, random_case):
    bank, glimpse = copy.copy(frozen[0]), frozen[1]
    fast, exact = (AttentionProcess(bank, glimpse, exact=exact) for exact in (False, True))
    play(fast)
    bank.bins = 2 * bank.bins
    torch.testing.assert_close(play(fast), play(exact), rtol=0, atol=2e-6)
    glimpse.embed_observation = random_case(19, seed=1)[1].requires_grad_(False).embed_observation
    torch.testing.assert_close(play(fast), play(exact), rtol=0, atol=2e-6)


def test_a_table_of_inference_mode_goes_on_without_it_and_a_copy_has_none(frozen):
    fast, exact = (AttentionProcess(*frozen, exact=exact) for exact in (False, True))
    with torch.inference_mode():
        fast.start(torch.tensor([0]))
    torch.testing.assert_close(play(fast), play(exact), rtol=0, atol=1e-6)
    assert fast._embedded is not None
    assert copy.copy(fast)._embedded is None


def test_a_network_that_learns_has_no_table(random_case):
    process = AttentionProcess(*random_case(), exact=False)
    process.start()
    assert process._embedded_bins() is None
