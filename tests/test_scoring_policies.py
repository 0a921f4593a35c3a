"""Policies that score places: what each computes; every algorithm with one learns, is saved and explained."""

import dataclasses

import pytest
import torch
from test_algorithms import make_env, mean_reward

import agents
from a3d_env.sb3 import process_of
from agents.episodes.decision import bin_values, decide
from agents.extractors import OverviewReader
from agents.place_scores import (
    Aim,
    AxisScores,
    BinScores,
    BinValues,
    HiddenStateAndPlaces,
    LocationValue,
    PlaceScores,
    nearness,
)
from agents.runs.build import initial_learning_rate
from agents.runs.presets import get_preset
from agents.runs.recipes import with_settings
from scripts.compare.task import settings_of

SCORING = [name for name, entry in agents.ALGORITHMS.items() if entry.scoring]
OVERVIEW = (2, 3, 2)  # all bins
REPLAY = {"learning_starts": 256, "batch_size": 128}
SETTINGS = {name: {"learning_rate": 3e-3} | ({} if name.startswith("ppo") else REPLAY) for name in SCORING}


def make(name, **settings):
    return agents.make(name, make_env(overview=OVERVIEW), seed=0, device="cpu", **settings)


def places(positions=(2, 3, 2), locations=None):
    env = make_env(1, overview=OVERVIEW)
    locations = env.get_attr("overview_locations")[0] if locations is None else locations
    return HiddenStateAndPlaces(env.observation_space, locations.tolist(), positions)


def features(count=4):
    return torch.randn(count, 256 + 12 * 6, generator=torch.Generator().manual_seed(count))


@pytest.mark.slow
@pytest.mark.parametrize("name", SCORING)
def test_every_algorithm_with_an_overview_finds_the_place_is_saved_and_explained(name, tmp_path):
    agent = make(name, **SETTINGS[name])
    assert isinstance(agent.policy, agents.ALGORITHMS[name].scoring)
    agent.learn(1_200)
    process = process_of(agent.get_env())
    assert mean_reward(agent, process) == 1.0

    agent.save(tmp_path / "agent")
    loaded = agents.load(name, tmp_path / "agent", make_env(overview=OVERVIEW), device="cpu")
    other = make(name)
    other.set_parameters(agent.get_parameters())
    for again in (loaded, other):
        assert mean_reward(again, process) == 1.0
    loaded.learn(64)

    episode = process.start(torch.tensor([3]))
    decision = decide(agent, process, episode, None, deterministic=True)
    assert decision.value == decision.value
    if not name.startswith("ppo"):
        values = bin_values(agent, process, episode)
        assert process.locations[values.argmax()].tolist() == pytest.approx(decision.action.tolist(), abs=0.5)


def test_a_bin_scores_as_the_overviews_places_near_it_do():
    positions = (3, 3, 2)  # a third bin lies between the overview's two along time
    given = places(positions)
    net = BinScores(given, PlaceScores(given))
    seen = features()
    at_places = net.scores(seen).view(4, 2, 3, 2)
    found = net(seen).view(4, *positions)
    torch.testing.assert_close(found[:, [0, 2]], at_places, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[:, 1], at_places.mean(1), atol=1e-4, rtol=1e-4)


def test_a_place_scores_by_what_is_in_it_and_more_or_less_by_the_hidden_state():
    given = places()
    net, seen = PlaceScores(given), features(2)
    torch.nn.init.ones_(net.weight.weight)
    bins = torch.cat([seen[:, 256:].view(2, 12, 6), given.locations.expand(2, -1, -1)], dim=2)
    always, at_times = net.worth(net.key(bins).relu()).unbind(2)
    torch.testing.assert_close(net(seen), always + seen[:, :256].sum(1, keepdim=True) * at_times)


def test_positions_along_an_axis_score_as_all_their_bins_together():
    net = AxisScores(places(), PlaceScores(places()))
    seen = features()
    joint = net.bin_scores(seen).softmax(1).view(4, 2, 3, 2)
    time, height, width = (part.softmax(1) for part in net(seen).split([2, 3, 2], dim=1))
    torch.testing.assert_close(time, joint.sum((2, 3)))
    torch.testing.assert_close(height, joint.sum((1, 3)))
    torch.testing.assert_close(width, joint.sum((1, 2)))


def test_values_of_bins_are_the_states_value_on_average():
    net, seen = BinValues(places(), 5, [8], torch.nn.ReLU), features()
    values = net(seen).view(4, 5, 12)
    torch.testing.assert_close(values.mean(2), net.value(seen))
    scores = net.bin_scores(seen)
    torch.testing.assert_close(values[:, 2] - values[:, 2, :1], scores - scores[:, :1])


def test_the_value_of_a_location_has_a_slope_towards_the_better_place():
    net, seen = LocationValue(places(), 3, [8], torch.nn.ReLU), features(1)
    scores = net.place_scores(seen)
    location = torch.zeros(1, 3, requires_grad=True)
    values = net(torch.cat([seen, location], dim=1))
    near = nearness(location, net.scores.locations, 0.2)
    torch.testing.assert_close(near.sum(1), torch.ones(1))
    torch.testing.assert_close(values, net.value(seen) + (near * scores).sum(1, keepdim=True))
    values[0, 0].backward()
    # of the places at the middle height the late ones count as much as the early ones, here
    middle = scores.view(2, 3, 2)[:, 1].mean(1)
    assert torch.sign(location.grad[0, 0]) == torch.sign(middle[1] - middle[0])


@pytest.mark.parametrize("squashed", [True, False])
def test_an_actor_follows_a_critic_that_it_does_not_change(squashed):
    critic, aim, seen = LocationValue(places(), 1, [8], torch.nn.ReLU), Aim(squashed=squashed), features()
    aim.follow(critic)
    assert [name for name, _ in aim.named_parameters()] == ["log_sharpness"]
    with torch.no_grad():
        aim.log_sharpness.fill_(9)
    location = aim(seen)
    best = critic.scores.locations[critic.place_scores(seen).argmax(1)]
    torch.testing.assert_close(location.tanh() / 0.97 if squashed else location, best)
    location.sum().backward()
    assert aim.log_sharpness.grad is not None
    assert all(parameter.grad is None for parameter in critic.parameters())


def test_without_an_overview_and_with_a_readers_or_noise_of_ones_own_the_networks_are_stable_baselines3s():
    for agent in (
        agents.make("dqn", make_env(2), seed=0),
        make("sac", use_sde=True),
        make(
            "dqn",
            policy_kwargs={
                "features_extractor_class": OverviewReader,
                "features_extractor_kwargs": {
                    "overview_locations": make_env(1, overview=OVERVIEW).get_attr("overview_locations")[0].tolist()
                },
            },
        ),
    ):
        assert type(agent.policy).__name__ == "MultiInputPolicy"
    assert make("ppo-discrete").learning_rate == agents.ALGORITHMS["ppo"].defaults["learning_rate"]
    assert agents.make("ppo-discrete", make_env(2)).learning_rate == 1e-3


def test_an_overview_at_other_places_is_refused():
    agent, other = make("dqn"), agents.make("dqn", make_env(2, overview=(1, 3, 2)), seed=0)
    with pytest.raises(ValueError, match="other places"):
        other.set_parameters(agent.get_parameters())


def test_a_run_with_such_a_policy_is_told_from_one_without_and_described():
    entry = agents.ALGORITHMS["dqn"]
    assert settings_of(entry) != settings_of(dataclasses.replace(entry, scoring=None))
    assert "MultiInputPolicy (BinScoringDQNPolicy with an overview)" in agents.describe("dqn")


def test_the_learning_rate_that_a_run_begins_with_is_that_of_the_policy():
    config = dataclasses.replace(get_preset("tiny"), agent="ppo-discrete")
    config = with_settings(config, policy={"learning_rate": None})
    assert initial_learning_rate(config) == 1e-3
    assert initial_learning_rate(with_settings(config, attention={"overview": OVERVIEW})) == 5e-4
