import math

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C
from torch.distributions import Normal

from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.policy import AttentionPolicy
from agents.policy_config import PAPER_VARIANCE


def make_agent(**policy_kwargs):
    env = Attention3DVecEnv(Attention3DVectorEnv(4))
    return A2C(AttentionPolicy, env, policy_kwargs=policy_kwargs, seed=0)


def observation(count: int) -> dict[str, torch.Tensor]:
    return {"bin": torch.zeros(count, 19), "hidden": torch.randn(count, 256), "location": torch.zeros(count, 3)}


def test_the_mean_is_tanh_of_one_layer_and_the_variance_is_fixed():
    policy = make_agent().policy
    seen = observation(5)
    distribution = policy.get_distribution(seen).distribution
    layer = policy.action_net[0]
    expected = torch.tanh(seen["hidden"] @ layer.weight.T + layer.bias)
    torch.testing.assert_close(distribution.mean, expected)
    assert layer.weight.shape == (3, 256)
    torch.testing.assert_close(distribution.stddev, torch.full((5, 3), math.sqrt(PAPER_VARIANCE)))


def test_the_variance_is_a_buffer_and_no_parameter():
    policy = make_agent(variance=0.2).policy
    assert "log_std" in dict(policy.named_buffers())
    trained = {id(p) for group in policy.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in policy.parameters()}
    assert not any("log_std" in name for name, _ in policy.named_parameters())


def test_the_log_probability_is_that_of_the_sample_before_clipping():
    policy = make_agent(variance=0.5).policy
    seen = observation(200)
    with torch.no_grad():
        actions, _, log_prob = policy(seen)
    assert (actions.abs() > 1).any()
    mean = policy.get_distribution(seen).distribution.mean
    expected = Normal(mean, math.sqrt(0.5)).log_prob(actions).sum(1)
    torch.testing.assert_close(log_prob, expected)


def test_deterministic_prediction_is_the_mean():
    agent = make_agent()
    seen = observation(3)
    action, _ = agent.predict({name: value.numpy() for name, value in seen.items()}, deterministic=True)
    np.testing.assert_allclose(action, agent.policy.get_distribution(seen).distribution.mean.detach(), atol=1e-6)


def test_evaluate_hidden_agrees_with_evaluate_actions_and_stops_the_values_gradient():
    policy = make_agent().policy
    seen = observation(6)
    actions = torch.randn(6, 3)
    values, log_prob, _ = policy.evaluate_actions(seen, actions)
    hidden = seen["hidden"].clone().requires_grad_()
    own_log_prob, own_values = policy.evaluate_hidden(hidden, actions)
    torch.testing.assert_close(own_log_prob, log_prob)
    torch.testing.assert_close(own_values, values.squeeze(1))
    own_values.sum().backward(retain_graph=True)
    assert hidden.grad is None
    own_log_prob.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.abs().sum() > 0


@pytest.mark.parametrize("variance", [0.0, -1.0, math.nan, math.inf])
def test_a_variance_must_be_positive(variance):
    with pytest.raises(ValueError, match="variance must be above 0"):
        make_agent(variance=variance)


def test_a_diverged_policy_says_so_in_a_line():
    policy = make_agent().policy
    torch.nn.init.constant_(policy.action_net[0].bias, math.nan)
    with pytest.raises(ValueError, match=r"^the policy's output became NaN[^\n]*$"):
        policy(observation(2))


def test_variance_survives_saving(tmp_path):
    agent = make_agent(variance=0.2)
    agent.save(tmp_path / "agent")
    loaded = A2C.load(tmp_path / "agent")
    assert loaded.policy.variance == 0.2
    torch.testing.assert_close(loaded.policy.log_std, agent.policy.log_std)
