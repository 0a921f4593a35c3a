"""PRID-2011, iLIDS-VID and MARS: layouts as published, with one tiny image under every name."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
import torch

from agents.runs.model import load_model
from agents.runs.scoring import describe_search, retrieve, searched_tracklets
from backbone.data import DATASETS, DataConfig, load_data
from backbone.data.sets.ilids import read_ilids
from backbone.data.sets.listings import NamedFrames
from backbone.data.sets.mars import MarsCounts, read_mars
from backbone.data.sets.prid import EXCLUDED, built_in_splits, read_prid
from scripts.cli import main

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not (SHARED / "mars_info").is_dir(), reason="the official tables are not here")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "one.png"
    cv2.imwrite(str(path), np.full((8, 4, 3), 90, dtype=np.uint8))
    return path


def fill(folder, names, image):
    folder.mkdir(parents=True)
    for name in names:
        os.link(image, folder / name)


@pytest.fixture(scope="module")
def prid(tmp_path_factory, image):
    root = tmp_path_factory.mktemp("prid")
    for camera, people in (("cam_a", 203), ("cam_b", 202)):
        for person in range(1, people + 1):
            short = person in EXCLUDED and camera == "cam_b"
            names = [f"{frame:04d}.png" for frame in range(1, 27 if short else 28)]
            fill(root / "prid_2011" / "multi_shot" / camera / f"person_{person:04d}", names, image)
    return root


@pytest.fixture(scope="module")
def ilids(tmp_path_factory, image):
    root = tmp_path_factory.mktemp("ilids")
    numbers = [number for number in range(1, 320) if number % 16][:300]  # gaps, as published
    for camera in ("cam1", "cam2"):
        for person in numbers:
            # out of order as text: 9 comes before 10
            names = [f"{camera}_person{person:03d}_{frame}.png" for frame in range(1, 23)]
            fill(root / "i-LIDS-VID" / "sequences" / camera / f"person{person:03d}", names, image)
    rows = np.stack([np.random.default_rng(split).permutation(300) + 1 for split in range(10)]).astype(np.float64)
    (root / "train-test people splits").mkdir()
    scipy.io.savemat(root / "train-test people splits" / "train_test_splits_ilidsvid.mat", {"ls_set": rows})
    return root, numbers, rows.astype(int)


# 2 training people; test: 1 track of junk, 2 distractors, persons 2 and 4, of whom 2 is asked for by two cameras.
TRACKS = {
    "train": [(1, 1, 3), (1, 2, 2), (3, 1, 2)],
    "test": [(-1, 1, 2), (0, 1, 2), (0, 2, 1), (2, 1, 3), (2, 1, 2), (2, 2, 2), (4, 6, 2)],
}
COUNTS = MarsCounts(
    train_names=7, test_names=14, train_tracks=3, test_tracks=7, queries=2, train_people=2, junk_tracks=1,
    distractor_tracks=2, query_people=1, test_people=2,
)  # fmt: skip


def names_of(tracks):
    """Make the names that a table (person, camera, frames) asks for, in order."""
    names, seen = [], {}
    for person, camera, count in tracks:
        number = seen[person, camera] = seen.get((person, camera), 0) + 1
        code = "00-1" if person == -1 else f"{person:04d}"
        names.append([f"{code}C{camera}T{number:04d}F{frame:03d}.jpg" for frame in range(1, count + 1)])
    return names


@pytest.fixture
def mars(tmp_path, image):
    (tmp_path / "info").mkdir()
    for half, tracks in TRACKS.items():
        names = names_of(tracks)
        ends = np.cumsum([len(one) for one in names])
        rows = [
            (end - len(one) + 1, end, person, camera)
            for end, one, (person, camera, _) in zip(ends, names, tracks, strict=True)
        ]
        table = np.array(rows, dtype=np.int32)
        scipy.io.savemat(tmp_path / "info" / f"tracks_{half}_info.mat", {f"track_{half}_info": table})
        text = "".join(f"{name}\r\n" for one in names for name in one)
        (tmp_path / "info" / f"{half}_name.txt").write_bytes(text.encode())
        for name in text.split():
            (tmp_path / f"bbox_{half}" / name[:4]).mkdir(parents=True, exist_ok=True)
            os.link(image, tmp_path / f"bbox_{half}" / name[:4] / name)
    scipy.io.savemat(tmp_path / "info" / "query_IDX.mat", {"query_IDX": np.array([[4, 6]], dtype=np.uint16)})
    return tmp_path


def test_prid_is_read_as_published(prid):
    halves = read_prid(prid, split=3)
    assert (len(halves.train), len(halves.query), len(halves.gallery)) == (178, 89, 89)
    train = {tracklet.person for tracklet in halves.train}
    assert sorted(train) == built_in_splits()[3]
    assert [one.person for one in halves.query] == [one.person for one in halves.gallery]
    assert not train & {one.person for one in halves.query}
    assert {one.camera for one in halves.query} == {0}
    assert {one.camera for one in halves.gallery} == {1}
    assert all(one.source == f"prid/{one.name}" for one in halves.gallery)
    assert [path.name for path in halves.query[0].frames.paths[:2]] == ["0001.png", "0002.png"]


@needs_shared
def test_prids_splits_are_the_published_ones():
    published = json.loads((SHARED / "prid_splits.json").read_text())
    for own, one in zip(built_in_splits(), published, strict=True):
        assert [f"person_{person:04d}" for person in own] == sorted(one["train"])
        rest = set(range(1, 201)) - EXCLUDED - set(own)
        assert sorted(f"person_{person:04d}" for person in rest) == sorted(one["test"])


@pytest.mark.slow
def test_trained_on_a_split_of_ilids_tested_on_that_of_prid(prid, ilids, tmp_path, capsys, runs_here):
    specs = ["--train", f"ilids:{ilids[0]}", "--test", f"prid:{prid}"]
    size = ["--load.height", "16", "--load.width", "8"]
    flags = [*size, "--preset", "tiny", "--steps", "1", "--attention.num-glimpses", "0", "--backbone.flow", "None"]
    with runs_here():
        assert main(["evaluate", "--splits", "9", *specs, *flags, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "prid, scoring standard: 89 queries, gallery 89 tracklets of 89 people" in printed
    # one picture for everybody: all are at one distance, and ties count against the match
    assert printed.count("0.0       0.0       0.0       0.0       1.1       1.1") == 2  # the split, and the mean
    model = load_model(tmp_path / "9")
    assert set(model.people) == {tracklet.person for tracklet in read_ilids(ilids[0], 9).train}
    assert model.config.data_options.split == 9


@pytest.mark.slow
def test_prids_own_splits_take_the_place_of_those_built_in(prid, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(prid / "prid_2011", root, copy_function=os.link)
    people = sorted(set(range(1, 201)) - EXCLUDED)
    names = [f"person_{person:04d}" for person in people]
    path = root / "splits_prid2011.json"
    path.write_text(json.dumps([{"train": names[:89], "test": names[89:]}]))
    assert sorted({one.person for one in read_prid(root).train}) == people[:89]
    with pytest.raises(ValueError, match="numbered 0 to 0, got 1"):
        read_prid(root, split=1)
    path.write_text(json.dumps([{"train": names[:90], "test": names[89:]}]))
    with pytest.raises(ValueError, match=r"split 0 of .*has 90 and 89 people, 1 of them in both"):
        read_prid(root)
    path.write_text("[]")
    with pytest.raises(ValueError, match="holds no split"):
        read_prid(root)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"splits_prid2011\.json is no list of splits"):
        read_prid(root)
    path.unlink()
    (root / "multi_shot").rename(root / "moved")
    (root / "prid_2011").mkdir()
    (root / "moved").rename(root / "prid_2011" / "multi_shot")
    path.write_text(json.dumps([{"train": names[:89], "test": names[89:]}]))  # beside prid_2011, too
    assert sorted({one.person for one in read_prid(root).train}) == people[:89]
    path.unlink()
    root = root / "prid_2011"
    next((root / "multi_shot" / "cam_b" / "person_0001").iterdir()).unlink()
    with pytest.raises(ValueError, match=r"177 people .*expected 178: persons \[1\] are short of frames"):
        read_prid(root)
    shutil.rmtree(root / "multi_shot" / "cam_a" / "person_0002")
    with pytest.raises(ValueError, match=r"there is no .*cam_a/person_0002; the layout is"):
        read_prid(root)


def test_ilids_is_read_as_published(ilids):
    root, numbers, rows = ilids
    halves = read_ilids(root, split=7)
    assert (len(halves.train), len(halves.query), len(halves.gallery)) == (300, 150, 150)
    # values index the sorted folders, from 1; the first half is the test's
    test = sorted(numbers[place - 1] for place in rows[7, :150])
    assert [one.person for one in halves.query] == [one.person for one in halves.gallery] == test
    assert sorted({one.person for one in halves.train}) == sorted(numbers[place - 1] for place in rows[7, 150:])
    names = [path.name.rpartition("_")[2] for path in halves.query[0].frames.paths]
    assert names == [f"{frame}.png" for frame in range(1, 23)]  # by number, not as text
    assert all(one.source == f"ilids/{one.name}" for one in halves.gallery)
    swapped = read_ilids(root, split=7, swap_halves=True)
    assert sorted({one.person for one in swapped.train}) == test


@pytest.mark.slow
def test_what_is_missing_in_ilids_is_named(ilids, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(ilids[0], root, copy_function=os.link)
    table = root / "train-test people splits" / "train_test_splits_ilidsvid.mat"
    frames = root / "i-LIDS-VID" / "sequences" / "cam2" / "person002"
    with pytest.raises(ValueError, match="numbered 0 to 9, got 10"):
        read_ilids(root, split=10)
    content = table.read_bytes()
    table.write_bytes(content[:300])
    with pytest.raises(ValueError, match=r"ilidsvid\.mat is no MATLAB file"):
        read_ilids(root)
    table.unlink()
    with pytest.raises(ValueError, match=r"there is no file .*train_test_splits_ilidsvid\.mat"):
        read_ilids(root)
    scipy.io.savemat(table, {"ls_set": np.ones((10, 300))})
    with pytest.raises(ValueError, match=r"row 0 of ls_set .* is no order of the numbers 1 to 300"):
        read_ilids(root)
    scipy.io.savemat(table, {"ls_set": np.full((10, 300), np.inf)})
    with pytest.raises(ValueError, match="holds what is no whole number"):
        read_ilids(root)
    scipy.io.savemat(table, {"ls_set": np.ones((10, 300), dtype=complex)})
    with pytest.raises(ValueError, match="expected whole numbers"):
        read_ilids(root)
    scipy.io.savemat(table, {"ls_set": np.ones((9, 300))})
    with pytest.raises(
        ValueError, match=r"ls_set in .* is float64 \(9, 300\), expected whole numbers \(10, 300\)"
    ):
        read_ilids(root)
    next(frames.iterdir()).unlink()
    with pytest.raises(ValueError, match="cam2/person002 has 21 frames, expected 22 to 193"):
        read_ilids(root)
    shutil.rmtree(frames)
    with pytest.raises(ValueError, match=r"persons \[2\] are in one of .*cam1 and cam2 only"):
        read_ilids(root)


def test_mars_is_read_as_published(mars):
    halves = read_mars(mars, COUNTS)
    assert [(one.person, one.camera, len(one)) for one in halves.train] == TRACKS["train"]
    assert [(one.person, one.camera, len(one)) for one in halves.gallery] == TRACKS["test"]
    assert [one.person for one in halves.query] == [2, 2]
    assert halves.query[0] is halves.gallery[3]
    assert halves.query[0].source == f"mars/{halves.query[0].name}"
    assert [path.name for path in halves.gallery[4].frames.paths] == ["0002C1T0002F001.jpg", "0002C1T0002F002.jpg"]
    assert next(halves.gallery[0].frames.read()).shape == (8, 4, 3)


def test_name_lists_that_are_missing_are_what_sorting_gives(mars):
    before = read_mars(mars, COUNTS)
    for half in ("train", "test"):
        (mars / "info" / f"{half}_name.txt").unlink()
    after = read_mars(mars, COUNTS)
    for one, other in zip(before.train + before.gallery, after.train + after.gallery, strict=True):
        assert one.frames.names == other.frames.names


def test_what_is_wrong_with_mars_is_named(mars):
    info = mars / "info"
    lines = (info / "test_name.txt").read_text().split()

    def rewrite(names):
        (info / "test_name.txt").write_text("\n".join(names))

    rewrite(lines[:-1])
    with pytest.raises(ValueError, match=r"test_name\.txt has 13 names, expected 14"):
        read_mars(mars, COUNTS)
    rewrite([lines[-1], *lines[1:]])
    with pytest.raises(
        ValueError, match=r"track test/0, lines 1 to 2, is of person -1 and camera 1, .*published order"
    ):
        read_mars(mars, COUNTS)
    rewrite(["abc", *lines[1:]])
    with pytest.raises(ValueError, match="'abc' say otherwise, which are no file names that begin with 00-1C1"):
        read_mars(mars, COUNTS)
    rewrite(lines)
    scipy.io.savemat(info / "query_IDX.mat", {"query_IDX": np.array([[4, 8]], dtype=np.uint16)})
    with pytest.raises(ValueError, match=r"query_IDX\.mat has rows twice, or beyond the 7"):
        read_mars(mars, COUNTS)
    scipy.io.savemat(info / "query_IDX.mat", {"query_IDX": np.array([[4, 7]], dtype=np.uint16)})
    with pytest.raises(ValueError, match="have 2 people asked for, expected 1"):
        read_mars(mars, COUNTS)
    (info / "query_IDX.mat").unlink()
    with pytest.raises(ValueError, match=r"there is no file .*query_IDX\.mat"):
        read_mars(mars, COUNTS)
    with pytest.raises(ValueError, match="has 7 names, expected 509,914"):
        read_mars(mars)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """The official tables, with name lists made to fit them; the frames are not there."""
    tmp_path = tmp_path_factory.mktemp("official")
    shutil.copytree(SHARED / "mars_info", tmp_path / "info")
    for half in ("train", "test"):
        table = scipy.io.loadmat(SHARED / "mars_info" / f"tracks_{half}_info.mat")[f"track_{half}_info"].astype(
            int
        )
        tracks = [(person, camera, last - first + 1) for first, last, person, camera in table.tolist()]
        text = "".join(f"{name}\r\n" for one in names_of(tracks) for name in one)
        (tmp_path / "info" / f"{half}_name.txt").write_bytes(text.encode())
        (tmp_path / f"bbox_{half}").mkdir()
    return load_data(f"mars:{tmp_path}", DataConfig(), tmp_path), tmp_path


@needs_shared
def test_the_official_tables_are_read_whole(official):
    data, tmp_path = official
    assert (len(data.train), len(data.query), len(data.gallery)) == (8298, 1980, 12_180)
    assert sum(map(len, data.train)) == 509_914
    assert sum(map(len, data.gallery)) == 681_089
    assert len(data.train_people) == 625
    assert sum(len(one) < 6 for one in data.train) == 1
    assert sum(len(one) < 6 for one in data.gallery) == 4
    assert isinstance(data.gallery[0].frames, NamedFrames)
    assert data.gallery[0].frames.paths[0] == tmp_path / "bbox_test" / "00-1" / "00-1C1T0001F001.jpg"


def literal_score(distances, people, cameras, query, official):
    """Score one query as MARS's own code does it, place by place: the first match's rank, and the precision."""
    own = (people == query.person) & (cameras == query.camera)
    good = (people == query.person) & (cameras != query.camera)
    if not good.any():
        return None
    ranked = np.lexsort((good, distances))  # of equals the misses first
    ranked = ranked[~own[ranked] & (people[ranked] != -1)]
    first, hits, old_recall, old_precision, total = 0, 0, 0.0, 1.0, 0.0
    num_good = int(good.sum())
    for size, is_good in enumerate(good[ranked].tolist(), 1):
        hits += is_good
        first = first or (size if hits else 0)
        recall, precision = hits / num_good, hits / size
        total += (recall - old_recall) * ((precision + old_precision) / 2 if official else precision)
        old_recall, old_precision = recall, precision
        if hits == num_good:
            return first, total
    raise AssertionError("a match was never met")


SCORED = [("standard", 11_310, 0), ("official", 11_310, 0), ("torchreid", 9330, 140)]


@needs_shared
@pytest.mark.parametrize(("scoring", "num_gallery", "matchless"), SCORED)
def test_the_three_scorings_of_mars_are_a_literal_loops(official, scoring, num_gallery, matchless):
    data, _ = official
    tracklets = searched_tracklets(data)
    generator = np.random.default_rng(0)
    centres = {person: generator.normal(size=8) for person in sorted({one.person for one in tracklets})}
    features = np.array([centres[one.person] + 0.8 * generator.normal(size=8) for one in tracklets])
    features = (np.round(8 * features) / 8).astype(np.float32)  # exact, so that some distances are equal
    scores = retrieve(data, torch.from_numpy(features), scoring=scoring)
    assert (scores.num_queries, scores.num_queries_without_match) == (1980 - matchless, matchless)

    said = describe_search(data, scoring)
    assert f"gallery {num_gallery:,} tracklets of {620 if matchless else 634} people" in said
    assert "870 junk tracklets left out, 3,248 distractors in it" in said
    assert ("140 without a match, left out" in said) == bool(matchless)

    queries = {id(one) for one in data.query}
    rows = [row for row, one in enumerate(tracklets) if scoring != "torchreid" or id(one) not in queries]
    people, cameras = (np.array([getattr(tracklets[row], name) for row in rows]) for name in ("person", "camera"))
    assert (people != -1).sum() == num_gallery
    position = {id(one): row for row, one in enumerate(tracklets)}
    scored = {query: place for place, query in enumerate(scores.queries.tolist())}
    for number in range(0, 1980, 36):
        query = data.query[number]
        distances = ((features[rows] - features[position[id(query)]]) ** 2).sum(1)
        expected = literal_score(distances, people, cameras, query, scoring == "official")
        assert (expected is None) == (number not in scored)
        if expected is not None:
            place = scored[number]
            assert scores.first_ranks[place] == expected[0]
            assert scores.average_precisions[place] == pytest.approx(expected[1], abs=1e-6)


@pytest.mark.parametrize("name", list(DATASETS)[4:])
def test_where_the_data_comes_from_is_said(name, tmp_path):
    assert name in DATASETS
    with pytest.raises(ValueError, match=rf"needs a directory: write --data {name}:<directory>"):
        load_data(name, DataConfig(), tmp_path)
    with pytest.raises(ValueError, match=r"there is no folder \w+ in .*; the layout is .*from its authors"):
        load_data(f"{name}:{tmp_path}", DataConfig(), tmp_path)
