"""Frames that can't be read: an error that names them, or replaced by their neighbours, counted and said."""

import dataclasses
import itertools
import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from agents.runs.presets import get_preset
from agents.runs.task import settings_digest
from backbone.data import cache as module
from backbone.data.bad_frames import describe_replaced, nearest_readable
from backbone.data.cache import FrameCache
from backbone.data.clips import IdentitySampler
from backbone.data.fill import fill_cache
from backbone.data.loader import TestBatches, TrainingBatches, load_ahead
from backbone.data.sets.listings import NamedFrames
from backbone.data.tracklet import FrameFiles, Tracklet, VideoSlice
from backbone.data.transforms import AugmentConfig
from backbone.flow import optical_flow
from scripts.cli import main

HEIGHT, WIDTH = 32, 16


def make_tracklet(folder: Path, number: int = 0, length: int = 6) -> Tracklet:
    """Frame i of tracklet n is full of 20 n + 3 i, and its file is called <n>-<i>.png."""
    paths = tuple(folder / f"{number}-{frame}.png" for frame in range(length))
    for frame, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), 20 * number + 3 * frame, dtype=np.uint8))
    return Tracklet(number // 2, number % 2, FrameFiles(paths), f"t{number}")


def damage(path: Path, how: str = "truncated") -> None:
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "text": b"no image", "truncated": path.read_bytes()[:60]}[how])


def afresh(tracklet: Tracklet) -> Tracklet:
    """The same tracklet as another process reads it, which has not looked at its files yet."""
    return dataclasses.replace(tracklet, frames=dataclasses.replace(tracklet.frames))


def frames_shown(array: np.ndarray) -> list[int]:
    return (array[:, 0, 0, 0] // 3).tolist()


def files(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def skipping(tmp_path):
    return FrameCache(tmp_path / "cache", HEIGHT, WIDTH, "dis-fast", "skip")


@pytest.fixture
def strict(tmp_path):
    return FrameCache(tmp_path / "cache", HEIGHT, WIDTH, "dis-fast")


# Of six frames: those that can't be read, and what is shown in each one's place.
CASES = [
    ([0], [1, 1, 2, 3, 4, 5]),
    ([2], [0, 1, 1, 3, 4, 5]),  # 1 and 3 are equally near: the one before
    ([2, 3], [0, 1, 1, 4, 4, 5]),
    ([1, 2, 3], [0, 0, 0, 4, 4, 5]),
    ([5], [0, 1, 2, 3, 4, 4]),
    ([0, 1, 4, 5], [2, 2, 2, 3, 3, 3]),
    ([0, 1, 2, 4, 5], [3, 3, 3, 3, 3, 3]),
    ([], [0, 1, 2, 3, 4, 5]),
]


@pytest.mark.parametrize(("bad", "shown"), CASES)
def test_the_nearest_readable_frame_is_shown(tmp_path, skipping, bad, shown):
    assert nearest_readable([frame for frame in range(6) if frame not in bad], 6).tolist() == shown
    tracklet = make_tracklet(tmp_path)
    for frame in bad:
        damage(tracklet.frames.paths[frame])
    for cache in (skipping, skipping, FrameCache(skipping.folder, HEIGHT, WIDTH, "dis-fast", "skip")):
        assert frames_shown(cache.frames(tracklet)) == shown
        assert cache.replaced == ({"t0": tuple(tracklet.frames.paths[frame] for frame in bad)} if bad else {})


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "text"])
def test_every_kind_of_damage_is_an_error_or_replaced(tmp_path, skipping, strict, how):
    tracklet = make_tracklet(tmp_path)
    damage(tracklet.frames.paths[3], how)
    with pytest.raises(ValueError, match=r"0-3\.png"):
        strict.frames(tracklet)
    assert frames_shown(skipping.frames(tracklet)) == [0, 1, 2, 2, 4, 5]
    for read in (strict.frames, strict.flow):  # though it is in the cache now
        with pytest.raises(ValueError, match=r"0-3\.png"):
            read(tracklet)
    assert strict.replaced == {}
    assert strict.describe_replaced() == ""


def test_frames_of_mars_that_are_missing_are_replaced(tmp_path, skipping):
    tracklet = make_tracklet(tmp_path)
    names = tuple(f"0002C1T0001F{frame:03}.png" for frame in range(6))
    (tmp_path / "0002").mkdir()
    for path, name in zip(tracklet.frames.paths, names, strict=True):
        path.rename(tmp_path / "0002" / name)
    (tmp_path / "0002" / names[0]).unlink()
    named = Tracklet(2, 1, NamedFrames(tmp_path, names, 4), "mars/test/0")
    assert frames_shown(skipping.frames(named)) == [1, 1, 2, 3, 4, 5]
    assert skipping.replaced == {"mars/test/0": (tmp_path / "0002" / names[0],)}
    with pytest.raises(ValueError, match="cannot read the frame"):
        named.frames.key  # noqa: B018


def test_flow_is_that_of_the_frames_shown(tmp_path, skipping, monkeypatch):
    generator, tracklet = np.random.default_rng(0), make_tracklet(tmp_path)
    for path in tracklet.frames.paths:
        picture = cv2.GaussianBlur(generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), (0, 0), 2)
        cv2.imwrite(str(path), picture)
    damage(tracklet.frames.paths[3])
    flow = skipping.flow(tracklet)
    expected = optical_flow(np.asarray(skipping.frames(tracklet)), "dis-fast").astype(np.float16)
    np.testing.assert_array_equal(flow, expected)
    assert np.abs(flow[2]).max() < np.abs(flow[3]).max()  # from frame 2 to frame 2 nothing moves
    monkeypatch.setattr(module, "optical_flow", None)  # it is not computed again
    again = FrameCache(skipping.folder, HEIGHT, WIDTH, "dis-fast", "skip")
    np.testing.assert_array_equal(again.flow(tracklet), expected)
    assert list(again.replaced) == ["t0"]


def test_tracklets_without_damage_have_the_same_files_either_way(tmp_path, skipping, strict, monkeypatch):
    whole, other = make_tracklet(tmp_path), make_tracklet(tmp_path, 1)
    strict.flow(whole)
    skipping.flow(other)
    assert files(skipping.folder) == [".npy"] * 4
    monkeypatch.setattr(FrameCache, "_decode", None)
    for cache, tracklet in itertools.product((skipping, strict), (whole, other)):
        assert cache.missing_bytes(tracklet) == 0
        assert (len(cache.frames(tracklet)), len(cache.flow(tracklet))) == (6, 6)
    assert skipping.describe_replaced() == "every frame could be read, none was replaced"


def test_a_file_that_was_mended_is_decoded_anew(tmp_path, skipping, strict):
    tracklet = make_tracklet(tmp_path)
    path = tracklet.frames.paths[3]
    content = path.read_bytes()
    for how in ("missing", "truncated"):
        damage(path, how)
        assert frames_shown(skipping.frames(afresh(tracklet)))[3] == 2
        path.write_bytes(content)
        for cache in (FrameCache(skipping.folder, HEIGHT, WIDTH, "dis-fast", "skip"), strict):
            assert frames_shown(cache.frames(afresh(tracklet))) == [0, 1, 2, 3, 4, 5]
            assert cache.replaced == {}


def test_what_may_be_readable_the_next_time_is_not_kept(tmp_path, skipping, monkeypatch):
    tracklet = make_tracklet(tmp_path)
    read_image = module.read_image

    def refused(path):
        if path.name == "0-3.png":
            raise ValueError(f"cannot read the frame {path}") from PermissionError()
        return read_image(path)

    with monkeypatch.context() as patch:
        patch.setattr(module, "read_image", refused)
        assert frames_shown(skipping.frames(tracklet))[3] == 2
        assert list(skipping.replaced) == ["t0"]
    path, moved = tracklet.frames.paths[3], tmp_path / "moved.png"
    path.rename(moved)  # after its size and time were looked at, which are the same when it is back
    assert frames_shown(skipping.frames(tracklet))[3] == 2
    moved.rename(path)
    assert files(skipping.folder) == []
    assert frames_shown(skipping.frames(tracklet)) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("content", [b"", b"[3", b"3", b'["a"]', b"[99]", b"[]", b"null"])
def test_a_damaged_record_is_made_again(tmp_path, skipping, content):
    tracklet = make_tracklet(tmp_path)
    damage(tracklet.frames.paths[3])
    skipping.frames(tracklet)
    (record,) = skipping.folder.rglob("*.json")
    assert json.loads(record.read_text()) == [3]
    record.write_bytes(content)
    again = FrameCache(skipping.folder, HEIGHT, WIDTH, "dis-fast", "skip")
    assert frames_shown(again.frames(tracklet)) == [0, 1, 2, 2, 4, 5]
    assert again.replaced == skipping.replaced
    assert json.loads(record.read_text()) == [3]
    assert files(skipping.folder) == [".json", ".npy"]


def test_a_tracklet_without_a_readable_frame_is_an_error_that_names_it(tmp_path, skipping):
    tracklet = make_tracklet(tmp_path)
    for path in tracklet.frames.paths:
        damage(path)
    for read in (skipping.frames, skipping.flow):
        with pytest.raises(ValueError, match=r"no frame of the tracklet t0 can be read: .*0-0\.png .*truncated"):
            read(tracklet)
    assert files(skipping.folder) == []
    assert skipping.replaced == {}
    with pytest.raises(ValueError, match="the tracklet empty has no frames"):
        skipping.frames(Tracklet(0, 0, FrameFiles(()), "empty"))


def test_videos_keep_their_error(tmp_path, skipping):
    sliced = Tracklet(0, 0, VideoSlice(tmp_path / "none.avi", 0, np.array([[0, 0, 4, 4]])), "video")
    with pytest.raises(ValueError, match=r"none\.avi"):
        skipping.frames(sliced)


def test_unknown_policies_list_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="unknown on_bad_frame 'ignore'; known: error, skip"):
        FrameCache(tmp_path, 8, 8, None, "ignore")


def test_what_is_said():
    one, two = Path("a/1.png"), Path("a/2.png")
    assert describe_replaced({"a": (one,)}) == (
        "1 frame of 1 tracklet could not be read and was replaced by its neighbour: a/1.png"
    )
    assert describe_replaced({"b": (two,), "a": (one,)}) == (
        "2 frames of 2 tracklets could not be read and were replaced by their neighbours: a/1.png, a/2.png"
    )
    many = {"a": tuple(Path(f"{number}.png") for number in range(1200))}
    assert describe_replaced(many).startswith("1,200 frames of 1 tracklet could")
    assert describe_replaced(many).endswith(": 0.png, 1.png, 2.png, 3.png, 4.png, ...")


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_what_workers_replace_is_counted_once(tmp_path, skipping, workers):
    tracklets = [make_tracklet(tmp_path, number) for number in range(4)]
    bad = {"t1": (2, 3), "t2": (0,)}
    for number, frames in ((1, bad["t1"]), (2, bad["t2"])):
        for frame in frames:
            damage(tracklets[number].frames.paths[frame])
    expected = {
        name: tuple(tmp_path / f"{name[1]}-{frame}.png" for frame in frames) for name, frames in bad.items()
    }
    batches = TestBatches(tracklets, skipping, num_frames=4, clips_per_batch=3)
    loaded = list(load_ahead(batches, range(len(batches)), workers))
    assert skipping.replaced == expected
    assert [sorted(batch.replaced) for batch in loaded] == [["t1"], ["t1", "t2"], []]
    assert loaded[0].clip[2, :, 0, 0, 0].tolist() == [20, 23, 23, 32]  # frames 0, 1, 1, 4
    # Again, now that it is in the cache, and in training's batches.
    again = FrameCache(skipping.folder, HEIGHT, WIDTH, "dis-fast", "skip")
    sampler = IdentitySampler(tracklets, 2, 2, 4, seed=0)
    training = TrainingBatches(tracklets, again, sampler, AugmentConfig())
    list(load_ahead(training, range(6), workers))
    assert again.replaced == expected


@pytest.fixture
def people(tmp_path):
    """A folder of six people in two cameras, with 1 frame of b, 2 in a row of c, and 1 of e damaged."""
    root = tmp_path / "people"
    generator = np.random.default_rng(0)
    for person, camera, frame in itertools.product("abcdef", "12", range(6)):
        folder = root / person / camera / "walk"
        folder.mkdir(parents=True, exist_ok=True)
        picture = generator.integers(0, 255, (64, 32, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{frame}.png"), picture)
    for name in ("b/1/walk/0.png", "c/2/walk/3.png", "c/2/walk/4.png", "e/1/walk/5.png"):
        damage(root / name)
    return root


COUNTED = r"4 frames of 3 tracklets could not be read and were replaced by their neighbours: \S+b/1/walk/0.png, "


def test_filling_a_cache(people, tmp_path, capsys):
    flags = ["data", "cache", "--data", f"folder:{people}", "--height", "32", "--width", "16"]
    flags += ["--cache", str(tmp_path / "cache")]
    assert main(flags) == 2
    assert re.search(r"walk/\d\.png .*truncated", capsys.readouterr().err)
    for _ in range(2):
        assert main([*flags, "--on-bad-frame", "skip"]) == 0
        printed = capsys.readouterr().out
        assert re.search(COUNTED, printed)
    assert "0.00 GiB written, 12 tracklets were there" in printed
    assert main(flags) == 2  # what was mended for one is not served to the other
    assert re.search(r"walk/\d\.png .*truncated", capsys.readouterr().err)


def test_filling_by_threads_counts_all(tmp_path, skipping):
    tracklets = [make_tracklet(tmp_path, number) for number in range(8)]
    for tracklet in tracklets:
        damage(tracklet.frames.paths[2], "missing")
    report = fill_cache(skipping, tracklets, workers=4)
    assert (report.tracklets, report.kept, len(skipping.replaced)) == (8, 0, 8)
    assert report.written == 8 * 6 * HEIGHT * WIDTH * 7


def train(folder: Path, *flags: str) -> int:
    return main(["train", "--preset", "tiny", "--out", str(folder), *flags])


def test_training_stops_at_a_damaged_frame_and_names_it(people, tmp_path, capsys):
    assert train(tmp_path / "run", "--data", f"folder:{people}", "--cache", str(tmp_path / "cache")) == 2
    assert re.search(r"a3d train: error: \S+/walk/\d\.png .*it is truncated", capsys.readouterr().err)


@pytest.mark.slow
def test_training_goes_on_and_says_what_it_replaced(people, tmp_path, capsys):
    flags = ["--data", f"folder:{people}", "--cache", str(tmp_path / "cache"), "--on-bad-frame", "skip"]
    scores = []
    for name, workers in (("first", "2"), ("second", "0"), ("third", "2")):
        assert train(tmp_path / name, *flags, "--load.workers", workers) == 0
        assert re.search(COUNTED, capsys.readouterr().err)
        scores.append(json.loads((tmp_path / name / "metrics.json").read_text()))
    for row in ("before", "after", "controls"):
        assert scores[0][row] == scores[1][row] == scores[2][row]
    assert main(["evaluate", "--checkpoint", str(tmp_path / "first"), "--cache", str(tmp_path / "other")]) == 0
    command = ["bank", "--checkpoint", str(tmp_path / "first"), "--cache", str(tmp_path / "third")]
    assert main([*command, "--out", str(tmp_path / "bank"), "--on-bad-frame", "error"]) == 2
    assert "it is truncated" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "bank"), "--on-bad-frame", "skip"]) == 0
    assert "could not be read and were replaced by their neighbours" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_can_go_on_with_the_other_policy(people, tmp_path, capsys):
    spoilt = {path: path.read_bytes() for path in people.rglob("*.png") if len(path.read_bytes()) == 60}
    good = (people / "a/1/walk/0.png").read_bytes()
    for path in spoilt:
        path.write_bytes(good)
    run, flags = tmp_path / "run", ["--data", f"folder:{people}", "--cache", str(tmp_path / "cache")]
    assert train(run, *flags, "--steps", "1", "--on-bad-frame", "skip") == 0
    assert "every frame could be read, none was replaced" in capsys.readouterr().err
    for path, content in spoilt.items():
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))
    resume = ["train", "--resume", "--out", str(run), "--steps", "3"]
    assert main([*resume, "--on-bad-frame", "error"]) == 2
    assert "it is truncated" in capsys.readouterr().err
    assert main(resume) == 0
    assert re.search(r"since the run went on, \d frames of \d tracklets could", capsys.readouterr().err)
    assert json.loads((run / "config.json").read_text())["on_bad_frame"] == "skip"


def test_an_ablation_goes_on_whatever_the_policy():
    config = get_preset("tiny")
    assert config.on_bad_frame == "error"
    assert settings_digest(dataclasses.replace(config, on_bad_frame="skip")) == settings_digest(config)
