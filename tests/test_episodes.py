import dataclasses
import json
import math

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

import agents
from a3d_env.bins import BinGrid
from a3d_env.env import Attention3DEnv
from a3d_env.process import AttentionProcess
from a3d_env.sb3 import Attention3DVecEnv, process_of
from a3d_env.vector import Attention3DVectorEnv
from agents.controls import CONTROLS, ControlAgent
from agents.episodes import Episode, Names, record_episode
from agents.rollout import agent_choice, finish, follow

SMALL = BinGrid((3, 5, 4), (2, 3, 2), (6, 40, 32), overview_counts=(2, 2, 2), shows_looked=True)
LEARNING = [name for name in agents.ALGORITHMS if name not in CONTROLS]


def vec_env(case, num_envs=2, reward="identity"):
    bank, glimpse = case
    return Attention3DVecEnv(Attention3DVectorEnv(num_envs, bank, glimpse.requires_grad_(False), reward))


@pytest.fixture
def env(random_case):
    return vec_env(random_case(grid=SMALL))


@pytest.mark.parametrize("name", agents.ALGORITHMS)
def test_every_agent_is_recorded_and_replayed_exactly(name, random_case, tmp_path):
    bank, glimpse = random_case(grid=SMALL)
    bank.truth_boxes = np.tile([4.0, 4.0, 20.0, 20.0], (len(bank), 6, 1, 1))
    env = vec_env((bank, glimpse))
    agent = agents.make(name, env)
    episode = record_episode(env, agent, clip=2, deterministic=False)
    assert episode.bins.tolist()[0] == SMALL.centre
    assert len(episode.decisions) == 3

    again = episode.replay()
    assert torch.equal(again.bins, episode.bins)
    assert torch.equal(again.hidden, episode.hidden)
    assert torch.equal(again.beliefs, episode.beliefs)
    assert again.reward == episode.reward
    assert again.changes is None
    assert again.original is None

    loaded = Episode.load(episode.save(tmp_path / "episode.npz"))
    assert torch.equal(loaded.replay().hidden, episode.hidden)
    assert episode.has_maps == loaded.has_maps == (name != "random")  # the rest of which is another every time
    for number in (2, 3, 4) if episode.has_maps else ():
        np.testing.assert_array_equal(
            loaded.reward_map(number).probability, episode.reward_map(number).probability
        )


@pytest.mark.parametrize("name", ["reinforce", "sac", "dqn", "ppo-multidiscrete", "centre", "swapped", "mean"])
def test_without_exploring_it_is_what_evaluation_follows(name, env):
    agent = agents.make(name, env)
    process = process_of(env)
    for clip in range(4):
        expected = follow(agent, process, torch.tensor([clip]))
        episode = record_episode(env, agent, clip=clip)
        assert episode.bins.tolist() == expected.bins[0].tolist()
        assert episode.reward == float(process.judge(expected).reward)
        torch.testing.assert_close(episode.descriptor, process.descriptor(expected)[0])


def test_it_is_the_environments_episode(random_case):
    env = Attention3DEnv(*random_case(grid=SMALL), reward="log_prob")
    agent = agents.make(
        "reinforce", vec_env((env.process.bank, env.glimpse.requires_grad_(False)), reward="log_prob")
    )
    episode = record_episode(env, agent, clip=3, deterministic=False)
    _, info = env.reset(options={"clip": 3})
    bins = [info["bin"].tolist()]
    for decision in episode.decisions:
        _, reward, _, _, info = env.step(decision.action.clamp(-1, 1).numpy())
        bins.append(info["bin"].tolist())
    assert bins == [list(episode.corner(number)) for number in (1, 2, 3, 4)]
    assert reward == episode.reward
    assert info["identity"] == episode.identity
    assert info["probability"] == pytest.approx(float(episode.probabilities.max()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reinforce", "ppo-discrete", "td3", "best"])
def test_the_reward_map_is_what_each_replay_comes_to(name, env):
    episode = record_episode(env, agents.make(name, env), clip=1)
    for number in (2, 3, 4):
        found = episode.reward_map(number)
        assert found.probability.shape == SMALL.positions
        for index in range(SMALL.num_bins):
            corner = tuple(SMALL.corners[index].tolist())
            changed = episode.replay({number: corner})
            assert changed.corner(number) == corner
            assert found.probability[corner] == pytest.approx(changed.probability, abs=1e-5)
            assert found.reward[corner] == changed.reward
        assert found.probability[found.best] == found.probability.max()


def test_a_change_keeps_what_was_before_and_the_agent_decides_the_rest(env):
    agent = agents.make("reinforce", env)
    episode = record_episode(env, agent, clip=0, deterministic=False, seed=3)
    changed = episode.replay({3: (1, 2, 0)})
    assert torch.equal(changed.decisions[0].action, episode.decisions[0].action)
    assert torch.equal(changed.hidden[:2], episode.hidden[:2])
    assert changed.corner(3) == (1, 2, 0)
    assert changed.original is episode
    assert changed.changes == {3: (1, 2, 0)}
    process = episode.process
    after = process.look(episode._before(3), torch.tensor([SMALL.index((1, 2, 0))]))
    expected = finish(process, after, agent_choice(agent, process))
    assert changed.bins.tolist() == expected.bins[0].tolist()

    # one that changed everything leaves nothing for the agent, which a loaded episode does not have
    everything = {2: (0, 0, 0), 3: (1, 2, 2), 4: (0, 1, 1)}
    assert [episode.replay(everything).corner(number) for number in (2, 3, 4)] == list(everything.values())


def test_what_the_policy_thinks_is_its_own_distribution(env):
    agent = agents.make("reinforce", env, policy_kwargs={"variance": 0.09})
    episode = record_episode(env, agent, clip=1, deterministic=False)
    observation = {name: value for name, value in episode.process.observe(episode._before(2)).items()}
    with torch.no_grad():
        expected = agent.policy.get_distribution(observation).distribution
        value = agent.policy.predict_values(observation)
    decision = episode.decisions[0]
    torch.testing.assert_close(decision.mean, expected.mean[0])
    torch.testing.assert_close(decision.deviation, torch.full((3,), 0.3))
    assert decision.log_prob == pytest.approx(float(expected.log_prob(decision.action).sum()), abs=1e-5)
    assert decision.value == pytest.approx(float(value))
    assert episode.advantages[0] == pytest.approx(episode.reward - float(value))
    draws = SMALL.nearest(expected.sample((40_000,))[:, 0].clamp(-1, 1))
    shares = torch.bincount(draws, minlength=SMALL.num_bins) / 40_000
    torch.testing.assert_close(decision.probability, shares, atol=0.02, rtol=0)


@pytest.mark.parametrize("name", ["sac", "ppo-discrete", "ppo-multidiscrete"])
def test_other_policies_say_how_likely_each_bin_is_too(name, env):
    agent = agents.make(name, env)
    episode = record_episode(env, agent, clip=1, deterministic=False)
    decision = episode.decisions[0]
    assert float(decision.probability.sum()) == pytest.approx(1, abs=1e-5)
    observation = {
        key: value.repeat(4000, 1).numpy() for key, value in episode.process.observe(episode._before(2)).items()
    }
    actions, _ = agent.predict(observation, deterministic=False)
    chosen = SMALL.chosen(torch.as_tensor(actions))
    shares = torch.bincount(chosen, minlength=SMALL.num_bins) / 4000
    torch.testing.assert_close(decision.probability, shares, atol=0.04, rtol=0)
    assert math.isfinite(decision.log_prob)


def test_q_values_are_the_networks(env):
    agent = agents.make("dqn", env)
    episode = record_episode(env, agent, clip=1)
    with torch.no_grad():
        values = agent.q_net(episode.process.observe(episode._before(2)))[0]
    np.testing.assert_allclose(episode.reward_map(2).value.ravel(), values.numpy(), rtol=1e-5, atol=1e-6)
    assert episode.decisions[0].value == pytest.approx(float(values.max()), rel=1e-5, abs=1e-6)


def test_v_after_the_last_look_is_never_asked(env):
    episode = record_episode(env, agents.make("a2c", env), clip=1)
    assert np.isfinite(episode.reward_map(3).value).all()
    assert np.isnan(episode.reward_map(4).value).all()


def test_beliefs_are_of_staying_where_it_is(env):
    episode = record_episode(env, agents.make("random", env), clip=1)
    stayed = episode.replay({3: episode.corner(2), 4: episode.corner(2)})
    torch.testing.assert_close(episode.beliefs[1], stayed.probabilities)
    assert torch.equal(episode.beliefs[-1], episode.probabilities)
    torch.testing.assert_close(episode.beliefs.sum(1), torch.ones(4))


@pytest.mark.parametrize("num_glimpses", [0, 1])
def test_where_nothing_is_chosen_there_is_nothing_to_change(num_glimpses, random_case, tmp_path):
    env = vec_env(random_case(grid=SMALL, num_glimpses=num_glimpses))
    episode = record_episode(env, ControlAgent("centre"), clip=0)
    assert len(episode.bins) == num_glimpses
    assert episode.decisions == ()
    assert episode.maps == ()
    assert Episode.load(episode.save(tmp_path / "episode.npz")).reward == episode.reward
    with pytest.raises(ValueError, match="can't be changed"):
        episode.replay({2: (0, 0, 0)})


def test_training_on_leaves_an_episode_as_it_was(random_case):
    bank, glimpse = random_case(grid=SMALL)
    env = vec_env((bank, glimpse))
    episode = record_episode(env, ControlAgent("centre"), clip=0)
    with torch.no_grad():
        for parameter in glimpse.parameters():
            parameter.add_(1)
        bank.bins.add_(1)
    assert torch.equal(episode.replay().hidden, episode.hidden)


def test_a_clip_is_drawn_by_the_seed_and_training_draws_are_left_alone(env):
    agent = agents.make("reinforce", env)
    before = torch.random.get_rng_state()
    first, second = (record_episode(env, agent, deterministic=False, seed=5) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.tracklet == second.tracklet
    assert torch.equal(first.hidden, second.hidden)
    assert len({record_episode(env, agent, seed=seed).tracklet for seed in range(12)}) > 1


def test_mistakes_are_explained(env, tmp_path):
    agent = agents.make("reinforce", env)
    with pytest.raises(ValueError, match="no clip 4: the environment has clips 0 to 3"):
        record_episode(env, agent, clip=4)
    with pytest.raises(ValueError, match="only an A3D environment has a decision process, got TimeLimit"):
        record_episode(gymnasium.make("CartPole-v1"), agent)
    episode = record_episode(env, agent, clip=0)
    for number in (1, 5):
        with pytest.raises(ValueError, match=f"glimpse {number} can't be changed: glimpses 2 to 4 can"):
            episode.replay({number: (0, 0, 0)})
        with pytest.raises(ValueError, match=f"there is no map of {number}"):
            episode.reward_map(number)
    with pytest.raises(ValueError, match="no bin has its corner at"):
        episode.replay({2: (0, 9, 0)})
    loaded = Episode.load(episode.save(tmp_path / "episode.npz"))
    with pytest.raises(ValueError, match="needs the agent: load the episode with it"):
        loaded.replay({2: (0, 0, 0)})
    with pytest.raises(ValueError, match="needs the agent"):
        dataclasses.replace(loaded, stored_maps=None).reward_map(2)
    with pytest.raises(ValueError, match=r"ends in \.npz"):
        episode.save(tmp_path / "episode.zip")


def test_files_hold_all_of_it_and_the_original(random_case, tmp_path):
    bank, glimpse = random_case(grid=SMALL)
    bank.frames = np.random.default_rng(0).integers(0, 255, (4, 6, 40, 32, 3), dtype=np.uint8)
    bank.truth_boxes = np.full((4, 6, 1, 4), np.nan)
    env = vec_env((bank, glimpse))
    agent = agents.make("reinforce", env)
    episode = record_episode(env, agent, clip=1, names=Names("mine", list("abcdef")))
    changed = episode.replay({2: (0, 1, 1)})
    loaded = Episode.load(changed.save(tmp_path / "folder" / "episode.npz"), agent)
    for name in ("bins", "hidden", "beliefs", "probabilities"):
        assert torch.equal(getattr(loaded, name), getattr(changed, name))
    for one, other in zip(loaded.decisions, changed.decisions, strict=True):
        for field in dataclasses.fields(one):
            torch.testing.assert_close(
                *(torch.as_tensor(getattr(part, field.name)) for part in (one, other)),
                rtol=0,
                atol=0,
                equal_nan=True,
            )
    assert (loaded.agent_name, loaded.identity_names, loaded.changes) == ("mine", tuple("abcdef"), {2: (0, 1, 1)})
    assert loaded.process.bank.grid == SMALL
    np.testing.assert_array_equal(loaded.process.bank.frames, bank.frames[1:2])
    assert torch.equal(loaded.original.hidden, episode.hidden)
    assert loaded.replay({3: (1, 1, 1)}).bins.tolist() == changed.replay({3: (1, 1, 1)}).bins.tolist()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["episode.npz"]


def test_damaged_files_are_named(env, tmp_path):
    path = record_episode(env, ControlAgent("centre"), clip=0).save(tmp_path / "good.npz")
    content = path.read_bytes()
    with pytest.raises(ValueError, match=r"there is no episode .*missing\.npz"):
        Episode.load(tmp_path / "missing.npz")
    damaged = {
        "short": content[:200],
        "empty": b"",
        "text": b"hello",
        "flipped": content[:900] + b"xxxx" + content[904:],
    }
    for name, data in damaged.items():
        (tmp_path / f"{name}.npz").write_bytes(data)
        with pytest.raises(ValueError, match=rf"{name}\.npz is no episode"):
            Episode.load(tmp_path / f"{name}.npz")
    np.savez(tmp_path / "other.npz", array=np.zeros(3))
    np.savez(tmp_path / "objects.npz", meta=np.array([{}], dtype=object))
    with np.load(path) as arrays:
        np.savez(tmp_path / "part.npz", **{name: arrays[name] for name in arrays.files if name != "table"})
        wrong = {name: arrays[name] for name in arrays.files} | {"table": np.zeros((1, 3, 5), np.float32)}
        np.savez(tmp_path / "shape.npz", **wrong)
        meta = json.dumps({**json.loads(str(arrays["meta"])), "reward_name": 7})
        np.savez(tmp_path / "reward.npz", **{name: arrays[name] for name in arrays.files} | {"meta": meta})
    for name in ("other", "objects", "part", "shape", "reward"):
        with pytest.raises(ValueError, match=rf"{name}\.npz is no episode"):
            Episode.load(tmp_path / f"{name}.npz")


def test_a_judge_of_other_people_has_no_advantage(env):
    episode = record_episode(env, agents.make("reinforce", env), clip=0)
    other = dataclasses.replace(episode, judge="the gallery")
    assert all(math.isnan(advantage) for advantage in other.advantages)
    assert isinstance(other.process, AttentionProcess)


def test_changes_one_after_another_are_all_kept(env):
    episode = record_episode(env, agents.make("reinforce", env), clip=0)
    both = episode.replay({2: (0, 0, 0)}).replay({3: (1, 2, 2)})
    assert both.changes == {2: (0, 0, 0), 3: (1, 2, 2)}
    assert both.original is episode
    assert both.bins.tolist() == episode.replay({2: (0, 0, 0), 3: (1, 2, 2)}).bins.tolist()
    again = both.replay()
    assert (again.changes, again.original) == (both.changes, episode)
    # what comes before is decided anew
    assert both.replay({2: (1, 1, 1)}).changes == {2: (1, 1, 1)}


def test_what_was_recorded_stays_when_the_agent_trains_on(env):
    agent = agents.make("reinforce", env)
    episode = record_episode(env, agent, clip=0, deterministic=False)
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.add_(0.3)
    again = episode.replay()
    assert [one.value for one in again.decisions] == [one.value for one in episode.decisions]
    assert [one.log_prob for one in again.decisions] == [one.log_prob for one in episode.decisions]


@pytest.mark.parametrize("name", ["mean", "swapped"])
def test_controls_that_go_by_other_clips_look_the_same_after_loading(name, env, tmp_path):
    agent = agents.make(name, env)
    episode = record_episode(env, agent, clip=1)
    changed = episode.replay({2: (1, 2, 2)})
    for one in (episode, changed):
        loaded = Episode.load(one.save(tmp_path / "episode.npz"), agent)
        assert loaded.replay({2: (0, 1, 2)}).bins.tolist() == episode.replay({2: (0, 1, 2)}).bins.tolist()


@pytest.mark.parametrize("name", ["dqn", "td3"])
def test_what_has_no_distribution_does_not_explore_here(name, env):
    agent = agents.make(name, env)
    if name == "dqn":
        agent.exploration_rate = 0.9
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    sampled = record_episode(env, agent, clip=1, deterministic=False)
    assert sampled.bins.tolist() == record_episode(env, agent, clip=1).bins.tolist()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_random_begins_anew_each_time(env):
    episode = record_episode(env, ControlAgent("random", seed=4), clip=0)
    assert record_episode(env, ControlAgent("random", seed=4), clip=0).bins.tolist() == episode.bins.tolist()
    changes = [episode.replay({2: (0, 0, 0)}).bins.tolist() for _ in range(2)]
    assert changes[0] == changes[1]
    process = process_of(env)
    assert (
        follow(ControlAgent("random", seed=4), process, torch.tensor([0])).bins[0].tolist()
        == episode.bins.tolist()
    )
    assert all(torch.isnan(decision.mean).all() for decision in episode.decisions)


def test_the_mean_is_not_clipped(env):
    agent = PPO("MultiInputPolicy", env, device="cpu")
    with torch.no_grad():
        agent.policy.action_net.bias.fill_(2.0)
    episode = record_episode(env, agent, clip=0)
    assert (episode.decisions[0].mean > 1.5).all()
    assert torch.equal(episode.decisions[0].action, episode.decisions[0].mean)
    assert episode.corner(2) == (1, 2, 2)


def test_a_mixture_says_how_much_its_heaviest_part_weighs(env):
    agent = agents.make("reinforce", env, policy_kwargs={"locator": "mixture", "variance": 0.04})
    episode = record_episode(env, agent, clip=1)
    features = agent.policy.extract_features(episode.process.observe(episode._before(2)))
    with torch.no_grad():
        weights = agent.policy.action_net(features).softmax(1)[0]
    decision = episode.decisions[0]
    assert decision.share == pytest.approx(float(weights.max()))
    torch.testing.assert_close(decision.mean, agent.policy.action_net.locations[weights.argmax()])
    torch.testing.assert_close(decision.deviation, torch.full((3,), 0.2))


@pytest.mark.slow
def test_files_damaged_anywhere_are_named(env, tmp_path):
    content = record_episode(env, agents.make("reinforce", env), clip=0).save(tmp_path / "good.npz").read_bytes()
    generator = np.random.default_rng(0)
    path, messages = tmp_path / "bad.npz", []
    for _ in range(150):
        data = bytearray(content)
        for place in generator.integers(len(data), size=3):
            data[place] = generator.integers(256)
        path.write_bytes(bytes(data))
        try:
            Episode.load(path)  # what is damaged may be what nobody reads
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert all("bad.npz is no episode" in message for message in messages)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bins", np.array([0, 0, 0, 99])),
        ("hidden", np.zeros((4, 5), np.float32)),
        ("beliefs", np.zeros((4, 2), np.float32)),
        ("decision/value", np.zeros(2)),
        ("map/value", np.zeros((3, 2, 2, 2), np.float32)),
        ("identity", np.array([7])),
    ],
)
def test_parts_that_do_not_fit_are_named(name, value, env, tmp_path):
    path = record_episode(env, agents.make("reinforce", env), clip=0).save(tmp_path / "good.npz")
    with np.load(path) as arrays:
        np.savez(tmp_path / "bad.npz", **({key: arrays[key] for key in arrays.files} | {name: value}))
    with pytest.raises(ValueError, match=r"bad\.npz is no episode, or its parts do not fit"):
        Episode.load(tmp_path / "bad.npz")


def test_loading_leaves_training_draws_alone(env, tmp_path):
    path = record_episode(env, ControlAgent("centre"), clip=0).save(tmp_path / "good.npz")
    before = torch.random.get_rng_state()
    Episode.load(path)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_corners_and_clips_that_are_no_numbers_are_explained(env):
    episode = record_episode(env, ControlAgent("centre"), clip=0)
    for corner in (5, (0.0, 1, 2), "abc"):
        with pytest.raises(ValueError, match="a bin's corner is 3 whole numbers"):
            episode.replay({2: corner})
    for clip in ("0", 0.5):
        with pytest.raises(ValueError, match="there is no clip"):
            record_episode(env, ControlAgent("centre"), clip=clip)
    assert repr(episode).startswith("<Episode of ControlAgent on clip 0: ")
