import csv
import dataclasses
import json
from unittest import mock

import pytest

from agents.runs.presets import get_preset
from agents.runs.ranges import Choices, Range, flags, read_ranges
from agents.runs.task import settings
from backbone.data import DataConfig, load_data
from scripts.cli import main

RANGES = "joint.learning_rate: {low: 1e-4, high: 1e-2, log: true}\npolicy.variance: [0.03, 0.3]\n"


@pytest.fixture
def ranges(tmp_path):
    (path := tmp_path / "ranges.yaml").write_text(RANGES)
    return path


@pytest.fixture
def quick(monkeypatch):
    """Trials that train nothing: their mAP is higher the nearer the learning rate is to 1e-3."""
    pytest.importorskip("optuna")
    ran = []

    def run_jobs(tasks, config):
        for task in tasks:
            ran.append(task)
            rate = task.config.joint.learning_rate
            scores = {"mAP": 100 - 1e4 * abs(rate - 1e-3), "R1": 50.0}
            result = {"agent": scores, "controls": {}, "seconds": 1, "settings": json.loads(json.dumps(
                dataclasses.asdict(task.config), default=str))}  # fmt: skip
            task.folder.mkdir(parents=True, exist_ok=True)
            task.result_file.write_text(json.dumps(result))
        return []

    with mock.patch("agents.runs.jobs.run_jobs", run_jobs):
        yield ran


def study(ranges, folder, *more):
    flags = ("--ranges", str(ranges), "--out", str(folder), "--preset", "tiny", *more)
    return main(["tune", *flags])


def test_ranges_are_read_and_mistakes_named(tmp_path):
    path = tmp_path / "ranges.yaml"
    path.write_text(RANGES + "attention.bin-size: [[2, 3, 2], [4, 3, 2]]\nsteps: {low: 2, high: 4}")
    found = read_ranges(path)
    assert found["joint.learning_rate"] == Range(1e-4, 1e-2, log=True)
    assert found["attention.bin_size"] == Choices(["2 3 2", "4 3 2"])
    assert flags({"attention.bin_size": "2 3 2", "steps": 3}) == [
        "--attention.bin-size",
        "2",
        "3",
        "2",
        "--steps",
        "3",
    ]
    for text, message in {
        "[1]": "ranges by setting",
        "steps: 3": "steps must be",
        "steps: {low: 3, high: 1}": "below high",
        "steps: {low: 3}": "high",
        "steps: {low: 3, high: .inf}": "finite",
        "x: [true]": "without a value",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_ranges(path)


@pytest.mark.slow
def test_a_study_prints_the_best_first_and_goes_on_as_it_would_have(ranges, quick, tmp_path, capsys):
    assert study(ranges, tmp_path / "whole", "--trials", "3") == 0
    printed = capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "whole" / "tune.csv").read_text().splitlines()))
    assert len(rows) == 3
    scores = [float(row["mAP"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    best = rows[0]
    assert f"a3d train --preset tiny --joint.learning-rate {best['joint.learning_rate']}" in printed
    whole = [task.config.joint.learning_rate for task in quick]
    assert all(task.config.data_options.held_out == 0.25 for task in quick)
    quick.clear()
    for trials in ("1", "3"):
        assert study(ranges, tmp_path / "parts", "--trials", trials) == 0
    assert [task.config.joint.learning_rate for task in quick] == whole


@pytest.mark.slow
def test_a_trial_that_was_begun_is_run_before_new_ones(ranges, quick, tmp_path):
    with mock.patch("agents.runs.jobs.run_jobs", side_effect=KeyboardInterrupt):
        assert study(ranges, tmp_path / "study", "--trials", "2") == 130
    assert study(ranges, tmp_path / "study", "--trials", "2") == 0
    assert [task.seed for task in quick] == [0, 1]


def test_a_study_goes_on_with_its_own_settings_alone(ranges, quick, tmp_path, capsys):
    assert study(ranges, tmp_path / "study", "--trials", "1") == 0
    assert study(ranges, tmp_path / "study", "--trials", "2", "--load.workers", "1") == 0
    changed = (
        ("the flags of a3d train", RANGES, ("--steps", "3")),
        ("--judged-by", RANGES, ("--judged-by", "R1")),
        ("the ranges", RANGES.replace("0.3]", "0.1]"), ()),
    )
    for what, text, more in changed:
        ranges.write_text(text)
        assert study(ranges, tmp_path / "study", "--trials", "3", *more) == 2
        assert f"other settings, in {what}: repeat them" in capsys.readouterr().err
    assert len(quick) == 2


def test_settings_that_no_training_takes_are_named_before_it_begins(tmp_path, capsys):
    (path := tmp_path / "ranges.yaml").write_text("joint.learning_rat: [1e-3, 1e-4]")
    assert study(path, tmp_path / "study") == 2
    assert "--joint.learning-rat 0.001" in capsys.readouterr().err
    path.write_text("data-options.held-out: [0.1, 0.2]")
    assert study(path, tmp_path / "study") == 2
    assert "--data-options.held-out is of a3d train alone" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_a_trial_is_judged_on_people_held_out_of_the_training_half(tmp_path):
    options = get_preset("tiny").data_options
    whole = load_data("synthetic", options, tmp_path)
    held = load_data("synthetic", dataclasses.replace(options, held_out=0.34), tmp_path)
    tested = {one.person for one in held.gallery}
    assert len(tested) == 2
    assert {one.person for one in held.query} == tested
    assert {*held.train_people, *tested} == {*whole.train_people}
    assert not tested & {*held.train_people}
    assert not tested & {one.person for one in whole.gallery}


def test_digests_of_runs_without_people_held_out_are_as_before():
    config = get_preset("tiny")
    assert "held_out" not in settings(config)["data_options"]
    held = dataclasses.replace(config, data_options=DataConfig(held_out=0.2))
    assert settings(held)["data_options"]["held_out"] == 0.2
