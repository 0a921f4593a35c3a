"""The batched environment is the single one, many times."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import (
    DictInfoToList,
    FilterObservation,
    FlattenObservation,
    NormalizeObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
    RescaleAction,
)

from a3d_env.bins import BinGrid
from a3d_env.env import Attention3DEnv
from a3d_env.vector import Attention3DVectorEnv


def assert_same(batched, singles):
    """Assert that a batched dictionary, its masks left out, holds what the single ones do, exactly."""
    batched = {name: value for name, value in batched.items() if not name.startswith("_")}
    for number, single in enumerate(singles):
        assert batched.keys() == single.keys()
        for name, value in single.items():
            np.testing.assert_array_equal(batched[name][number], value)


@pytest.mark.slow
@pytest.mark.parametrize("num_envs", [1, 2, 7, 64])
@pytest.mark.parametrize("reward", ["log_prob", "glimpses"])
@pytest.mark.parametrize("overview", [None, (2, 3, 2)])
@pytest.mark.parametrize(("num_channels", "num_glimpses"), [(19, 4), (2048, 4), (19, 1), (19, 0)])
def test_batched_is_single_bit_for_bit_with_seeds_and_autoreset(
    random_case, num_envs, reward, overview, num_channels, num_glimpses
):
    if num_glimpses == 0 and reward == "glimpses":
        pytest.skip("there is no glimpse to reward")
    parts = *random_case(num_channels, 3, num_glimpses, num_identities=101), reward
    length = max(num_glimpses - 1, 1)
    vector = Attention3DVectorEnv(num_envs, *parts, overview=overview, exact=True)
    singles = [Attention3DEnv(*parts, overview=overview) for _ in range(num_envs)]
    observation, info = vector.reset(seed=5)
    starts = [env.reset(seed=5 + number) for number, env in enumerate(singles)]
    assert_same(observation, [start[0] for start in starts])
    assert_same(info, [start[1] for start in starts])
    rng = np.random.default_rng(0)
    for step in range(7):  # two episodes and a third one's start, or seven of one step
        actions = rng.uniform(-1.2, 1.2, (num_envs, 3)).astype(np.float32)
        observation, rewards, terminated, truncated, info = vector.step(actions)
        ends = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        assert rewards.tolist() == [end[1] for end in ends]
        assert terminated.tolist() == [end[2] for end in ends] == [(step + 1) % length == 0] * num_envs
        assert truncated.tolist() == [False] * num_envs
        if (step + 1) % length == 0:
            for got, end in zip(info.pop("final_obs"), ends, strict=True):
                assert_same({name: value[None] for name, value in got.items()}, [end[0]])
            assert_same(info.pop("final_info"), [end[4] for end in ends])
            assert info.pop("_final_obs").all()
            assert info.pop("_final_info").all()
            ends = [(start[0], None, None, None, start[1]) for start in (env.reset() for env in singles)]
        assert_same(observation, [end[0] for end in ends])
        assert_same(info, [end[4] for end in ends])
        assert observation in vector.observation_space


def test_make_vec():
    env = gymnasium.make_vec("a3d_env:A3D/Attention3D-v0", num_envs=3, render_mode="rgb_array", overview=(2, 6, 4))
    assert isinstance(env, Attention3DVectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.spec.id == "A3D/Attention3D-v0"
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space
    assert env.observation_space["bin"].shape == (3, 19)
    assert env.observation_space["overview"].shape == (3, 48 * 19)
    assert [picture.ndim for picture in env.render()] == [3, 3, 3]
    env.close()


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("num_glimpses", [4, 1])
def test_each_autoreset_mode_is_as_in_gymnasiums_own_batching(random_case, mode, num_glimpses):
    parts = random_case(19, 5, num_glimpses)
    own = Attention3DVectorEnv(2, *parts, "log_prob", autoreset_mode=mode, exact=True)
    theirs = gymnasium.vector.SyncVectorEnv([lambda: Attention3DEnv(*parts, "log_prob")] * 2, autoreset_mode=mode)
    assert own.metadata == theirs.metadata
    everyone = np.ones(2, dtype=bool)
    results = [(*env.reset(seed=1), np.zeros(2, dtype=bool)) for env in (own, theirs)]
    rng = np.random.default_rng(0)
    for _ in range(9):
        if mode == AutoresetMode.DISABLED and results[0][2].all():
            with pytest.raises(gymnasium.error.ResetNeeded, match="the episodes are over: call reset"):
                own.step(np.zeros((2, 3), dtype=np.float32))
            starts = [env.reset(options={"reset_mask": everyone.copy()}) for env in (own, theirs)]
            results = [(*start, np.zeros(2, dtype=bool)) for start in starts]
        else:
            actions = rng.uniform(-1, 1, (2, 3)).astype(np.float32)
            steps = [env.step(actions) for env in (own, theirs)]
            results = [(observation, info, ends, pay, cut) for observation, pay, ends, cut, info in steps]
        assert_equal(*results)


def assert_equal(got, wanted):
    """Assert that two results of Gymnasium's are of the same parts, and those equal."""
    if isinstance(got, dict):
        assert got.keys() == wanted.keys()
        got, wanted = list(got.values()), [wanted[name] for name in got]
    if isinstance(got, list | tuple):
        for one, other in zip(got, wanted, strict=True):
            assert_equal(one, other)
    elif got.dtype == object and isinstance(got[0], dict):  # the last observations
        assert_equal(list(got), list(wanted))
    else:
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_gymnasiums_wrappers_of_observations(mode):
    env = gymnasium.make_vec("a3d_env:A3D/Attention3D-v0", num_envs=3, overview=(1, 2, 2), autoreset_mode=mode)
    flat = FlattenObservation(env)
    assert flat.reset(seed=0)[0].shape == (3, 19 + 256 + 3 + 4 * 19)
    filtered = FlattenObservation(FilterObservation(env, ["hidden", "location"]))
    rewarded = NormalizeReward(RescaleAction(filtered, np.float32(0), np.float32(1)))
    observation, _ = rewarded.reset(seed=0)
    assert observation.shape == (3, 259)
    for _ in range(3):
        _, _, terminated, _, _ = rewarded.step(rewarded.action_space.sample())
    assert terminated.all()


def test_gymnasium_normalizes_observations():
    env = gymnasium.make_vec("a3d_env:A3D/Attention3D-v0", num_envs=2, autoreset_mode="NextStep")
    env = NormalizeObservation(RecordEpisodeStatistics(FlattenObservation(env)))
    env.reset(seed=0)
    for step in range(8):
        *_, terminated, _, info = env.step(env.action_space.sample())
        assert ("episode" in info) == terminated.all() == (step % 4 == 2)
    assert env.env.episode_count == 4


def test_clips_can_be_chosen_and_shared(played):
    env = Attention3DVectorEnv(6, *played)
    _, info = env.reset(options={"clip": [0, 0, 0, 5, 5, 5]})
    assert info["clip"].tolist() == [0, 0, 0, 5, 5, 5]
    assert info["tracklet"].tolist() == ["playground/0"] * 3 + ["playground/5"] * 3
    assert env.reset(options={"clip": 7})[1]["clip"].tolist() == [7] * 6


def test_seeds_one_by_one(played):
    env = Attention3DVectorEnv(3, *played)
    _, together = env.reset(seed=4)
    _, listed = env.reset(seed=[4, None, 6])
    assert listed["clip"][[0, 2]].tolist() == together["clip"][[0, 2]].tolist()
    assert env.reset(seed=np.int64(4))[1]["clip"].tolist() == together["clip"].tolist()
    for seeds in ([1, 2], [1, 2, 3, 4], []):
        with pytest.raises(ValueError, match="3 episodes need as many seeds"):
            env.reset(seed=seeds)


def test_what_it_returns_is_the_callers(played):
    env = Attention3DVectorEnv(2, *played)
    observation, info = env.reset(seed=0)
    info["clip"][:] = 99
    for array in observation.values():
        array[:] = 9
    assert env.episodes.clip.max() < 64
    assert env.episodes.hidden.abs().max() <= 1
    results = [env.step(np.zeros((2, 3), dtype=np.float32)) for _ in range(3)]
    arrays = [value for result in results for value in result[0].values()]
    arrays += [value for final in results[-1][4]["final_obs"] for value in final.values()]
    for number, array in enumerate(arrays):
        assert not any(np.shares_memory(array, other) for other in arrays[:number])


def test_episodes_in_groups_begin_on_one_clip(played):
    env = Attention3DVectorEnv(6, *played, episodes_per_clip=3, clips=np.arange(20, 40))
    _, info = env.reset(seed=2)
    drawn = [info["clip"].reshape(2, 3)]
    for _ in range(3 * 20):
        *_, info = env.step(np.zeros((6, 3), dtype=np.float32))
        drawn.append(info["clip"].reshape(2, 3))
    drawn = np.stack(drawn)
    assert (drawn == drawn[:, :, :1]).all()
    assert set(drawn.flatten()) <= set(range(20, 40))
    assert len(np.unique(drawn)) > 10
    assert (drawn[:, 0, 0] != drawn[:, 1, 0]).any()
    single = Attention3DVectorEnv(6, *played, clips=np.arange(20, 40)).reset(seed=2)[1]["clip"]
    assert drawn[0, :, 0].tolist() == single[::3].tolist()  # the first of each group draws
    for per_clip in (0, 4):
        with pytest.raises(ValueError, match=r"episodes_per_clip must be 1 or more and divide num_envs = 6"):
            Attention3DVectorEnv(6, *played, episodes_per_clip=per_clip)


def test_set_bank_asks_for_a_reset(played, random_case):
    bank, glimpse = random_case(num_channels=19, num_clips=2, num_identities=8)
    env = Attention3DVectorEnv(2, bank, glimpse, "margin")
    env.reset(seed=0)
    env.set_bank(played[0])
    with pytest.raises(gymnasium.error.ResetNeeded, match="set_bank"):
        env.step(np.zeros((2, 3)))
    _, info = env.reset(options={"clip": 50})
    assert info["tracklet"][0] == "playground/50"
    assert env.process.reward.__name__ == "margin"
    with pytest.raises(ValueError, match="the glimpse network takes 19"):
        env.set_bank(random_case(num_channels=4)[0])


def test_the_overview_stays_when_the_bank_changes(played, random_case):
    env = Attention3DVectorEnv(2, *played, overview=(2, 6, 4))
    other = random_case(num_channels=19, num_clips=3, num_identities=8)[0]
    env.set_bank(other)
    observation, _ = env.reset(options={"clip": 2})
    assert observation in env.observation_space
    bins = other.bins[2, env.process.overview].flatten().numpy()
    np.testing.assert_array_equal(observation["overview"], np.stack([bins, bins]))
    small = random_case(num_channels=19, num_identities=8, grid=BinGrid((3, 7, 5), (2, 3, 2), (6, 128, 64)))[0]
    with pytest.raises(ValueError, match=r"the overview has 40 bins in .*\(2, 5, 4\) positions, before 48"):
        env.set_bank(small)
    moved = random_case(num_channels=19, num_identities=8, grid=BinGrid((3, 15, 8), (2, 6, 3), (6, 128, 64)))[0]
    with pytest.raises(ValueError, match=r"has 48 bins in .*\(2, 10, 6\) positions, before 48 in \(3, 11, 6\)"):
        env.set_bank(moved)
    assert env.process.bank.tracklet == other.tracklet


def test_finished_holds_the_last_episodes(played):
    env = Attention3DVectorEnv(2, *played)
    env.reset(options={"clip": [3, 4]})
    for _ in range(3):
        assert env.finished is None
        env.step(np.full((2, 3), -1, dtype=np.float32))
    centre = played[0].grid.centre
    assert env.finished.clip.tolist() == [3, 4]
    assert env.finished.bins.tolist() == [[centre, 0, 0, 0]] * 2


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros((3, 3)), r"\(2, 3\), got \(3, 3\)"),
        (np.zeros(3), r"got \(3,\)"),
        (np.full((2, 3), np.nan), "NaN"),
    ],
)
def test_wrong_actions_are_errors_and_change_nothing(played, actions, message):
    env = Attention3DVectorEnv(2, *played)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros((2, 3)))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(actions)
    assert env.episodes.num_glimpses == 1


def test_wrong_settings_are_errors(played):
    with pytest.raises(ValueError, match="num_envs must be 1 or more"):
        Attention3DVectorEnv(0, *played)
    with pytest.raises(ValueError, match=r"unknown autoreset_mode 'never'; known: NextStep, SameStep, Disabled"):
        Attention3DVectorEnv(1, *played, autoreset_mode="never")
    env = Attention3DVectorEnv(2, *played, render_mode="rgb_array")
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.render()
    with pytest.raises(ValueError, match="reset_mask"):
        env.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ValueError, match="from 0 to 63"):
        env.reset(options={"clip": [0, 64]})
    env.reset(options={"reset_mask": np.array([True, True])})


def test_gymnasiums_wrappers(played):
    env = RecordEpisodeStatistics(Attention3DVectorEnv(4, *played))
    env.reset(seed=0)
    for _ in range(6):
        _, rewards, *_, info = env.step(env.action_space.sample())
    assert info["episode"]["l"].tolist() == [3] * 4
    assert info["episode"]["r"].tolist() == rewards.tolist()
    assert env.episode_count == 8

    listed = DictInfoToList(Attention3DVectorEnv(2, *played))
    assert [info["clip"] for info in listed.reset(options={"clip": [8, 9]})[1]] == [8, 9]


@pytest.mark.parametrize("reward", ["log_prob", "glimpses"])
def test_without_exactness_the_numbers_are_alike_to_rounding(played, reward):
    fast, exact = (Attention3DVectorEnv(6, *played, reward, exact=exact) for exact in (False, True))
    other = random_bank_like(played[0])
    for env in (fast, exact):
        env.set_bank(other)
        env.reset(options={"clip": np.arange(6)})
        assert env.process.exact == (env is exact)
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 6, 3)).astype(np.float32)
    for chosen in actions:
        paid, wanted_pay = (env.step(chosen)[1] for env in (fast, exact))
    np.testing.assert_allclose(paid, wanted_pay, rtol=1e-5)
    assert torch.equal(fast.finished.bins, exact.finished.bins)
    torch.testing.assert_close(fast.finished.hidden, exact.finished.hidden, rtol=0, atol=1e-6)


def random_bank_like(bank):
    generator = torch.Generator().manual_seed(3)
    return replace(bank, bins=torch.randn(bank.bins.shape, generator=generator))


def test_begin_and_advance_are_reset_and_step_without_observations(played):
    own, reference = (Attention3DVectorEnv(6, *played, "log_prob", exact=True) for _ in range(2))
    own.reset(seed=5)
    reference.reset(seed=5)
    actions = np.random.default_rng(1).uniform(-1, 1, (2, 3, 6, 3)).astype(np.float32)
    for episode in actions:
        for chosen in episode:
            judgement = own.advance(torch.from_numpy(chosen))
            _, rewards, terminated, *_ = reference.step(chosen)
            assert (judgement is not None) == terminated.all()
        np.testing.assert_array_equal(judgement.reward.numpy(), rewards)
        assert torch.equal(own.finished.hidden, reference.finished.hidden)
        own.begin()  # the clips are drawn as the reference has drawn them
        assert torch.equal(own.episodes.clip, reference.episodes.clip)
    clips = torch.tensor([5, 4, 3, 2, 1, 0])
    assert torch.equal(own.begin(clips).clip, clips)
