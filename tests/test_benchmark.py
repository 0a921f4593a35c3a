import json

import pytest
import torch

from scripts.benchmark import comparisons as benchmark
from scripts.benchmark import training
from scripts.benchmark.comparisons import COMPARISONS, Comparison
from scripts.benchmark.scoring_cost import Size
from scripts.benchmark.training import (
    SIZES,
    JointTraining,
    as_json,
    configured,
    measure_training,
    without_attention,
)
from scripts.cli import main


def test_the_ratio_is_plain_over_fast():
    assert Comparison("what", plain_seconds=3.0, fast_seconds=1.5).ratio == 2.0


@pytest.mark.slow
def test_it_measures_everything_and_writes_what_it_prints(tmp_path, capsys, monkeypatch, runs_here):
    monkeypatch.setattr("scripts.benchmark.scoring_cost.MARS_SIZE", Size(60, 300, 16))
    monkeypatch.setattr(benchmark, "RANKED", Size(200, 1000, 16))
    for name, few in (("NUM_EPISODES", 4), ("NUM_CLIPS", 2), ("LEAST_TIMES", 1)):
        monkeypatch.setattr(benchmark, name, few)
    flags = ["--seconds", "0", "--device", "cpu", "--json", str(tmp_path / "speed.json"), "--rerank"]
    with runs_here():
        assert main(["benchmark", *flags]) == 0
    _, *printed = capsys.readouterr().out.splitlines()
    figures = json.loads((tmp_path / "speed.json").read_text())
    rows, costs = figures["comparisons"], figures["scoring"]
    assert len(rows) == len(COMPARISONS)
    assert printed[len(rows)] == ""
    assert len(printed) == len(rows) + 1 + len(costs)
    for row, line in zip(rows, printed, strict=False):
        assert line.endswith(row["what"])
        assert row["ratio"] == pytest.approx(row["plain_seconds"] / row["fast_seconds"])
        assert f"{row['ratio']:.1f}x" in line
    assert [cost["what"] for cost in costs] == [
        "ranking 200 x 1,000 of 16 numbers, distances given",
        "scoring 60 x 300 of 16 numbers",
        "re-ranking 60 x 300 of 16 numbers",
    ]
    for cost, line in zip(costs, printed[len(rows) + 1 :], strict=True):
        assert line.startswith(f"{cost['what']}: {cost['seconds']:.2f} s, {cost['cpu_seconds']:.2f} CPU s, ")


def test_ranking_is_timed_on_a_part_of_the_queries(monkeypatch):
    monkeypatch.setattr(benchmark, "RANKED", Size(400, 2000, 16))
    shares = []
    score = benchmark.score_plainly
    monkeypatch.setattr(benchmark, "score_plainly", lambda case: shares.append(len(case.query)) or score(case))
    row = benchmark.ranking_query_by_query_or_chunked(0, None)
    assert set(shares) == {20}
    assert row.what.startswith("400 x 2,000 of 16 numbers ranked: a query at a time, 20 timed, x 20 / in chunks")
    assert row.plain_seconds > 0


def test_a_measurement_that_fails_is_named_and_the_next_goes_on(monkeypatch, capsys):
    def measurements(size, device):
        yield "paper: ms", lambda _: 12.5
        yield "strong: ms", lambda _: 1 / 0
        yield "strong: trained frames/s", lambda known: 1e3 / known["strong: ms"]
        yield "half: ms", lambda known: known["paper: ms"] / 2

    monkeypatch.setattr(training, "measurements", measurements)
    kept = []
    figures = measure_training(SIZES["small"], torch.device("cpu"), lambda so_far: kept.append(as_json(so_far)))
    found = json.loads(json.dumps(as_json(figures)))
    assert found["figures"] == {"paper: ms": 12.5, "half: ms": 6.25}
    assert found["failures"]["strong: ms"].startswith("ZeroDivisionError: ")
    assert "strong: trained frames/s" in found["failures"]
    assert len(kept) == 4
    printed = capsys.readouterr().out
    assert "      12.500  paper: ms\n" in printed
    assert "failed  strong: ms: ZeroDivisionError" in printed
    late = measure_training(SIZES["small"], torch.device("cpu"), seconds=-1)
    assert not late.values
    assert len(late.failures) == 4


@pytest.mark.parametrize("recipe", ["paper", "strong"])
def test_training_without_attention_is_measured_without_a_glimpse(recipe):
    config = without_attention(configured(SIZES["small"], recipe, "cpu"))
    joint = JointTraining(config)
    joint.train(1)
    assert joint.shared.step == 1
    assert joint.model.representation.glimpse.num_glimpses == 0
