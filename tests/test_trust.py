"""Code and paths that a file of a stranger names are not used."""

import dataclasses
import sys

import pytest
import torch

import agents
from scripts.checkpoint import read_checkpoint
from scripts.cli import main, own_agents
from scripts.config import config_to_json
from scripts.run import load_model

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
    monkeypatch.setattr(agents, "_TRUSTED", set())
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
    with pytest.raises(ValueError, match=r"agents\.trust\('evil_agent:Agent'\)"):
        load_model(strange)
    agents.trust("evil_agent:Agent")
    assert type(load_model(strange).agent).__name__ == "Agent"


def test_naming_an_agent_on_the_command_line_is_trusting_it():
    assert own_agents(["train", "--agent", "mine:Agent", "--data", "folder:x"]) == ["mine:Agent"]
    assert own_agents(["compare", "--agents=ppo,mine:One,my.other:Two"]) == ["mine:One", "my.other:Two"]
    assert own_agents(["train", "--agent"]) == []
