"""The command that makes the small backbone's starting weights, cut short."""

import dataclasses

import pytest
import torch

from backbone.data.synthetic import without_clutter
from backbone.two_stream import BackboneConfig, build_backbone
from scripts import pretrain as module
from scripts.checkpoint import read_checkpoint
from scripts.cli import main
from scripts.config import get_preset


@pytest.fixture
def short(monkeypatch):
    """The walkers' preset with four of them."""
    few = dataclasses.replace(without_clutter(), num_train_people=4, num_test_people=2, tracklets_per_camera=1)
    settings = get_preset("walkers")
    settings = dataclasses.replace(
        settings,
        data_options=dataclasses.replace(settings.data_options, synthetic=few),
        load=dataclasses.replace(settings.load, num_people=2, workers=0),
    )
    monkeypatch.setattr(module, "get_preset", lambda name: {"walkers": settings}[name])


def test_the_weights_are_the_trained_backbones_and_a_run_starts_from_them(short, tmp_path, capsys):
    path = tmp_path / "own.pt"
    assert main(["pretrain", "--out", str(path), "--steps", "2"]) == 0
    assert f"wrote {path}" in capsys.readouterr().out
    trained = read_checkpoint(tmp_path / "own")["shared"]["representation"]
    network = build_backbone(BackboneConfig("small", weights=str(path)))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, trained[f"backbone.{name}"], rtol=0, atol=0)


def test_the_walkers_are_trained_without_attention_and_clutter():
    settings = get_preset("walkers")
    assert settings.attention.num_glimpses == 0
    assert settings.data_options.synthetic.passers_by == 0
    assert settings.data_options.synthetic.hidden_frames == (0, 0)
    assert settings.data_options.synthetic.seed != get_preset("benchmark").data_options.synthetic.seed


def test_an_unfinished_run_is_gone_on_with(short, tmp_path, monkeypatch):
    path = tmp_path / "own.pt"
    monkeypatch.setattr(module, "replacing", pytest.fail)  # interrupted before the weights are written
    with pytest.raises(pytest.fail.Exception):
        main(["pretrain", "--out", str(path), "--steps", "2"])
    monkeypatch.undo()
    assert not path.exists()
    assert main(["pretrain", "--out", str(path), "--steps", "2"]) == 0
    assert read_checkpoint(tmp_path / "own")["shared"]["step"] == 2
