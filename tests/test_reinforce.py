import math

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

import agents
from a3d_env.env import Attention3DEnv
from a3d_env.playground import playground
from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.controls import random_agent
from agents.policy import AttentionPolicy
from agents.reinforce import REINFORCE
from agents.rollout import follow
from backbone.glimpse import GlimpseNetwork


def make_env(
    num_envs: int = 16, *, glimpse_learns=False, num_glimpses=4, overview=None, shows_looked=False, **settings
) -> Attention3DVecEnv:
    bank, glimpse = playground(num_glimpses=num_glimpses)
    bank = bank.with_overview(overview, shows_looked=shows_looked)
    glimpse.requires_grad_(glimpse_learns)
    return Attention3DVecEnv(Attention3DVectorEnv(num_envs, bank, glimpse, **settings))


def through_buffer(env: Attention3DVecEnv) -> VecNormalize:
    """Put a wrapper that changes nothing around an environment: its rollouts are then stable-baselines3's."""
    return VecNormalize(env, training=False, norm_obs=False, norm_reward=False)


def agent_after_one_rollout(env: Attention3DVecEnv, **settings) -> REINFORCE:
    """Collect one rollout and compute the gradient of its update, without taking the step."""
    agent = REINFORCE(AttentionPolicy, env, seed=0, policy_kwargs={"variance": 0.3}, **settings)
    agent.policy.optimizer.step = lambda: None
    agent.learn(env.num_envs * agent.n_steps)
    return agent


def gradients(policy: AttentionPolicy) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("n_steps", [None, 6])
def test_the_gradient_is_that_of_a2c_times_the_episode_length(n_steps):
    env = through_buffer(make_env())
    agent = agent_after_one_rollout(env, n_steps=n_steps)
    own = gradients(agent.policy)

    a2c = A2C(
        AttentionPolicy, env, gamma=1.0, gae_lambda=1.0, n_steps=agent.n_steps, max_grad_norm=math.inf,
        policy_kwargs={"variance": 0.3},
    )  # fmt: skip
    a2c.policy.load_state_dict(agent.policy.state_dict())
    a2c.policy.optimizer.step = lambda: None
    a2c.rollout_buffer = agent.rollout_buffer
    a2c.set_logger(configure(None, []))
    a2c.train()
    reference = gradients(a2c.policy)

    assert own.keys() == reference.keys()
    assert "action_net.0.weight" in own
    for name, gradient in own.items():
        factor = agent.episode_length if name.startswith("action_net") else 1  # the value loss is a mean in both
        torch.testing.assert_close(gradient, factor * reference[name], rtol=1e-4, atol=1e-6)


def test_the_gradient_has_the_closed_form_of_equation_13():
    agent = agent_after_one_rollout(through_buffer(make_env(num_envs=2)))
    buffer, layer = agent.rollout_buffer, agent.policy.action_net[0]
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    expected_weight, expected_bias = np.zeros((3, 256)), np.zeros(3)
    for episode in range(2):
        total = buffer.rewards[:, episode].sum()
        for step in range(3):
            hidden = buffer.observations["hidden"][step, episode]
            mean = np.tanh(weight @ hidden + bias)
            # d log N(a | tanh(z), s^2) / dz = (a - mean) / s^2 * (1 - mean^2)
            score = (buffer.actions[step, episode] - mean) / 0.3 * (1 - mean**2)
            advantage = total - buffer.values[step, episode]
            expected_weight -= np.outer(score, hidden) * advantage / 2  # M = 2 episodes
            expected_bias -= score * advantage / 2
    np.testing.assert_allclose(layer.weight.grad, expected_weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.bias.grad, expected_bias, rtol=1e-4, atol=1e-5)
    assert np.abs(expected_bias).max() > 1e-3


def test_the_policy_gradient_reaches_the_locator_and_the_glimpse_network_and_nothing_else():
    env = make_env(glimpse_learns=True)
    agent = agent_after_one_rollout(env)
    glimpse = env.vector_env.glimpse
    for module in (agent.policy.action_net, glimpse.embed_observation, glimpse.embed_hidden):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
    assert all(parameter.grad is None for parameter in glimpse.identify.parameters())


def test_the_gradient_flows_through_all_steps_of_an_episode():
    env = through_buffer(make_env(glimpse_learns=True))
    agent = agent_after_one_rollout(env)
    glimpse, buffer = env.vector_env.glimpse, agent.rollout_buffer
    own = glimpse.embed_hidden.h2h.weight.grad.clone()
    glimpse.zero_grad()
    loss = torch.zeros(())
    for episode in range(env.num_envs):  # the slow way: episode by episode, step by step
        hidden = torch.zeros(1, 256)
        for step in range(3):
            seen = {
                name: torch.tensor(buffer.observations[name][step, episode][None]) for name in ("bin", "location")
            }
            hidden = glimpse.glimpse(seen["bin"], seen["location"], hidden)
            distribution = torch.distributions.Normal(agent.policy.action_net(hidden), math.sqrt(0.3))
            log_prob = distribution.log_prob(torch.tensor(buffer.actions[step, episode])).sum()
            loss = loss - log_prob * float(buffer.advantages[step, episode]) / env.num_envs
    loss.backward()
    torch.testing.assert_close(own, glimpse.embed_hidden.h2h.weight.grad, rtol=1e-3, atol=1e-6)


def test_a_frozen_glimpse_network_gets_no_gradient():
    env = make_env()
    agent_after_one_rollout(env)
    assert all(parameter.grad is None for parameter in env.vector_env.glimpse.parameters())


@pytest.mark.slow
def test_it_learns_where_to_look():
    env = make_env(256)
    agent = REINFORCE(AttentionPolicy, env, learning_rate=3e-3, seed=0, policy_kwargs={"variance": 0.15})
    process = env.vector_env.process
    clips = torch.arange(len(process.bank)).repeat(4)

    def mean_reward(who) -> float:
        return process.judge(follow(who, process, clips)).reward.mean().item()

    before = mean_reward(agent)
    agent.learn(28_000)
    assert mean_reward(agent) > max(before, mean_reward(random_agent())) + 0.08


@pytest.mark.parametrize("n_steps", [1, 4])
def test_rollouts_that_cut_episodes_are_refused(n_steps):
    with pytest.raises(ValueError, match="would cut episodes of 3 steps"):
        REINFORCE(AttentionPolicy, make_env(), n_steps=n_steps)


def test_another_environment_whose_episodes_would_be_cut_is_refused():
    agent = REINFORCE(AttentionPolicy, make_env())
    bank, _ = playground()
    longer = GlimpseNetwork(bank.num_channels, num_glimpses=6, num_identities=8)
    with pytest.raises(ValueError, match="would cut episodes of 5 steps"):
        agent.set_env(Attention3DVecEnv(Attention3DVectorEnv(16, bank, longer)))


def test_a_discount_is_refused_rather_than_ignored():
    with pytest.raises(TypeError, match="gamma"):
        REINFORCE(AttentionPolicy, make_env(), gamma=0.9)


def test_normalised_observations_are_refused_where_the_glimpse_network_learns():
    agent = REINFORCE(AttentionPolicy, VecNormalize(make_env(glimpse_learns=True)))
    with pytest.raises(ValueError, match="norm_obs=False"):
        agent.learn(48)
    REINFORCE(AttentionPolicy, VecNormalize(make_env(glimpse_learns=True), norm_obs=False)).learn(48)


def test_an_environment_without_a_fixed_length_is_refused():
    with pytest.raises(ValueError, match="fixed number of decisions"):
        REINFORCE(AttentionPolicy, "Pendulum-v1")


def test_save_load_set_env_predict_and_callbacks_work_as_users_know_them(tmp_path):
    class Counter(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 5

    agent = REINFORCE(AttentionPolicy, Attention3DEnv(), n_steps=3, seed=0)
    counter = Counter()
    agent.learn(30, callback=counter)
    assert counter.n_calls == 5  # the callback stopped it
    agent.save(tmp_path / "agent.zip")
    loaded = REINFORCE.load(tmp_path / "agent.zip")
    loaded.set_env(Attention3DEnv())
    seen, _ = Attention3DEnv().reset(seed=1)
    np.testing.assert_array_equal(
        agent.predict(seen, deterministic=True)[0], loaded.predict(seen, deterministic=True)[0]
    )
    loaded.learn(6)
    assert loaded.num_timesteps == 6


def test_normalised_advantages_scale_the_gradient_only():
    plain = gradients(agent_after_one_rollout(make_env()).policy)["action_net.0.weight"].flatten()
    scaled = gradients(agent_after_one_rollout(make_env(), normalize_advantage=True).policy)
    scaled = scaled["action_net.0.weight"].flatten()
    assert not torch.allclose(plain, scaled)
    assert torch.isfinite(scaled).all()
    alone = agent_after_one_rollout(make_env(1, num_glimpses=2), normalize_advantage=True)  # it has no deviation
    assert all(torch.isfinite(gradient).all() for gradient in gradients(alone.policy).values())


class ClipWatcher(BaseCallback):
    """Keeps the clips of finished episodes."""

    def __init__(self):
        super().__init__()
        self.clips = []

    def _on_step(self) -> bool:
        if self.locals["dones"].all():
            self.clips.append(self.training_env.get_attr("finished")[0].clip.tolist())
        return True


@pytest.mark.parametrize("n_steps", [3, 6])
@pytest.mark.parametrize("normalize", [False, True])
def test_with_the_clips_baseline_the_gradient_is_reinforces_by_loops(n_steps, normalize):
    env = through_buffer(make_env(12, reward="log_prob", clips=np.arange(5), episodes_per_clip=2))
    agent = REINFORCE(
        AttentionPolicy, env, n_steps=n_steps, seed=3, baseline="clip", normalize_advantage=normalize,
        policy_kwargs={"variance": 0.3},
    )  # fmt: skip
    agent.policy.optimizer.step = lambda: None
    watcher = ClipWatcher()
    agent.learn(12 * n_steps, callback=watcher)

    buffer, episodes = agent.rollout_buffer, []
    for number, clips in enumerate(watcher.clips):
        for column, clip in enumerate(clips):
            steps = range(3 * number, 3 * number + 3)
            episodes.append((clip, column, steps, sum(float(buffer.rewards[step, column]) for step in steps)))
    advantages = []
    for one in episodes:
        others = [other[3] for other in episodes if other is not one and other[0] == one[0]]
        advantages.append(one[3] - sum(others) / len(others))
    if normalize:
        spread = np.std(np.repeat(advantages, 3), ddof=1)
        advantages = [(advantage - np.mean(advantages)) / spread for advantage in advantages]
    own = gradients(agent.policy)
    agent.policy.zero_grad()
    loss = torch.zeros(())
    for (_, column, steps, _), advantage in zip(episodes, advantages, strict=True):
        for step in steps:
            hidden = torch.tensor(buffer.observations["hidden"][step, column][None])
            distribution = torch.distributions.Normal(agent.policy.action_net(hidden), math.sqrt(0.3))
            log_prob = distribution.log_prob(torch.tensor(buffer.actions[step, column])).sum()
            loss = loss - log_prob * advantage / len(episodes)
    loss.backward()
    reference = gradients(agent.policy)
    assert reference["action_net.0.weight"].abs().max() > 1e-3
    for name, gradient in reference.items():
        torch.testing.assert_close(own[name], gradient, rtol=1e-3, atol=1e-5)
    assert own["value_net.weight"].abs().sum() > 0  # V learns all the same


def test_the_clips_baseline_needs_clips_shared_by_episodes_that_decide():
    env = make_env(4)
    env.set_options([{"clip": number} for number in range(4)])
    with pytest.raises(ValueError, match="alone on its clip"):
        REINFORCE(AttentionPolicy, env, baseline="clip").learn(12)
    for settings in ({"policy_weight": 0.0}, {}):  # nothing is scored: nothing has to be compared
        env = make_env(4, num_glimpses=4 if settings else 1)
        env.set_options([{"clip": number} for number in range(4)])
        REINFORCE(AttentionPolicy, env, baseline="clip", **settings).learn(4)
    with pytest.raises(ValueError, match="unknown baseline 'mean'; known: value, clip"):
        REINFORCE(AttentionPolicy, make_env(4), baseline="mean")


@pytest.mark.slow
def test_the_clips_baseline_takes_single_environments_and_survives_saving(tmp_path):
    bank, glimpse = playground(num_clips=1, num_identities=1)
    env = DummyVecEnv([lambda: Attention3DEnv(bank, glimpse)] * 3)
    agent = REINFORCE(AttentionPolicy, env, baseline="clip", gradient_to_glimpse=False)
    agent.learn(9)
    agent.save(tmp_path / "agent")
    loaded = REINFORCE.load(tmp_path / "agent", env=env)
    assert (loaded.baseline, loaded.gradient_to_glimpse) == ("clip", False)
    loaded.learn(9)


def test_the_policy_gradient_can_stop_at_the_hidden_states():
    env = make_env(glimpse_learns=True)
    own = gradients(agent_after_one_rollout(env, gradient_to_glimpse=False).policy)
    assert all(parameter.grad is None for parameter in env.vector_env.glimpse.parameters())
    full = gradients(agent_after_one_rollout(make_env(glimpse_learns=True)).policy)
    for name, gradient in full.items():  # F_a's and V's are the same
        torch.testing.assert_close(own[name], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("num_glimpses", "policy_weight"), [(0, 1.0), (1, 1.0), (4, 0.0)])
def test_without_decisions_or_rl_objective_only_the_value_network_learns(num_glimpses, policy_weight):
    env = make_env(glimpse_learns=True, num_glimpses=num_glimpses)
    agent = REINFORCE(AttentionPolicy, env, seed=0, policy_weight=policy_weight)
    before = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    agent.learn(3 * env.num_envs * agent.n_steps)
    changed = {name for name, value in agent.policy.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith(("value_net", "mlp_extractor.value_net")) for name in changed)
    assert all(parameter.grad is None for parameter in env.vector_env.glimpse.parameters())


def test_the_policy_weight_scales_the_policy_gradient_only():
    plain, scaled = (gradients(agent_after_one_rollout(make_env(), policy_weight=w).policy) for w in (1.0, 0.25))
    for name, gradient in plain.items():
        factor = 0.25 if name.startswith("action_net") else 1
        torch.testing.assert_close(scaled[name], factor * gradient)


@pytest.mark.parametrize(
    ("locator", "overview", "inhibition"),
    [
        ("linear", None, 0.0),
        ("linear", (2, 3, 2), 0.0),
        ("mixture", (2, 3, 2), 0.0),
        ("mixture", (2, 3, 2), 2.0),
        (f"{__name__}:Scores", (2, 3, 2), 0.0),
    ],
)
@pytest.mark.parametrize("baseline", ["value", "clip"])
@pytest.mark.parametrize(("num_glimpses", "episodes", "clips"), [(4, 1, 3), (4, 2, 40), (1, 1, 3), (0, 1, 3)])
def test_episodes_played_as_tensors_are_those_by_observations(
    locator, overview, inhibition, baseline, num_glimpses, episodes, clips
):
    found = []
    for wrap in (VecMonitor, lambda env: through_buffer(VecMonitor(env))):
        env = make_env(
            12, glimpse_learns=True, num_glimpses=num_glimpses, reward="log_prob", clips=np.arange(clips),
            episodes_per_clip=2, overview=overview, exact=True, shows_looked=inhibition > 0,
        )  # fmt: skip
        glimpse = env.vector_env.glimpse
        agent = agents.make(
            "reinforce", wrap(env), seed=0, baseline=baseline, n_steps=episodes * max(num_glimpses - 1, 1),
            learning_rate=0.01, policy_kwargs={"locator": locator, "variance": 0.1, "inhibition": inhibition},
        )  # fmt: skip
        env.seed(3)
        for _ in range(2):  # the second rollout follows from the first update
            agent.learn(12 * agent.n_steps, reset_num_timesteps=False)
        assert (agent.tensor_env is None) == (agent.collected is None) == (wrap is not VecMonitor)
        finished = env.vector_env.finished
        grads = {**gradients(agent.policy), **{f"glimpse {k}": p.grad for k, p in glimpse.named_parameters()}}
        logged = [agent.logger.name_to_value[f"train/{name}"] for name in ("policy_loss", "value_loss")]
        paid = [one["r"] for one in agent.ep_info_buffer]
        found.append((finished, agent.policy.state_dict(), grads, [*logged, agent.num_timesteps, *paid]))
    (own, weights, grads, numbers), (other, wanted_weights, wanted_grads, wanted_numbers) = found
    assert torch.equal(own.clip, other.clip)
    assert torch.equal(own.bins, other.bins)
    assert (own.bins[:, 1:] != own.bins[:, :1]).any() or num_glimpses < 2
    torch.testing.assert_close(own.hidden, other.hidden, rtol=0, atol=1e-6)
    for name in weights.keys() - {"action_net.worth.bias"}:  # whose gradient is rounding, and Adam enlarges it
        torch.testing.assert_close(weights[name], wanted_weights[name], rtol=0, atol=1e-4, msg=name)
    assert grads.keys() == wanted_grads.keys()
    for name, gradient in grads.items():
        torch.testing.assert_close(gradient, wanted_grads[name], rtol=1e-3, atol=1e-5, msg=name)
    assert numbers == pytest.approx(wanted_numbers, rel=1e-4, abs=1e-6)


class Scores(torch.nn.Module):
    """A score for each bin of the overview, by its own feature alone."""

    def __init__(self, num_channels, overview_locations):
        super().__init__()
        self.register_buffer("locations", overview_locations)
        self.layer = torch.nn.Linear(num_channels, 1)

    def forward(self, hidden, overview):
        return self.layer(overview).squeeze(2)


def test_callbacks_find_actions_rewards_and_infos_of_episodes_played_as_tensors():
    class Reader(BaseCallback):
        def _on_step(self) -> bool:
            env, infos = self.training_env.unwrapped.vector_env, self.locals["infos"]
            seen.append((self.locals["dones"].all(), len(infos), sorted(infos[0]), infos[1]["clip"]))
            assert self.locals["actions"].shape == (4, 3)
            assert self.locals["rewards"].shape == (4,)
            if self.locals["dones"].all():
                assert [info["clip"] for info in infos] == env.finished.clip.tolist()
            return True

    seen = []
    REINFORCE(AttentionPolicy, make_env(4), seed=0).learn(12, callback=Reader())
    assert [row[0] for row in seen] == [False, False, True]
    assert {"bin", "frames", "box", "tracklet", "clip"} <= set(seen[0][2])
    assert {"identity", "is_success"} <= set(seen[2][2])
