"""An index of a gallery on the disk: what it finds, adding to it, and damage."""

import dataclasses
import shutil

import numpy as np
import pytest
from test_embeddings import ORIGIN
from test_search import slow_nearest

from backbone import gallery_index
from backbone.embeddings import Embeddings, save_embeddings
from backbone.gallery_index import add_to_index, build_index, open_index
from backbone.json_file import write_object
from backbone.short_codes import Coder
from scripts.cli import main
from scripts.search import search


def described(rows, *, start=0, size=48, **origin):
    """Descriptors whose variance lies in some directions, of people with three tracklets each."""
    basis = np.random.default_rng(0).normal(size=(size, size)) * np.arange(1, size + 1) ** -1.0
    numbers = np.arange(start, start + rows)
    centres = np.random.default_rng(1).normal(size=(start + rows, size))
    noise = np.random.default_rng(2).normal(size=(start + rows, size))
    return Embeddings(
        ((centres[numbers // 3] + 0.3 * noise[numbers]) @ basis + 5).astype(np.float32),
        numbers // 3,
        numbers % 3,
        [f"person {number // 3}" for number in numbers],
        [f"tracklet {number}" for number in numbers],
        [f"{number:08x}" for number in numbers],
        np.zeros((rows, 1), np.int64),
        np.zeros(rows, np.int64),
        dataclasses.replace(ORIGIN, **origin),
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("indices") / "some.index"
    build_index(folder, described(900))
    return folder


@pytest.fixture
def copied(built, tmp_path):
    return shutil.copytree(built, tmp_path / "some.index")


def test_it_finds_what_a_slow_search_finds(built):
    gallery = described(900)
    query = (gallery.descriptors[::30] + 0.01).astype(np.float32)
    index = open_index(built)
    found = index.nearest(query, 10)
    rows, distances = slow_nearest(query, gallery.descriptors, 10, np.ones((30, 900), bool))
    assert (found.rows[:, :5] == rows[:, :5]).mean() > 0.98
    np.testing.assert_allclose(found.distances[:, 3:], distances[:, 3:], rtol=0.01)
    assert index.contents.recall > 0.99
    cameras, groups = gallery.camera, np.arange(30) % 3
    found = index.nearest(query, 10, allowed=lambda camera: cameras != camera, groups=groups)
    rows, _ = slow_nearest(query, gallery.descriptors, 10, cameras[None] != groups[:, None])
    assert (found.rows[:, :5] == rows[:, :5]).mean() > 0.98
    nobody = index.nearest(query, 10, allowed=lambda _: np.zeros(900, bool))
    assert (nobody.rows == -1).all()


def test_parts_that_were_added_are_searched_like_one(copied, monkeypatch):
    more = described(300, start=800)  # 100 of which are there
    picked = Embeddings.picked
    with monkeypatch.context() as patch:  # the others' descriptors need not fit the memory
        patch.setattr(
            Embeddings, "picked", lambda one, rows: picked(one, rows) if not one.descriptors.size else 1 / 0
        )
        index = add_to_index(copied, more)
    assert index.contents.rows == [900, 200]
    assert index.gallery.source == [f"tracklet {number}" for number in range(1100)]
    whole = described(1100)
    found = index.nearest(whole.descriptors[::50], 3)
    rows, _ = slow_nearest(whole.descriptors[::50], whole.descriptors, 3, np.ones((22, 1100), bool))
    np.testing.assert_array_equal(found.rows, rows)
    before = {path.name: path.stat().st_mtime_ns for path in copied.iterdir()}
    assert add_to_index(copied, more).contents.rows == [900, 200]
    assert {path.name: path.stat().st_mtime_ns for path in copied.iterdir()} == before


def test_an_addition_that_was_killed_changes_nothing(copied, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gallery_index, "_write_contents", killed)
        with pytest.raises(KeyboardInterrupt):
            add_to_index(copied, described(100, start=900))
    assert open_index(copied).contents.rows == [900]
    assert add_to_index(copied, described(200, start=900)).contents.rows == [900, 200]


def test_what_does_not_belong_together_is_refused(copied):
    with pytest.raises(
        ValueError, match=r"some.index is an index of 48 numbers by the model 0123, got 48 by other"
    ):
        add_to_index(copied, described(3, model="other"))
    with pytest.raises(ValueError, match="got 20 by 0123"):
        add_to_index(copied, described(3, size=20))
    with pytest.raises(ValueError, match=r"of folder:/a by .* and of folder:/b by .* different data"):
        add_to_index(copied, described(3, start=900, data="folder:/b"))
    assert add_to_index(copied, described(3, start=900, part="gallery")).gallery.origin.part == "all"
    with pytest.raises(ValueError, match="there is something at"):
        build_index(copied, described(3))
    with pytest.raises(ValueError, match=r"takes queries \(Q, 48\) .* got \(2, 3\)"):
        open_index(copied).nearest(np.zeros((2, 3), np.float32), 1)


@pytest.mark.parametrize("name", ["index.json", "codes.npz", "0.npz", "0.codes.npy", "0.halves.npy", "0.sums.npy"])
def test_damage_is_named(copied, name):
    content = (copied / name).read_bytes()
    place = len(content) // 2
    flipped = content[:place] + bytes(byte ^ 1 for byte in content[place : place + 4]) + content[place + 4 :]
    for changed in (content[:-1] if name != "index.json" else content[:-9], content[:place], flipped, b""):
        (copied / name).write_bytes(changed)
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            open_index(copied)
    (copied / name).unlink()
    with pytest.raises(ValueError, match=rf"{name}|there is no index"):
        open_index(copied)


def test_descriptors_that_are_not_read_at_first_are_checked_when_found(copied, monkeypatch):
    monkeypatch.setattr(gallery_index, "MOST_READ", 0)
    content = bytearray((copied / "0.halves.npy").read_bytes())
    content[128 + 2 * 48 * 7] ^= 1  # the lowest bit of row 7's first number
    (copied / "0.halves.npy").write_bytes(content)
    index, gallery = open_index(copied), described(900)
    index.nearest(gallery.descriptors[300:301], 3)
    with pytest.raises(ValueError, match=r"0.halves.npy is damaged, at row 7"):
        index.nearest(gallery.descriptors[7:8], 3)


def test_contents_of_another_version_are_refused(copied):
    contents = open_index(copied).contents
    for changed in ({"version": 9, "more": 1}, {"metric": "cosine"}):
        write_object(copied / "index.json", {**vars(contents), **changed})
        with pytest.raises(ValueError, match=r"index.json is of version .*, this program reads 1 and euclidean"):
            open_index(copied)
    for rows in ([], [900, 0]):
        write_object(copied / "index.json", {**vars(contents), "rows": rows})
        with pytest.raises(ValueError, match=r"index.json says that its parts hold \[.*\] tracklets: build"):
            open_index(copied)


@pytest.mark.parametrize(("rows", "size"), [(1, 4), (3, 5), (40, 1)])
def test_a_few_descriptors_of_any_size(tmp_path, rows, size):
    few = described(rows, size=size)
    found = build_index(tmp_path / "few.index", few).nearest(few.descriptors, 9)
    np.testing.assert_array_equal(np.sort(found.rows[:1], axis=1)[:, :1], [[0]])
    assert found.rows.shape == (rows, min(9, rows))
    with pytest.raises(ValueError, match="an index is of a descriptor or more"):
        build_index(tmp_path / "none.index", described(0))
    assert not (tmp_path / "none.index").exists()


def test_far_from_the_origin_digits_are_kept():
    descriptors = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32) * 1e-3 + 1000
    coder = Coder.fit(descriptors)
    halves = coder.halves(descriptors).astype(np.float64) * coder.scale + coder.mean
    np.testing.assert_allclose(halves, descriptors, atol=1e-5, rtol=0)


def test_the_command_builds_adds_and_searches(tmp_path, capsys):
    gallery, index = described(900), tmp_path / "city.index"
    for name, part in (("a", range(600)), ("b", range(500, 900)), ("lost", range(0, 900, 90))):
        save_embeddings(tmp_path / f"{name}.npz", gallery.picked(np.array(part)))
    for name, total in (("a", "600"), ("b", "900")):
        assert main(["search", "--build", str(index), "--gallery", str(tmp_path / f"{name}.npz")]) == 0
        printed = capsys.readouterr().out
        assert f"city.index: {total} tracklets, 48 numbers each; of the 10 nearest to 100 of them" in printed
    # as a shell completes a folder's name
    flags = ["--query", str(tmp_path / "lost.npz"), "--gallery", f"{index}/", "--other-cameras", "--top", "2"]
    assert main(["search", *flags]) == 0
    assert "10 queries in 900 tracklets; the nearest is right for 8 of 10" in capsys.readouterr().out
    query = gallery.picked(np.arange(0, 900, 90))
    by_file, by_index = search(query, gallery), search(query, gallery, index=open_index(index))
    assert [[hit.row for hit in hits[:5]] for hits in by_index] == [
        [hit.row for hit in hits[:5]] for hits in by_file
    ]
    (tmp_path / "bare.index").mkdir()
    for wrong, message in (
        (["--gallery", "x.npz"], "give --query to search for, or --build"),
        (["--gallery", "x.npz", "--query", "x.npz", "--build", "x.index"], "one of the two"),
        (["--gallery", "x.npz", "--build", "x"], "--build x has to end in .index"),
        (
            ["--gallery", "x.npz", "--build", "x.index", "--page", "x.html"],
            "--build searches nothing: leave out --page",
        ),
        (["--gallery", "x.npz", "--query", "x.index"], "--query x.index is an index, which is searched in"),
        (
            ["--gallery", str(tmp_path / "a.npz"), "--build", str(tmp_path / "bare.index")],
            "bare.index: the folder is none",
        ),
        (
            ["--gallery", "x.index", "--query", "x.npz", "--index", "hnsw"],
            "x.index is an index already: leave out --",
        ),
        (["--gallery", str(tmp_path / "x.index"), "--query", str(tmp_path / "a.npz")], "there is no index at"),
    ):
        assert main(["search", *wrong]) == 2
        assert message in capsys.readouterr().err
    assert not list((tmp_path / "bare.index").iterdir())
