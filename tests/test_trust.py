"""Code and paths that a file of a stranger names are not used."""

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from test_algorithms import make_env

import agents
from a3d_env.attention_config import AttentionConfig
from a3d_env.bank_file import open_bank, save_bank
from a3d_env.process import AttentionProcess
from agents.controls import centre_agent
from agents.episodes import Episode
from agents.episodes.record import record_on
from agents.runs.agent_flags import read_agents_file
from agents.runs.arguments import read_arguments
from agents.runs.bank_policy import POLICY, load_policy, read_policy
from agents.runs.build import make_agent
from agents.runs.checkpoint import read_checkpoint
from agents.runs.config import config_to_json
from agents.runs.model import load_model
from agents.runs.own import check_own_code
from agents.runs.policy_episodes import PolicyEpisodes
from agents.runs.presets import get_preset
from agents.state import load_training_state
from backbone import own
from backbone.config import BackboneConfig
from scripts.cli import main, named_code

EVIL = """
from pathlib import Path

from agents.reinforce import REINFORCE

Path(__file__).with_name("ran").touch()


class Agent(REINFORCE):
    pass
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory, own_cache):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", "--preset", "tiny", "--steps", "1", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def strange(trained, tmp_path, monkeypatch):
    """A checkpoint whose agent is a module that leaves a file where it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(own, "_TRUSTED", set())
    (tmp_path / "evil_agent.py").write_text(EVIL)
    state = read_checkpoint(trained)
    config = dataclasses.replace(state["config"], agent="evil_agent:Agent", cache=tmp_path / "elsewhere")
    torch.save({**state, "config": config_to_json(config)}, tmp_path / "checkpoint.pt")
    yield tmp_path
    sys.modules.pop("evil_agent", None)


@pytest.mark.parametrize(
    "command", [["evaluate"], ["bank", "--out", "bank"], ["embed", "--out", "e.npz"], ["probe"]]
)
def test_a_checkpoint_does_not_choose_code(strange, command, capsys):
    assert main([*command, "--checkpoint", "checkpoint.pt"]) == 2
    assert "agent that is no part of this library, evil_agent:Agent" in capsys.readouterr().err
    assert not (strange / "ran").exists()


def test_whom_one_trusts_runs_and_the_cache_of_the_file_is_left_alone(strange):
    assert main(["--trust", "evil_agent:Agent", "evaluate", "--checkpoint", "checkpoint.pt"]) == 0
    assert (strange / "ran").exists()
    assert not (strange / "elsewhere").exists()


def test_in_python_one_says_so_too(strange):
    with pytest.raises(ValueError, match=r"own\.trust\('evil_agent:Agent'\)"):
        load_model(strange)
    agents.trust("evil_agent:Agent")
    assert type(load_model(strange).agent).__name__ == "Agent"


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("a backbone", {"backbone": BackboneConfig("evil_agent:Agent")}),
        ("a reward", {"attention": AttentionConfig(reward="evil_agent:Agent")}),
        ("a locator", {"agent_settings": {"policy_kwargs": {"locator": "evil_agent:Agent"}}}),
    ],
)
def test_a_checkpoint_chooses_no_other_code(strange, kind, changes):
    state = torch.load(strange / "checkpoint.pt", weights_only=True)
    config = config_to_json(dataclasses.replace(get_preset("tiny"), **changes))
    torch.save({**state, "config": config}, strange / "checkpoint.pt")
    with pytest.raises(ValueError, match=rf"checkpoint\.pt names {kind} that is no part of this library"):
        read_checkpoint(strange)
    agents.trust("evil_agent:Agent")
    assert read_checkpoint(strange)["config"]
    assert not (strange / "ran").exists()


def test_one_is_told_of_all_that_is_to_be_trusted_at_once(monkeypatch):
    monkeypatch.setattr(own, "_TRUSTED", set())
    settings = {"agent": "mine:Agent", "backbone": {"name": "mine:Net"}, "attention": {"reward": "rank"}}
    with pytest.raises(
        ValueError, match=r"run names code that .*, mine:Agent,mine:Net: .* --trust mine:Agent,mine:Net "
    ):
        check_own_code(settings, "run")
    own.trust("mine:Agent,mine:Net")
    check_own_code(settings, "run")


def test_callbacks_that_a_checkpoint_names_are_not_run(strange):
    state = torch.load(strange / "checkpoint.pt", weights_only=True)
    config = config_to_json(dataclasses.replace(get_preset("tiny"), callbacks="evil_agent:Agent"))
    torch.save({**state, "config": config}, strange / "checkpoint.pt")
    state = read_checkpoint(strange)
    assert (state["config"].callbacks, state["callbacks"]) == ("", "evil_agent:Agent")
    assert not (strange / "ran").exists()


def test_a_policy_and_an_episode_choose_no_reward(strange, played):
    config = json.dumps({"bank": "b", "out": "o", "reward": "evil_agent:Agent"})
    torch.save({"config": config, "parameters": {}}, strange / POLICY)
    with pytest.raises(ValueError, match=r"policy\.pt names a reward that is no part of this library"):
        load_policy(strange, make_env(4))
    with pytest.raises(ValueError, match=r"policy\.pt names a reward that is no part of this library"):
        PolicyEpisodes(strange)
    episode = record_on(AttentionProcess(played[0].one_clip(0), played[1]), centre_agent())
    episode.process.reward_name = "evil_agent:Agent"
    path = episode.save(strange / "episode.npz")
    with pytest.raises(ValueError, match=r"episode\.npz names a reward that is no part of this library"):
        Episode.load(path)
    assert not (strange / "ran").exists()


def test_a_file_of_settings_chooses_no_locator(strange):
    (strange / "agents.yaml").write_text("ppo: {policy_kwargs: {locator: 'evil_agent:Agent'}}")
    with pytest.raises(ValueError, match=r"agents\.yaml names a locator that is no part of this library"):
        read_agents_file(strange / "agents.yaml")


def test_naming_code_on_the_command_line_is_trusting_it():
    assert named_code(["train", "--agent", "mine:Agent", "--data", "folder:x"]) == ["mine:Agent"]
    assert named_code(["compare", "--agents=ppo,mine:One,my.other:Two"]) == ["mine:One", "my.other:Two"]
    assert named_code(["train", "--agent"]) == []
    flags = ["--backbone.name=mine:Net", "--attention.reward", "mine:pay", "--policy.locator", "mine:Where"]
    assert named_code(["train", *flags]) == ["mine:Net", "mine:pay", "mine:Where"]
    assert named_code(["train", "--callbacks", "mine:One,my.other:Two"]) == ["mine:One", "my.other:Two"]
    assert named_code(["compare", "--reward", "mine:pay", "--locator=mine:Where"]) == ["mine:pay", "mine:Where"]


def test_code_in_the_settings_of_an_algorithm_is_trusted_where_its_splits_are_scored(strange, monkeypatch):
    def stop(*_):
        raise ValueError("here the runs would begin")

    monkeypatch.setattr("scripts.evaluate.splits.run_jobs", stop)
    locator = ["--agents.reinforce.policy-kwargs", "{locator: 'evil_agent:Agent'}"]
    assert main(["evaluate", "--splits", "0", "--preset", "tiny", *locator, "--out", "splits"]) == 2
    own.check_trusted("evil_agent:Agent", "checkpoint.pt")


def test_naming_data_on_the_command_line_is_trusting_it(strange, capsys):
    assert main(["embed", "--checkpoint", "x", "--out", "e.npz", "--data=mine:read:/data@split=1"]) == 2
    own.check_trusted("mine:read", "c.pt")


@pytest.mark.parametrize("command", [["evaluate"], ["embed", "--out", "e.npz"], ["train", "--resume"]])
def test_a_checkpoint_does_not_choose_whose_data_is_read(strange, trained, command, capsys):
    folder = changed(trained, strange / "run", lambda state, config: config.update(data="evil_agent:Agent"))
    place = "--out" if "--resume" in command else "--checkpoint"
    assert main([*command, place, str(folder)]) == 2
    assert "names a data set that is no part of this library, evil_agent:Agent" in capsys.readouterr().err
    assert not (strange / "ran").exists()


def changed(trained, folder, change):
    """A copy of a checkpoint, whose configuration, as a dictionary, or state is changed."""
    state = torch.load(trained / "checkpoint.pt", weights_only=True)
    config = json.loads(state["config"])
    change(state, config)
    folder.mkdir(exist_ok=True)
    torch.save({**state, "config": json.dumps(config)}, folder / "checkpoint.pt")
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state, config: config["attention"].update(num_glimpses=10**6), "64 glimpses at most, got 1000000"),
        (lambda state, config: config["load"].update(height=10**6), "is too large: 134,217,728 pixels and"),
        (lambda state, config: config["load"].update(num_frames=10**9), "is too large"),
        (
            lambda state, config: config["load"].update(num_people=10**9),
            "checkpoint.pt holds no configuration that this version can read: a batch has 1 to 65,536 episodes",
        ),
        (
            lambda state, config: config["attention"].update(bin_size=[1, 1, 10**9]),
            "does not fit into a feature map",
        ),
        (
            lambda state, config: config["data_options"]["synthetic"].update(num_frames=10**9),
            "bytes of synthetic frames are too many",
        ),
        (
            lambda state, config: config["agent_settings"].update(policy_kwargs={"value_layers": [60_000] * 2}),
            "the networks of the agent reinforce are too large: 8 layers of 4,096 units",
        ),
        (
            lambda state, config: config.update(
                agent="sac", agent_settings={"policy_kwargs": {"n_critics": 10**6}}
            ),
            "the networks of the agent sac are too large",
        ),
        (lambda state, config: state.update(agent="/dev/zero"), 'field "agent"'),
        (lambda state, config: state.update(people=10**9), 'field "people"'),
        (
            lambda state, config: state.update(people=[0] * 10_000),
            "F_c tells 6 people apart, and 10000 are listed",
        ),
        (lambda state, config: state.pop("shared"), 'missing value for field "shared"'),
    ],
)
def test_a_checkpoint_does_not_choose_how_much_memory_is_taken(trained, tmp_path, capsys, change, message):
    folder = changed(trained, tmp_path / "run", change)
    assert main(["evaluate", "--checkpoint", str(folder)]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert message in error


def test_of_an_agents_settings_a_file_chooses_only_what_its_weights_need(trained, tmp_path):
    own = {"n_steps": 77, "stats_window_size": 7, "tensorboard_log": str(tmp_path / "logs")}
    kept = {"policy_kwargs": {"value_layers": [256]}, "vf_coef": 0.25}
    folder = changed(trained, tmp_path, lambda state, config: config.update(agent_settings={**own, **kept}))
    agent = load_model(folder).agent
    assert (agent.n_steps, agent._stats_window_size, agent.tensorboard_log) == (3, 100, None)
    assert (agent.policy.value_layers, agent.vf_coef) == ([256], 0.25)
    own |= {"batch_size": 77}
    config = {"bank": "b", "out": "o", "agent": "ppo", "agent_settings": {**own, **kept}}
    parameters = make_agent("ppo", make_env(4)).get_parameters()
    torch.save({"config": json.dumps(config), "parameters": parameters}, tmp_path / POLICY)
    agent = load_policy(tmp_path, make_env(4))
    assert (agent.n_steps, agent.batch_size, agent.tensorboard_log, agent.vf_coef) == (1, 4, None, 0.25)
    config["agent_settings"]["policy_kwargs"] = {"value_layers": [4096] * 9}
    torch.save({"config": json.dumps(config), "parameters": parameters}, tmp_path / POLICY)
    with pytest.raises(ValueError, match="the networks of the agent ppo are too large"):
        load_policy(tmp_path, make_env(4))


def test_a_checkpoint_does_not_choose_how_many_processes_load(trained, tmp_path):
    folder = changed(trained, tmp_path / "run", lambda state, config: config["load"].update(workers=10_000))
    assert load_model(folder).config.load.workers == (os.cpu_count() or 1)


def test_a_run_that_goes_on_writes_to_no_folder_that_its_file_names(trained, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    folder = changed(trained, tmp_path / "run", lambda state, config: config.update(cache=str(elsewhere)))
    command = ["train", "--resume", "--out", str(folder), "--steps", "2"]
    assert read_arguments(command[1:])[0].cache is None
    assert f"this time it is the usual one, unless you say --cache {elsewhere}" in capsys.readouterr().err
    assert read_arguments([*command[1:], "--cache", str(elsewhere)])[0].cache == elsewhere


def test_a_checkpoint_sets_no_other_attributes_of_an_agent(trained):
    agent, state = load_model(trained).agent, read_checkpoint(trained)["agent_training"]
    state["counters"] |= {"predict": 1, "num_timesteps": 12}
    load_training_state(agent, state)
    assert agent.num_timesteps == 12
    assert callable(agent.predict)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"parameters": "/dev/zero"}, "TypeError"), ({"config": "{}"}, "MissingValueError"), ({"config": "[]"}, "")],
)
def test_a_policy_does_not_choose_a_file(tmp_path, change, message):
    config = json.dumps({"bank": "b", "out": "o"})
    torch.save({"config": config, "parameters": {}}, tmp_path / POLICY)
    assert read_policy(tmp_path)[0]["bank"] == Path("b")
    torch.save({"config": config, "parameters": {}, **change}, tmp_path / POLICY)
    with pytest.raises(ValueError, match=rf"policy\.pt is no policy that can be read .*{message}"):
        read_policy(tmp_path)


@pytest.mark.parametrize("name", ["num_identities", "num_glimpses"])
def test_a_bank_does_not_choose_how_much_memory_is_taken(name, played, tmp_path):
    save_bank(tmp_path / "bank", *played)
    meta = json.loads((tmp_path / "bank" / "meta.json").read_text())
    del meta["checksums"]["meta.json"]  # a stranger can write the right one, too
    (tmp_path / "bank" / "meta.json").write_text(json.dumps({**meta, name: 10**12}))
    with pytest.raises(ValueError, match=r"glimpse\.pt does not hold the bank's glimpse network"):
        open_bank(tmp_path / "bank")
