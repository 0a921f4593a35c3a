"""The decision process against Algorithm 1, written out."""

import pytest
import torch
from torch.nn import functional

from a3d_env.bins import BinGrid
from a3d_env.process import AttentionProcess
from a3d_env.rewards import REWARDS, Verdict


def algorithm_1(feature_map, actions, glimpse, grid):
    """One episode on one feature map (C_g, L_g, H_g, W_g), actions (T - 1, 3): corners, h_1..h_T and logits.

    With T = 1 there are no actions, with T = 0 not even a first glimpse.
    """
    weights = glimpse.state_dict()

    def fc(name, value):
        return functional.linear(value, weights[f"{name}.weight"], weights[f"{name}.bias"])

    sizes = list(zip(grid.feature_size, grid.bin_size, strict=True))
    corner = [-(-(cells - size) // 2) for cells, size in sizes]  # the centre, rounded up
    hidden, corners, states = torch.zeros(256), [], []
    for step in range(glimpse.num_glimpses):
        if step > 0:
            corner = [
                round((min(max(value, -1), 1) + 1) / 2 * (cells - size))
                for value, (cells, size) in zip(actions[step - 1].tolist(), sizes, strict=True)
            ]
        window = tuple(slice(c, c + size) for c, size in zip(corner, grid.bin_size, strict=True))
        mean = feature_map[:, *window].mean((1, 2, 3))
        location = torch.tensor(
            [2 * c / (cells - size) - 1 for c, (cells, size) in zip(corner, sizes, strict=True)]
        )
        what = fc("embed_observation.what.2", fc("embed_observation.what.0", mean).relu())
        where = fc("embed_observation.where.2", fc("embed_observation.where.0", location).relu())
        hidden = torch.tanh(fc("embed_hidden.i2h", what + where) + fc("embed_hidden.h2h", hidden))
        corners.append(corner)
        states.append(hidden)
    logits = fc("identify", torch.cat([feature_map.mean((1, 2, 3)), *states]))
    return corners, torch.stack(states) if states else torch.zeros(0, 256), logits


@pytest.mark.parametrize("num_glimpses", [0, 1, 2, 4, 6])
@pytest.mark.parametrize("grid", [BinGrid(), BinGrid((3, 7, 5), (2, 3, 2), (8, 50, 33))])
def test_an_episode_is_algorithm_1(random_case, num_glimpses, grid):
    bank, glimpse = random_case(num_clips=3, num_glimpses=num_glimpses, grid=grid)
    feature_map = torch.randn(3, 5, *grid.feature_size, generator=torch.Generator().manual_seed(3))
    bank = bank.from_feature_map(feature_map, grid, bank.identity, bank.tracklet)
    clip = torch.tensor([2, 0, 1, 2, 2])  # several episodes a clip
    generator = torch.Generator().manual_seed(4)
    actions = 3 * torch.rand(max(num_glimpses - 1, 1), len(clip), 3, generator=generator) - 1.5

    process = AttentionProcess(bank, glimpse, "log_prob")
    assert process.num_decisions == len(actions)
    episodes = process.start(clip)
    for action in actions:
        assert not process.is_over(episodes)
        episodes = process.step(episodes, action)
    assert process.is_over(episodes)
    assert (episodes.bins.shape, episodes.bins.dtype) == ((5, num_glimpses), torch.int64)
    assert process.descriptor(episodes).shape == (5, 5 + 256 * num_glimpses)
    judgement = process.judge(episodes)

    for number in range(len(clip)):
        corners, states, logits = algorithm_1(feature_map[clip[number]], actions[:, number], glimpse, grid)
        truth = bank.identity[clip[number]]
        assert grid.corners[episodes.bins[number]].tolist() == corners
        torch.testing.assert_close(episodes.hidden[number], states, rtol=1e-4, atol=1e-5)
        probability = logits.softmax(0)
        assert judgement.identity[number] == logits.argmax()
        assert judgement.is_right[number] == (logits.argmax() == truth)
        torch.testing.assert_close(judgement.probability[number], probability.max(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(judgement.reward[number], probability[truth].log(), rtol=1e-4, atol=1e-5)


def test_observation_is_of_the_current_bin(random_case):
    bank, glimpse = random_case()
    process = AttentionProcess(bank, glimpse)
    episodes = process.look(process.start(torch.tensor([1, 3])), torch.tensor([0, 197]))
    observation = process.observe(episodes)
    assert torch.equal(observation["bin"], torch.stack([bank.bins[1, 0], bank.bins[3, 197]]))
    assert observation["location"].tolist() == [[-1, -1, -1], [1, 1, 1]]
    assert torch.equal(observation["hidden"], episodes.hidden[:, 1])
    assert (len(episodes), episodes.num_glimpses) == (2, 2)


@pytest.mark.parametrize("num_glimpses", [0, 1, 4])
def test_the_overview_is_always_in_sight(random_case, num_glimpses):
    grid = BinGrid(overview_counts=(2, 3, 1))
    process = AttentionProcess(*random_case(num_glimpses=num_glimpses, grid=grid))
    expected_bins = [grid.index([time, height, 3]) for time in (0, 2) for height in (0, 5, 10)]
    assert process.overview_locations.tolist() == grid.locations[expected_bins].tolist()
    episodes = process.start(torch.tensor([1, 3]))
    while not process.is_over(episodes):
        episodes = process.look(episodes, torch.tensor([0, 197]))
        shown = process.observe(episodes)["overview"]
        assert torch.equal(shown.view(2, 6, 5), process.bank.bins[[1, 3]][:, expected_bins])
    assert AttentionProcess(*random_case()).overview_locations.shape == (0, 3)


def test_observations_tell_what_was_looked_at_if_asked_to(random_case):
    grid = BinGrid(overview_counts=(2, 3, 1), shows_looked=True)
    process = AttentionProcess(*random_case(grid=grid))
    episodes = process.start(torch.tensor([1, 3]))
    for seen in ([], [0], [0, 30], [0, 30, 197]):
        if seen:
            episodes = process.look(episodes, torch.tensor([seen[-1], 50]))
        for row, bins in enumerate(([grid.centre, *seen], [grid.centre, *[50] * bool(seen)])):
            shares = [
                max(float(grid.overlap(torch.tensor(one), place)) for one in bins) for place in grid.overview
            ]
            assert process.observe(episodes)["looked"][row].tolist() == pytest.approx(shares)
    nowhere = AttentionProcess(*random_case(grid=grid, num_glimpses=0))
    assert nowhere.observe(nowhere.start(torch.tensor([1])))["looked"].tolist() == [[0.0] * 6]
    silent = AttentionProcess(*random_case(grid=BinGrid(overview_counts=(2, 3, 1))))
    assert "looked" not in silent.observe(silent.start(torch.tensor([1])))
    with pytest.raises(ValueError, match="shows_looked=True"):
        silent.looked(torch.tensor([[0]]))


def test_without_glimpses_the_centre_is_shown_and_only_the_global_feature_is_judged(random_case):
    bank, glimpse = random_case(num_glimpses=0)
    process = AttentionProcess(bank, glimpse, "log_prob")
    episodes = process.start(torch.tensor([1, 3]))
    first, centre = process.observe(episodes), bank.grid.centre
    assert torch.equal(first["bin"], bank.bins[[1, 3], centre])
    assert torch.equal(first["location"], bank.grid.locations[[centre, centre]])
    assert torch.equal(first["hidden"], torch.zeros(2, 256))
    over = process.step(episodes, torch.ones(2, 3))
    for name, value in process.observe(over).items():
        assert torch.equal(value, first[name])
    logits = bank.global_feature[[1, 3]] @ glimpse.identify.weight.T + glimpse.identify.bias
    expected = logits.log_softmax(1)[[0, 1], bank.identity[[1, 3]]]
    torch.testing.assert_close(process.judge(over).reward, expected)


def test_with_one_glimpse_the_step_changes_nothing(random_case):
    process = AttentionProcess(*random_case(num_glimpses=1))
    episodes = process.start(torch.tensor([1, 3]))
    over = process.step(episodes, torch.ones(2, 3))
    assert over.bins.tolist() == [[process.bank.grid.centre]] * 2
    assert torch.equal(over.hidden, episodes.hidden)
    assert (process.is_over(episodes), process.is_over(over)) == (False, True)


@pytest.mark.parametrize("num_glimpses", [0, 1, 4])
@pytest.mark.parametrize("num_channels", [5, 19, 2048])
@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_batched_is_single_bit_for_bit(random_case, num_channels, count, num_glimpses):
    bank, glimpse = random_case(num_channels, num_clips=3, num_glimpses=num_glimpses, num_identities=151)
    process = AttentionProcess(bank, glimpse, "glimpses" if num_glimpses else "log_prob")
    generator = torch.Generator().manual_seed(count)
    clip = torch.randint(3, (count,), generator=generator)
    actions = 2 * torch.rand(max(num_glimpses - 1, 1), count, 3, generator=generator) - 1

    def play(rows):
        episodes = process.start(clip[rows])
        for action in actions:
            episodes = process.step(episodes, action[rows])
        return episodes, process.judge(episodes)

    together, judged = play(slice(None))
    for number in range(count):
        alone, judged_alone = play(slice(number, number + 1))
        assert torch.equal(alone.hidden[0], together.hidden[number])
        assert torch.equal(alone.bins[0], together.bins[number])
        for name in ("identity", "probability", "is_right", "reward"):
            assert torch.equal(getattr(judged_alone, name)[0], getattr(judged, name)[number])


@pytest.mark.parametrize("reward", REWARDS)
def test_the_judgement_agrees_with_the_reward(random_case, reward):
    bank, glimpse = random_case(num_clips=12)
    process = AttentionProcess(bank, glimpse, reward)
    episodes = process.start(torch.arange(12))
    while not process.is_over(episodes):
        episodes = process.look(episodes, episodes.bins[:, -1])
    logits = glimpse.identify(process.descriptor(episodes))
    verdict = Verdict(logits, bank.identity, bank.global_feature, episodes.hidden, glimpse)
    torch.testing.assert_close(process.judge(episodes).reward, REWARDS[reward](verdict))


def test_logits_closer_than_the_softmax_tells_give_one_answer(random_case):
    bank, glimpse = random_case(num_clips=1, num_identities=2)
    bank.identity = torch.tensor([1])
    with torch.no_grad():
        glimpse.identify.weight.zero_()
        glimpse.identify.bias.copy_(torch.tensor([0, 1e-9]))
    process = AttentionProcess(bank, glimpse)
    episodes = process.start(torch.tensor([0]))
    while not process.is_over(episodes):
        episodes = process.look(episodes, torch.tensor([0]))
    judgement = process.judge(episodes)
    assert (judgement.identity.item(), judgement.is_right.item(), judgement.reward.item()) == (1, True, 1)


def test_parts_that_do_not_fit_are_errors(random_case):
    bank, _ = random_case(5)
    _, glimpse = random_case(6)
    with pytest.raises(ValueError, match="features have 5 numbers, the glimpse network takes 6"):
        AttentionProcess(bank, glimpse)
    with pytest.raises(ValueError, match="unknown reward 'luck'"):
        AttentionProcess(bank, random_case(5)[1], "luck")


def test_identities_outside_the_heads_are_an_error(random_case):
    bank, _ = random_case(5, num_identities=4)
    with pytest.raises(ValueError, match=r"identities run from 0 to 3, the glimpse network's from 0 to 2"):
        AttentionProcess(bank, random_case(5, num_identities=3)[1])
