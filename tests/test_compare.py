"""`a3d compare`: what it runs and never runs again, and what its report says of runs whose scores are known."""

import json
import os
import re
import shutil
import signal
import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest
from stable_baselines3 import A2C

from a3d_env.bank_file import save_bank
from a3d_env.playground import playground
from agents.runs.jobs import JobsConfig, run_jobs
from agents.statistics import paired_interval
from scripts.cli import main
from scripts.compare import CompareConfig, compare, make_tasks
from scripts.compare.report import make_report, write_report
from scripts.compare.task import run
from scripts.compare.text import COLUMNS, text_table


class Failing(A2C):
    """An algorithm that fails as it learns."""

    def train(self) -> None:
        raise RuntimeError("no idea")


class Dying(A2C):
    """An algorithm that the system ends, as it does where memory runs out."""

    def train(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("banks") / "playground"
    save_bank(folder, *playground(num_clips=32, num_glimpses=2))
    return folder


def flags(bank, out, agents="reinforce,random", **more):
    values = {"bank": bank, "out": out, "agents": agents, "seeds": 2, "steps": 256, "reward": "log_prob"} | more
    return ["compare", *(part for name, value in values.items() for part in (f"--{name}", str(value)))]


@pytest.mark.slow
def test_runs_are_made_once_and_reported(bank, tmp_path, capsys, real_pictures, runs_here):
    with real_pictures(), runs_here():
        assert main(flags(bank, tmp_path, seeds=1)) == 0
    printed = capsys.readouterr().out
    results = sorted(tmp_path.glob("*/*.json"))
    assert [str(path.relative_to(tmp_path)) for path in results] == [
        *("best/0.json", "random/0.json", "reinforce/0.json")
    ]
    for name in ("compare.html", "compare.md", "compare.csv", "compare.json"):
        assert (tmp_path / name).stat().st_size > 0
    assert cv2.imread(str(tmp_path / "curves.png")).shape[1] > 500
    times = [path.stat().st_mtime_ns for path in results]
    assert main(flags(bank, tmp_path, seeds=1)) == 0
    assert [path.stat().st_mtime_ns for path in results] == times
    assert capsys.readouterr().out == printed
    results[-1].unlink()
    assert main([*flags(bank, tmp_path, seeds=1), "--report-only"]) == 0
    assert not results[-1].exists()
    assert not re.search(r"^reinforce ", capsys.readouterr().out, re.M)
    assert "left out: reinforce/0" in (tmp_path / "compare.md").read_text()

    page = (tmp_path / "compare.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "stable-baselines3" in page
    assert not list(tmp_path.rglob("*.progress"))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_and_all_agents_see_the_same_clips(bank, tmp_path):
    tasks = make_tasks(CompareConfig(bank, "reinforce,a2c", seeds=1, steps=256, out=tmp_path / "a"))
    again = make_tasks(CompareConfig(bank, "reinforce,a2c", seeds=1, steps=256, out=tmp_path / "b"))
    for task, other in zip(tasks, again, strict=True):
        assert run(task) == 0
        assert run(other) == 0
        first, second = task.result(), other.result()
        for part in ("clips", "bins", "curve", "steps", "updates", "person"):
            assert first[part] == second[part]
    assert len({json.dumps(task.result()["person"]) for task in tasks}) == 1
    result = tasks[0].result()
    assert result["steps"] == 256
    assert result["updates"] == 4  # 64 episodes of one step each
    assert np.sum(result["bins"]) == len(result["person"]) == len(result["clips"]["reward"])
    assert result["curve"][0]["step"] == 0
    assert result["curve"][-1]["step"] == 256
    assert result["curve"][-1]["reward"] == pytest.approx(np.mean(result["clips"]["reward"]), abs=1e-5)
    assert result["peak_mb"] > 50


def test_a_failed_run_is_reported_and_stops_no_other(bank, tmp_path, capsys, runs_here):
    agents = f"{__name__}:Failing"
    with runs_here():
        (failure,) = compare(CompareConfig(bank, agents, seeds=1, steps=128, out=tmp_path))
    assert str(failure).startswith(f"{__name__}:Failing/0 failed: RuntimeError: no idea; see {tmp_path}")
    assert "in train" in failure.job.error_file.read_text()
    assert sorted(path.parent.name for path in tmp_path.glob("*/0.json")) == ["best", "random"]
    printed = capsys.readouterr().out
    assert "random" in printed
    assert "Failing" not in printed


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"agents": "reinforce,dqnn"}, "unknown agent 'dqnn'"),
        ({"bank": "nowhere"}, "nowhere"),
        ({"reward": "luck"}, "unknown reward 'luck'"),
        ({"num-envs": 60}, "episodes_per_clip must be 1 or more and divide num_envs = 60"),
        ({"held-out": 0}, "hold out 1 or more"),
    ],
)
def test_mistakes_are_explained(bank, tmp_path, capsys, more, message):
    assert main(flags(**({"bank": bank, "out": tmp_path} | more))) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*/*.json"))


def test_results_of_other_settings_and_damaged_ones_are_named(bank, tmp_path, capsys):
    (task, *_) = make_tasks(CompareConfig(bank, "centre", seeds=1, steps=64, out=tmp_path))
    assert run(task) == 0
    other = replace(task, config=replace(task.config, timesteps=65))
    with pytest.raises(ValueError, match="other settings"):
        other.result()
    task.result_file.write_text('{"half": ')
    with pytest.raises(ValueError, match=r"0\.json is damaged"):
        task.result()


def test_another_bank_of_the_same_size_is_another_comparison(bank, tmp_path):
    save_bank(tmp_path / "bank", *playground(num_clips=32, num_glimpses=2, seed=1))
    (task, *_) = make_tasks(CompareConfig(bank, "centre", seeds=1, out=tmp_path))
    (other, *_) = make_tasks(CompareConfig(tmp_path / "bank", "centre", seeds=1, out=tmp_path))
    assert task.digest != other.digest
    shutil.copytree(bank, tmp_path / "moved")
    (moved, *_) = make_tasks(CompareConfig(tmp_path / "moved", "centre", seeds=1, out=tmp_path))
    assert task.digest == moved.digest


@pytest.mark.slow
def test_a_process_that_is_killed_is_a_failed_run(bank, tmp_path):
    (task, *_) = make_tasks(CompareConfig(bank, f"{__name__}:Dying", seeds=1, steps=128, out=tmp_path))
    (failure,) = run_jobs([task], JobsConfig())
    assert failure.reason == "ended by SIGKILL"
    assert task.result() is None


def test_people_that_cannot_be_drawn_and_things_never_seen_leave_gaps(tmp_path):
    unseen = {"reward": [1.0, 2.0], "log_prob": [0.0, 0.0], "hit_rate": [None, None]}
    runs = [made_up(name, 0, [0, 0]) | {"person": [3, 3], "clips": unseen} for name in ("reinforce", "sac")]
    rows = write_report(runs, tmp_path, missing=["sac/1"])["agents"]
    assert [(row["hit_rate"], row["less_reference"]) for row in rows] == [(None, None)] * 2
    assert "NaN" not in (tmp_path / "compare.json").read_text()
    assert "left out: sac/1." in (tmp_path / "compare.html").read_text()


def test_any_agent_can_be_the_reference():
    runs = [made_up(name, 0, [score, score]) for name, score in (("reinforce", 1), ("sac", 3))]
    rows = {row["agent"]: row for row in make_report(runs, reference="sac")["agents"]}
    assert rows["reinforce"]["less_reference"]["value"] == -2
    assert rows["sac"]["improvement"] is None


def made_up(agent, seed, rewards, **more):
    return {
        "agent": agent, "seed": seed, "clips": {"reward": rewards, "log_prob": rewards, "hit_rate": [50.0, None]},
        "person": [0, 1], "bins": [[1, 1, 0, 0]], "positions": [1, 2, 2], "steps": 100, "updates": 5,
        "seconds": 2.0, "peak_mb": 300.0, "algorithm": {},
        "settings": {"timesteps": 100, "reward": "margin", "seed": seed},
        "versions": {"torch": "2"},
        "curve": [{"step": 0, "reward": 0.0}, {"step": 100, "reward": float(np.mean(rewards))}], **more,
    }  # fmt: skip


def test_the_numbers_by_hand(tmp_path):
    runs = [made_up("random", 0, [0, 0]), made_up("best", 0, [4, 4])]
    runs += [made_up("reinforce", seed, [seed, 2 * seed]) for seed in range(4)]  # means 0, 1.5, 3, 4.5
    runs += [made_up("sac", seed, [1 + seed, 1 + 2 * seed]) for seed in range(4)]
    report = write_report(runs, tmp_path)
    rows = {row["agent"]: row for row in report["agents"]}
    assert list(rows) == ["best", "sac", "reinforce", "random"]
    reinforce, sac = rows["reinforce"], rows["sac"]
    assert reinforce["iqm"]["value"] == pytest.approx(2.25)  # of 0, 1.5, 3, 4.5 the middle two
    expected = paired_interval([0, 1.5, 3, 4.5])
    assert (reinforce["mean"]["low"], reinforce["mean"]["high"]) == pytest.approx((expected.low, expected.high))
    assert reinforce["oracle_share"] == pytest.approx(2.25 / 4)
    assert reinforce["improvement"] is None
    assert reinforce["hit_rate"] == 50
    # 1, 2.5, 4, 5.5 against 0, 1.5, 3, 4.5: 4 + 3 + 2 + 1 wins of 16
    assert sac["improvement"]["value"] == pytest.approx(10 / 16)
    assert sac["less_reference"] == pytest.approx({"value": 1, "low": 1, "high": 1})
    assert rows["best"]["mean"]["low"] is None
    assert sac["curve"][1]["value"] == pytest.approx(3.25)
    assert "63%" not in text_table(report)
    assert "56%" in text_table(report)
    assert ", 100 steps, reward margin\n" in text_table(report)
    lines = (tmp_path / "compare.csv").read_text().splitlines()
    assert len(lines) == 5
    assert json.loads((tmp_path / "compare.json").read_text()) == report


def test_the_page_shows_every_column_over_its_whole_width(tmp_path):
    runs = [made_up(name, 0, [seed, 4]) for seed, name in enumerate(("random", "reinforce", "best"))]
    write_report(runs, tmp_path)
    page = (tmp_path / "compare.html").read_text()
    head = re.findall("<th>(.*?)</th>", page)
    assert len(head) == len(COLUMNS) == 13
    assert head[-3:] == ["updates", "seconds", "peak MB"]
    # The text is kept narrow, not the table, whose heads wrap; where it is still too wide, it scrolls by itself.
    assert "max-width" not in re.search(r"body \{(.*?)\}", page)[1]
    assert "nowrap" not in re.search(r"th, td \{(.*?)\}", page)[1]
    assert '<div class="wide"><table>' in page
    assert re.search(r"\.wide \{ overflow-x: auto; \}", page)


def test_nothing_finished_is_said():
    with pytest.raises(ValueError, match="nothing to report"):
        make_report([])


def test_a_local_ray_cluster_runs_it_too(bank, tmp_path):
    ray = pytest.importorskip("ray", reason="the extra `cluster` is not installed")
    config = CompareConfig(bank, "reinforce", seeds=1, steps=128, out=tmp_path, runs=JobsConfig(2, "ray"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ray's own
        ray.init(num_cpus=2, include_dashboard=False)
        try:
            assert compare(config) == []
        finally:
            ray.shutdown()
    here = make_tasks(replace(config, out=tmp_path / "here", runs=JobsConfig()))
    for task, own in zip(make_tasks(config), here, strict=True):
        assert run(own) == 0
        assert task.result()["clips"] == own.result()["clips"]
