import json
from unittest import mock

import cv2
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.runs.checkpoint import read_checkpoint
from agents.runs.logs import read_history
from agents.runs.model import load_run
from agents.runs.scoring import evaluate
from agents.runs.tracking import TRACKERS, Tracker
from scripts.cli import main

TOLD = {}  # what the run's tracker was told, by name


@pytest.fixture(scope="module")
def scored_run(tmp_path_factory, own_cache, real_pictures):
    folder = tmp_path_factory.mktemp("runs") / "scored"
    tracker = Tracker(
        "1",
        lambda values, step: TOLD.update(values),
        lambda name, picture, step: TOLD.setdefault(name, []).append((step, picture.shape[2])),
        lambda has_failed: TOLD.update(failed=has_failed),
    )
    flags = ["--preset", "tiny", "--evaluate-every", "2", "--track", "wandb", "--out", str(folder)]
    with (
        real_pictures(),
        mock.patch.dict(TRACKERS, {"wandb": lambda *settings: tracker}),
        mock.patch("agents.runs.training.check_tracker"),
    ):
        assert main(["train", *flags]) == 0
    return folder


def test_scores_in_the_course_of_a_training_do_not_disturb_it(scored_run, tiny_run):
    own, other = (read_checkpoint(folder) for folder in (scored_run, tiny_run))
    for name, value in own["tested"].items():
        assert torch.equal(value, other["tested"][name]), name
    assert torch.equal(own["random"]["torch"], other["random"]["torch"])
    histories = [read_history(folder / "history.jsonl") for folder in (scored_run, tiny_run)]
    assert histories[0] == histories[1]
    assert not (tiny_run / "scores.jsonl").exists()


def test_scores_are_those_of_the_checkpoints(scored_run):
    scores = read_history(scored_run / "scores.jsonl")
    assert [line["step"] for line in scores] == [2, 4, 6]
    metrics = json.loads((scored_run / "metrics.json").read_text())
    assert round(scores[-1]["mAP"], 2) == metrics["after"]["mAP"]
    best = max(scores, key=lambda line: line["mAP"])
    run = load_run(scored_run / "best.pt")
    assert read_checkpoint(scored_run / "best.pt")["shared"]["step"] == best["step"]
    again = evaluate(run, {"agent": run.agent}, run.data)["agent"]
    assert again == {name: value for name, value in best.items() if name != "step"}


def test_scores_and_bins_are_in_the_log_for_tensorboard(scored_run):
    log = EventAccumulator(str(scored_run / "tensorboard")).Reload()
    scores = read_history(scored_run / "scores.jsonl")
    assert [event.value for event in log.Scalars("test/mAP")] == pytest.approx([line["mAP"] for line in scores])
    assert len(log.Images("test/bins")) == 2
    assert cv2.imread(str(scored_run / "curves.png")) is not None


def test_the_tracker_is_told_scores_pictures_and_the_end(scored_run):
    assert {"train/identity_loss", "test/mAP", "final/random bins/mAP", "final/before/R1"} <= TOLD.keys()
    assert TOLD["final/agent/mAP"] == json.loads((scored_run / "metrics.json").read_text())["after"]["mAP"]
    assert TOLD["test/bins"] == [(36, 3), (60, 3)]
    assert TOLD["final/bins"] == [(72, 3)]
    assert TOLD["failed"] is False


@pytest.mark.slow
def test_a_resumed_run_has_the_same_scores_and_the_same_best_checkpoint(scored_run, tmp_path, interrupt_at):
    interrupt_at(5)
    flags = ("--preset", "tiny", "--evaluate-every", "2", "--checkpoint-every", "3")
    assert main(["train", *flags, "--out", str(tmp_path / "run")]) == 130
    assert [line["step"] for line in read_history(tmp_path / "run" / "scores.jsonl")] == [2, 4]
    assert main(["train", "--resume", "--out", str(tmp_path / "run")]) == 0
    assert read_history(tmp_path / "run" / "scores.jsonl") == read_history(scored_run / "scores.jsonl")
    own, other = (read_checkpoint(folder / "best.pt") for folder in (tmp_path / "run", scored_run))
    assert own["shared"]["step"] == other["shared"]["step"]
    for name, value in own["tested"].items():
        assert torch.equal(value, other["tested"][name]), name


@pytest.mark.slow
def test_people_who_carry_nothing_known_are_scored_without_hits(people, tmp_path, capsys):
    flags = ("--data", f"folder:{people}", "--steps", "2", "--evaluate-every", "1")
    assert main(["train", "--preset", "tiny", *flags, "--out", str(tmp_path / "run")]) == 0
    assert [sorted(line)[0] for line in read_history(tmp_path / "run" / "scores.jsonl")] == ["R1", "R1"]
    assert "hit_rate" not in (tmp_path / "run" / "scores.jsonl").read_text()
    assert main(["train", "--resume", "--steps", "3", "--out", str(tmp_path / "run")]) == 0


@pytest.mark.slow
def test_the_best_checkpoint_of_the_end_holds_what_a_training_goes_on_with(tmp_path):
    flags = ("--preset", "tiny", "--recipe", "strong", "--steps", "2", "--evaluate-every", "2")
    assert main(["train", *flags, "--out", str(tmp_path / "run")]) == 0
    best, last = (read_checkpoint(tmp_path / "run" / name) for name in ("best.pt", "checkpoint.pt"))
    for name, value in last["shared"]["representation"].items():
        assert torch.equal(value, best["shared"]["representation"][name]), name
        assert torch.equal(last["tested"][name], best["tested"][name]), name
