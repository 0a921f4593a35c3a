"""The cache: a second look decodes nothing, damage heals, and the key knows what the content depends on."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from backbone.data import cache as module
from backbone.data.cache import FrameCache, default_cache
from backbone.data.tracklet import FrameArray, FrameFiles, Tracklet
from backbone.flow import FLOW_METHODS, optical_flow

RNG = np.random.default_rng(0)


@dataclass
class CountedFrames:
    """Frames in memory that count how often they are decoded."""

    images: np.ndarray
    key: str = "a"
    reads: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)

    def read(self) -> Iterator[np.ndarray]:
        self.reads.append(1)
        yield from self.images


def make(images: np.ndarray | None = None, key: str = "a") -> tuple[Tracklet, list[int]]:
    images = RNG.integers(0, 256, (3, 40, 20, 3), dtype=np.uint8) if images is None else images
    frames = CountedFrames(images, key)
    return Tracklet(0, 0, frames, "here"), frames.reads


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_second_look_decodes_nothing(tmp_path):
    tracklet, reads = make()
    first = [FrameCache(tmp_path, 32, 16, "dis-fast").frames(tracklet) for _ in range(3)]
    flows = [FrameCache(tmp_path, 32, 16, "dis-fast").flow(tracklet) for _ in range(2)]
    assert len(reads) == 1
    assert isinstance(first[1], np.memmap)
    assert (first[0].shape, first[0].dtype) == ((3, 32, 16, 3), np.uint8)
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(*flows)


def test_flow_is_computed_once(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "optical_flow", lambda *given: calls.append(1) or optical_flow(*given))
    tracklet, _ = make()
    for _ in range(3):
        FrameCache(tmp_path, 32, 16, "farneback").flow(tracklet)
    assert len(calls) == 1


@pytest.mark.parametrize("method", ["dis-fast", "none"])
def test_flow_is_that_of_the_resized_frames_within_float16(tmp_path, method):
    tracklet, _ = make(
        cv2.GaussianBlur(RNG.integers(0, 256, (160, 20, 3), dtype=np.uint8), (0, 0), 2).reshape(4, 40, 20, 3)
    )
    cache = FrameCache(tmp_path, 32, 16, method)
    exact = optical_flow(cache.frames(tracklet), method)
    flow = cache.flow(tracklet)
    assert (flow.shape, flow.dtype) == ((4, 32, 16, 2), np.float16)
    np.testing.assert_allclose(flow, exact, rtol=2**-11, atol=1e-6)
    np.testing.assert_array_equal(flow[3], flow[2])


def test_what_float16_does_to_flow(tmp_path, monkeypatch):
    """Half of the step between its numbers: 2^-11 of the value, and 2^-25 px where these are 2^-24 px apart."""
    middles = [1 + 2.0**-11, 16 + 2.0**-7, 32 - 2.0**-7, 256 - 2.0**-4, 2.0**-14 - 2.0**-25, 2.0**-25]
    powers = 2.0 ** RNG.uniform(-30, np.log2(65504), 20_000 - len(middles) - 2)
    exact = np.concatenate([middles, [0, 65504], powers]).astype(np.float32) * RNG.choice([-1, 1], 20_000)
    exact = exact.astype(np.float32).reshape(2, 100, 50, 2)
    monkeypatch.setitem(FLOW_METHODS, "known", lambda frames: exact)
    tracklet, _ = make(np.zeros((3, 100, 50, 3), np.uint8))
    cache = FrameCache(tmp_path, 100, 50, "known")
    kept = cache.flow(tracklet)
    assert kept.dtype == np.float16
    np.testing.assert_array_equal(kept[2], kept[1])
    np.testing.assert_array_equal(kept, cache.flow(tracklet))  # from the file

    size, error = np.abs(exact), np.abs(kept[:2].astype(np.float64) - exact)
    assert (error <= np.maximum(2.0**-11 * size, 2.0**-25)).all()
    # No bound can be smaller.
    assert (error / np.maximum(size, 2.0**-14)).max() > 0.999 * 2.0**-11
    for below, bound in {2.0**-14: 2.0**-25, 32: 1 / 128, 256: 1 / 16}.items():
        assert error[size < below].max() == bound
    assert np.abs(kept).max() == 65504


def test_shrinking_averages_the_area(tmp_path):
    image = np.array([[0, 10, 100, 100], [20, 30, 100, 200]], dtype=np.uint8)
    tracklet, _ = make(np.repeat(image[None, :, :, None], 3, axis=3))
    assert FrameCache(tmp_path, 1, 2, None).frames(tracklet)[0, :, :, 0].tolist() == [[15, 125]]


def test_enlarging_interpolates(tmp_path):
    image = np.array([[0, 200], [0, 200]], dtype=np.uint8)
    tracklet, _ = make(np.repeat(image[None, :, :, None], 3, axis=3))
    assert FrameCache(tmp_path, 4, 4, None).frames(tracklet)[0, 2, :, 1].tolist() == [0, 50, 150, 200]


@pytest.mark.parametrize("damage", ["cut", "cut header", "empty", "text", "longer claim"])
def test_a_damaged_file_is_made_again(tmp_path, damage):
    tracklet, reads = make()
    cache = FrameCache(tmp_path, 32, 16, None)
    expected = cache.frames(tracklet).copy()
    (path,) = files(tmp_path)
    content = path.read_bytes()
    broken = {
        "cut": content[:-1],
        "cut header": content[:20],
        "empty": b"",
        "text": b"no array at all",
        "longer claim": content.replace(b"(3, 32", b"(9, 32"),
    }
    path.write_bytes(broken[damage])
    np.testing.assert_array_equal(cache.frames(tracklet), expected)
    assert len(reads) == 2
    assert path.read_bytes() == content
    assert files(tmp_path) == [path]


def test_the_key_knows_source_size_and_method(tmp_path):
    tracklet, reads = make()
    other, other_reads = make(key="b")
    for height, width in ((32, 16), (16, 32)):
        FrameCache(tmp_path, height, width, None).frames(tracklet)
    assert (len(reads), len(files(tmp_path))) == (2, 2)
    for method in ("dis-fast", "farneback", "none"):
        FrameCache(tmp_path, 32, 16, method).flow(tracklet)
    assert (len(reads), len(files(tmp_path))) == (2, 5)
    FrameCache(tmp_path, 32, 16, None).frames(other)
    assert (len(other_reads), len(files(tmp_path))) == (1, 6)


def test_a_changed_image_is_decoded_again(tmp_path):
    path = tmp_path / "0.png"
    cache = FrameCache(tmp_path / "cache", 8, 8, None)
    for level in (10, 200):
        cv2.imwrite(str(path), np.full((8, 8, 3), level, dtype=np.uint8))
        os.utime(path, ns=(level, level))
        assert cache.frames(Tracklet(0, 0, FrameFiles((path,)), "here"))[0, 0, 0, 0] == level


def test_drawn_frames_of_the_right_size_are_not_copied(tmp_path):
    data = RNG.integers(0, 256, (2, 3, 32, 16, 3), dtype=np.uint8)
    np.save(tmp_path / "frames.npy", data)
    tracklet = Tracklet(0, 0, FrameArray(tmp_path / "frames.npy", 1), "here")
    np.testing.assert_array_equal(FrameCache(tmp_path / "cache", 32, 16, None).frames(tracklet), data[1])
    assert not files(tmp_path / "cache")
    assert FrameCache(tmp_path / "cache", 16, 8, None).frames(tracklet).shape == (3, 16, 8, 3)
    assert len(files(tmp_path / "cache")) == 1


def test_a_damaged_image_is_named_and_nothing_is_kept(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    tracklet = Tracklet(0, 0, FrameFiles((tmp_path / "broken.png",)), "here")
    with pytest.raises(ValueError, match=r"broken\.png"):
        FrameCache(tmp_path / "cache", 8, 8, "none").flow(tracklet)
    assert not files(tmp_path / "cache")


def test_a_tracklet_without_frames_is_named(tmp_path):
    with pytest.raises(ValueError, match="tracklet here has no frames"):
        FrameCache(tmp_path, 8, 8, None).frames(make(np.zeros((0, 8, 8, 3), np.uint8))[0])


def test_no_flow_without_a_method(tmp_path):
    with pytest.raises(ValueError, match="without a flow method"):
        FrameCache(tmp_path, 8, 8, None).flow(make()[0])


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(file, array):
        file.write(b"half")
        raise KeyboardInterrupt

    tracklet, _ = make()
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            FrameCache(tmp_path, 8, 8, None).frames(tracklet)
    assert not files(tmp_path)


def test_writers_at_once_leave_one_file(tmp_path):
    together = threading.Barrier(4, timeout=10)

    class SlowFrames(CountedFrames):
        def read(self) -> Iterator[np.ndarray]:
            together.wait()  # nobody has written when all four have found nothing
            return super().read()

    tracklet = Tracklet(0, 0, SlowFrames(RNG.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)), "here")
    found: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: found.append(FrameCache(tmp_path, 8, 8, None).frames(tracklet)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert [path.suffix for path in files(tmp_path)] == [".npy"]
    np.testing.assert_array_equal(np.load(files(tmp_path)[0]), tracklet.frames.images)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"A3D_CACHE": "/x", "XDG_CACHE_HOME": "/y"}, "/x"),
        ({"XDG_CACHE_HOME": "/y"}, "/y/a3d"),
        ({"A3D_CACHE": "", "XDG_CACHE_HOME": ""}, "/home/z/.cache/a3d"),
    ],
)
def test_where_the_cache_is(monkeypatch, variables, expected):
    for name in ("A3D_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/z"} | variables).items():
        monkeypatch.setenv(name, value)
    assert default_cache() == Path(expected)


@pytest.mark.parametrize("place", [-30, 200])
def test_a_flipped_bit_in_frames_or_flow_is_found_when_read_and_made_anew(place, tmp_path, caplog):
    tracklet, _ = make()
    expected = FrameCache(tmp_path, 32, 16, "dis-fast").flow(tracklet).copy()
    contents = {path: path.read_bytes() for path in files(tmp_path)}
    assert len(contents) == 2
    for path, content in contents.items():
        path.unlink()
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
    cache = FrameCache(tmp_path, 32, 16, "dis-fast")
    np.testing.assert_array_equal(cache.flow(tracklet), expected)
    assert {path: path.read_bytes() for path in contents} == contents
    assert all(f"{path} is damaged, and made anew" in caplog.text for path in contents)
