"""LS-VID, G2A-VReID, AG-VPReID, MEVID and CCVID: small folders in their layouts, one tiny image for all names."""

import dataclasses
import os
import re

import cv2
import numpy as np
import pytest
import scipy.io

from agents.runs.scoring import describe_search
from backbone.data import DataConfig, load_data
from backbone.data.check import check_data
from backbone.data.sets import agvpreid, ccvid, g2a, lsvid, mevid
from backbone.data.sets.listings import lines, named_track

SETS = {one.DESCRIPTION.name: one.DESCRIPTION for one in (lsvid, g2a, agvpreid, mevid, ccvid)}
AS_IT_IS = DataConfig(check_counts=False)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "one.jpg"
    cv2.imwrite(str(path), np.full((8, 4, 3), 90, dtype=np.uint8))
    return path


@pytest.fixture
def link(tmp_path, image):
    def link(names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(image, tmp_path / name)

    return link


@pytest.fixture
def make_lsvid(tmp_path, link):
    # 2c1 begins 2c10, too; the ninth frame is before the tenth
    starts = {"train": ["0001/1a", "0001/1b"], "test": ["0002/2c1", "0002/2c10", "0003/3a", "0003/3b"]}
    for half, some in starts.items():
        text = ""
        for number, start in enumerate(some):
            link(
                f"tracklet_{half}/{start}_{frame}_{number % 2 + 1}_0.jpg"
                for frame in (9, 10, 11)[: 2 + number % 2]
            )
            text += f"tracklet_{half}/{start} {start[:4]}\r\n"
        path = tmp_path / "info" / "list_sequence" / f"list_seq_{half}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    (tmp_path / "info" / "data").mkdir()
    scipy.io.savemat(tmp_path / "info" / "data" / "info_test.mat", {"query": np.array([[4], [1]])})
    return [1, 1], [(3, 2), (2, 1)], [(2, 2), (3, 1)]


def write_tracks(folder, half, tracks, first, text):
    """Write the names of tracks, and their table; return the names of the files."""
    names, rows = [], []
    for number, (person, *more, count) in enumerate(tracks):
        start = "00-1" if person == -1 else f"{person:04d}"
        rows.append((len(names) + first, len(names) + count + first - 1, person, *more))
        names += [f"{start}O001C{more[-1]}T{number:03d}F{frame:05d}.jpg" for frame in range(count)]
    (folder / f"{half}_name.txt").write_text("\n".join(names) + "\n")
    if text:
        np.savetxt(folder / f"track_{half}_info.txt", np.array(rows))  # 0.000000e+00, as published
    else:
        table = {f"track_{half}_info": np.array(rows, dtype=np.int32)}
        scipy.io.savemat(folder / f"tracks_{half}_info.mat", table)
    return [f"bbox_{half}/{name[:4]}/{name}" for name in names]


@pytest.fixture
def make_g2a(tmp_path, link):
    (tmp_path / "info").mkdir()
    tracks = {"train": [(1, 1, 2), (1, 2, 3)], "test": [(2, 1, 2), (2, 2, 1), (3, 1, 1), (3, 2, 2)]}
    for half, some in tracks.items():
        link(write_tracks(tmp_path / "info", half, some, first=1, text=False))
    scipy.io.savemat(tmp_path / "info" / "query_IDX.mat", {"query_IDX": np.array([[1, 3]], dtype=np.uint16)})
    return [1, 1], [(2, 1), (3, 1)], [(2, 2), (3, 2)]


@pytest.fixture
def make_mevid(tmp_path, link):
    # the second of the test tracks has no frame
    tracks = {
        "train": [(103, 20, 424, 2)],
        "test": [(201, 3, 330, 2), (201, 3, 331, -3), (201, 4, 331, 1), (201, 3, 332, 3), (5, 1, 330, 1)],
    }
    for half, some in tracks.items():
        link(write_tracks(tmp_path, half, some, first=0, text=True))
    (tmp_path / "query_IDX.txt").write_text("0\n")
    return [103], [(201, 330)], [(201, 331), (201, 332), (5, 330)]


@pytest.fixture
def make_agvpreid(tmp_path, link):
    def tracklet(where, person, number, camera):
        # by number: 9 comes before 10, and the key point says nothing
        return [
            f"{where}/{person}/{number}/P81T2310171A2C{camera}E152K{key}F{frame}.jpg"
            for frame, key in ((9, 7), (10, 2))
        ]

    link(tracklet("train", 12, 0, 2))
    (tmp_path / "train" / "13" / "0").mkdir(parents=True)  # passed over
    for case, sides in (("case1_aerial_to_ground", (4, 1)), ("case2_ground_to_aerial", (3, 5))):
        for part, camera in zip(("query", "gallery"), sides, strict=True):
            link(tracklet(f"{case}/{part}", 81, 0, camera) + tracklet(f"{case}/{part}", 9, 1, camera))
    return [12], [(81, 4), (9, 4)], [(81, 1), (9, 1)]


@pytest.fixture
def make_ccvid(tmp_path, link):
    # path, person, clothes
    listed = {
        "train": [("session1/001_01", "001", "u0_l0"), ("session2/001_02", "001", "u1_l0")],
        "query": [("session1/007_03", "007", "u0_l0"), ("session1/008_03", "008", "u0_l0")],
        "gallery": [
            ("session1/007_04", "007", "u0_l0"), ("session3/007_03", "007", "u1_l0"),
            ("session2/008_04", "008", "u1_l0"), ("session2/008_03", "008", "u1_l0"),
        ],
    }  # fmt: skip
    for part, rows in listed.items():
        link(f"{path}/{frame:05d}.jpg" for path, _, _ in rows for frame in range(1, 4))
        (tmp_path / f"{part}.txt").write_text("".join("\t".join(row) + "\n" for row in rows))
    return [1, 1], [(7, 3), (8, 3)], [(7, 4), (7, 15), (8, 4), (8, 3)]


def people_and_cameras(tracklets):
    return [(one.person, one.camera) for one in tracklets]


@pytest.mark.parametrize("name", SETS)
def test_the_layout_is_read(name, request, tmp_path):
    train, query, gallery = request.getfixturevalue(f"make_{name}")
    data = load_data(f"{name}:{tmp_path}@check_counts=false", DataConfig(), tmp_path)
    assert (data.name, [one.person for one in data.train]) == (name, train)
    assert people_and_cameras(data.query) == query
    assert people_and_cameras(data.gallery) == gallery
    for one in data.tracklets:
        assert one.source == f"{name}/{one.name}"
        assert len(list(one.frames.read())) == len(one.frames.paths) > 0
        said = [re.fullmatch(SETS[name].frame_name, path.name).groupdict() for path in one.frames.paths]
        numbers = [int(frame["frame"]) for frame in said if "frame" in frame]
        assert numbers == sorted(numbers)
    assert len({one.name for one in data.tracklets}) == len(data.tracklets)
    report = check_data(f"{name}:{tmp_path}@check_counts=false")
    assert not report.problems
    assert report.files == report.decoded == sum(1 for path in tmp_path.rglob("*.jpg"))


@pytest.mark.parametrize("name", SETS)
def test_other_counts_than_published_are_an_error_or_said(name, request, tmp_path, capsys):
    request.getfixturevalue(f"make_{name}")
    description = SETS[name]
    if description.counts:
        what, wanted = next(iter(description.counts.items()))
        with pytest.raises(ValueError, match=rf"has \d+ {what}, expected {wanted:,}.*@check_counts=false reads"):
            load_data(f"{name}:{tmp_path}", DataConfig(), tmp_path)
        description.read(tmp_path, AS_IT_IS)
        assert f"{what}, expected {wanted:,}" in capsys.readouterr().err
    dataclasses.replace(description, counts={"train cameras": 1 + (name in ("lsvid", "g2a", "ccvid"))}).read(
        tmp_path, DataConfig()
    )
    with pytest.raises(ValueError, match=f"the layout is .*{description.source.split(',')[0]}"):
        description.read(tmp_path / "elsewhere", DataConfig())


def test_published_parts_add_up_to_the_published_totals():
    of = {name: description.counts for name, description in SETS.items()}
    assert (
        of["lsvid"]["train frames"] + 155_191 + of["lsvid"]["test frames"] == 2_982_685
    )  # and the validation part
    assert of["mevid"]["train tracklets"] + of["mevid"]["test tracklets"] == 8092
    assert of["mevid"]["train clothes"] + of["mevid"]["test clothes"] == 598
    assert sum(of["ccvid"][f"{part} tracklets"] for part in ("train", "query", "gallery")) == 2856
    assert of["ccvid"]["train people"] + of["ccvid"]["query people"] == 226


def test_people_in_both_halves_are_an_error(make_ccvid, tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(path.read_text().replace("\t001\t", "\t007\t"))
    with pytest.raises(ValueError, match="has 1 people in both halves, expected 0"):
        dataclasses.replace(ccvid.DESCRIPTION, counts={}).read(tmp_path, DataConfig())


def test_clothes_and_matches_in_them(make_ccvid, tmp_path):
    def read(protocol):
        return load_data(f"ccvid:{tmp_path}@check_counts=false,protocol={protocol}", DataConfig(), tmp_path)

    data = read("")
    assert [one.clothes for one in data.gallery] == ["u0_l0", "u1_l0", "u1_l0", "u1_l0"]
    assert "protocol" not in describe_search(data, "standard")
    # 8 is met again in other clothes alone
    assert "2 queries (1 without a match, left out)" in describe_search(read("same_clothes"), "standard")
    said = describe_search(read("cloth_changing"), "standard")
    assert (
        "protocol cloth_changing (found is the same person in other clothes by another camera): 2 queries," in said
    )
    with pytest.raises(
        ValueError, match="no protocol 'clothes'; write ccvid:<directory>@protocol=other_camera or"
    ):
        read("clothes")
    with pytest.raises(ValueError, match="'protocol' is no option of the data"):
        load_data(f"lsvid:{tmp_path}@protocol=other_camera", DataConfig(), tmp_path)


def test_mevids_outfits_are_in_its_table(make_mevid, tmp_path):
    data = mevid.DESCRIPTION.read(tmp_path, AS_IT_IS)
    assert [one.clothes for one in data.query + data.gallery] == ["3", "4", "3", "1"]
    (tmp_path / "query_IDX.txt").write_text("0\n9\n")
    with pytest.raises(ValueError, match="rows twice, or beyond the 5"):
        mevid.DESCRIPTION.read(tmp_path, AS_IT_IS)
    (tmp_path / "query_IDX.txt").write_text("zero\n")
    with pytest.raises(ValueError, match=r"query_IDX\.txt is no table"):
        mevid.DESCRIPTION.read(tmp_path, AS_IT_IS)


def test_from_the_air_to_the_ground_and_back(make_g2a, make_agvpreid, tmp_path):
    for description, aerial in ((g2a.DESCRIPTION, [(2, 2), (3, 2)]), (agvpreid.DESCRIPTION, [(81, 4), (9, 4)])):
        to_ground, to_aerial = (
            description.read(tmp_path, dataclasses.replace(AS_IT_IS, protocol=protocol))
            for protocol in ("aerial_to_ground", "ground_to_aerial")
        )
        assert people_and_cameras(to_ground.query) == aerial
        assert all(data.protocol.name in describe_search(data, "standard") for data in (to_ground, to_aerial))
        assert all("without a match" not in describe_search(data, "standard") for data in (to_ground, to_aerial))
    assert people_and_cameras(to_aerial.query + to_aerial.gallery) == [(81, 3), (9, 3), (81, 5), (9, 5)]


def test_what_is_wrong_is_named(make_lsvid, make_ccvid, tmp_path, link):
    link(["tracklet_test/0003/3a_12_2_0.jpg"])
    with pytest.raises(ValueError, match=r"3a in .* are by several cameras: 1, 2"):
        lsvid.DESCRIPTION.read(tmp_path, AS_IT_IS)
    link(["session1/007_03/first.jpg"])
    with pytest.raises(ValueError, match=r"first\.jpg is not named as frames here are"):
        ccvid.DESCRIPTION.read(tmp_path, AS_IT_IS)
    (tmp_path / "query.txt").write_text("session1/009_09\t009\tu0\n")
    with pytest.raises(ValueError, match="there are no frames of session1/009_09"):
        ccvid.DESCRIPTION.read(tmp_path, AS_IT_IS)
    (tmp_path / "query.txt").write_text("007_03 007\n")
    with pytest.raises(ValueError, match=r"query\.txt, line 1: '007_03 007' is no line as"):
        ccvid.DESCRIPTION.read(tmp_path, AS_IT_IS)
    for outside in ("/session1/007_03", "../session1/007_03"):
        listing = lines("query.txt", r"(?P<path>\S+) (?P<person>\d+)", ccvid.FRAME)
        (tmp_path / "query.txt").write_text(f"{outside} 007\n")
        with pytest.raises(ValueError, match=r"query\.txt, line 1: .* is not in the folder of the data"):
            listing(tmp_path)
    with pytest.raises(ValueError, match="are no file names"):
        named_track(tmp_path, ["0001/../../x.jpg"], (0, 1), {"person": 1, "camera": 1}, "test/0")
    (tmp_path / "query.txt").unlink()
    with pytest.raises(ValueError, match=r"cannot read .*query\.txt"):
        ccvid.DESCRIPTION.read(tmp_path, AS_IT_IS)


def test_lsvids_queries_may_be_in_a_file_of_matlab_7_3(make_lsvid, tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "info" / "data" / "info_test.mat"
    path.unlink()
    with h5py.File(path, "w", userblock_size=512) as file:
        file["query"] = np.array([[4.0, 1.0]])
    with path.open("r+b") as file:  # as MATLAB begins them
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    assert people_and_cameras(lsvid.DESCRIPTION.read(tmp_path, AS_IT_IS).query) == [(3, 2), (2, 1)]
