"""Recipes: what they change, what their levers switch back, and a run with all of it."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from a3d_env.bank_format import read_meta
from agents.features import SharedFeatureCallback
from agents.locator import MixtureLocator
from agents.runs.arguments import read_arguments
from agents.runs.checkpoint import read_checkpoint, weights_at_test
from agents.runs.config import config_from_json, config_to_json
from agents.runs.model import load_run
from agents.runs.presets import PRESETS, get_preset
from agents.runs.recipes import (
    LEVERS,
    PHOTOGRAPHED,
    RECIPES,
    STRONG,
    STRONG_LEVERS,
    TRICKS,
    get_recipe,
    has_trick,
    is_drawn,
    plain,
    set_trick,
    with_settings,
)
from scripts.cli import main

STRONG_SETTINGS = {
    "recipe": "strong",
    "attention.overview": (2, 6, 6),
    "attention.reward": "glimpses",
    "joint.glimpse_weight": 1.0,
    "joint.episodes_per_clip": 8,
    "joint.triplet_on": "global",
    "joint.triplet_distance": "euclidean",
    "descriptor.neck": "batch_norm",
    "descriptor.compared": "learned",
    "descriptor.mirror": True,
    "backbone.flow_scale": "learned",
    "policy.locator": "mixture",
    "policy.baseline": "clip",
    "policy.normalize_advantage": True,
    "policy.gradient_to_glimpse": False,
    "policy.variance": 0.05,
    "policy.learning_rate": 1e-3,
    "joint.warmup": 60,
    "joint.schedule": "cosine",
    "joint.average_decay": 0.98,
    "joint.weight_decay": 5e-4,
    "joint.label_smoothing": 0.1,
}


def flat(config, prefix=""):
    """A configuration's values by dotted name."""
    values = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        inner = flat(value, f"{prefix}{field.name}.") if dataclasses.is_dataclass(value) else None
        values |= {f"{prefix}{field.name}": value} if inner is None else inner
    return values


def differences(config, other):
    ours, theirs = flat(config), flat(other)
    return {name for name in ours | theirs if ours.get(name) != theirs.get(name)}


def test_strong_differs_from_paper_in_the_listed_settings():
    paper, strong = (get_recipe(name)(get_preset("prid")) for name in ("paper", "strong"))
    assert paper == get_preset("prid")
    assert differences(strong, paper) == set(STRONG_SETTINGS)
    assert {name: flat(strong)[name] for name in STRONG_SETTINGS} == STRONG_SETTINGS
    listed = [
        f"{section}.{name}"
        for lever in (STRONG | PHOTOGRAPHED).values()
        for section in lever
        for name in lever[section]
    ]
    assert sorted(["recipe", *listed]) == sorted(STRONG_SETTINGS)  # each belongs to one lever


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_preset_takes_every_recipe_and_survives_its_file(preset, recipe):
    config = get_recipe(recipe)(get_preset(preset))
    assert (config.preset, config.recipe) == (preset, recipe)
    if recipe != "plain":
        own = {"joint.triplet_weight"} if is_drawn(config) else {"descriptor.neck"}
        if recipe == "complementary":
            own |= {"joint.glimpses_judged", "descriptor.glimpses"}
        if recipe == "several":
            own |= {"joint.glimpses_judged", "attention.shows_looked", "policy.inhibition"}
        assert differences(config, get_preset(preset)) <= {*STRONG_SETTINGS, *own}
    assert config_from_json(config_to_json(config), Path("config.json")) == config


@pytest.mark.parametrize("lever", STRONG | PHOTOGRAPHED)
def test_a_lever_switches_its_own_settings_back(lever):
    preset = get_preset("prid")
    strong = get_recipe("strong")(preset)
    back = STRONG_LEVERS[lever](strong)
    own = {f"{section}.{name}" for section, values in LEVERS[lever].items() for name in values}
    assert differences(back, strong) == own
    if lever == "episodes":
        assert (back.joint.episodes_per_clip, preset.joint.episodes_per_clip) == (2, 1)  # what the baseline needs
    else:
        assert {name: flat(back)[name] for name in own} == {name: flat(preset)[name] for name in own}


def test_networks_made_for_drawn_people_have_no_triplet_loss():
    weights = {name: get_recipe("strong")(get_preset(name)).joint.triplet_weight for name in PRESETS}
    assert {name for name, weight in weights.items() if weight == 0} >= {"benchmark", "tiny", "small"}
    assert {weights[name] for name in ("street", "prid", "ilids", "mars")} == {1.0}
    assert (
        STRONG_LEVERS["without_triplet"](get_recipe("strong")(get_preset("benchmark"))).joint.triplet_weight == 1
    )


def test_all_levers_back_is_the_preset():
    preset = get_preset("prid")
    config = get_recipe("strong")(preset)
    for back in STRONG_LEVERS.values():
        config = back(config)
    assert differences(config, preset) == {"recipe", "joint.episodes_per_clip"}  # of which two stay


def test_flags_win_over_the_recipe_and_that_over_the_preset():
    flags = ["--preset", "tiny", "--recipe", "strong", "--policy.variance", "0.2", "--attention.num-glimpses", "3"]
    config, _ = read_arguments(flags)
    expected = get_recipe("strong")(get_preset("tiny"))
    assert differences(config, expected) == {"policy.variance", "attention.num_glimpses"}
    assert (config.policy.variance, config.policy.locator, config.steps) == (0.2, "mixture", 6)
    assert read_arguments(["--preset", "tiny"])[0] == get_preset("tiny")


def test_unknown_recipes_list_the_known_ones(capsys):
    assert main(["train", "--preset", "tiny", "--recipe", "stew"]) == 2
    assert "unknown recipe 'stew'; known: paper, strong, complementary, several, plain" in capsys.readouterr().err


@pytest.fixture(scope="module")
def strong_run(tmp_path_factory, own_cache):
    folder = tmp_path_factory.mktemp("runs") / "strong"
    assert main(["train", "--preset", "tiny", "--recipe", "strong", "--out", str(folder)]) == 0
    return folder


def test_a_strong_run_trains_and_is_rebuilt_as_it_was(strong_run, tmp_path):
    assert json.loads((strong_run / "config.json").read_text())["recipe"] == "strong"
    metrics = json.loads((strong_run / "metrics.json").read_text())
    assert "glimpse_loss" in json.loads((strong_run / "history.jsonl").read_text().splitlines()[-1])
    run, state = load_run(strong_run), read_checkpoint(strong_run)
    assert isinstance(run.agent.policy.action_net, MixtureLocator)
    assert torch.equal(run.agent.policy.action_net.locations, run.grid.locations[run.grid.overview])
    for name, value in run.agent.policy.state_dict().items():
        assert torch.equal(value, state["agent"]["policy"][name]), name
    assert main(["evaluate", "--checkpoint", str(strong_run), "--json", str(tmp_path / "s.json")]) == 0
    scores = json.loads((tmp_path / "s.json").read_text())["reinforce"]
    for name, value in metrics["after"].items():
        assert scores[name] == pytest.approx(value, abs=0.006)


@pytest.mark.slow
def test_a_strong_run_resumes_exactly(tmp_path, monkeypatch):
    flags = ["--preset", "tiny", "--recipe", "strong", "--steps", "5"]
    flags += ["--joint.warmup", "1", "--joint.center-weight", "0.1"]
    learn = SharedFeatureCallback._learn_from

    def interrupt(self, finished):
        if self.step == 4:
            monkeypatch.setattr(SharedFeatureCallback, "_learn_from", learn)
            raise KeyboardInterrupt
        learn(self, finished)

    assert main(["train", *flags, "--out", str(tmp_path / "whole")]) == 0
    monkeypatch.setattr(SharedFeatureCallback, "_learn_from", interrupt)
    assert main(["train", *flags, "--out", str(tmp_path / "parts")]) == 130
    assert main(["train", "--resume", "--out", str(tmp_path / "parts")]) == 0
    own, other = (read_checkpoint(tmp_path / name) for name in ("parts", "whole"))
    for part in (lambda state: state["tested"], lambda state: state["agent"]["policy"]):
        assert all(torch.equal(value, part(other)[name]) for name, value in part(own).items())


def test_what_an_interrupted_run_lacks_is_told(strong_run, tmp_path, capsys):
    state = torch.load(strong_run / "checkpoint.pt", weights_only=True)
    torch.save({**state, "tested": None}, tmp_path / "checkpoint.pt")
    load_run(tmp_path)
    assert "unfinished run: its metric is not fitted yet, and f_g alone is compared" in capsys.readouterr().err
    state["shared"]["optimizer"]["param_groups"].pop()
    torch.save(state, tmp_path / "checkpoint.pt")
    assert main(["train", "--resume", "--out", str(tmp_path), "--steps", "7"]) == 2
    assert "is no checkpoint of this version: loaded state dict has a different number" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["a2c", "ppo", "sac", "random", "untrained"])
def test_other_agents_take_the_strong_recipe_too(agent, tmp_path):
    flags = ["--preset", "tiny", "--recipe", "strong", "--agent", agent, "--steps", "2"]
    assert main(["train", *flags, "--out", str(tmp_path)]) == 0


@pytest.mark.slow
def test_a_strong_runs_bank_has_its_overview(strong_run, tmp_path):
    assert main(["bank", "--checkpoint", str(strong_run), "--out", str(tmp_path / "bank")]) == 0
    grid = read_meta(tmp_path / "bank").grid
    assert grid.overview_counts == STRONG_SETTINGS["attention.overview"]
    flags = ["--policy.locator", "mixture", "--timesteps", "100", "--num-envs", "8", "--held-out", "0.5"]
    bank = ["policy", "--bank", str(tmp_path / "bank"), *flags]
    assert main([*bank, "--out", str(tmp_path / "own")]) == 0
    assert main([*bank, "--overview", "1", "2", "3", "--out", str(tmp_path / "other")]) == 0
    locations = [
        torch.load(tmp_path / name / "policy.pt", weights_only=True)["parameters"]["policy"][
            "action_net.locations"
        ]
        for name in ("own", "other")
    ]
    assert torch.equal(locations[0], grid.locations[grid.overview])
    assert len(locations[1]) == 1 * 2 * 3


@pytest.mark.parametrize("name", TRICKS)
def test_a_trick_is_switched_off_where_it_is_on_and_on_where_it_is_off(name):
    for preset in ("street", "benchmark"):
        config = get_recipe("strong")(get_preset(preset))
        is_on = has_trick(name, config)
        assert set_trick(name, config, on=is_on) == config
        switched = set_trick(name, config, on=not is_on)
        assert has_trick(name, switched) != is_on
        assert set_trick(name, switched, on=is_on) == config


def test_other_numbers_and_names_than_a_tricks_own_are_told_apart():
    config = get_preset("benchmark")
    assert has_trick("weight_decay", with_settings(config, joint={"weight_decay": 0.01}))
    assert not has_trick("soft_margin", with_settings(config, joint={"margin": 0.5}))
    assert not has_trick("gem", with_settings(config, backbone={"pooling": "quality"}))
    assert not has_trick("cosine", with_settings(config, joint={"halve_every": 7}))
    without_step = with_settings(config, joint={"schedule": "cosine", "halve_every": None})
    assert set_trick("cosine", without_step, on=False).joint.halve_every == config.steps // 3


@pytest.mark.parametrize("preset", PRESETS)
def test_plain_is_the_same_whatever_was_chosen_before(preset):
    preset = get_preset(preset)
    after_strong, alone = plain(get_recipe("strong")(preset)), plain(preset)
    assert {name.partition(".")[0] for name in differences(after_strong, alone)} <= {"policy"}  # nobody decides
    assert (alone.joint.triplet_weight, alone.joint.schedule) == (1.0, "step")
    assert alone.joint.halve_every == preset.joint.halve_every


@pytest.mark.slow
def test_the_recipe_is_the_one_that_works_unless_told_otherwise():
    found = {preset: read_arguments(["--preset", preset])[0].recipe for preset in PRESETS}
    others = {preset: recipe for preset, recipe in found.items() if recipe != "strong"}
    assert {preset for preset, recipe in others.items() if recipe == "paper"} == {"tiny", "walkers"}
    assert {preset for preset, recipe in others.items() if recipe != "paper"} == {"planted", "two_things"}
    assert read_arguments(["--preset", "street", "--recipe", "paper"])[0] == get_preset("street")


def test_a_plain_run_compares_f_g_by_cosine_and_looks_at_nothing(tmp_path):
    assert main(["train", "--preset", "tiny", "--recipe", "plain", "--steps", "2", "--out", str(tmp_path)]) == 0
    run = load_run(tmp_path)
    assert (run.config.attention.num_glimpses, run.representation.comparison.compared) == (0, "global")


@pytest.mark.slow
def test_the_metric_and_the_average_are_what_a_checkpoint_is_tested_with(tmp_path):
    flags = ["--preset", "tiny", "--recipe", "strong", "--joint.average-decay", "0.5", "--steps", "2"]
    assert main(["train", *flags, "--out", str(tmp_path)]) == 0
    run, state = load_run(tmp_path), read_checkpoint(tmp_path)
    average = state["shared"]["average"]
    for name, value in run.representation.state_dict().items():
        assert torch.equal(value, state["tested"][name]), name
        if not name.startswith("comparison."):
            assert torch.equal(value, average[f"module.{name}"]), name
    projection = run.representation.comparison.projection
    assert not torch.equal(projection, average["module.comparison.projection"])
    # half-way, it is tested by f_g alone, and with the average of then
    early = weights_at_test({**state, "tested": None})
    assert torch.equal(early["glimpse.identify.weight"], average["module.glimpse.identify.weight"])


@pytest.mark.parametrize(
    ("preset", "recipe", "more"),
    [
        ("planted", "complementary", {"descriptor.glimpses": "mean"}),
        ("two_things", "several", {"attention.shows_looked": True, "policy.inhibition": 5.0}),
    ],
)
def test_two_recipes_are_strong_with_a_reward_for_what_a_glimpse_adds(preset, recipe, more):
    base = get_preset(preset)
    strong, changed = (flat(get_recipe(name)(base)) for name in ("strong", recipe))
    assert {name: value for name, value in changed.items() if value != strong[name]} == {
        "recipe": recipe,
        "attention.reward": "prefixes",
        "joint.glimpses_judged": "prefixes",
        **more,
    }
    config, _ = read_arguments(["--preset", preset])
    assert config.recipe == recipe
