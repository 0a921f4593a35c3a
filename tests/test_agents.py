import io

import pytest
import torch
from stable_baselines3.common.logger import configure

import agents
from a3d_env.playground import playground
from a3d_env.process import AttentionProcess
from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.controls import centre_agent, random_agent
from agents.rollout import follow
from agents.state import load_training_state, training_state


@pytest.mark.slow
def test_sac_goes_on_from_its_training_state_as_if_it_had_not_stopped():
    def make_sac():
        env = Attention3DVecEnv(Attention3DVectorEnv(8))
        return agents.make("sac", env, seed=0, learning_starts=8, batch_size=16, learning_rate=0.01)

    agent, other = make_sac(), make_sac()
    agent.learn(48)
    buffer = io.BytesIO()
    torch.save({"parameters": agent.get_parameters(), "training": training_state(agent)}, buffer)
    state = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    other.set_parameters(state["parameters"])
    load_training_state(other, state["training"])

    for each in (agent, other):
        each.set_random_seed(7)
        each.set_logger(configure(None, []))
        each.train(gradient_steps=5, batch_size=16)
    assert agent.log_ent_coef.item() == other.log_ent_coef.item() != 0
    for name, value in agent.policy.state_dict().items():
        assert torch.equal(value, other.policy.state_dict()[name]), name
    assert (other.num_timesteps, other._n_updates) == (48, agent._n_updates)
    assert other.replay_buffer.size() == agent.replay_buffer.size() == 6


def test_following_the_centre_agent_stays_at_the_centre():
    process = AttentionProcess(*playground())
    episodes = follow(centre_agent(), process, torch.arange(5))
    assert episodes.bins.eq(process.bank.grid.centre).all()
    assert process.is_over(episodes)


def test_the_random_agent_looks_everywhere_and_is_reproducible():
    process = AttentionProcess(*playground())
    clips = torch.arange(64).repeat(20)
    episodes = follow(random_agent(3), process, clips)
    assert torch.equal(episodes.bins, follow(random_agent(3), process, clips).bins)
    corners = process.bank.grid.corners[episodes.bins[:, 1:].flatten()]
    assert corners.amin(0).tolist() == [0, 0, 0]
    assert corners.amax(0).tolist() == [2, 10, 5]
