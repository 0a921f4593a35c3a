"""The health of a training run: numbers by hand, and each warning made to happen, once."""

import logging
import math

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

import agents
from a3d_env.env import Attention3DEnv
from a3d_env.playground import playground
from a3d_env.process import AttentionProcess
from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.health import TrainingHealth


def make_env(num_envs=8, **settings):
    bank, glimpse = playground(num_clips=16)
    return Attention3DVecEnv(Attention3DVectorEnv(num_envs, bank, glimpse, **settings))


def watched(name, num_batches=3, patience=50, num_envs=8, reward="log_prob", **settings):
    env = make_env(num_envs, reward=reward)
    agent = agents.make(name, env, seed=0, device="cpu", **settings)
    health = TrainingHealth(patience)
    agent.learn(num_batches * 3 * num_envs, callback=health)
    return agent, health


def test_the_numbers_by_hand():
    env = make_env(4)
    agent = agents.make("reinforce", env, seed=0)
    health = TrainingHealth()
    health.init_callback(agent)
    agent.set_logger(agents_logger())
    process = env.vector_env.process
    episodes = process.start(torch.tensor([0, 1, 2, 3]))
    centre, corner = process.bank.grid.centre, 0
    for bins in ([centre] * 4, [corner] * 4, [corner, corner, centre, centre]):
        episodes = process.look(episodes, torch.tensor(bins))
    health._clipped = [torch.tensor(0.5), torch.tensor(0.25)]
    health._look_at(episodes, torch.tensor([0.0, 1.0, 0.0, 0.0]))
    values = health.values
    assert values["equal_rewards"] == 0.75
    assert values["clipped"] == 0.375
    assert values["at_centre"] == 0.5
    assert values["bin_entropy"] == pytest.approx(math.log(2) / math.log(198))
    assert values["spread_2"] == values["spread_3"] == 0
    location = process.locations[centre]  # of the corner it is -1, -1, -1
    assert values["spread_4"] == pytest.approx(float(((location + 1) / 2).mean()))
    hits = process.bank.hits[:4]
    looks = [hits[:, centre], hits[:, corner], hits[np.arange(4), [corner, corner, centre, centre]]]
    assert values["at_truth"] == pytest.approx(np.mean(looks))
    assert values["saturated"] == float((episodes.hidden.abs() > 0.99).float().mean())


def agents_logger():
    from stable_baselines3.common.logger import configure

    return configure(None, [])


@pytest.mark.parametrize("name", ["reinforce", "ppo", "sac", "dqn", "random"])
def test_a_healthy_run_warns_of_nothing(name, caplog):
    overrides = {"learning_starts": 8, "batch_size": 16} if name in ("sac", "dqn") else {}
    _, health = watched(name, patience=2, **overrides)
    assert not health.warned
    assert not caplog.records
    assert {"equal_rewards", "bin_entropy", "spread_4", "saturated", "at_truth"} <= set(health.values)
    assert ("gradient_norm_F_a" in health.values) == (name in ("reinforce", "ppo"))
    assert health.values.get("gradient_norm_F_a", 1) > 0
    assert health.values.get("gradient_norm_V", 1) > 0
    assert ("clipped" in health.values) == (name in ("reinforce", "ppo", "random"))


def test_a_locator_without_gradient_is_said_once(caplog):
    env = make_env()
    agent = agents.make("ppo", env, seed=0, device="cpu")
    agent.policy.action_net.requires_grad_(False)
    health = TrainingHealth(patience=3)
    agent.learn(10 * 24, callback=health)
    assert health.warned == ["no_gradient"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "the locator has had no gradient for 3 batches" in caplog.text


def test_an_untrained_agent_is_not_told_that_it_does_not_learn():
    assert "no_gradient" not in watched("untrained", num_batches=5, patience=2)[1].warned


def test_an_agent_that_always_looks_at_one_bin_is_said(caplog):
    _, health = watched("centre", num_batches=5, patience=3)
    assert health.warned == ["collapsed"]
    assert "one and the same bin for 3 batches" in caplog.text


def test_a_policy_that_does_not_depend_on_the_clip_is_said(caplog):
    env = make_env(8, reward="log_prob")
    for blind in (True, False):
        agent = agents.make("reinforce", env, seed=0, learning_rate=1e-9)
        if blind:
            torch.nn.init.zeros_(next(agent.policy.action_net.parameters()))
        else:
            torch.nn.init.normal_(next(agent.policy.action_net.parameters()))
        health = TrainingHealth(patience=2)
        agent.learn(8 * 3 * 8, callback=health)
        assert ("same_for_all_clips" in health.warned) == blind
        assert (health.values["different_bins"] == 0) == blind
    assert caplog.text.count("the same bin in all clips, 3 times in a row") == 1


def test_rewards_that_are_all_the_same_are_said(caplog, monkeypatch):
    monkeypatch.setattr(AttentionProcess, "judge", always_wrong(AttentionProcess.judge))
    _, health = watched("reinforce", num_batches=5, patience=3)
    assert "equal_rewards" in health.warned
    assert caplog.text.count("have had the same reward for 3 batches") == 1


def always_wrong(judge):
    from dataclasses import replace

    def judged(process, episodes):
        judgement = judge(process, episodes)
        return replace(judgement, reward=torch.zeros_like(judgement.reward))

    return judged


def test_patience_begins_anew_when_it_gets_better():
    _, health = watched("reinforce", num_batches=1)
    health.patience = 3
    for is_bad in (True, True, False, True, True):
        health._count_bad("collapsed", is_bad)
    assert not health.warned
    health._count_bad("collapsed", True)
    health._count_bad("collapsed", True)
    assert health.warned == ["collapsed"]


def test_other_environments_are_refused():
    agent = agents.make("reinforce", DummyVecEnv([Attention3DEnv]), seed=0)
    with pytest.raises(TypeError, match="needs an Attention3DVecEnv, got DummyVecEnv"):
        agent.learn(3, callback=TrainingHealth())
