"""Files appear whole, are on the disk before they get their name, and damage in them is found."""

import errno
import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from backbone import files as module
from backbone.embeddings import load_embeddings
from backbone.files import atomic_path, check_writable
from backbone.reading import check_archive
from backbone.tensor_file import load_tensors


def test_a_file_appears_when_all_went_well(tmp_path):
    with atomic_path(tmp_path / "new" / "a.txt") as partial:
        partial.write_text("all")
        assert partial.suffix == ".txt"  # libraries choose the kind of file by it
        assert not (tmp_path / "new" / "a.txt").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_what_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with atomic_path(path) as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("a.txt", "old")]


def test_content_and_name_are_on_the_disk(tmp_path, monkeypatch):
    opened, synced, really_open = {}, [], os.open

    def note(path, *rest):
        opened[number := really_open(path, *rest)] = str(path)
        return number

    monkeypatch.setattr(os, "open", note)
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(opened[number]))
    with atomic_path(tmp_path / "a.txt") as partial:
        partial.write_text("all")
    assert synced == [str(partial), str(tmp_path)]


def test_two_writers_do_not_meet(tmp_path):
    def write(number):
        with atomic_path(tmp_path / "a.txt") as partial:
            partial.write_text(f"{number}" * 1000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(50)))
    text = (tmp_path / "a.txt").read_text()
    assert text in {f"{number}" * 1000 for number in range(50)}
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_killed_writer_left_is_removed_and_a_living_ones_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, other = tmp_path / f"a.{module._HOST}-{dead.pid}-00.partial.txt", tmp_path / "a.b.txt"
    alive = tmp_path / f"a.{module._HOST}-{os.getppid()}-00.partial.txt"
    for path in (left, other, alive):
        path.touch()
    with atomic_path(tmp_path / "a.txt") as partial:
        partial.touch()
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", other.name, alive.name}


def test_that_a_file_can_be_written_is_found_out_without_a_trace(tmp_path):
    check_writable(tmp_path / "a.json")
    assert not list(tmp_path.iterdir())
    check_writable(tmp_path / "new" / "deep" / "a.json")
    check_writable(tmp_path / "new" / "run", is_folder=True)
    check_writable(tmp_path, is_folder=True)
    assert not list(tmp_path.iterdir())
    with pytest.raises(IsADirectoryError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(IsADirectoryError, match="is no regular file"):
        check_writable(Path(os.devnull))


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_folder_that_may_not_be_written_to(is_folder, tmp_path, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    place = tmp_path / "new" if is_folder else tmp_path
    with pytest.raises(OSError, match=rf"nothing can be written to {place} \(Permission denied\): name another"):
        check_writable(tmp_path / "new", is_folder=is_folder)
    assert not list(tmp_path.iterdir())


def test_zeros_inside_a_weight_are_found(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.randn(100, 100)}, path)
    whole = path.read_bytes()
    assert load_tensors(path)["weight"].shape == (100, 100)
    place = len(whole) // 2
    path.write_bytes(whole[:place] + bytes(4096) + whole[place + 4096 :])
    assert torch.load(path, weights_only=True)["weight"].shape == (100, 100)  # torch takes it
    with pytest.raises(zipfile.BadZipFile, match=r"the checksum of .* is wrong"):
        load_tensors(path)


def test_an_archive_that_grows_beyond_measure_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", descriptors=np.zeros((20_000, 1_000), np.float32))
    assert (tmp_path / "bomb.npz").stat().st_size < 200_000
    with pytest.raises(ValueError, match=r"descriptors\.npy would grow from [\d,]+ to 80,000,128 bytes"):
        load_embeddings(tmp_path / "bomb.npz")
    np.savez(tmp_path / "zeros.npz", descriptors=np.zeros((20_000, 1_000), np.float32))  # as long as it says
    check_archive(tmp_path / "zeros.npz")
