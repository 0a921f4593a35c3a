"""Ten splits, or some: trained, scored, summed up, and gone on with."""

import json
import re

import numpy as np
import pytest
from test_source import frames

from agents.runs.model import load_model, load_run
from agents.runs.scoring import ScoringConfig, score_model
from backbone.data import DataConfig
from backbone.data.spec import parse_data
from scripts.cli import main
from scripts.evaluate.splits import make_report, read_numbers, splits_table


def test_mean_and_standard_deviation_by_hand():
    scored = {
        str(number): {"scores": {"agent": {"R1": r1, "hit_rate": hits}}, "protocol": "p"}
        for number, (r1, hits) in enumerate([(50.0, None), (60.0, None), (70.0, None)])
    }
    report = make_report(scored)
    assert report["mean"] == {"agent": {"R1": 60.0, "hit_rate": None}}
    assert report["deviation"]["agent"]["R1"] == pytest.approx(10.0)  # sqrt((100 + 0 + 100) / 2)
    assert report["protocol"] == "p"
    one = make_report({"4": scored["1"]})
    assert one["mean"]["agent"]["R1"] == 60.0
    assert one["deviation"]["agent"]["R1"] is None


def test_which_splits():
    assert read_numbers("all") == list(range(10))
    assert read_numbers("7, 0,3") == [0, 3, 7]
    for text in ("", "1,1", "-1", "some", "1-3"):
        with pytest.raises(ValueError, match="takes all, or different numbers from 0"):
            read_numbers(text)


@pytest.fixture(scope="module")
def splits(tmp_path_factory, own_cache, runs_here):
    out = tmp_path_factory.mktemp("splits") / "out"
    flags = ["--splits", "0,2", "--preset", "tiny", "--steps", "1", "--out", str(out), "--jobs", "2"]
    with runs_here():
        assert main(["evaluate", *flags]) == 0
    return out, flags


def test_each_split_has_other_people_and_the_scores_of_its_own_run(splits):
    out, _ = splits
    report = json.loads((out / "splits.json").read_text())
    assert list(report["splits"]) == ["0", "2"]
    for number in (0, 2):
        run = load_run(out / str(number))
        assert run.config.data_options.synthetic.seed == number
        scores, protocol = score_model(run, run.data, ScoringConfig())
        assert report["splits"][str(number)]["reinforce"] == pytest.approx(scores["reinforce"])
        assert report["protocol"] == protocol
    values = [report["splits"][number]["reinforce"]["mAP"] for number in ("0", "2")]
    assert report["mean"]["reinforce"]["mAP"] == pytest.approx(np.mean(values))
    assert report["deviation"]["reinforce"]["mAP"] == pytest.approx(np.std(values, ddof=1))
    text = splits_table(report)
    assert "split 2" in text
    assert "standard deviation" in text


@pytest.mark.slow
def test_it_goes_on_where_it_was(splits, monkeypatch, capsys):
    out, flags = splits
    monkeypatch.setattr("agents.runs.jobs.run_job", lambda *_: pytest.fail("it was trained before"))
    for path in out.glob("2/scores-*.json"):
        path.write_text("{")  # damaged: scored again
    assert main(["evaluate", *flags]) == 0
    monkeypatch.setattr("scripts.evaluate.splits.score_model", lambda *_: pytest.fail("it was scored before"))
    assert main(["evaluate", *flags]) == 0
    assert "reinforce, splits 0, 2" in capsys.readouterr().out
    assert main(["evaluate", *flags[:4], "--steps", "2", *flags[6:]]) == 2
    assert "holds a run with other settings (steps)" in capsys.readouterr().err


@pytest.mark.slow
def test_other_data_of_another_seed_and_style(splits, tmp_path, capsys):
    out, flags = splits
    file = tmp_path / "scores.json"
    other = "synthetic@seed=500,passers_by=0.5"
    assert main(["evaluate", *flags, "--test", other, "--controls", "--json", str(file)]) == 0
    assert f"trained on synthetic, tested on {other}" in capsys.readouterr().out
    report = json.loads(file.read_text())
    assert list(report["mean"]) == ["reinforce", "random bins", "centre bins"]
    model = load_model(out / "2")
    spec, options = parse_data(other, model.config.data_options, 2)
    assert (spec, options.synthetic.seed, options.synthetic.passers_by) == ("synthetic", 502, 0.5)
    assert main(["evaluate", *flags, "--false-accept-rates", "0.1"]) == 0
    assert re.search(r"^EER: mean [\d.]+, standard deviation [\d.]+$", capsys.readouterr().out, re.MULTILINE)
    # the same by a checkpoint
    flags = ["--checkpoint", str(out / "2"), "--data", "synthetic@seed=502,passers_by=0.5", "--json", str(file)]
    assert main(["evaluate", *flags]) == 0
    one = json.loads(file.read_text())["reinforce"]
    assert one == pytest.approx(report["splits"]["2"]["reinforce"])
    assert isinstance(options, DataConfig)


@pytest.mark.slow
def test_each_folder_is_scored_by_itself_and_with_frames_replaced(splits, tmp_path, capsys):
    _, flags = splits
    for name, people in (("a", 4), ("b", 5), ("c", 4)):
        for person in range(people):
            for camera in ("1", "2"):
                frames(tmp_path / name / f"p{person}" / camera / "1", ["1.png", "2.png"])
    for name, count in (("a", "4 queries"), ("b", "6 queries"), ("a", "4 queries")):
        assert main(["evaluate", *flags, "--test", f"folder:{tmp_path}/{name}"]) == 0
        printed = capsys.readouterr()
        assert f"folder:{tmp_path}/{name}, scoring standard: {count}" in printed.out
    assert "scoring split" not in printed.err
    for path in (tmp_path / "c").rglob("2.png"):
        path.write_bytes(b"damaged")
    assert main(["evaluate", *flags, "--test", f"folder:{tmp_path}/c"]) == 2
    assert "2.png (7 bytes) is no image" in capsys.readouterr().err
    skip = ["--on-bad-frame", "skip", "--cache", str(tmp_path / "cache")]
    assert main(["evaluate", *flags, "--test", f"folder:{tmp_path}/c", *skip]) == 0
    assert (tmp_path / "cache").is_dir()
    assert "frames of" in capsys.readouterr().err


@pytest.mark.slow
def test_a_failed_split_stops_no_other(tmp_path, capsys, own_cache, runs_here):
    out = tmp_path / "out"
    (out / "1").mkdir(parents=True)
    (out / "1" / "checkpoint.pt").write_bytes(b"damaged")
    flags = ["--splits", "0,1", "--preset", "tiny", "--steps", "1", "--out", str(out), "--jobs", "2"]
    with runs_here():
        assert main(["evaluate", *flags]) == 1
    printed = capsys.readouterr()
    assert "reinforce, splits 0" in printed.out
    assert "split/1 failed" in printed.err


def test_mistakes_are_explained(tmp_path, capsys):
    for flags, words in {
        (): "give --checkpoint, or --splits to train on first",
        ("--splits", "all"): "--splits needs a folder for its runs: --out",
        ("--checkpoint", "x", "--test", "synthetic"): "--test goes with --splits",
        ("--checkpoint", "x", "--splits", "0", "--out", "x"): "give one of the two",
        ("--splits", "0", "--out", "x", "--data", "synthetic"): "--data goes with --checkpoint",
        ("--checkpoint", "x", "--stepz", "3"): "--stepz",
        ("--splits", "0", "--out", "x", "--resume"): "--resume is no flag of --splits",
    }.items():
        assert main(["evaluate", *flags]) == 2
        assert words in " ".join(capsys.readouterr().err.split())
    tiny = ["--out", str(tmp_path / "out"), "--preset", "tiny"]
    for flags, words in {
        ("--splits", "0", "--jobs", "-1"): "jobs must be 1 or more, got -1",
        ("--splits", "x"): "takes all, or different numbers",
        ("--splits", "3,10", "--train", "prid:/nowhere"): "there are 10 published splits, 0 to 9, got '3,10'",
        ("--splits", "0", "--test", "synthetik"): "unknown data 'synthetik'",  # before anything is trained
        ("--splits", "0", "--test", "synthetic@seed=1e3"): "seed must be a int",
    }.items():
        assert main(["evaluate", *flags, *tiny]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
