"""The learned metric at work: a short run on drawn people, scored with it and without."""

import json

import pytest

from scripts.cli import main

pytestmark = pytest.mark.slow

FEWER = [
    *("--data-options.synthetic.num-train-people", "24", "--data-options.synthetic.num-test-people", "24"),
    *("--data-options.synthetic.num-frames", "12", "--data-options.synthetic.tracklets-per-camera", "1"),
    *("--load.num-people", "8", "--load.workers", "0"),
]


@pytest.fixture(scope="module")
def scores(tmp_path_factory, own_cache):
    folder = tmp_path_factory.mktemp("metric")
    flags = ["--preset", "benchmark", "--recipe", "strong", "--steps", "6", *FEWER]
    assert main(["train", *flags, "--out", str(folder / "run")]) == 0
    evaluate = [
        "evaluate",
        "--checkpoint",
        str(folder / "run"),
        "--also-raw",
        "--json",
        str(folder / "scores.json"),
    ]
    assert main(evaluate) == 0
    return json.loads((folder / "scores.json").read_text())


def test_it_is_no_worse_than_f_g_alone_and_than_the_raw_concatenation(scores):
    learned = scores["reinforce"]
    for other in ("reinforce, by global", "reinforce, by concatenation"):
        assert learned["mAP"] >= scores[other]["mAP"]


def test_the_same_episodes_are_scored(scores):
    assert len({row["hit_rate"] for name, row in scores.items() if name.startswith("reinforce")}) == 1
