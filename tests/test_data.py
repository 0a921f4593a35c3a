"""Data sets by name: who is trained on, who asks, and who is searched."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from backbone.data import DATASETS, DataConfig, load_data
from backbone.data.sets.synthetic import SyntheticConfig

CONFIG = DataConfig(
    synthetic=SyntheticConfig(num_train_people=3, num_test_people=2, num_frames=2, height=32, width=16)
)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Four people in both cameras with two tracklets in each, and two in the first camera alone."""
    root = tmp_path / "people"
    for person in range(6):
        for camera in ("a", "b") if person < 4 else ("a",):
            for number in ("1", "2"):
                path = root / f"p{person}" / camera / number
                path.mkdir(parents=True)
                cv2.imwrite(str(path / "0.png"), np.zeros((8, 4, 3), np.uint8))
    return root


def names(tracklets) -> list[str]:
    return [tracklet.source for tracklet in tracklets]


def test_registry():
    assert list(DATASETS) == ["synthetic", "folder", "prid", "ilids", "mars"]


def test_synthetic_queries_one_camera_in_the_other(tmp_path):
    data = load_data("synthetic", CONFIG, tmp_path)
    assert data.name == "synthetic"
    assert data.train_people == [0, 1, 2]
    assert [(one.person, one.camera) for one in data.query] == [(3, 0), (4, 0)]
    assert [(one.person, one.camera) for one in data.gallery] == [(3, 1), (4, 1)]
    assert all(one.source == f"synthetic/{one.name}" for one in data.train)
    assert [path.name for path in tmp_path.iterdir()] == [CONFIG.synthetic.key]


def test_synthetic_may_be_drawn_elsewhere(tmp_path):
    load_data(f"synthetic:{tmp_path / 'own'}", CONFIG, tmp_path / "cache")
    assert (tmp_path / "own" / CONFIG.synthetic.key).is_dir()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("seed", range(4))
def test_folder_queries_and_gallery(folder, tmp_path, seed):
    data = load_data(f"folder:{folder}", DataConfig(split_seed=seed), tmp_path)
    assert data.name == f"folder:{folder}"
    test_people = {one.person for one in data.gallery}
    assert len(test_people) == 3
    assert not test_people & set(data.train_people)
    assert test_people | set(data.train_people) == {1, 2, 3, 4, 5, 6}
    seen_twice = sorted(person for person in test_people if person <= 4)
    assert len(seen_twice) == 2
    # the first tracklet of each camera asks, of those whom another camera has seen
    expected = [f"people/p{person - 1}/{camera}/1" for person in seen_twice for camera in "ab"]
    assert names(data.query) == expected
    assert set(names(data.query)) <= set(names(data.gallery))
    assert all(one.source == f"people/{one.name}" for one in [*data.train, *data.gallery])
    assert len(data.gallery) == 2 * 4 + 2
    assert len(data.train) + len(data.gallery) == 4 * 4 + 2 * 2


def test_share_of_people_kept_for_the_test(folder, tmp_path):
    data = load_data(f"folder:{folder}", DataConfig(test_fraction=0.7), tmp_path)
    assert len({one.person for one in data.gallery}) == 4
    assert len(data.train_people) == 2


def test_home_is_expanded(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_data("folder:~/people", DataConfig(), tmp_path).train


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mars2", "unknown data 'mars2'; known: synthetic, folder"),
        ("", "unknown data ''"),
        ("folder", "where is it"),
        ("folder:", "where is it"),
        ("folder:/no/such/place", "no folder at /no/such/place"),
    ],
)
def test_wrong_specs(tmp_path, spec, message):
    with pytest.raises(ValueError, match=message):
        load_data(spec, DataConfig(), tmp_path)
