import numpy as np
import pytest
import torch

import agents
from a3d_env.playground import playground
from a3d_env.process import AttentionProcess
from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.controls import centre_agent, random_agent
from agents.rollout import follow


@pytest.mark.parametrize("name", agents.ALGORITHMS)
def test_every_algorithm_constructs_learns_saves_loads_and_predicts_the_same(name, tmp_path):
    env = Attention3DVecEnv(Attention3DVectorEnv(8))
    overrides = {"learning_starts": 8, "batch_size": 16} if name == "sac" else {}
    agent = agents.make(name, env, seed=0, **overrides)
    before = {key: value.clone() for key, value in agent.policy.state_dict().items()}
    agent.learn(96)
    after = agent.policy.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    agent.save(tmp_path / "agent")
    loaded = type(agent).load(tmp_path / "agent", env=env)
    seen = env.reset()
    np.testing.assert_array_equal(
        agent.predict(seen, deterministic=True)[0], loaded.predict(seen, deterministic=True)[0]
    )


def test_unknown_algorithms_list_the_known_ones():
    with pytest.raises(ValueError, match="unknown agent 'dqnn'; known: reinforce, a2c, ppo, sac"):
        agents.make("dqnn", Attention3DVecEnv(Attention3DVectorEnv(1)))


def test_following_the_centre_agent_stays_at_the_centre():
    process = AttentionProcess(*playground())
    episodes = follow(centre_agent(), process, torch.arange(5))
    centre = process.bank.grid.nearest(torch.zeros(3)).item()
    assert episodes.bins[:, 1:].eq(centre).all()
    assert process.is_over(episodes)


def test_the_random_agent_looks_everywhere_and_is_reproducible():
    process = AttentionProcess(*playground())
    clips = torch.arange(64).repeat(20)
    episodes = follow(random_agent(3), process, clips)
    assert torch.equal(episodes.bins, follow(random_agent(3), process, clips).bins)
    corners = process.bank.grid.corners[episodes.bins[:, 1:].flatten()]
    assert corners.amin(0).tolist() == [0, 0, 0]
    assert corners.amax(0).tolist() == [2, 10, 5]
