"""The mixture's scores against its formula written out, in every algorithm, and on the playground."""

import io

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

import agents
from a3d_env.env import Attention3DEnv
from a3d_env.interface import as_numpy
from a3d_env.playground import playground
from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.controls import random_agent
from agents.locator import MixtureLocator
from agents.policy import AttentionPolicy
from agents.reinforce import REINFORCE
from agents.rollout import follow, overlap_shares

OVERVIEW = (2, 6, 4)
MIXTURE = {"locator": "mixture", "variance": 0.2}
ON_POLICY = ["reinforce", "a2c", "ppo"]


def make_env(num_envs=8, overview=OVERVIEW, *, glimpse_learns=False, shows_looked=False, **settings):
    bank, glimpse = playground()
    bank = bank.with_overview(overview, shows_looked=shows_looked)
    glimpse.requires_grad_(glimpse_learns)
    return Attention3DVecEnv(Attention3DVectorEnv(num_envs, bank, glimpse, **settings))


def scored(weights, hidden, bins, locations):
    """The scores of one episode, bin by bin: hidden (256,), bins (K, C_g), locations (K, 3)."""
    query = weights["query.weight"] @ hidden + weights["query.bias"]
    scores = []
    for feature, location in zip(bins, locations, strict=True):
        key = weights["key.weight"] @ torch.cat([feature, location]) + weights["key.bias"]
        key = key.clamp(min=0)
        scores.append(key @ query / 8 + weights["worth.weight"][0] @ key + weights["worth.bias"][0])
    return torch.stack(scores)


def test_the_scores_are_the_formulas():
    torch.manual_seed(0)
    locations = torch.rand(7, 3) * 2 - 1
    locator, hidden = MixtureLocator(5, locations), torch.randn(4, 256)
    bins = 3 * torch.randn(2, 7, 5)[[0, 0, 1, 0]]  # episodes of one clip see the same
    scores = locator(torch.cat([hidden, bins.flatten(1)], dim=1))
    for number in range(4):
        expected = scored(locator.state_dict(), hidden[number], bins[number], locations)
        torch.testing.assert_close(scores[number], expected)
    assert scores.std(0).min() > 0.005
    assert {name: tuple(value.shape) for name, value in locator.state_dict().items()} == {
        "locations": (7, 3), "key.weight": (64, 8), "key.bias": (64,), "query.weight": (64, 256),
        "query.bias": (64,), "worth.weight": (1, 64), "worth.bias": (1,),
    }  # fmt: skip


def test_inhibition_lowers_the_scores_of_what_was_looked_at_and_keeps_glimpses_apart():
    torch.manual_seed(0)
    locations, hidden, bins, looked = torch.rand(7, 3), torch.randn(4, 256), torch.randn(4, 35), torch.rand(4, 7)
    locator = MixtureLocator(5, locations, inhibition=5.0)
    free = MixtureLocator(5, locations)
    free.load_state_dict(locator.state_dict())
    scores = locator(torch.cat([hidden, bins, looked], dim=1))
    torch.testing.assert_close(scores, free(torch.cat([hidden, bins], dim=1)) - 5 * looked)

    overlaps = {}
    for inhibition in (0.0, 100.0):
        env = make_env(shows_looked=True)
        agent = agents.make("reinforce", env, policy_kwargs={**MIXTURE, "inhibition": inhibition}, seed=0)
        process = env.vector_env.process
        clips = torch.arange(8)
        overlaps[inhibition] = overlap_shares(process.bank, follow(agent, process, clips)).mean()
        seen = as_numpy(process.observe(process.start(clips)))
        second = process.bank.grid.chosen(torch.from_numpy(agent.predict(seen, deterministic=True)[0]))
        assert torch.equal(second, follow(agent, process, clips).bins[:, 1])
    assert overlaps[0.0] > 0.8
    assert overlaps[100.0] < 0.1


def test_inhibition_needs_a_mixture_that_is_told_what_was_looked_at():
    with pytest.raises(ValueError, match=r"attention\.shows_looked"):
        agents.make("reinforce", make_env(), policy_kwargs={**MIXTURE, "inhibition": 5.0})
    with pytest.raises(ValueError, match="only the locator mixture has an inhibition"):
        agents.make("reinforce", make_env(shows_looked=True), policy_kwargs={"inhibition": 5.0})


def test_the_policys_weights_are_the_scores_and_its_value_is_of_the_hidden_state_alone():
    env = make_env()
    policy = agents.make("a2c", env, policy_kwargs=MIXTURE, seed=0).policy
    seen = {name: torch.as_tensor(value) for name, value in env.reset().items()}
    values, log_prob, _ = policy.evaluate_actions(seen, torch.zeros(8, 3))
    weights, locations = policy.get_distribution(seen).log_weights, env.vector_env.overview_locations
    for number in range(8):
        bins = seen["overview"][number].view(48, 19)
        expected = scored(policy.action_net.state_dict(), seen["hidden"][number], bins, locations)
        torch.testing.assert_close(weights[number], expected.log_softmax(0))
    own_log_prob, own_values = policy.evaluate_hidden(seen["hidden"], torch.zeros(8, 3), seen["overview"])
    torch.testing.assert_close(own_log_prob, log_prob)
    torch.testing.assert_close(own_values, values.squeeze(1))
    elsewhere = {**seen, "overview": torch.randn_like(seen["overview"])}
    assert torch.equal(policy.predict_values(elsewhere), policy.predict_values(seen))
    assert not torch.equal(policy.get_distribution(elsewhere).log_weights, weights)
    assert set(policy.state_dict()) >= {"action_net.locations", "action_net.key.weight", "log_std"}
    trained = {id(p) for group in policy.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in policy.parameters()}


@pytest.mark.parametrize("name", ON_POLICY)
def test_every_on_policy_algorithm_takes_a_mixture_saves_and_loads(name, tmp_path):
    env = make_env()
    agent = agents.make(name, env, policy_kwargs=MIXTURE, seed=0, learning_rate=0.01)
    before = {key: value.clone() for key, value in agent.policy.state_dict().items()}
    agent.learn(96)
    changed = {key for key, value in agent.policy.state_dict().items() if not torch.equal(value, before[key])}
    assert {f"action_net.{layer}.weight" for layer in ("key", "query", "worth")} <= changed
    assert "action_net.locations" not in changed

    seen = env.reset()
    action = agent.predict(seen, deterministic=True)[0]
    agent.save(tmp_path / "agent")
    loaded = type(agent).load(tmp_path / "agent", env=env)
    np.testing.assert_array_equal(loaded.predict(seen, deterministic=True)[0], action)
    loaded.learn(24)

    buffer = io.BytesIO()
    torch.save(agent.get_parameters(), buffer)
    other = agents.make(name, env, policy_kwargs=MIXTURE, seed=1)
    other.set_parameters(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    np.testing.assert_array_equal(other.predict(seen, deterministic=True)[0], action)
    agent.policy.save(tmp_path / "policy")
    own = AttentionPolicy.load(tmp_path / "policy")
    np.testing.assert_array_equal(own.predict(seen, deterministic=True)[0], action)


def test_the_gradient_reaches_the_locator_and_the_glimpse_network():
    env = make_env(glimpse_learns=True)
    agent = agents.make("reinforce", env, policy_kwargs=MIXTURE, seed=0)
    agent.learn(24)
    glimpse = env.vector_env.glimpse
    for module in (agent.policy.action_net, glimpse.embed_observation, glimpse.embed_hidden):
        for name, parameter in module.named_parameters():
            # softmax does not see what is added to all scores
            assert parameter.grad.abs().sum() > 0 or name == "worth.bias", name


def test_a_single_environment_is_looked_at_as_one_of_many():
    bank, glimpse = playground()
    single = Attention3DEnv(bank, glimpse, overview=OVERVIEW)
    agent = agents.make("reinforce", DummyVecEnv([lambda: single]), policy_kwargs=MIXTURE, seed=0)
    vector = Attention3DVectorEnv(5, bank, glimpse, overview=OVERVIEW)
    together = agent.predict(vector.reset(options={"clip": np.arange(5)})[0], deterministic=True)[0]
    for clip in range(5):
        alone = agent.predict(single.reset(options={"clip": clip})[0], deterministic=True)[0]
        np.testing.assert_allclose(alone, together[clip], atol=1e-6)
    agent.learn(6)


@pytest.mark.slow
def test_the_mixture_learns_where_to_look():
    env = make_env(128, reward="glimpses", episodes_per_clip=8)
    agent = agents.make(
        "reinforce", env, seed=0, learning_rate=3e-3, baseline="clip", normalize_advantage=True,
        policy_kwargs={"locator": "mixture", "variance": 0.1},
    )  # fmt: skip
    process, clips = env.vector_env.process, torch.arange(64)

    def hit_rate(who) -> float:
        bins = follow(who, process, clips).bins[:, 1:]
        return process.bank.hits[clips[:, None].numpy(), bins.numpy()].mean()

    agent.learn(18_000)
    assert hit_rate(agent) > 0.9
    assert hit_rate(random_agent()) < 0.4


def test_a_mixture_needs_an_overview_and_its_locations():
    with pytest.raises(ValueError, match=r"no overview for the locator 'mixture'.*overview=\(2, 6, 4\)"):
        agents.make("reinforce", make_env(overview=None), policy_kwargs=MIXTURE)
    with pytest.raises(ValueError, match=r"give the policy the environment's overview_locations"):
        A2C(AttentionPolicy, make_env(), policy_kwargs=MIXTURE)
    with pytest.raises(ValueError, match=r"overview has 48 bins, so that overview_locations has to be \(48, 3\)"):
        A2C(AttentionPolicy, make_env(), policy_kwargs={**MIXTURE, "overview_locations": [[0, 0, 0]]})
    with pytest.raises(ValueError, match="unknown locator 'eye'; known: linear, mixture, or module:name"):
        agents.make("reinforce", make_env(), policy_kwargs={"locator": "eye"})
    agent = agents.make("reinforce", make_env(), policy_kwargs=MIXTURE)
    with pytest.raises(ValueError, match="this observation shows none"):
        agent.predict(make_env(overview=None).reset())


@pytest.mark.parametrize(("name", "kwargs"), [("reinforce", MIXTURE), ("ppo", MIXTURE), ("dqn", {})])
def test_what_was_learned_with_one_overview_is_not_taken_for_another_of_as_many_bins(
    played, tmp_path, name, kwargs
):
    env, other = (
        Attention3DVecEnv(Attention3DVectorEnv(2, *played, overview=counts)) for counts in ((2, 6, 4), (2, 4, 6))
    )
    agent = agents.make(name, env, policy_kwargs=kwargs)
    agent.save(tmp_path / "agent.zip")
    another = agents.make(name, other, policy_kwargs=kwargs)
    load = type(agent).load
    assert load(tmp_path / "agent.zip", env=agent.get_env()).num_timesteps == 0
    with pytest.raises(ValueError, match=r"do not match: .*height -1, -0\.6, .* width -1, -0\.6, "):
        load(tmp_path / "agent.zip", env=another.get_env())
    with pytest.raises(ValueError, match="do not match"):
        agent.set_env(another.get_env())
    with pytest.raises(ValueError, match="overview of 48 bins at other places than this one's 48"):
        another.set_parameters(agent.get_parameters())
    with pytest.raises(ValueError, match="overview_locations are not those of the environment"):
        A2C(
            AttentionPolicy,
            other,
            policy_kwargs={**MIXTURE, "overview_locations": env.get_attr("overview_locations")[0]},
        )


def test_a_linear_locator_does_not_mind_an_overview():
    states = []
    for overview in (OVERVIEW, None):
        agent = agents.make("reinforce", make_env(overview=overview), seed=0)
        states.append(agent.learn(48).policy.state_dict())
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_gymnasiums_makers_take_an_overview():
    env = gymnasium.make("a3d_env:A3D/Attention3D-v0", overview=OVERVIEW)
    agent = REINFORCE(
        AttentionPolicy,
        env,
        policy_kwargs={**MIXTURE, "overview_locations": env.unwrapped.overview_locations.tolist()},
    )
    agent.learn(6)


class Means(nn.Module):
    """Locations by the hidden state and the overview, if there is one."""

    def __init__(self, num_channels, overview_locations):
        super().__init__()
        self.layer = nn.Linear(256 + num_channels * len(overview_locations), 3)

    def forward(self, hidden, overview):
        return self.layer(torch.cat([hidden, overview.flatten(1)], dim=1)).tanh()


class Scores(nn.Module):
    """A score for each bin of the overview, by its own feature alone."""

    def __init__(self, num_channels, overview_locations):
        super().__init__()
        self.register_buffer("locations", overview_locations)
        self.layer = nn.Linear(num_channels, 1)

    def forward(self, hidden, overview):
        return self.layer(overview).squeeze(2)


class TooFew(Scores):
    def forward(self, hidden, overview):
        return super().forward(hidden, overview)[:, 1:]


class Pairs(Means):
    def forward(self, hidden, overview):
        return super().forward(hidden, overview), None


class NoKeywords(nn.Module):
    def __init__(self):
        super().__init__()


@pytest.mark.parametrize("name", ON_POLICY)
@pytest.mark.parametrize(("locator", "overview"), [("Means", None), ("Means", OVERVIEW), ("Scores", OVERVIEW)])
def test_a_locator_of_the_users_own_learns_and_comes_back(played, name, locator, overview, tmp_path):
    env = Attention3DVecEnv(Attention3DVectorEnv(4, *played, overview=overview))
    agent = agents.make(name, env, policy_kwargs={"locator": f"{__name__}:{locator}", "variance": 0.1}, seed=0)
    before = agent.policy.action_net.network.layer.weight.clone()
    agent.learn(12)
    assert not torch.equal(agent.policy.action_net.network.layer.weight, before)
    agent.save(tmp_path / "agent")
    again = agents.load(name, tmp_path / "agent", env)
    for key, value in agent.policy.state_dict().items():
        assert torch.equal(value, again.policy.state_dict()[key]), key


def test_scores_of_a_locator_of_the_users_own_choose_among_its_locations(played):
    env = Attention3DVecEnv(Attention3DVectorEnv(4, *played, overview=OVERVIEW))
    agent = agents.make("reinforce", env, policy_kwargs={"locator": f"{__name__}:Scores"}, seed=0)
    seen = env.reset()
    own = agent.policy.action_net.network
    bins = torch.from_numpy(seen["overview"]).unflatten(1, (48, -1))
    expected = own.locations[own.layer(bins).squeeze(2).argmax(1)]
    np.testing.assert_array_equal(agent.predict(seen, deterministic=True)[0], expected.detach().numpy())


@pytest.mark.parametrize(
    ("name", "overview", "message"),
    [
        ("TooFew", OVERVIEW, r"TooFew returned \(2, 47\) for 2 observations: a score .* is needed, \(2, 48\)"),
        (
            "Pairs",
            None,
            r"Pairs returned an object of type tuple for 2 .*: a location for each is needed, \(2, 3\)",
        ),
        (
            "Scores",
            None,
            r"`locations` of the locator .*Scores .* got \(0, 3\): .*--attention\.overview",
        ),
        ("NoKeywords", None, r"when it is called with the keywords num_channels, overview_locations: "),
    ],
)
def test_what_is_no_locator_is_named(played, name, overview, message):
    env = Attention3DVecEnv(Attention3DVectorEnv(4, *played, overview=overview))
    with pytest.raises(ValueError, match=message):
        agents.make("reinforce", env, policy_kwargs={"locator": f"{__name__}:{name}"})
