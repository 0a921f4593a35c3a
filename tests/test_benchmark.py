import json

import pytest

from scripts.benchmark import COMPARISONS, Comparison
from scripts.cli import main


def test_the_ratio_is_plain_over_fast():
    assert Comparison("what", plain_seconds=3.0, fast_seconds=1.5).ratio == 2.0


def test_it_measures_everything_and_writes_what_it_prints(tmp_path, capsys):
    assert main(["benchmark", "--seconds", "0", "--device", "cpu", "--json", str(tmp_path / "speed.json")]) == 0
    printed = capsys.readouterr().out.splitlines()[1:]
    rows = json.loads((tmp_path / "speed.json").read_text())
    assert len(rows) == len(printed) == len(COMPARISONS)
    for row, line in zip(rows, printed, strict=True):
        assert line.endswith(row["what"])
        assert row["ratio"] == pytest.approx(row["plain_seconds"] / row["fast_seconds"])
        assert f"{row['ratio']:.1f}x" in line
