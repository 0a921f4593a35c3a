"""The page on code of the user's own: its files, and what it says to run, and nothing else."""

import importlib
import itertools
import re
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from agents.runs.arguments import read_arguments
from agents.runs.build import build_grid, build_representation
from backbone import own
from backbone.data import DataConfig
from scripts.cli import main

PAGE = (Path(__file__).parents[1] / "docs" / "your_own.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def commands():
    """The page's commands, block by block, as lists of words."""
    for block in blocks("bash"):
        lines = block.replace("\\\n", " ").splitlines()
        values = dict(line.split("=", 1) for line in lines if not line.startswith("a3d"))
        for name, value in values.items():
            lines = [line.replace(f"${name}", value) for line in lines]
        yield [shlex.split(line)[1:] for line in lines if line.startswith("a3d")]


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """The page's files, in the current folder."""
    found = {match[1]: block for block in blocks("python") if (match := re.match(r"# (\w+)\.py\n", block))}
    for name, block in found.items():
        (tmp_path / f"{name}.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(own, "_TRUSTED", set())
    yield found
    for name in found:
        sys.modules.pop(name, None)


def test_each_door_has_an_example(files):
    doors = ["Algorithm", "Data set", "Backbone", "Reward", "Locator", "Callback"]
    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE)[: len(doors)] == doors
    assert all(5 <= len(block.splitlines()) <= 20 for block in files.values())
    for module, name in re.findall(r"\b(my_\w+):(\w+)", PAGE):
        assert hasattr(importlib.import_module(module), name), f"{module}:{name}"


def test_what_python_runs_runs():
    for block in blocks("python"):
        exec(block, {"__name__": "page"})


def test_the_data_set_is_read(tmp_path):
    for person, camera, walk, frame in itertools.product(range(4), range(2), range(1), range(3)):
        path = tmp_path / "street" / f"{person}-{camera}-{walk}" / f"{frame}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((8, 4, 3), 50 * person, np.uint8))
    data = importlib.import_module("my_data").walks(tmp_path / "street", DataConfig(), tmp_path)
    assert data.train_people == [1, 3]
    assert [(one.person, one.camera) for one in [*data.query, *data.gallery]] == [(0, 0), (2, 0), (0, 1), (2, 1)]
    assert [frame[0, 0, 0] for frame in data.gallery[1].frames.read()] == [100] * 3


def test_the_commands_of_single_doors_build_what_they_name():
    *single, _ = commands()
    for (command,) in single:
        assert command[0] == "train"
        config, _ = read_arguments(command[1:])
        build_grid(config, build_representation(config, num_identities=4))


@pytest.mark.slow
def test_all_of_them_train_resume_and_are_used_together(files, capsys):
    *_, (train, *others) = commands()
    assert main(train) == 0
    assert Path("rewards.txt").read_text().count("\n") == 2
    read_arguments(
        [word for word in others[0][3:] if word != "--callbacks" and not word.startswith("my_callback")]
    )
    assert "unless you say --callbacks my_callback:Report" in capsys.readouterr().err
    for command in others:
        own._TRUSTED.clear()
        assert main(command[2:]) == 2
        assert f" --trust {command[1]} COMMAND" in capsys.readouterr().err
        assert main(command) == 0, command
        assert "unless you say --callbacks" not in capsys.readouterr().err
    assert Path("rewards.txt").read_text().count("\n") == 3
    assert {command[2] for command in others} == {"train", "evaluate", "embed", "export"}
    assert Path("own.npz").exists()
    assert Path("own.pt2").exists()
