"""Trackers, by stand-ins for the libraries with the few functions that are used."""

import json
import sys
import types

import numpy as np
import pytest
from stable_baselines3.common.logger import Image, Logger

from agents.runs import tracking as module
from agents.runs.arguments import read_arguments
from agents.runs.checkpoint import read_checkpoint
from agents.runs.tracking import TRACKERS, Tracker, TrackerFormat, tracking
from backbone.tensor_file import load_tensors, save_tensors
from scripts.cli import main


class StandIn:
    """A library that keeps what it is told: (run, step, name, value), and how runs began and ended."""

    def __init__(self):
        self.logged, self.began, self.ended, self.run = [], [], [], ""

    def begin(self, run, is_known):
        self.run = run
        self.began.append((run, is_known))

    def log(self, values, step):
        self.logged += [(self.run, step, name, value) for name, value in values.items()]


def wandb(told):
    def init(*, project, name, config, id, resume):
        assert project == "a3d"
        assert resume == ("allow" if id else None)
        told.begin(id or "w1", bool(id))
        return types.SimpleNamespace(
            id=told.run, log=told.log, finish=lambda exit_code: told.ended.append(bool(exit_code))
        )

    return types.SimpleNamespace(init=init, Image=lambda picture: picture.shape)


def mlflow(told):
    def start_run(*, run_id, run_name):
        told.begin(run_id or "m1", bool(run_id))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=told.run))

    return types.SimpleNamespace(
        set_experiment=lambda name: None,
        start_run=start_run,
        log_dict=lambda values, name: json.dumps(values),
        log_metrics=told.log,
        log_image=lambda picture, path: told.log(
            {path.rpartition("-")[0]: (*picture.size[::-1], 3)}, int(path[-12:-4])
        ),
        end_run=lambda status: told.ended.append(status == "FAILED"),
    )


def trackio(told):
    return types.SimpleNamespace(
        init=lambda *, project, name, config, resume: told.begin(name, resume == "allow"),
        log=told.log,
        Image=lambda picture: picture.shape,
        finish=lambda: told.ended.append(None),
    )


LIBRARIES = {"wandb": wandb, "mlflow": mlflow, "trackio": trackio}


@pytest.fixture(params=sorted(LIBRARIES))
def library(request, monkeypatch):
    told = StandIn()
    made = LIBRARIES[request.param](told)
    monkeypatch.setattr(module, "_library", lambda name: {request.param: made}[name])
    return request.param, told


def test_each_name_has_a_stand_in():
    assert LIBRARIES.keys() == TRACKERS.keys()


def test_a_tracker_gets_what_tensorboard_gets(library, tmp_path):
    name, told = library
    with tracking(name, tmp_path, {"steps": 3}) as tracker:
        logger = Logger(None, [TrackerFormat(tracker)])
        logger.record("test/mAP", np.float64(50))
        logger.record("test/text", "no number")
        logger.record("time/iterations", 7, exclude="tensorboard")
        logger.record("test/bins", Image(np.zeros((4, 2, 3), np.uint8), "HWC"), exclude=("stdout", "log"))
        logger.dump(12)
    run = told.run
    assert told.logged == [(run, 12, "test/mAP", 50.0), (run, 12, "test/bins", (4, 2, 3))]
    assert told.ended in ([False], [None])


def test_the_same_tracked_run_goes_on(library, tmp_path):
    name, told = library
    with pytest.raises(KeyboardInterrupt), tracking(name, tmp_path, {}):
        raise KeyboardInterrupt
    assert told.ended in ([True], [None])
    with tracking(name, tmp_path, {}, is_resumed=True):
        pass
    (first, was_known), (second, is_known) = told.began
    assert (first, was_known, is_known) == (second, False, True)


def test_a_library_that_can_not_begin_says_why(tmp_path, monkeypatch):
    def refuse(*settings):
        raise RuntimeError("no log-in")

    monkeypatch.setitem(TRACKERS, "wandb", refuse)
    with pytest.raises(ValueError, match="no log-in"), tracking("wandb", tmp_path, {}):
        pass


def test_a_library_that_fails_on_the_way_ends_no_training(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("the server\nis gone")

    monkeypatch.setitem(TRACKERS, "wandb", lambda *_: Tracker("1", fail, fail, fail))
    with tracking("wandb", tmp_path, {}) as tracker:
        TrackerFormat(tracker).write({"test/mAP": 1.0}, {"test/mAP": ()})
        tracker.picture("bins", np.zeros((4, 2, 3), np.uint8), 1)
    assert capsys.readouterr().err.count("the training goes on: the server is gone") == 1


def test_no_checkpoint_makes_anything_be_sent(tiny_run, capsys):
    state = load_tensors(tiny_run / "checkpoint.pt")
    settings = json.loads(state["config"]) | {"track": "wandb"}
    save_tensors(tiny_run / "checkpoint.pt", state | {"config": json.dumps(settings)})
    assert read_checkpoint(tiny_run)["config"].track is None
    config, _ = read_arguments(["--resume", "--out", str(tiny_run)])
    assert config.track is None
    assert "unless you say --track wandb" in capsys.readouterr().err


def test_a_library_that_is_missing_is_named_before_anything_is_built(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    folder = tmp_path / "run"
    assert main(["train", "--preset", "tiny", "--track", "wandb", "--out", str(folder)]) == 2
    assert "pip install 'a3d[wandb]'" in capsys.readouterr().err
    assert not folder.exists()
    (tmp_path / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ValueError, match="wandb is a folder here, not the library"):
        module.check_tracker("wandb")
    monkeypatch.delitem(sys.modules, "wandb")
