"""Batches: reproducible, complete, the same from workers as without them, and their errors name the file."""

import os
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from backbone.data.cache import FrameCache
from backbone.data.clips import IdentitySampler
from backbone.data.loader import ClipBatch, TestBatches, TrainingBatches, load_ahead
from backbone.data.tracklet import FrameFiles, Tracklet
from backbone.data.transforms import AugmentConfig, mirror

HEIGHT, WIDTH = 32, 16
LENGTHS = (7, 3, 6, 9)
PLAIN = AugmentConfig(mirror_probability=0, erase_probability=0)


@pytest.fixture(scope="module")
def tracklets(tmp_path_factory) -> list[Tracklet]:
    """Persons 4, 4, 9, 9; a frame's colour is (20 * tracklet + frame); boxes for all but nobody."""
    folder, made = tmp_path_factory.mktemp("images"), []
    for number, length in enumerate(LENGTHS):
        paths = tuple(folder / f"{number}-{frame}.png" for frame in range(length))
        for frame, path in enumerate(paths):
            cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), 20 * number + frame, dtype=np.uint8))
        boxes = np.tile(np.array([0.25, 0.5, 0.5, 0.75], np.float32), (length, 1))
        boxes[0] = np.nan
        made.append(Tracklet(4 + 5 * (number // 2), number % 2, FrameFiles(paths), f"t{number}", boxes))
    return made


@pytest.fixture
def cache(tmp_path) -> FrameCache:
    return FrameCache(tmp_path, HEIGHT, WIDTH, "dis-fast")


def training(tracklets, cache, seed: int = 0, augment: AugmentConfig | None = None) -> TrainingBatches:
    return TrainingBatches(tracklets, cache, IdentitySampler(tracklets, 2, 2, 4, seed), augment or AugmentConfig())


def colours(batch: ClipBatch) -> list[list[int]]:
    return batch.clip[:, :, 0, 0, 0].tolist()


def assert_same(one: ClipBatch, other: ClipBatch) -> None:
    assert vars(one).keys() == vars(other).keys()
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)


def test_test_batches_hold_each_frame_once_and_padding(tracklets, cache):
    batches = TestBatches(tracklets, cache, num_frames=4, clips_per_batch=3)
    assert len(batches) == 3  # 2 + 1 + 2 + 3 clips
    loaded = [batches[number] for number in range(len(batches))]
    assert [len(batch.source) for batch in loaded] == [3, 3, 2]
    assert [row for batch in loaded for row in colours(batch)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 6],
        [20, 21, 22, 22],
        [40, 41, 42, 43],
        [44, 45, 45, 45],
        [60, 61, 62, 63],
        [64, 65, 66, 67],
        [68, 68, 68, 68],
    ]
    assert torch.cat([batch.person for batch in loaded]).tolist() == [4, 4, 4, 9, 9, 9, 9, 9]
    assert torch.cat([batch.tracklet for batch in loaded]).tolist() == [0, 0, 1, 2, 2, 3, 3, 3]
    assert loaded[2].source == ["t3", "t3"]


def test_types_shapes_and_boxes_in_pixels(tracklets, cache):
    batch = TestBatches(tracklets, cache, 4, 3)[0]
    assert (batch.clip.dtype, tuple(batch.clip.shape)) == (torch.uint8, (3, 4, HEIGHT, WIDTH, 3))
    assert (batch.flow.dtype, tuple(batch.flow.shape)) == (torch.float16, (3, 4, HEIGHT, WIDTH, 2))
    assert (batch.person.dtype, batch.tracklet.dtype) == (torch.int64, torch.int64)
    assert batch.truth_boxes.dtype == np.float32
    assert np.isnan(batch.truth_boxes[0, 0]).all()
    np.testing.assert_allclose(batch.truth_boxes[1], np.tile([4, 16, 8, 24], (4, 1)))


def test_flow_belongs_to_the_clip(tracklets, cache, monkeypatch):
    monkeypatch.setattr(  # map number i is full of i
        FrameCache,
        "flow",
        lambda self, one: np.ones((len(one), HEIGHT, WIDTH, 2)) * np.arange(len(one))[:, None, None, None],
    )
    maps = TestBatches(tracklets, cache, 4, 8)[0].flow[:, :, 0, 0, 0].tolist()
    assert maps[:3] == [[0, 1, 2, 2], [4, 5, 5, 5], [0, 1, 1, 1]]


def test_without_flow_and_without_truth(tracklets, tmp_path):
    unknown = Tracklet(1, 0, tracklets[0].frames, "no truth")
    batch = TestBatches([*tracklets, unknown], FrameCache(tmp_path, HEIGHT, WIDTH, None), 4, 20)[0]
    assert batch.flow is None
    assert batch.truth_boxes is None


def test_training_batch_is_what_the_sampler_drew(tracklets, cache):
    batches = training(tracklets, cache, augment=PLAIN)
    drawn = batches.sampler.batch(3)
    batch = batches[3]
    assert colours(batch) == [[20 * index + frame for frame in frames] for index, frames in drawn]
    assert batch.tracklet.tolist() == [index for index, _ in drawn]
    assert batch.person.tolist() == [tracklets[index].person for index, _ in drawn]
    assert sorted(batch.person.tolist()) == [4, 4, 9, 9]


def test_training_batch_is_a_function_of_seed_and_step(tracklets, cache, tmp_path):
    first = training(tracklets, cache)
    again = training(tracklets, FrameCache(tmp_path / "other", HEIGHT, WIDTH, "dis-fast"))
    first[0]
    assert_same(first[5], again[5])
    assert not torch.equal(first[5].clip, first[6].clip)
    assert not torch.equal(first[5].clip, training(tracklets, cache, seed=1)[5].clip)


def test_training_augments_clip_flow_and_boxes_alike(tracklets, cache):
    plain = training(tracklets, cache, augment=PLAIN)[0]
    mirrored = training(tracklets, cache, augment=AugmentConfig(mirror_probability=1, erase_probability=0))[0]
    shares = plain.truth_boxes / [WIDTH, HEIGHT, WIDTH, HEIGHT]
    for row in range(4):
        clip, flow, boxes = mirror(plain.clip[row].numpy(), plain.flow[row].numpy(), shares[row])
        np.testing.assert_array_equal(mirrored.clip[row], clip)
        np.testing.assert_array_equal(mirrored.flow[row], flow)
        np.testing.assert_allclose(mirrored.truth_boxes[row], boxes * [WIDTH, HEIGHT, WIDTH, HEIGHT], rtol=1e-5)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_same_batches(tracklets, cache, workers):
    batches = training(tracklets, cache)
    loaded = list(load_ahead(batches, range(2, 7), workers))
    assert len(loaded) == 5
    for number, batch in enumerate(loaded, start=2):
        assert_same(batch, batches[number])


def test_no_batches_and_no_workers(tracklets, cache):
    batches = TestBatches(tracklets, cache, 4, 3)
    assert list(load_ahead(batches, range(0), 2)) == []
    assert [len(batch.person) for batch in load_ahead(batches, range(3), 0)] == [3, 3, 2]


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_leaves_pytorchs_generator_alone(tracklets, cache, workers):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(load_ahead(TestBatches(tracklets, cache, 4, 3), range(3), workers))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named(tracklets, cache, tmp_path, workers):
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(tracklets[0].frames.paths[0]).read_bytes()[:60])
    damaged = Tracklet(4, 0, FrameFiles((*tracklets[0].frames.paths, broken)), "damaged")
    loaded = load_ahead(TestBatches([tracklets[1], damaged], cache, 4, 1), range(4), workers)
    assert next(loaded).source == ["t1"]
    with pytest.raises(ValueError, match=rf"^{broken} .*it is truncated"):
        next(loaded)


@pytest.mark.parametrize("has_flow", [True, False])
def test_pinned_batch_is_the_same_batch(tracklets, tmp_path, monkeypatch, has_flow):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor.clone())
    batch = TestBatches(tracklets, FrameCache(tmp_path, HEIGHT, WIDTH, "none" if has_flow else None), 4, 3)[0]
    assert_same(batch.pin_memory(), batch)
    assert len(pinned) == 1 + has_flow


@pytest.mark.parametrize("room", [0, 10**6])
def test_what_is_kept_in_memory_is_opened_once(tracklets, cache, monkeypatch, room):
    monkeypatch.setattr("backbone.data.loader.KEPT_BYTES", room)
    for tracklet in tracklets:
        cache.flow(tracklet)  # which looks at the frames the first time
    opened = []
    frames = cache.frames
    monkeypatch.setattr(cache, "frames", lambda tracklet: opened.append(tracklet.source) or frames(tracklet))
    batches = TestBatches(tracklets, cache, 4, 3)
    for _ in range(2):
        for number in range(len(batches)):
            batch = batches[number]
            for row, (index, frame_indices) in enumerate(batches.clips(number)):
                np.testing.assert_array_equal(batch.clip[row], frames(tracklets[index])[frame_indices])
    assert len(opened) == (len(tracklets) if room else 2 * len(batches.all_clips))


class Dying(TestBatches):
    """Batches whose worker is killed, or never gets on."""

    def __getitem__(self, number):
        if self.end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.end == "waiting":
            time.sleep(60)
        raise RuntimeError("a mistake of the program")


@pytest.mark.parametrize(
    ("end", "error", "message"),
    [
        ("killed", OSError, r"was killed, or gives nothing .*df -h /dev/shm.*--load\.workers 0"),
        ("waiting", OSError, r"was killed, or gives nothing \(DataLoader timed out after 1 seconds\)"),
        ("mistaken", RuntimeError, "a mistake of the program"),
    ],
)
def test_what_became_of_the_workers_is_said(tracklets, cache, monkeypatch, end, error, message):
    monkeypatch.setattr("backbone.data.loader.LONGEST_WAIT", 1)
    batches = Dying(tracklets, cache, 4, 3)
    batches.end = end
    with pytest.raises(error, match=message):
        next(load_ahead(batches, range(2), 1))


def test_ranks_have_parts_of_one_batch(tracklets, cache):
    whole, *parts = [training(tracklets, cache) for _ in range(3)]
    for number, part in enumerate(parts):
        part.place = number, 2
    clips, of_ranks = whole.clips(3), [*parts[0].clips(3), *parts[1].clips(3)]
    assert [(row, frames.tolist()) for row, frames in of_ranks] == [
        (row, frames.tolist()) for row, frames in clips
    ]
    drawn = [batches.augmentation(3)[1].random() for batches in (whole, *parts)]
    assert drawn[0] == drawn[1] != drawn[2]
