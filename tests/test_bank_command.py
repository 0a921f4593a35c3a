"""The banks of a run's halves: every clip as the evaluation sees it, and who may play on them."""

import dataclasses
import itertools

import cv2
import gymnasium
import numpy as np
import pytest
import torch

from a3d_env.bank_file import open_bank
from a3d_env.bank_format import read_meta
from agents.runs.describe import clip_bank
from agents.runs.model import load_run
from backbone.data.clips import consecutive_clips
from backbone.data.loader import TestBatches
from scripts.bank import BankConfig, make_bank
from scripts.cli import main


@pytest.fixture(scope="module")
def run(tiny_run):
    return tiny_run


@pytest.fixture(scope="module")
def banks(run):
    """The banks of both halves, of batches that don't fit the number of clips."""
    for split, *flags in (("train", "--frames"), ("test",)):
        out = str(run / f"{split} bank")
        flags += ["--split", split, "--clips-per-batch", "5"]
        assert main(["bank", "--checkpoint", str(run), "--out", out, *flags]) == 0
    return run / "train bank", run / "test bank"


@pytest.mark.slow
def test_shards_put_together_are_the_same_bytes(run, banks, tmp_path, runs_here):
    out = tmp_path / "bank"
    flags = ["--frames", "--clips-per-batch", "5", "--shards", "3", "--out", str(out)]
    with runs_here():
        assert main(["bank", "--checkpoint", str(run), *flags]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in banks[0].iterdir()
    }


def half(parts, split):
    return parts.data.train if split == "train" else [*parts.data.query, *parts.data.gallery]


@pytest.mark.parametrize("split", ["train", "test"])
@torch.no_grad()
def test_every_clip_is_there_as_the_backbone_sees_it_alone(run, banks, split):
    parts = load_run(run)
    bank, glimpse = open_bank(banks[split == "test"])
    meta = read_meta(banks[split == "test"])
    parts.representation.eval()
    row = 0
    for tracklet in half(parts, split):
        single = TestBatches([tracklet], parts.cache, 3, clips_per_batch=1)
        for number in range(len(consecutive_clips(len(tracklet), 3))):
            expected = clip_bank(parts, single[number], with_frames=True)
            torch.testing.assert_close(bank.bins[row], expected.bins[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(bank.global_feature[row], expected.global_feature[0], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(bank.truth_boxes[row], expected.truth_boxes[0])
            if split == "train":
                np.testing.assert_array_equal(bank.frames[row], expected.frames[0])
            assert bank.tracklet[row] == tracklet.source
            assert (meta.person[row], meta.camera[row]) == (tracklet.person, tracklet.camera)
            row += 1
    assert row == len(bank)
    assert (bank.frames is None) == (split == "test")
    for name, value in parts.representation.glimpse.state_dict().items():
        assert torch.equal(value, glimpse.state_dict()[name]), name


def test_identities_are_f_cs_or_come_after_them(run, banks):
    parts = load_run(run)
    training, test = (open_bank(folder)[0].identity.tolist() for folder in banks)
    people = [read_meta(folder).person for folder in banks]
    assert training == [parts.people.index(person) for person in people[0]]
    assert sorted(set(test)) == [6, 7, 8, 9]
    assert len(set(zip(test, people[1], strict=True))) == 4


def test_one_plays_on_the_training_half_only(banks):
    env = gymnasium.make("a3d_env:A3D/Attention3D-v0", bank=str(banks[0]), render_mode="rgb_array")
    env.reset(seed=0)
    for _ in range(3):
        *_, terminated, _, info = env.step(env.action_space.sample())
    assert terminated
    assert info["true_identity"] < 6
    assert env.render().shape[2] == 3
    with pytest.raises(ValueError, match="test bank shows people whom its F_c was not trained on"):
        gymnasium.make("a3d_env:A3D/Attention3D-v0", bank=str(banks[1]))


def test_people_of_other_data_are_new_whatever_their_numbers(run, tmp_path, capsys):
    for person, camera, frame in itertools.product("abcd", "12", range(3)):
        folder = tmp_path / "people" / person / camera / "walk"
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{frame}.png"), np.full((64, 32, 3), ord(person) + 10 * frame, np.uint8))
    out = tmp_path / "bank"
    arguments = ["bank", "--checkpoint", str(run), "--data", f"folder:{tmp_path / 'people'}", "--out", str(out)]
    assert main(arguments) == 0
    assert "4 clips of the train half of folder:" in capsys.readouterr().out
    assert read_meta(out).new_people
    assert sorted(set(open_bank(out)[0].identity.tolist())) == [6, 7]


def test_mistakes_leave_nothing(run, banks, tmp_path, capsys, monkeypatch):
    out = tmp_path / "bank"
    for flags, message in (
        (["--checkpoint", str(run), "--out", str(banks[0])], "there is something at"),
        (["--checkpoint", str(tmp_path / "no"), "--out", str(out)], "there is no checkpoint"),
        (["--checkpoint", str(run), "--out", str(out), "--device", "nothing"], "can't be used here"),
    ):
        assert main(["bank", *flags]) == 2
        assert message in capsys.readouterr().err

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("agents.runs.describe.clip_bank", interrupt)
    assert main(["bank", "--checkpoint", str(run), "--out", str(out)]) == 130
    assert "stopped; nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_settings_out_of_range_are_errors(run):
    with pytest.raises(ValueError, match="clips_per_batch must be 1 or more, got 0"):
        BankConfig(run, run / "never", clips_per_batch=0)


def test_an_empty_half_is_an_error(run):
    parts = load_run(run)
    empty = dataclasses.replace(parts, data=dataclasses.replace(parts.data, query=[], gallery=[]))
    with pytest.raises(ValueError, match="no tracklets in its test half"):
        make_bank(empty, BankConfig(run, run / "never", split="test"))
