import dataclasses
import json
import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents.features import SharedFeatureCallback
from agents.joint_config import JointConfig
from agents.runs import pictures
from agents.runs import training as train_module
from agents.runs.build import build_agent, build_environment, build_grid, build_representation
from agents.runs.checkpoint import fingerprint, read_checkpoint
from agents.runs.logs import read_history
from agents.runs.model import load_run
from agents.runs.presets import get_preset
from agents.runs.scoring import evaluate
from agents.runs.training import train as train_by_config
from backbone.data import DataConfig, load_data
from backbone.data.sets import synthetic_settings as synthetic
from backbone.data.sets.synthetic_settings import SyntheticConfig
from backbone.files import folder_lock
from backbone.weights import PRETRAINED
from scripts.cli import main

COLUMNS = ["R1", "R5", "R10", "mAP", "hit_rate"]


def train(folder, *flags: str) -> int:
    return main(["train", "--preset", "tiny", "--out", str(folder), *flags])


@pytest.fixture(scope="module")
def finished_run(tiny_run):
    return tiny_run


def test_the_picture_says_who_was_found(finished_run, monkeypatch):
    run, retrievals, drawn = load_run(finished_run), {}, []
    evaluate(run, {"agent": run.agent}, run.data, retrievals=retrievals)
    found = retrievals["agent"]

    def draw(bank, clip, bins, caption, *, has_legend):
        drawn.append((caption, has_legend))
        return np.zeros((1, 1, 3))

    monkeypatch.setattr(pictures, "draw_glimpses", draw)
    pictures.bins_picture(run, run.data, found)
    ranks = [int(text.split()[-1]) if "at rank" in text else 1 for text, _ in drawn]
    assert ranks == found.first_ranks[: len(drawn)].tolist()
    assert [", right: found first" in text for text, _ in drawn] == [rank == 1 for rank in ranks]
    assert drawn[1][0].startswith(
        f"query 1: person {run.data.query[1].person}, camera {run.data.query[1].camera}, "
    )
    assert [has_legend for _, has_legend in drawn] == [True] + [False] * (len(drawn) - 1)


def test_a_run_leaves_what_it_promises(finished_run):
    names = {path.name for path in finished_run.iterdir()}
    assert names == {
        "checkpoint.pt", "config.json", "metrics.json", "history.jsonl", "curves.png", "bins.png", "tensorboard",
        ".lock",
    }  # fmt: skip
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert list(metrics["before"]) == list(metrics["after"]) == COLUMNS
    assert all(0 <= metrics[when][column] <= 100 for when in ("before", "after") for column in COLUMNS)
    assert metrics["steps"] == 6
    assert metrics["seconds"] > 0
    assert set(metrics["controls"]) == {"random bins", "centre bins"}
    assert [entry["step"] for entry in read_history(finished_run / "history.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert cv2.imread(str(finished_run / "bins.png")).shape[1] > 3 * 32
    assert cv2.imread(str(finished_run / "curves.png")) is not None
    assert any((finished_run / "tensorboard").iterdir())


def test_the_printed_table_is_the_one_in_metrics_json(tmp_path, capsys):
    assert train(tmp_path / "run", "--steps", "1") == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    printed = capsys.readouterr().out
    for title, row in (("before training", metrics["before"]), ("after training", metrics["after"])):
        values = re.search(rf"^{title} +(.*)$", printed, re.MULTILINE).group(1).split()
        assert values == [f"{row[column]:.1f}" for column in COLUMNS]


@pytest.mark.slow
@pytest.mark.parametrize("interrupted_at", [4, 5])
def test_a_resumed_run_goes_on_to_the_same_losses(finished_run, tmp_path, interrupt_at, capsys, interrupted_at):
    interrupt_at(interrupted_at)
    assert train(tmp_path / "run") == 130
    assert "a3d train --resume --out" in capsys.readouterr().err
    assert read_checkpoint(tmp_path / "run")["shared"]["step"] == 3
    assert main(["train", "--resume", "--out", str(tmp_path / "run")]) == 0

    assert read_history(tmp_path / "run" / "history.jsonl") == read_history(finished_run / "history.jsonl")
    own, other = read_checkpoint(tmp_path / "run"), read_checkpoint(finished_run)
    for name, value in own["shared"]["representation"].items():
        assert torch.equal(value, other["shared"]["representation"][name]), name
    for name, value in own["agent"]["policy"].items():
        assert torch.equal(value, other["agent"]["policy"][name]), name
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "run", finished_run)]
    assert metrics[0]["before"] == metrics[1]["before"]
    assert metrics[0]["after"] == metrics[1]["after"]


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["ppo", "sac", "td3", "dqn"])
def test_other_algorithms_resume_exactly_too(agent, tmp_path, interrupt_at):
    flags = ("--agent", agent, "--steps", "4", "--joint.halve-every", "2", "--joint.episodes-per-clip", "32")
    assert train(tmp_path / "whole", *flags) == 0
    interrupt_at(3)
    assert train(tmp_path / "run", *flags) == 130
    assert main(["train", "--resume", "--out", str(tmp_path / "run")]) == 0
    own, other = (read_checkpoint(tmp_path / name) for name in ("run", "whole"))
    for name, value in own["agent"]["policy"].items():
        assert torch.equal(value, other["agent"]["policy"][name]), name
    variables = [state["agent_training"]["variables"] for state in (own, other)]
    assert variables[0] == variables[1]


@pytest.mark.slow
def test_a_kill_after_any_checkpoint_loses_no_line_of_the_history(tmp_path, monkeypatch):
    """Lines average two batches, checkpoints come every three: a line can begin before one and end after it."""
    flags = ("--steps", "7", "--log-every", "2", "--checkpoint-every", "3")
    assert train(tmp_path / "whole", *flags) == 0
    expected = read_history(tmp_path / "whole" / "history.jsonl")
    assert [line["step"] for line in expected] == [2, 4, 6, 7]
    for kill_at in (3, 6, 7):
        save = train_module.save_checkpoint

        def kill(folder, config, data, shared, *rest, at=kill_at, save=save):
            save(folder, config, data, shared, *rest)
            if shared["step"] == at:
                monkeypatch.setattr(train_module, "save_checkpoint", save)
                raise KeyboardInterrupt

        monkeypatch.setattr(train_module, "save_checkpoint", kill)
        out = tmp_path / f"killed {kill_at}"
        assert train(out, *flags) == 130
        assert main(["train", "--resume", "--out", str(out)]) == 0
        assert read_history(out / "history.jsonl") == expected


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["untrained", "random", "centre", "truth"])
def test_agents_that_do_not_learn_train_and_resume_exactly_too(agent, tmp_path, interrupt_at):
    flags = ("--agent", agent, "--steps", "4", "--checkpoint-every", "2", "--policy.variance", "0.3")
    assert train(tmp_path / "whole", *flags) == 0
    interrupt_at(3)
    assert train(tmp_path / "run", *flags) == 130
    assert main(["train", "--resume", "--out", str(tmp_path / "run")]) == 0
    own, other = (read_checkpoint(tmp_path / name) for name in ("run", "whole"))
    for part in (lambda state: state["shared"]["representation"], lambda state: state["agent"]["policy"]):
        assert part(own).keys() == part(other).keys()
        assert all(torch.equal(value, part(other)[name]) for name, value in part(own).items())
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("run", "whole")]
    for row in ("before", "after", "controls"):
        assert metrics[0][row] == metrics[1][row]
    if agent != "untrained":
        assert not own["agent"]["policy"]
    if agent == "truth":
        assert metrics[0]["before"]["hit_rate"] == metrics[0]["after"]["hit_rate"] == 100
        hit_rates = [entry["hit_rate"] for entry in read_history(tmp_path / "run" / "history.jsonl")]
        assert hit_rates == [1] * 4
    if agent in ("random", "centre"):
        assert metrics[0]["after"] == metrics[0]["controls"][f"{agent} bins"]  # the same seed

    assert main(["evaluate", "--checkpoint", str(tmp_path / "run"), "--json", str(tmp_path / "s.json")]) == 0
    scores = json.loads((tmp_path / "s.json").read_text())[agent]
    for name, value in metrics[0]["after"].items():
        assert scores[name] == pytest.approx(value, abs=0.006)


def test_learning_rates_of_agent_and_representation_are_halved_in_the_same_batches():
    config = dataclasses.replace(get_preset("tiny"), steps=1100, joint=JointConfig(halve_every=55))
    representation = build_representation(config, num_identities=2)
    env = build_environment(config, representation, build_grid(config, representation))
    schedule = build_agent(config, env).lr_schedule
    for batch in range(config.steps):
        expected = config.policy.learning_rate * 0.5 ** (batch // 55)
        for share in (1 / 3, 2 / 3, 1):  # an on-policy agent updates at the batch's end, others before, too
            assert schedule(1 - (batch + share) / config.steps) == pytest.approx(expected), batch


def test_before_the_first_checkpoint_there_is_nothing_to_go_on_from(tmp_path, interrupt_at, capsys):
    interrupt_at(1)
    assert train(tmp_path / "run") == 130
    assert "nothing to go on from" in capsys.readouterr().err
    assert train(tmp_path / "run", "--steps", "1") == 0  # the folder can be used again


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--agent", "sac"], "agent included"),
        (["--joint.learning-rate", "1"], "joint included"),
        (["--load.num-people", "3"], "load included"),
        (["--preset", "benchmark"], "preset included"),
        (["--steps", "2"], "has already trained on 6 batches: --steps 2 is fewer"),
        (["--device", "nothing"], "the device 'nothing' can't be used here"),
    ],
)
def test_a_run_is_not_resumed_as_another_one(finished_run, capsys, flags, message):
    before = (finished_run / "config.json").read_text()
    assert main(["train", "--resume", "--out", str(finished_run), *flags]) == 2
    assert message in capsys.readouterr().err
    assert (finished_run / "config.json").read_text() == before


@pytest.mark.slow
def test_a_resumed_run_can_go_further_with_other_workers(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    flags = ["--resume", "--out", str(tmp_path / "run"), "--steps", "7", "--load.workers", "1"]
    assert main(["train", *flags]) == 0
    assert [entry["step"] for entry in read_history(tmp_path / "run" / "history.jsonl")] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.slow
def test_people_who_came_later_are_noticed(people, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, "--steps", "1", "--data", f"folder:{people}") == 0
    moved = tmp_path / "moved"
    people.rename(moved)
    resume = ["train", "--resume", "--out", str(run), "--data", f"folder:{moved}"]
    assert main([*resume, "--steps", "2"]) == 0
    (moved / "a").rename(moved / "z")
    assert main([*resume, "--steps", "3"]) == 2
    assert "other tracklets to train on than when the run began" in capsys.readouterr().err
    assert main(["evaluate", "--checkpoint", str(run)]) == 2
    assert "people of its training may now be in the test half" in capsys.readouterr().err


def test_people_drawn_in_another_way_are_noticed(finished_run, tmp_path, capsys, monkeypatch):
    shutil.copytree(finished_run, tmp_path / "run")
    monkeypatch.setattr(synthetic, "DRAWING_VERSION", synthetic.DRAWING_VERSION + 1)
    assert main(["train", "--resume", "--out", str(tmp_path / "run"), "--steps", "7"]) == 2
    assert "other tracklets to train on than when the run began" in capsys.readouterr().err
    assert main(["evaluate", "--checkpoint", str(tmp_path / "run")]) == 2
    assert "people of its training may now be in the test half" in capsys.readouterr().err


def test_fingerprints_differ_where_the_drawing_does_wherever_it_lies(tmp_path):
    few = SyntheticConfig(num_train_people=2, num_test_people=2, num_frames=2, height=32, width=16)

    def of(cache: str, **changes) -> str:
        options = DataConfig(synthetic=dataclasses.replace(few, **changes))
        return fingerprint(load_data("synthetic", options, tmp_path / cache).train)

    assert of("here") == of("there")
    others = [of("here", **change) for change in ({}, {"seed": 1}, {"thing_size": 0.1}, {"passers_by": 2.0})]
    assert len(set(others)) == 4


def test_the_truth_agent_needs_data_that_knows_it(people, tmp_path, capsys):
    assert train(tmp_path / "run", "--agent", "truth", "--data", f"folder:{people}") == 2
    error = capsys.readouterr().err
    assert error == f"a3d train: error: folder:{people} does not know where the identifying thing is: " + (
        "take another agent than truth\n"
    )
    assert not (tmp_path / "run").exists()


def test_a_diverged_run_keeps_its_last_good_checkpoint(tmp_path, monkeypatch, capsys):
    finish = SharedFeatureCallback.finish_step

    def spoil(self):
        finish(self)
        if self.step == 6:
            torch.nn.init.constant_(self.representation.glimpse.identify.bias, torch.nan)

    monkeypatch.setattr(SharedFeatureCallback, "finish_step", spoil)
    assert train(tmp_path / "run") == 2
    assert "the training has diverged: glimpse.identify.bias" in capsys.readouterr().err
    assert read_checkpoint(tmp_path / "run")["shared"]["step"] == 3


@pytest.mark.parametrize("agent", ["ppo", "sac"])
def test_other_algorithms_train_jointly(agent, tmp_path):
    assert train(tmp_path / "run", "--agent", agent, "--steps", "2") == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["agent"] == agent


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_and_workers_change_nothing(finished_run, tmp_path):
    assert train(tmp_path / "run", "--load.workers", "1") == 0
    assert read_history(tmp_path / "run" / "history.jsonl") == read_history(finished_run / "history.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("num_glimpses", [0, 1])
def test_runs_without_attention_or_without_rnn(num_glimpses, tmp_path):
    run, flags = tmp_path / "run", ("--steps", "2", "--attention.num-glimpses", str(num_glimpses))
    assert train(run, *flags) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    rows = [metrics["after"], *metrics["controls"].values()]
    assert all(row == rows[0] for row in rows)  # no agent can make a difference
    assert rows[0]["hit_rate"] is None
    assert cv2.imread(str(run / "bins.png")) is not None
    shape = read_checkpoint(run)["shared"]["representation"]["glimpse.identify.weight"].shape
    assert shape == (6, 64 + 256 * num_glimpses)
    assert main(["evaluate", "--checkpoint", str(run)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["quality", "separate"])
def test_other_poolings_are_trained_saved_and_resumed(pooling, tmp_path, interrupt_at):
    flags = ("--backbone.pooling", pooling, "--attention.num-glimpses", "0", "--steps", "4")
    assert train(tmp_path / "whole", *flags) == 0
    interrupt_at(3)
    assert train(tmp_path / "run", *flags) == 130
    assert main(["train", "--resume", "--out", str(tmp_path / "run")]) == 0
    own, other = (read_checkpoint(tmp_path / name)["shared"]["representation"] for name in ("run", "whole"))
    assert all(torch.equal(value, other[name]) for name, value in own.items())
    weights = {name: value for name, value in own.items() if name.startswith("pool.") and "weight" in name}
    assert len(weights) == {"quality": 1, "separate": 2}[pooling]
    assert all(value.any() for value in weights.values())  # they start at 0
    assert main(["evaluate", "--checkpoint", str(tmp_path / "run")]) == 0


def test_without_flow_there_is_no_flow_stream(tmp_path):
    assert train(tmp_path / "run", "--backbone.flow", "None", "--steps", "1") == 0
    weights = read_checkpoint(tmp_path / "run")["shared"]["representation"]
    assert not any("flow_stream" in name for name in weights)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "nothing"], "unknown preset 'nothing'; known: benchmark"),
        (["--preset", "tiny", "--data", "nothing"], "unknown data 'nothing'; known: synthetic, folder"),
        (["--preset", "tiny", "--agent", "nothing"], "unknown agent 'nothing'; known: reinforce"),
        (["--preset", "tiny", "--backbone.name", "nothing"], "unknown backbone 'nothing'; known: resnet50"),
        (
            ["--preset", "tiny", "--backbone.pooling", "max"],
            "unknown pooling 'max'; known: mean, gem, quality, separate",
        ),
        (["--preset", "tiny", "--device", "nothing"], "the device 'nothing' can't be used here"),
        (["--preset", "tiny", "--load.num-people", "7"], "a batch of 7 people needs as many"),
        (["--preset", "tiny", "--attention.bin-size", "4", "6", "3"], "does not fit into a feature map"),
        (["--preset", "small"], "write --data folder:<directory>"),
        (["--resume"], "there is no checkpoint at"),
    ],
)
def test_mistakes_are_explained_in_one_line(tmp_path, capsys, flags, message):
    assert main(["train", *flags, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()  # nothing half-made is left


def test_a_folder_that_cannot_be_written_is_explained(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert train(tmp_path / "file" / "run") == 2
    assert "a3d train: error:" in capsys.readouterr().err


def test_a_finished_run_is_never_overwritten(finished_run, capsys):
    assert train(finished_run) == 2
    assert "already holds a run" in capsys.readouterr().err


@pytest.mark.slow
def test_the_default_folder_gets_a_number_if_it_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for expected in ("tiny", "tiny-2"):
        assert main(["train", "--preset", "tiny", "--steps", "1"]) == 0
        assert (tmp_path / "runs" / expected / "metrics.json").is_file()


def test_the_benchmark_switches_everything_on():
    config = get_preset("benchmark")
    assert config.backbone.flow is not None
    assert config.joint.triplet_weight > 0
    assert config.agent == "reinforce"
    assert config.data == "synthetic"


def test_own_callbacks_join_the_training(tmp_path):
    class Counter(BaseCallback):
        def _on_step(self) -> bool:
            return True

    counter = Counter()
    train_by_config(dataclasses.replace(get_preset("tiny"), steps=2), tmp_path / "run", callbacks=[counter])
    assert counter.n_calls == 2 * 3  # two batches of three decisions


class Demanding(BaseCallback):
    def __init__(self, folder):
        super().__init__()

    def _on_step(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("Demanding", r"'Demanding' names no callback of your own: write module:name, as in mine:Name"),
        (f"{__name__}:Demanding", r"without arguments: missing a required argument: 'folder'"),
        ("pathlib:Path", r"makes a stable_baselines3\S+BaseCallback, and made an object of type \w+Path"),
    ],
)
def test_what_is_no_callback_is_named_before_any_data_is_read(names, message, tmp_path):
    config = dataclasses.replace(get_preset("tiny"), data="folder:nowhere", callbacks=names)
    with pytest.raises(ValueError, match=message):
        train_by_config(config, tmp_path / "run")


@pytest.mark.slow
def test_a_finished_run_says_so(finished_run, tmp_path, capsys):
    shutil.copytree(finished_run, tmp_path / "run")
    assert main(["train", "--resume", "--out", str(tmp_path / "run")]) == 0
    assert "training is finished" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_goes_on_without_the_file_that_it_started_from(tmp_path, capsys):
    weights, out = tmp_path / "small.pt", tmp_path / "run"
    weights.write_bytes((PRETRAINED / "small.pt").read_bytes())
    flags = ["--preset", "tiny", "--backbone.weights", str(weights), "--out", str(out)]
    assert main(["train", *flags, "--steps", "2", "--checkpoint-every", "1"]) == 0
    assert "35 of 35 tensors fit, 17,808 of 17,808 parameters (100.0%)" in capsys.readouterr().err
    weights.unlink()
    assert main(["train", "--resume", "--out", str(out), "--steps", "3"]) == 0


@pytest.mark.slow
def test_a_frozen_backbone_that_nothing_was_loaded_into_is_told_of(tmp_path, capsys):
    flags = ["--preset", "tiny", "--steps", "1", "--backbone.weights", "None", "--backbone.frozen"]
    early = ["--backbone.name", "timm:test_vit", "--attention.bin-size", "2", "2", "1"]
    assert main(["train", *flags, *early, "--out", str(tmp_path / "early")]) == 2
    assert "flow stream starts at 0, and frozen it would stay 0" in capsys.readouterr().err
    assert main(["train", *flags, "--out", str(tmp_path / "random")]) == 0
    assert "a backbone without weights that is frozen stays random" in capsys.readouterr().err


def test_a_frozen_flow_stream_of_scale_nought_is_refused(tmp_path, capsys):
    state = torch.load(PRETRAINED / "small_without_flow.pt", weights_only=True)
    torch.save(state, tmp_path / "images.pt")
    flags = ["--preset", "tiny", "--backbone.weights", str(tmp_path / "images.pt"), "--backbone.frozen"]
    assert main(["train", *flags, "--backbone.flow-scale", "learned", "--out", str(tmp_path / "run")]) == 2
    assert "flow stream starts at 0, and frozen it would stay 0" in capsys.readouterr().err


def test_a_neck_is_not_trained_on_one_clip(tmp_path, capsys):
    flags = ["--preset", "tiny", "--descriptor.neck", "batch_norm", "--load.num-people", "1"]
    assert main(["train", *flags, "--load.clips-per-person", "1", "--out", str(tmp_path / "run")]) == 2
    assert "the neck normalises over a batch's clips, and this batch has one" in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_in_which_another_command_is_at_work_is_not_trained_into(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ["--preset", "tiny", "--steps", "1"]
    with folder_lock(tmp_path / "runs" / "tiny"):
        assert main(["train", *flags, "--out", str(tmp_path / "runs" / "tiny")]) == 2
        assert "another command is at work in" in capsys.readouterr().err
        assert main(["train", *flags]) == 0  # the default folder gets a number
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny-2"]
    with folder_lock(tmp_path / "runs" / "tiny-2"):
        assert main(["train", "--resume", "--out", "runs/tiny-2", "--steps", "2"]) == 2
    assert main(["train", "--resume", "--out", "runs/tiny-2", "--steps", "2"]) == 0
