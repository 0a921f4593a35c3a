"""Videos that are folders of images: as MOT has them, read as the film of the same frames, and what is wrong."""

import os
import re

import cv2
import numpy as np
import pytest

from backbone.data import DataConfig, images
from backbone.data.images import images_in, read_sequence
from backbone.data.source import read_source
from scripts.cli import main

INFO = "[Sequence]\nname=MOT\nimDir=frames\nframeRate=25\nseqLength={}\nimWidth=64\nimHeight=48\nimExt=.png\n"


@pytest.fixture
def sequence(tmp_path):
    """A MOT sequence of 20 frames whose track misses every fifth one."""
    folder = tmp_path / "MOT"
    (folder / "frames").mkdir(parents=True)
    (folder / "gt").mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), dtype=np.uint8)
    for number, picture in enumerate(pictures, 1):
        cv2.imwrite(str(folder / "frames" / f"{number:06d}.png"), picture)
    (folder / "frames" / "000001.jpg").touch()  # of another ending
    (folder / "seqinfo.ini").write_text(INFO.format(20))
    rows = [f"{frame},7,{frame},4,20,30,1" for frame in range(1, 21) if frame % 5]
    (folder / "gt" / "gt.txt").write_text("\n".join(rows))
    return folder, pictures[:, :, :, ::-1]


def cut(folder, out, *more):
    return main(
        [
            "data",
            "cut",
            "--video",
            str(folder),
            "--tracks",
            str(folder / "gt" / "gt.txt"),
            "--out",
            str(out),
            *more,
        ]
    )


def test_a_sequence_is_cut_and_described_as_a_video_is(sequence, tmp_path, capsys):
    folder, pictures = sequence
    assert cut(folder, tmp_path / "out") == 2  # runs of four frames
    assert "no tracklet remains" in capsys.readouterr().err
    assert cut(folder, tmp_path / "out", "--bridge-gaps", "1") == 0
    printed = capsys.readouterr().out
    assert "1 tracklets,\n19 frames of the 16 boxes" in printed
    assert "3 x box put into a gap of at most 1 frames: person 7, frame 5, " in printed
    written = sorted((tmp_path / "out").rglob("*.png"))
    (one,) = read_source(f"video:{folder},{folder}/gt/gt.txt", "test", DataConfig(bridge_gaps=1), tmp_path)
    for number, (path, crop) in enumerate(zip(written, one.frames.read(), strict=True)):
        expected = pictures[number, 4:34, number + 1 : number + 21]
        np.testing.assert_array_equal(crop, expected)
        np.testing.assert_array_equal(cv2.imread(str(path))[:, :, ::-1], expected)


def test_the_key_is_of_the_images(sequence, tmp_path):
    folder, pictures = sequence
    spec = f"video:{folder},{folder}/gt/gt.txt"

    def keys():
        return [one.frames.key for one in read_source(spec, "test", DataConfig(), tmp_path)]

    before = keys()
    cv2.imwrite(str(folder / "frames" / "000003.png"), pictures[0] // 2)
    assert [old == new for old, new in zip(before, keys(), strict=True)] == [False, True, True, True]


def test_a_folder_is_listed_once_until_it_changes(sequence, monkeypatch):
    folder, _ = sequence
    before, listed = read_sequence(folder), []
    monkeypatch.setattr(images, "images_in", lambda *given: listed.append(given) or images_in(*given))
    assert read_sequence(folder) == before
    assert not listed
    os.remove(before.paths[-1])
    assert read_sequence(folder).paths == before.paths[:-1]
    assert len(listed) == 1


def test_a_folder_alone_is_a_video(sequence):
    folder, _ = sequence
    (folder / "frames" / "000001.jpg").unlink()
    inside = folder / "frames"
    assert read_sequence(inside).paths == read_sequence(folder).paths == tuple(sorted(inside.iterdir()))
    (folder / "seqinfo.ini").unlink()
    inside.rename(folder / "img1")
    assert [path.name for path in read_sequence(folder).paths][:2] == ["000001.png", "000002.png"]


def test_frames_that_are_promised_and_missing_are_told(sequence, tmp_path, capsys):
    folder, _ = sequence
    (folder / "seqinfo.ini").write_text(INFO.format(21))
    assert cut(folder, tmp_path / "out", "--min-frames", "4") == 0
    assert "1 x video frame that the header promises" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda at: (at / "frames" / "000004.png").unlink(), "frame 4, before .*000005.png, is missing"),
        (lambda at: (at / "frames" / "last.png").touch(), "last.png is not numbered"),
        (
            lambda at: cv2.imwrite(str(at / "frames" / "000003.png"), np.zeros((8, 8, 3))),
            "3.png is of another size",
        ),
        (lambda at: (at / "frames" / "000003.png").write_bytes(b""), "3.png .* is no image"),
        (
            lambda at: (at / "seqinfo.ini").write_text("imDir=frames"),
            "seqinfo.ini can't be read: File contains no",
        ),
        (lambda at: (at / "seqinfo.ini").write_text(INFO.format("many")), "seqinfo.ini can't be read: invalid"),
        (
            lambda at: (at / "seqinfo.ini").write_text("[Sequence]\nimDir=../MOT/frames"),
            "says imDir=../MOT/frames",
        ),
        (lambda at: (at / "seqinfo.ini").write_text("[Sequence]\nimDir=gt"), "gt holds no images"),
    ],
)
def test_what_is_wrong_is_named(sequence, tmp_path, capsys, spoil, words):
    folder, _ = sequence
    spoil(folder)
    assert cut(folder, tmp_path / "out") == 2
    assert re.search(words, capsys.readouterr().err)
