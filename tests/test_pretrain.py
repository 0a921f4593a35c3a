"""The command that makes the small backbone's starting weights, cut short."""

import dataclasses

import pytest
import torch

from agents.features import SharedFeatureCallback
from agents.runs.checkpoint import read_checkpoint
from agents.runs.presets import get_preset
from backbone.build import build_backbone
from backbone.config import BackboneConfig
from backbone.data.sets.synthetic_settings import without_clutter
from scripts import pretrain as module
from scripts.cli import main


@pytest.fixture
def short(monkeypatch):
    """The walkers' preset with four of them."""
    few = dataclasses.replace(without_clutter(), num_train_people=4, num_test_people=2, tracklets_per_camera=1)
    settings = get_preset("walkers")
    settings = dataclasses.replace(
        settings,
        data_options=dataclasses.replace(settings.data_options, synthetic=few),
        load=dataclasses.replace(settings.load, num_people=2, workers=0),
        checkpoint_every=1,
    )
    monkeypatch.setattr(module, "get_preset", lambda name: {"walkers": settings}[name])


@pytest.mark.slow
def test_the_weights_are_the_trained_backbones_and_a_run_starts_from_them(short, tmp_path, capsys):
    path = tmp_path / "own.pt"
    assert main(["pretrain", "--out", str(path), "--steps", "2"]) == 0
    assert f"wrote {path}" in capsys.readouterr().out
    trained = read_checkpoint(tmp_path / "own")["shared"]["representation"]
    network = build_backbone(BackboneConfig("small", weights=str(path)))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, trained[f"backbone.{name}"], rtol=0, atol=0)


def test_the_weights_without_flow_are_of_a_network_without(short, tmp_path):
    path = tmp_path / "images.pt"
    assert main(["pretrain", "--no-flow", "--out", str(path), "--steps", "1"]) == 0
    build_backbone(BackboneConfig("small", weights=str(path), flow=None))
    network = build_backbone(BackboneConfig("small", weights=str(path)))
    assert "nothing for (10, as initialised): flow_stream" in network.weights_report


def test_the_walkers_are_trained_without_attention_and_clutter():
    settings = get_preset("walkers")
    assert settings.attention.num_glimpses == 0
    assert settings.data_options.synthetic.passers_by == 0
    assert settings.data_options.synthetic.hidden_frames == (0, 0)
    assert settings.data_options.synthetic.seed != get_preset("benchmark").data_options.synthetic.seed


@pytest.mark.slow
@pytest.mark.parametrize("finished", [2, 3])
def test_an_interrupted_command_goes_on_to_the_same_weights(short, tmp_path, monkeypatch, capsys, finished):
    def press_ctrl_c(*_):
        raise KeyboardInterrupt

    learn = SharedFeatureCallback._learn_from
    path, whole = tmp_path / "own.pt", tmp_path / "whole.pt"
    assert main(["pretrain", "--out", str(whole), "--steps", "3"]) == 0
    with monkeypatch.context() as patch:
        if finished == 3:
            patch.setattr("backbone.tensor_file.save_tensors", press_ctrl_c)  # before the weights are written
        else:
            patch.setattr(
                SharedFeatureCallback,
                "_learn_from",
                lambda self, episodes: press_ctrl_c() if self.step == 2 else learn(self, episodes),
            )
        assert main(["pretrain", "--out", str(path), "--steps", "3"]) == 130
    assert "the same command goes on from the last checkpoint" in capsys.readouterr().err
    assert not path.exists()
    assert read_checkpoint(tmp_path / "own")["shared"]["step"] == finished
    assert main(["pretrain", "--out", str(path), "--steps", "3"]) == 0
    own, other = (torch.load(file, weights_only=True) for file in (path, whole))
    assert own.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in own.items())


def test_a_folder_with_other_settings_is_not_gone_on_with(short, tmp_path, capsys):
    command = ["pretrain", "--out", str(tmp_path / "own.pt"), "--steps", "2"]
    assert main(command) == 0
    before = (tmp_path / "own.pt").read_bytes()
    for flags, message in ((["--seed", "1"], "seed"), (["--steps", "1"], "already trained on 2 batches")):
        assert main([*command, *flags]) == 2
        assert message in capsys.readouterr().err
    assert (tmp_path / "own.pt").read_bytes() == before


def test_the_weights_file_needs_an_ending(short, tmp_path, capsys):
    assert main(["pretrain", "--out", str(tmp_path / "own")]) == 2
    assert "as in" in capsys.readouterr().err
    assert not (tmp_path / "own").exists()  # before anything is trained
