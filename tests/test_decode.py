"""Clips decoded anew are those cut from decoded tracklets, with damage and without; and nothing stays on disk."""

import json

import cv2
import numpy as np
import pytest

from backbone.data.cache import FrameCache
from backbone.data.clips import consecutive_clips, spread_clip
from backbone.data.loader import TestBatches, load_ahead
from backbone.data.tracklet import FrameArray, FrameFiles, Tracklet
from scripts.cli import main


def make(folder, length, seed=0, damaged=()):
    """A smooth pattern that moves, so that its flow is not all alike."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(seed).random((80, 60 + 4 * length, 3)).astype(np.float32)
    pattern = cv2.GaussianBlur(noise, (0, 0), 2)
    pattern = (255 * (pattern - pattern.min()) / np.ptp(pattern)).astype(np.uint8)
    paths = []
    for number in range(length):
        paths.append(folder / f"{number + 1:03}.png")
        left = 2 * number + number % 3
        cv2.imwrite(str(paths[-1]), pattern[:, left : left + 40])
        if number in damaged:
            paths[-1].write_bytes(b"damaged")
    return Tracklet(1, 1, FrameFiles(tuple(paths)), folder.name)


def caches(tmp_path, method="dis-fast", policy="error"):
    kept = FrameCache(tmp_path / "kept", 32, 16, method, policy)
    return kept, FrameCache(tmp_path / "anew", 32, 16, method, policy, decode_anew=True)


def clips_of(length, num_frames):
    windows = [np.arange(start, start + num_frames) for start in range(max(length - num_frames, 0) + 1)]
    spread = [spread_clip(length, num_frames, np.random.default_rng(seed)) for seed in range(3)]
    return [np.minimum(window, length - 1) for window in windows] + consecutive_clips(length, num_frames) + spread


@pytest.mark.parametrize("method", ["dis-fast", "farneback", None])
@pytest.mark.parametrize("length", [1, 2, 4, 7])
def test_every_clip_is_as_it_is_cut_from_its_tracklet(tmp_path, length, method):
    tracklet = make(tmp_path / "frames", length)
    kept, anew = caches(tmp_path, method)
    for num_frames in (1, 3):
        for frame_indices in clips_of(length, num_frames):
            expected, found = kept.clip(tracklet, frame_indices), anew.clip(tracklet, frame_indices)
            np.testing.assert_array_equal(found[0], expected[0])
            if method is None:
                assert found[1] is expected[1] is None
            else:
                np.testing.assert_array_equal(found[1], expected[1])
                assert found[1].dtype == np.float16
    assert (tmp_path / "kept").exists()
    assert not (tmp_path / "anew").exists()


@pytest.mark.parametrize("damaged", [(0,), (3,), (2, 3), (6,), (0, 1, 2, 3, 5, 6)])
def test_frames_that_cannot_be_read_are_replaced_alike(tmp_path, damaged):
    tracklet = make(tmp_path / "frames", 7, damaged=damaged)
    kept, anew = caches(tmp_path, policy="skip")
    for frame_indices in clips_of(7, 3):
        for one, other in zip(kept.clip(tracklet, frame_indices), anew.clip(tracklet, frame_indices), strict=True):
            np.testing.assert_array_equal(one, other)
    assert kept.replaced == anew.replaced
    assert len(anew.replaced["frames"]) == len(damaged)


def test_of_spread_frames_no_others_are_decoded(tmp_path):
    tracklet = make(tmp_path / "frames", 9, damaged=(2, 3, 6))
    _, anew = caches(tmp_path)
    assert anew.clip(tracklet, np.array([0, 4, 8]))[0].shape == (3, 32, 16, 3)  # and 1, 5 and 7 for the flow
    with pytest.raises(ValueError, match=r"004\.png"):
        anew.clip(tracklet, np.array([0, 3, 8]))


def test_errors_name_the_file(tmp_path):
    tracklet = make(tmp_path / "frames", 4, damaged=(2,))
    with pytest.raises(ValueError, match=r"003.png \(7 bytes\) is no image"):
        caches(tmp_path)[1].clip(tracklet, np.arange(3))
    hopeless = make(tmp_path / "hopeless", 2, damaged=(0, 1))
    with pytest.raises(ValueError, match=r"no frame of the tracklet can be read: .*001.png"):
        caches(tmp_path, policy="skip")[1].clip(hopeless, np.arange(2))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_and_counts_are_the_same(tmp_path, workers):
    tracklets = [make(tmp_path / f"t{seed}", 7, seed, damaged=(seed + 1, 5)) for seed in range(3)]
    array = np.random.default_rng(0).integers(0, 256, (1, 5, 32, 16, 3), dtype=np.uint8)
    np.save(tmp_path / "drawn.npy", array)
    tracklets.append(Tracklet(2, 1, FrameArray(tmp_path / "drawn.npy", 0), "drawn"))  # no image files
    kept, anew = caches(tmp_path, policy="skip")
    loaded = [
        list(load_ahead(batches, range(len(batches)), workers))
        for batches in (TestBatches(tracklets, cache, 3, 2) for cache in (kept, anew))
    ]
    for one, other in zip(*loaded, strict=True):
        np.testing.assert_array_equal(one.clip, other.clip)
        np.testing.assert_array_equal(one.flow, other.flow)
    assert kept.replaced == anew.replaced
    assert kept.describe_replaced() == anew.describe_replaced()
    assert sum(map(len, anew.replaced.values())) == 6


@pytest.mark.slow
def test_training_comes_to_the_same(tmp_path, capsys):
    for person in range(5):
        for camera in "ab":
            make(tmp_path / "mine" / f"p{person}" / camera / "1", 5, 2 * person + (camera == "b"))
    scores = []
    for name, flags in {"kept": [], "anew": ["--decode-anew"]}.items():
        out, cache = tmp_path / name, tmp_path / f"{name}-cache"
        options = ["--preset", "tiny", "--steps", "2", "--out", str(out), "--cache", str(cache)]
        assert main(["train", "--data", f"folder:{tmp_path}/mine", *options, *flags]) == 0
        scores.append(json.loads((out / "metrics.json").read_text()))
    assert scores[0] | {"seconds": 0} == scores[1] | {"seconds": 0}
    assert list((tmp_path / "kept-cache").rglob("*.npy"))
    assert not list((tmp_path / "anew-cache").rglob("*.npy"))
    # and a run can go on the other way
    flags = ["--resume", "--out", str(tmp_path / "kept"), "--steps", "3", "--decode-anew"]
    assert main(["train", *flags]) == 0
