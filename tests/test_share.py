"""Sharing, with a local folder in the place of the hub."""

import inspect
import json
import shutil
import zipfile
from pathlib import Path

import huggingface_hub
import pytest
import torch

from agents.runs.hub import read_name
from agents.runs.model import load_model
from backbone.tensor_file import load_tensors
from scripts.cli import main
from scripts.share import without_places


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder whose subfolders are repositories; calls must fit the real functions."""
    root, private, real = tmp_path / "hub", {}, huggingface_hub.HfApi
    real_download = huggingface_hub.hf_hub_download

    def fits(function, *given, **named):
        return inspect.signature(function).bind(*given, **named).arguments

    class Api:
        def create_repo(self, *given, **named):
            call = fits(real.create_repo, self, *given, **named)
            private[call["repo_id"]] = call["private"]

        def upload_folder(self, **named):
            call = fits(real.upload_folder, self, **named)
            shutil.copytree(call["folder_path"], root / call["repo_id"], dirs_exist_ok=True)
            return f"the hub's {call['repo_id']}"

    def download(*given, **named):
        call = fits(real_download, *given, **named)
        if not (found := root / call["repo_id"] / call["filename"]).exists():
            raise OSError(f"404: no {call['repo_id']}\nmore")
        return str(found)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return root, private


def same_model(one, other):
    return load_model(Path(one)).digest == load_model(Path(other)).digest


@pytest.mark.slow
def test_a_model_goes_to_the_hub_and_back(tiny_run, hub, capsys):
    root, private = hub
    assert main(["share", str(tiny_run), "--to", "hf:me/mine"]) == 0
    assert "the hub's me/mine" in capsys.readouterr().out
    assert private == {"me/mine": True}
    assert {path.name for path in (root / "me/mine").iterdir()} == {
        "README.md", "checkpoint.pt", "config.json", "metrics.json",
    }  # fmt: skip
    assert same_model("hf:me/mine", tiny_run)
    assert main(["share", str(tiny_run), "--to", "hf:me/mine", "--public"]) == 0
    assert private == {"me/mine": False}
    assert main(["evaluate", "--checkpoint", "hf:me/other"]) == 2
    assert "hf:me/other can't be fetched from the hub (OSError): 404: no me/other" in capsys.readouterr().err


def test_a_hub_that_can_not_be_reached_is_an_error(tiny_run, hub, monkeypatch, capsys):
    class NoNetwork(Exception):  # those of the library that huggingface_hub talks by are no OSError
        pass

    def fail(*_, **__):
        raise NoNetwork("connection refused")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", fail)
    assert main(["share", str(tiny_run), "--to", "hf:me/mine"]) == 2
    assert "hf:me/mine can't be written (NoNetwork): connection refused" in capsys.readouterr().err


@pytest.mark.slow
def test_a_zip_and_a_folder_are_checkpoints(tiny_run, tmp_path, capsys):
    for name in ("mine.zip", "mine"):
        assert main(["share", str(tiny_run), "--to", str(tmp_path / name)]) == 0
        assert same_model(tmp_path / name, tiny_run)
    assert main(["share", str(tiny_run), "--to", str(tmp_path / "mine")]) == 2
    assert "something in it" in capsys.readouterr().err


def test_the_card_tells_data_recipe_scores_and_how_to_load(tiny_run, tmp_path):
    assert main(["share", str(tiny_run), "--to", str(tmp_path / "mine")]) == 0
    card = (tmp_path / "mine" / "README.md").read_text()
    after = json.loads((tiny_run / "metrics.json").read_text())["after"]
    assert f"| after training | {after['R1']:.1f} |" in card
    for text in (
        "`synthetic`: 6 people",
        "preset `tiny`, recipe `paper`",
        "no pictures and no names",
        "load_model(",
    ):
        assert text in card, text


def test_what_is_shared_names_no_place_of_this_machine(tiny_run, tmp_path):
    settings = json.loads((tiny_run / "config.json").read_text())
    own = {"data": "folder:/home/me/street", "out": "/home/me/runs", "cache": "/home/me/cache", "track": "wandb"}
    backbone = {**settings["backbone"], "weights": "/home/me/weights.pt"}
    assert "/home" not in json.dumps(kept := without_places({**settings, **own, "backbone": backbone}))
    assert (kept["data"], kept["backbone"]["weights"], kept["track"]) == ("folder:street", "weights.pt", None)
    assert main(["share", str(tiny_run), "--to", str(tmp_path / "mine")]) == 0
    own, other = (load_tensors(folder / "checkpoint.pt") for folder in (tmp_path / "mine", tiny_run))
    assert json.loads(other["config"])["out"] is not None
    assert json.loads(own["config"])["out"] is None
    for name, value in own["tested"].items():
        assert torch.equal(value, other["tested"][name])


def test_a_zip_that_would_grow_and_one_without_a_model_are_refused(tiny_run, tmp_path):
    with zipfile.ZipFile(tmp_path / "grows.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("checkpoint.pt", b"0" * 1000)
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    for name, text in {"grows.zip": "compressed", "empty.zip": "no .zip of a3d share"}.items():
        with pytest.raises(ValueError, match=text):
            load_model(tmp_path / name)


def test_an_unfinished_run_is_not_shared(tiny_run, tmp_path, capsys):
    shutil.copy(tiny_run / "checkpoint.pt", tmp_path)
    assert main(["share", str(tmp_path), "--to", str(tmp_path / "mine")]) == 2
    assert "is not finished" in capsys.readouterr().err


def test_names_on_the_hub():
    assert read_name("hf:me/mine") == ("me/mine", None)
    assert read_name(Path("hf:me/mine@v1")) == ("me/mine", "v1")
    for wrong in ("hf:mine", "hf:/me/mine", "hf:me/mine/more", "hf:me/..", "hf:me/mine@../../v1"):
        with pytest.raises(ValueError, match="hf:OWNER/NAME"):
            read_name(wrong)
