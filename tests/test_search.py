"""The nearest of a gallery: faiss beside a slow obvious search; the command, its table, JSON and page."""

import dataclasses
import json
import re
import shutil
import tracemalloc

import cv2
import numpy as np
import pytest
from test_embeddings import ORIGIN, make

from a3d_env.bank import FeatureBank
from a3d_env.render import draw_glimpses
from backbone.data.clips import consecutive_clips
from backbone.embeddings import Embeddings, load_embeddings
from backbone.search import nearest
from scripts.cli import main
from scripts.search import search, summary
from scripts.search.page import Strips


def slow_nearest(query, gallery, count, allowed):
    distances = np.sqrt(((query[:, None].astype(np.float64) - gallery[None].astype(np.float64)) ** 2).sum(2))
    distances[~allowed] = np.inf
    rows = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return rows, np.take_along_axis(distances, rows, axis=1)


@pytest.fixture(scope="module")
def vectors():
    generator = np.random.default_rng(0)
    return (generator.normal(size=shape).astype(np.float32) for shape in ((40, 16), (900, 16)))


def test_exact_is_the_slow_search(vectors):
    query, gallery = vectors
    found = nearest(query, gallery, 7)
    rows, distances = slow_nearest(query, gallery, 7, np.ones((40, 900), bool))
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)

    cameras, of_query = np.arange(900) % 3, np.arange(40) % 3
    found = nearest(query, gallery, 7, allowed=lambda camera: cameras != camera, groups=of_query)
    rows, _ = slow_nearest(query, gallery, 7, cameras[None] != of_query[:, None])
    np.testing.assert_array_equal(found.rows, rows)

    graph = nearest(query, gallery, 7, allowed=lambda camera: cameras != camera, groups=of_query, index="hnsw")
    shared = [len(set(a) & set(b)) / 7 for a, b in zip(graph.rows.tolist(), rows.tolist(), strict=True)]
    assert np.mean(shared) > 0.95
    assert (cameras[graph.rows] != of_query[:, None]).all()


def test_a_gallery_in_blocks_is_searched_alike(monkeypatch):
    generator = np.random.default_rng(0)
    query, gallery = (generator.normal(size=(size, 16)).astype(np.float32) for size in (40, 900))
    cameras, groups = np.arange(900) // 300, np.arange(40) % 3
    whole = nearest(query, gallery, 7, allowed=lambda camera: cameras != camera, groups=groups)
    monkeypatch.setattr("backbone.search.BLOCK_BYTES", 100 * 16 * 4)
    found = nearest(query, gallery, 7, allowed=lambda camera: cameras != camera, groups=groups)
    np.testing.assert_array_equal(found.rows, whole.rows)
    np.testing.assert_array_equal(found.distances, whole.distances)


def test_an_exact_search_copies_a_block_of_the_gallery(monkeypatch):
    gallery = np.random.default_rng(0).normal(size=(4000, 256)).astype(np.float32)  # 4 MB
    monkeypatch.setattr("backbone.search.BLOCK_BYTES", 2**18)
    nearest(gallery[:2], gallery[:10], 3)  # imports faiss
    tracemalloc.start()
    nearest(gallery[:20], gallery, 5, allowed=lambda _: np.arange(4000) % 2 == 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**21


def test_a_graph_finds_other_cameras_where_cameras_differ_by_a_constant():
    generator = np.random.default_rng(0)
    cameras, of_query = np.arange(1200) % 3, np.arange(40) % 3
    offset = 20 * generator.normal(size=(3, 16))  # far more than people differ by
    gallery = (offset[cameras] + generator.normal(size=(1200, 16))).astype(np.float32)
    query = (offset[of_query] + generator.normal(size=(40, 16))).astype(np.float32)
    rows, _ = slow_nearest(query, gallery, 5, cameras[None] != of_query[:, None])
    found = nearest(query, gallery, 5, allowed=lambda camera: cameras != camera, groups=of_query, index="hnsw")
    assert (found.rows[:, 0] == rows[:, 0]).mean() > 0.95
    assert (found.rows >= 0).all()


def test_distances_far_from_the_origin_keep_their_digits():
    gallery = np.full((3, 8), 1000, np.float32)
    gallery[:, 0] += [0.25, 0.125, 0.5]
    found = nearest(np.full((1, 8), 1000, np.float32), gallery, 3)
    np.testing.assert_array_equal(found.rows, [[1, 0, 2]])
    np.testing.assert_array_equal(found.distances, [[0.125, 0.25, 0.5]])


def test_descriptors_with_an_offset_in_common_are_searched_exactly():
    generator = np.random.default_rng(0)
    gallery = (100 + 0.1 * generator.normal(size=(2000, 64))).astype(np.float32)  # faiss alone loses the digits
    query = (gallery[:100] + 0.05 * generator.normal(size=(100, 64))).astype(np.float32)
    rows, distances = slow_nearest(query, gallery, 10, np.ones((100, 2000), bool))
    found = nearest(query, gallery, 10)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)


def test_an_empty_gallery_has_nobody():
    found = nearest(np.zeros((3, 2), np.float32), np.zeros((0, 2), np.float32), 5)
    assert found.rows.shape == found.distances.shape == (3, 0)
    some = make()
    junk = dataclasses.replace(some, person=np.full(3, -1))
    assert search(some, junk) == [[], [], []]


def test_no_row_is_found_twice_where_squares_are_too_large_for_float32():
    gallery = np.array([[0, 0], [0, 1], [1e22, 0], [0, 1e22]], np.float32)
    found = nearest(gallery[:1], gallery, 4)
    np.testing.assert_array_equal(found.rows, [[0, 1, -1, -1]])
    np.testing.assert_array_equal(found.distances, [[0, 1, np.inf, np.inf]])


def test_less_than_asked_for_is_marked():
    gallery = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = nearest(
        gallery[:2],
        gallery,
        9,
        allowed=lambda group: np.array([group == 0, False, group == 0]),
        groups=np.array([0, 1]),
    )
    np.testing.assert_array_equal(found.rows, [[0, 2, -1], [-1, -1, -1]])
    np.testing.assert_array_equal(found.distances[1], np.inf)
    with pytest.raises(ValueError, match=r"got \(3, 2\), \(3, 3\)"):
        nearest(gallery, np.zeros((3, 3), np.float32), 1)
    with pytest.raises(ValueError, match="unknown index 'tree'; known: exact, hnsw"):
        nearest(gallery, gallery, 1, index="tree")


def test_nobody_finds_themselves_or_junk():
    some = make()  # of (-2, -1, 0), the second is junk
    found = search(some, some, top=5)
    assert [[(hit.row, hit.rank, hit.is_match) for hit in hits] for hits in found] == [
        [(2, 1, None)],  # the query's name is not known
        [(0, 1, None), (2, 2, None)],  # junk is nobody
        [(0, 1, None)],
    ]
    assert found[0][0].distance == pytest.approx(np.linalg.norm(some.descriptors[0] - some.descriptors[2]))
    assert search(some, some, below=1.0) == [[], [], []]


def test_who_can_be_a_match():
    def of(data, names, person=None, camera=None):
        count = len(names)
        return Embeddings(
            np.zeros((count, 2), np.float32),
            np.arange(count) if person is None else np.array(person),
            np.zeros(count, np.int64) if camera is None else np.array(camera),
            list(names),
            [f"{name}/{number}" for number, name in enumerate(names)],
            [f"{data}/{name}/{number}" for number, name in enumerate(names)],
            np.zeros((count, 1), np.int64),
            np.zeros(count, np.int64),
            dataclasses.replace(ORIGIN, data=data),
        )

    def matches(query, gallery):
        return [sorted((hit.row, hit.is_match) for hit in hits) for hits in search(query, gallery)]

    # folders: their names are people; ids of other data are not
    assert matches(of("folder:/a", ["ann"]), of("folder:/b", ["ann", "bob"])) == [[(0, True), (1, False)]]
    assert matches(of("video:/a/v,t", ["v 7"]), of("video:/b/v,t", ["v 7"])) == [[(0, None)]]
    assert matches(of("folder:/a", ["ann"]), of("video:/b/v,t", ["v 7"])) == [[(0, None)]]
    other_people = dataclasses.replace(ORIGIN, data="synthetic", options={"split": 4})
    query = of("synthetic", ["synthetic 1"])
    assert matches(query, dataclasses.replace(query, origin=other_people, key=["another"])) == [[(0, None)]]
    wrong = of("folder:/a", ["ann"]), of("folder:/b", ["bob", "ann"])  # all at one distance: the first comes first
    assert summary(*wrong, search(*wrong)).endswith("right for 0 of 1 whose names are there")
    # junk is nobody, and neither asks nor is there
    mars = of(
        "mars:/a", ["mars junk", "mars junk", "mars 3", "mars 3"], person=[-1, -1, 3, 3], camera=[1, 2, 1, 1]
    )
    assert [[hit.is_match for hit in hits] for hits in search(mars, mars)] == [
        [None] * 2,
        [None] * 2,
        [True],
        [True],
    ]
    assert summary(mars, mars, search(mars, mars)).endswith("right for 2 of 2 whose names are there")
    assert summary(mars, mars, search(mars, mars, other_cameras=True), other_cameras=True) == (
        "4 queries in 4 tracklets; for 3 nothing was near enough"
    )


def images(folder, seed, count=4):
    folder.mkdir(parents=True)
    for number in range(count):
        picture = np.random.default_rng([seed, number]).integers(0, 256, (64, 32, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number + 1}.png"), picture)


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    root = tmp_path_factory.mktemp("people") / "street"
    for person in range(5):
        for camera in ("a", "b"):
            images(root / f"{person:02d}" / camera / "1", person)  # the same pictures by both cameras
    return root


@pytest.fixture(scope="module")
def run(tiny_run):
    return tiny_run


@pytest.fixture(scope="module")
def gallery(street, run):
    path = street.parent / "street.safetensors"
    assert main(["embed", "--checkpoint", str(run), "--data", f"folder:{street}", "--out", str(path)]) == 0
    return path


def test_the_same_pictures_by_another_camera_come_first(gallery, tmp_path, capsys):
    flags = ["--query", str(gallery), "--gallery", str(gallery), "--other-cameras", "--top", "3", "--shown", "2"]
    page, file = tmp_path / "found.html", tmp_path / "found.json"
    assert main(["search", *flags, "--json", str(file), "--page", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "street/00/a/1 (00)\n    1 *     0.000  00  camera 2  street/00/b/1\n" in printed
    assert "... and 8 more queries" in printed
    assert "10 queries in 10 tracklets; the nearest is right for 10 of 10 whose names are there" in printed
    found = json.loads(file.read_text())
    assert len(found) == 10
    for one in found:
        assert len(one["found"]) == 3
        assert one["found"][0]["is_match"]
        assert one["found"][0]["distance"] == pytest.approx(0, abs=1e-4)
        assert all(hit["camera"] != one["camera"] for hit in one["found"])
        assert [hit["distance"] for hit in one["found"]] == sorted(hit["distance"] for hit in one["found"])
    text = page.read_text()
    assert len(re.findall(r'<figure class="query"><img', text)) == 2
    assert len(re.findall(r'<figure class="match"><img', text)) == 2
    assert len(re.findall(r'<figure class="wrong"><img', text)) == 4
    assert "http" not in text


def test_nobody_finds_themselves_whoever_describes_them(run, gallery, street, capsys):
    spec = f"folder:{street}"
    for query, other in ((str(gallery), spec), (spec, str(gallery)), (spec, spec)):
        flags = ["--query", query, "--gallery", other, "--checkpoint", str(run), "--top", "9"]
        assert main(["search", *flags, "--shown", "1"]) == 0
        printed = capsys.readouterr().out
        assert "  street/00/a/1\n" not in printed
        assert len(re.findall("camera", printed)) == 9  # all the others
        assert "right for 10 of 10" in printed


def test_a_tracklet_of_the_gallery_does_not_find_itself_under_another_name(run, gallery, street, capsys):
    flags = ["--gallery", str(gallery), "--checkpoint", str(run), "--top", "9"]
    for query in (street / "03" / "a" / "1", street / ".." / street.name / "03" / "a" / "1"):
        assert main(["search", "--query", str(query), *flags]) == 0
        printed = capsys.readouterr().out
        assert "street/03/a/1\n" not in printed
        assert len(re.findall(r"street/\d\d/[ab]/1\n", printed)) == 9


def test_a_folder_of_frames_is_searched_for(run, gallery, street, tmp_path, capsys):
    shutil.copytree(street / "03" / "a" / "1", tmp_path / "lost child <3>")
    flags = ["--query", str(tmp_path / "lost child <3>"), "--gallery", str(gallery), "--top", "2"]
    page = tmp_path / "found.html"
    assert main(["search", *flags, "--checkpoint", str(run), "--page", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "lost child <3>\n    1       0.000  03  camera 1  street/03/a/1\n    2       0.000  03" in printed
    assert "lost child &lt;3&gt;" in page.read_text()
    flags[-1] = "10"
    assert main(["search", *flags, "--checkpoint", str(run), "--below", "0.5"]) == 0
    assert re.findall(r"street/\d\d/[ab]/1", capsys.readouterr().out) == ["street/03/a/1", "street/03/b/1"]


def test_pictures_that_are_gone_are_left_out(gallery, street, tmp_path, capsys):
    moved = street.with_name("moved")
    street.rename(moved)
    try:
        page = tmp_path / "found.html"
        flags = ["--query", str(gallery), "--gallery", str(gallery), "--shown", "1", "--page", str(page)]
        assert main(["search", *flags]) == 0
    finally:
        moved.rename(street)
    assert "can't be read any more, so there are no pictures of it" in capsys.readouterr().err
    assert "<img" not in page.read_text()
    assert "street/00/b/1" in page.read_text()


@pytest.mark.slow
def test_mistakes_are_explained(run, gallery, tmp_path, capsys):
    def error_of(*flags):
        assert main(["search", *flags]) == 2
        return capsys.readouterr().err

    both = ["--query", str(gallery), "--gallery", str(gallery)]
    assert "no file of descriptors at" in error_of("--query", "none.npz", "--gallery", str(gallery))
    assert "name the run that describes it (--checkpoint)" in error_of(*both[:2], "--gallery", "folder:x")
    nowhere = error_of(*both[2:], "--query", "nowhere", "--checkpoint", str(run))
    assert "no tracklets at 'nowhere'; possible are a data set" in nowhere
    other = tmp_path / "other"
    assert main(["train", "--preset", "tiny", "--steps", "1", "--seed", "5", "--out", str(other)]) == 0
    capsys.readouterr()
    assert "was described by another model than" in error_of(
        *both[:2], "--gallery", "synthetic", "--checkpoint", str(other)
    )
    assert "is not folder:" in error_of(
        *both[2:], "--query", "synthetic", "--checkpoint", str(run), "--other-cameras"
    )
    assert load_embeddings(gallery).origin.data.startswith("folder:/")


def test_strips_show_the_frames_that_were_described(gallery, street, tmp_path, capsys):
    embeddings = load_embeddings(gallery)
    strips = Strips(embeddings)
    frames = np.stack([cv2.imread(str(street / "02" / "b" / "1" / f"{number}.png")) for number in (1, 2, 3, 4)])
    row = embeddings.source.index("street/02/b/1")
    clip = consecutive_clips(4, 3)[embeddings.clip[row]]
    bank = dataclasses.replace(FeatureBank.blank(strips.grid, 1), frames=frames[clip][None, :, :, :, ::-1])
    drawn = draw_glimpses(bank, 0, embeddings.bins[row].tolist())
    found = strips.picture(row)
    np.testing.assert_array_equal(found, cv2.resize(drawn, found.shape[1::-1], interpolation=cv2.INTER_AREA))

    beyond = dataclasses.replace(embeddings, clip=embeddings.clip + 9)
    assert Strips(beyond).picture(row) is None
    assert "is not what was described" in capsys.readouterr().err
