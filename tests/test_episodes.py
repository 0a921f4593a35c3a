import dataclasses
import math

import gymnasium
import numpy as np
import pytest
import torch

import agents
from a3d_env.bins import BinGrid
from a3d_env.env import Attention3DEnv
from a3d_env.process import AttentionProcess
from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.controls import CONTROLS, ControlAgent
from agents.episodes import Episode, record_episode
from agents.oracles import agent_choice, finish
from agents.rollout import follow

SMALL = BinGrid((3, 5, 4), (2, 3, 2), (6, 40, 32), overview_counts=(2, 2, 2))  # 2 x 3 x 3 bins
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
    bank.truth_boxes = np.tile([4.0, 4.0, 20.0, 20.0], (len(bank), 6, 1))
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
    for number in (2, 3, 4):
        np.testing.assert_array_equal(
            loaded.reward_map(number).probability, episode.reward_map(number).probability
        )


@pytest.mark.parametrize("name", ["reinforce", "sac", "dqn", "ppo-multidiscrete", "centre", "swapped", "mean"])
def test_without_exploring_it_is_what_evaluation_follows(name, env):
    agent = agents.make(name, env)
    process = env.get_attr("process")[0]
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
    torch.testing.assert_close(decision.probability, shares, atol=0.01, rtol=0)


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
    np.testing.assert_allclose(episode.reward_map(2).value.ravel(), values.numpy(), rtol=1e-5)
    assert episode.decisions[0].value == pytest.approx(float(values.max()), rel=1e-5)


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
    with pytest.raises(ValueError, match="an A3D environment, this is"):
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
    bank.truth_boxes = np.full((4, 6, 4), np.nan)
    env = vec_env((bank, glimpse))
    agent = agents.make("reinforce", env)
    episode = record_episode(env, agent, clip=1, agent_name="mine", identity_names=list("abcdef"))
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
    for name in ("other", "objects", "part", "shape"):
        with pytest.raises(ValueError, match=rf"{name}\.npz is no episode"):
            Episode.load(tmp_path / f"{name}.npz")


def test_a_judge_of_other_people_has_no_advantage(env):
    episode = record_episode(env, agents.make("reinforce", env), clip=0)
    other = dataclasses.replace(episode, judge="the gallery")
    assert all(math.isnan(advantage) for advantage in other.advantages)
    assert isinstance(other.process, AttentionProcess)
