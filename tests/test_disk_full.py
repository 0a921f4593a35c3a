"""Where a disk takes no more, every writer says which file, which disk, and how much is free; nothing is left."""

import errno
import os
import subprocess
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from a3d_env.bank_file import save_bank
from backbone.data.array_file import write_array
from backbone.data.sets.synthetic import SyntheticConfig, read_synthetic
from backbone.embeddings import Embeddings, Origin, save_embeddings
from backbone.files import LOCK, atomic_path, folder_lock
from backbone.tensor_file import load_tensors, save_tensors
from scripts.export import program as export

resource = pytest.importorskip("resource")
SMALL = SyntheticConfig(num_train_people=3, num_test_people=2, tracklets_per_camera=2, num_frames=8)
LIMIT = 4_000  # bytes that a file may have
NOISE = np.random.default_rng(0).random((100, 100)).astype(np.float32)
TAKES = r"(It takes (more than )?\d+\.\d\d MiB, and )?"
SAYS = rf" can't be written: File too large\. {TAKES}[\d.]+ MiB are free on the disk"


@contextmanager
def files_may_have(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def embeddings():
    names = [str(number) for number in range(100)]
    numbers = np.arange(100)
    origin = Origin("data", "test", {}, "model", "agent", (1, 1, 1), (1, 1, 1), (1, 1, 1))
    bins = np.zeros((100, 4), np.int64)
    return Embeddings(NOISE, numbers, numbers, names, names, names, bins, numbers, origin)


def write_text(path):
    with atomic_path(path) as partial:
        partial.write_text("word " * 10_000)


def write_with_export(path):
    program = torch.export.export(torch.nn.Linear(100, 100), (torch.ones(1, 100),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "export_program", lambda *_: program)
        patch.setattr(export, "DeterministicModel", lambda *_: None)
        patch.setattr(export, "example", lambda *_: ())
        patch.setattr(export, "compare", lambda *_: export.Parity(1, 1, 0.0))
        export.export_model(SimpleNamespace(representation=None, agent=None, grid=None), path)


WRITERS = {
    "array.npy": lambda path: write_array(path, NOISE),
    "checkpoint.pt": lambda path: save_tensors(path, {"weight": torch.from_numpy(NOISE)}),
    "exported.pt2": write_with_export,
    "descriptors.npz": lambda path: save_embeddings(path, embeddings()),
    "descriptors.safetensors": lambda path: save_embeddings(path, embeddings()),
    "text.json": write_text,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_has_no_room(name, tmp_path):
    with files_may_have(LIMIT), pytest.raises(OSError, match=name + SAYS):
        WRITERS[name](tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    WRITERS[name](tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_folders_that_have_no_room(tmp_path, played):
    with files_may_have(LIMIT), pytest.raises(OSError, match=r"frames\.npy" + SAYS):
        read_synthetic(SMALL, tmp_path)
    with files_may_have(LIMIT), pytest.raises(OSError, match="bank" + SAYS):
        save_bank(tmp_path / "bank", *played)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_says_little_is_explained_by_its_folder(tmp_path):
    def write():
        with folder_lock(tmp_path / "run"):
            (tmp_path / "run" / "events").write_bytes(bytes(2 * LIMIT))

    with files_may_have(LIMIT), pytest.raises(OSError, match="run" + SAYS):
        write()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {LOCK, "events"}


def test_what_fits_is_written_as_ever(tmp_path):
    save_tensors(tmp_path / "a.pt", {"weight": torch.from_numpy(NOISE)})
    assert load_tensors(tmp_path / "a.pt")["weight"].numpy().tobytes() == NOISE.tobytes()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 200 kB, where one may be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(tmp_path)]
    if os.name != "posix" or os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no disk can be mounted")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_is_named(small_disk):
    with pytest.raises(OSError, match=rf"No space left on device\. It takes .* free on the disk at {small_disk}$"):
        read_synthetic(SMALL, small_disk)
    assert list(small_disk.iterdir()) == []


def test_the_folder_itself_can_be_the_disk_and_the_error_can_name_another_file(tmp_path, monkeypatch):
    monkeypatch.setattr(
        os.path, "ismount", lambda folder: os.fspath(folder) in (str(tmp_path), str(tmp_path / "run"))
    )

    def fill(*names):
        with folder_lock(tmp_path / "run"):
            raise OSError(errno.ENOSPC, "full", *names)

    says = r"can't be written: full\. [\d.]+ MiB are free on the disk at"
    with pytest.raises(OSError, match=rf"run {says} {tmp_path}/run$"):
        fill()
    with pytest.raises(OSError, match=rf"other {says} {tmp_path}$"):
        fill(str(tmp_path / "other"))
