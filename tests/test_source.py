"""Where tracklets to be described come from: each form of a spec, its names, and what is wrong with others."""

import dataclasses
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from backbone.data import DATASETS, DataConfig, ReidData
from backbone.data.cache import FrameCache
from backbone.data.cut import cut_video
from backbone.data.fill import fill_from_videos
from backbone.data.sets.folder import read_folder
from backbone.data.sets.synthetic import SyntheticConfig
from backbone.data.source import read_source
from backbone.data.spec import parse_spec
from backbone.data.tracklet import JUNK, UNKNOWN, Tracklet

PETS = Path(__file__).parent.parent.parent / "shared" / "data" / "pets2009_s2l1"
TINY = DataConfig(
    synthetic=SyntheticConfig(
        num_train_people=3, num_test_people=4, num_frames=4, height=32, width=16, tracklets_per_camera=1
    )
)


def frames(folder, names):
    folder.mkdir(parents=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.zeros((8, 4, 3), np.uint8))


def read(spec, part="test", tmp=Path("unused")):
    return read_source(spec, part, TINY, tmp)


def test_parts_of_a_data_set(tmp_path):
    counts = {
        part: len(read("synthetic", part, tmp_path)) for part in ("query", "gallery", "test", "train", "all")
    }
    assert counts == {"query": 4, "gallery": 4, "test": 8, "train": 6, "all": 14}
    people = {one.person for one in read("synthetic", "train", tmp_path)}
    assert people.isdisjoint(one.person for one in read("synthetic", "test", tmp_path))


def test_a_folder_has_everybody_whatever_the_part(tmp_path):
    for person in ("ann", "bob"):
        frames(tmp_path / "mine" / person / "cam1" / "1", ["1.png"])
    for part in ("train", "query"):
        found = read(f"folder:{tmp_path}/mine", part)
        assert [one.person_name for one in found] == ["ann", "bob"]


def test_folders_of_frames_are_of_nobody_known(tmp_path):
    frames(tmp_path / "lost" / "child", ["2.png", "10.png", "1.png"])
    frames(tmp_path / "lost" / "dog", ["1.jpg"])
    (one,) = read(str(tmp_path / "lost" / "child"))
    assert [path.name for path in one.frames.paths] == ["1.png", "2.png", "10.png"]
    assert (one.person, one.source, one.person_name) == (UNKNOWN, "child", "")
    assert [one.source for one in read(str(tmp_path / "lost"))] == ["child", "dog"]


def test_a_video_with_tracks(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    pictures = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), dtype=np.uint8)
    for picture in pictures:
        writer.write(picture)
    writer.release()
    rows = [f"{frame},7,{frame},4,20,30" for frame in (*range(1, 21), *range(25, 31))]
    rows += [f"{frame},9,30,10,16,24" for frame in range(5, 9)]
    (tmp_path / "gt.txt").write_text("\n".join(rows))
    spec = f"video:{tmp_path}/v.avi,{tmp_path}/gt.txt"
    found = read(spec)
    # whole tracks, in two parts only where frames are missing; one camera
    assert [(one.person, one.camera, one.frames.start, len(one)) for one in found] == [
        (7, 1, 0, 20),
        (7, 1, 24, 6),
        (9, 1, 4, 4),
    ]
    assert len({one.source for one in found}) == 3
    assert re.fullmatch("v.avi [0-9a-f]{4} 9", found[2].person_name)

    cut_video(tmp_path / "v.avi", tmp_path / "gt.txt", tmp_path / "cut", min_frames=3)
    cut = read_folder(tmp_path / "cut")
    # ids of a tracker, of which other videos have the same
    names = {one.person_name for one in cut}
    assert names == {one.person_name for one in found}
    (tmp_path / "other.txt").write_text((tmp_path / "gt.txt").read_text())
    others = read(f"video:{tmp_path}/v.avi,{tmp_path}/other.txt")
    assert names.isdisjoint(one.person_name for one in others)

    together, apart = FrameCache(tmp_path / "a", 32, 16, None), FrameCache(tmp_path / "b", 32, 16, None)
    fill_from_videos(together, found)
    for one in found:
        assert together.has_frames(one)
        np.testing.assert_array_equal(together.frames(one), apart.frames(one))
    said = []
    rows.append("40,7,1,1,20,30")  # beyond the video's end
    (tmp_path / "gt.txt").write_text("\n".join([*rows, "no row"]))
    assert len(read_source(spec, "test", TINY, tmp_path, log_line=said.append)) == 3
    assert [line.split(": ")[0] for line in said] == [f"{tmp_path}/gt.txt", f"{tmp_path}/v.avi"]
    assert "1 x row with fewer than 6 columns (line 32)" in said[0]
    assert "1 x box in a frame beyond the video's end (person 7, frame 40)" in said[1]
    fill_from_videos(together, found, progress=lambda *_: pytest.fail("nothing is left to decode"))


@pytest.mark.slow
@pytest.mark.skipif(not PETS.is_dir(), reason="the real video is not here")
def test_the_real_video():
    found = read(f"video:{PETS}/view1.avi,{PETS}/gt.txt")
    assert len({one.person for one in found}) == 19
    assert sum(map(len, found)) == 4650


def test_names_of_people(tmp_path, monkeypatch):
    junk, known = Tracklet(JUNK, 1, None, "any/3"), Tracklet(12, 1, None, "any/4")
    mars = dataclasses.replace(DATASETS["mars"], read=lambda *_: ReidData("mars", [], [known], [junk, known]))
    monkeypatch.setitem(DATASETS, "mars", mars)
    assert [one.person_name for one in read("mars:/data")] == ["mars 12", "mars junk"]


def test_specs_become_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for text, expected in {
        "synthetic": "synthetic",
        "folder:a": f"folder:{tmp_path}/a",
        "folder:a@split_seed=1": f"folder:{tmp_path}/a",
        "video:a.avi,b.txt": f"video:{tmp_path}/a.avi,{tmp_path}/b.txt",
        "a": f"{tmp_path}/a",
    }.items():
        assert parse_spec(text).absolute() == expected


def test_mistakes_are_explained(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").touch()
    (tmp_path / "tree" / "0001" / "cam1").mkdir(parents=True)
    for spec, words in {
        "nowhere": "no tracklets at 'nowhere'; possible are a data set",
        "marz:/data": "no tracklets at 'marz:/data'; possible are",
        "mars": "the data needs a directory",
        "video:a.avi": "write video:VIDEO,TRACKS",
        str(tmp_path / "empty"): "empty is empty",
        str(tmp_path / "text"): "a.txt is no image file",
        str(tmp_path / "tree"): "tree holds folders of folders: write folder:/",
    }.items():
        with pytest.raises(ValueError, match=words):
            read(spec)
    with pytest.raises(ValueError, match="unknown part 'half'; known: test, query"):
        read("synthetic", "half")
