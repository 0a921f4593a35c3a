"""Banks as folders: back as they were, streamed as whole, never half-written, and damage named."""

import dataclasses
import json
import os
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
import torch

from a3d_env import bank_file, bank_format
from a3d_env.bank import FeatureBank
from a3d_env.bank_file import BankWriter, open_bank, open_playable_bank, save_bank
from a3d_env.bank_format import check_finite, open_array, read_meta
from a3d_env.vector import Attention3DVectorEnv
from backbone.files import temporary_name

ARRAYS = ("bins", "global_feature", "identity", "frames", "truth_boxes")


def part(bank: FeatureBank, clips: slice) -> FeatureBank:
    values = {name: value[clips] for name in (*ARRAYS, "tracklet") if (value := getattr(bank, name)) is not None}
    return dataclasses.replace(bank, **values)


def check_same(bank: FeatureBank, other: FeatureBank) -> None:
    assert bank.grid == other.grid
    assert bank.tracklet == other.tracklet
    for name in ARRAYS:
        own = getattr(bank, name)
        assert (own is None) == (getattr(other, name) is None), name
        if own is not None:
            np.testing.assert_array_equal(own, getattr(other, name), err_msg=name)


@pytest.fixture(scope="module")
def folder(played, tmp_path_factory):
    folder = tmp_path_factory.mktemp("banks") / "whole" / "bank"
    save_bank(folder, *played)
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    """A copy to be damaged."""
    (tmp_path / "bank").mkdir()
    for path in folder.iterdir():
        (tmp_path / "bank" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "bank"


def test_a_saved_bank_comes_back_as_it_was(folder, played):
    bank, glimpse = open_bank(folder)
    check_same(bank, played[0])
    np.testing.assert_array_equal(bank.hits, played[0].hits)
    for name, value in played[1].state_dict().items():
        assert torch.equal(value, glimpse.state_dict()[name]), name
    assert not any(parameter.requires_grad for parameter in glimpse.parameters())
    assert sorted(path.name for path in folder.parent.iterdir()) == ["bank"]


def test_what_is_missing_stays_missing(random_case, tmp_path):
    bank, glimpse = random_case()
    save_bank(tmp_path / "bank", bank, glimpse)
    check_same(open_bank(tmp_path / "bank")[0], bank)
    assert not (tmp_path / "bank" / "frames.npy").exists()


def test_opening_draws_no_random_numbers_and_warns_of_nothing(folder):
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_bank(folder)
    assert torch.equal(before, torch.get_rng_state())


def test_writing_to_an_opened_bank_changes_no_file(folder):
    bank, _ = open_bank(folder)
    bank.bins[0] = 7
    bank.frames[0] = 7
    assert bank.bins[0].eq(7).all()
    other, _ = open_bank(folder)
    assert not other.bins[0].eq(7).any()
    assert not (other.frames[0] == 7).any()


def test_a_file_larger_than_memory_can_be_opened(tmp_path):
    shape = (2**29, 1024)  # 2 TiB, of which nothing is on the disk
    path = tmp_path / "bins.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + 4 * 2**39)
    bins = torch.from_numpy(open_array(path, np.float32, shape))
    assert bins.shape == shape
    assert bins[-1].tolist() == [0] * 1024


@pytest.mark.parametrize("sizes", [[1] * 64, [30, 30, 4], [64]])
def test_batches_make_the_whole(folder, played, tmp_path, sizes):
    bank, glimpse = played
    with BankWriter(tmp_path / "bank", len(bank), glimpse) as writer:
        start = 0
        for size in sizes:
            clips = range(start, start + size)
            writer.append(part(bank, slice(start, start + size)), [100 + c for c in clips], [c % 2 for c in clips])
            start += size
    check_same(open_bank(tmp_path / "bank")[0], bank)
    for name in ARRAYS:
        assert (tmp_path / "bank" / f"{name}.npy").read_bytes() == (folder / f"{name}.npy").read_bytes()
    meta = read_meta(tmp_path / "bank")
    assert meta.person == list(range(100, 164))
    assert meta.camera == [0, 1] * 32
    assert read_meta(folder).person is None


def test_gradients_and_other_dtypes_are_written_as_the_formats(random_case, tmp_path):
    bank, glimpse = random_case()
    wide = dataclasses.replace(
        bank,
        bins=bank.bins.double().requires_grad_(),
        identity=bank.identity.int(),
        truth_boxes=np.zeros((4, 6, 4), np.float32),
    )
    save_bank(tmp_path / "bank", wide, glimpse)
    check_same(open_bank(tmp_path / "bank")[0], dataclasses.replace(bank, truth_boxes=np.zeros((4, 6, 4))))


def failing_writes(bank, glimpse):
    """Ways to fail: what is appended, to how many announced clips, and the message."""
    nan = bank.bins.clone()
    nan[2, 5] = torch.nan
    boxed = dataclasses.replace(bank, truth_boxes=np.zeros((4, 6, 4)))
    return {
        "too few": ([bank], 5, "is 5, and 4 clips were appended"),
        "none": ([], 5, "is 5, and 0 clips were appended"),
        "too many": ([bank, bank], 5, "is 5, and more clips were appended"),
        "nan": ([dataclasses.replace(bank, bins=nan)], 4, r"FeatureBank\.bins holds NaN or infinity, in clip 2"),
        "unlike": ([bank, boxed], 8, "a batch is unlike those before"),
        "unknown people": ([dataclasses.replace(bank, identity=bank.identity + 3)], 4, "from 3 to 6; .* run to 5"),
    }


@pytest.mark.parametrize("failure", ["too few", "none", "too many", "nan", "unlike", "unknown people"])
def test_nothing_half_written_is_left(random_case, tmp_path, failure):
    bank, glimpse = random_case()
    banks, num_clips, message = failing_writes(bank, glimpse)[failure]

    def write():
        with BankWriter(tmp_path / "bank", num_clips, glimpse) as writer:
            for bank in banks:
                writer.append(bank)

    with pytest.raises(ValueError, match=message):
        write()
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing_and_a_killed_writer_is_no_obstacle(random_case, tmp_path):
    bank, glimpse = random_case()

    def interrupted():
        with BankWriter(tmp_path / "bank", 8, glimpse) as writer:
            writer.append(bank)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    name = temporary_name(tmp_path / "bank").name.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
    (tmp_path / name).mkdir()
    (tmp_path / name / "bins.npy").write_bytes(b"half")
    save_bank(tmp_path / "bank", bank, glimpse)
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]


def test_what_a_writer_refuses(random_case, tmp_path, monkeypatch):
    bank, glimpse = random_case()
    save_bank(tmp_path / "bank", bank, glimpse)
    with pytest.raises(ValueError, match=r"there is something at .*bank already"):
        save_bank(tmp_path / "bank", bank, glimpse)
    with pytest.raises(ValueError, match="1 clip or more"):
        BankWriter(tmp_path / "other", 0, glimpse)
    with pytest.raises(ValueError, match="have 5 numbers, the glimpse network takes 7"):
        save_bank(tmp_path / "other", bank, random_case(num_channels=7)[1])
    with BankWriter(tmp_path / "with people", 4, glimpse) as writer:
        with pytest.raises(ValueError, match="4 clips need as many numbers of person, got 3"):
            writer.append(bank, [1, 2, 3])
        writer.append(part(bank, slice(0, 2)), [1, 2])
        with pytest.raises(ValueError, match="some batches have person and some have not"):
            writer.append(part(bank, slice(2, 4)))
        writer.append(part(bank, slice(2, 4)), [3, 4])
    monkeypatch.setattr(bank_file.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(ValueError, match=r"needs .* GiB, its disk has 0\.0 free"):
        save_bank(tmp_path / "large", bank, glimpse)
    assert not (tmp_path / "large").exists()


DAMAGES = {
    "truncated": ("bins.npy", lambda content: content[: len(content) // 2], "truncated"),
    "one byte short": ("frames.npy", lambda content: content[:-1], "truncated"),
    "empty": ("identity.npy", lambda content: b"", "truncated"),
    "no array": ("global_feature.npy", lambda content: b"weights", "truncated"),
    "no weights": ("glimpse.pt", lambda content: b"weights", "UnpicklingError"),
    "half the weights": ("glimpse.pt", lambda content: content[: len(content) // 2], "glimpse network"),
    "no json": ("meta.json", lambda content: b"weights", "damaged"),
    "other json": ("meta.json", lambda content: b"[]", "damaged"),
}


@pytest.mark.parametrize("name", [*(f"{array}.npy" for array in ARRAYS), "glimpse.pt", "meta.json"])
def test_missing_files_are_named(copied, name):
    (copied / name).unlink()
    with pytest.raises(ValueError, match=rf"no bank at .*{name}|{name} is missing"):
        open_bank(copied)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_named(copied, damage):
    name, change, message = DAMAGES[damage]
    (copied / name).write_bytes(change((copied / name).read_bytes()))
    with pytest.raises(ValueError, match=rf"{name} .*{message}"):
        open_bank(copied)


WRONG_ARRAYS = {
    "bins": np.zeros((64, 197, 19), np.float32),
    "global_feature": np.zeros((64, 19), np.float64),
    "identity": np.zeros((63,), np.int64),
    "truth_boxes": np.zeros((64, 6, 4), np.float32),
    "frames": np.zeros((64, 6, 128, 3, 64), np.uint8),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_wrong_shapes_and_dtypes_are_named(copied, name):
    np.save(copied / f"{name}.npy", WRONG_ARRAYS[name])
    with pytest.raises(ValueError, match=rf"{name}\.npy holds .* expected"):
        open_bank(copied)


@pytest.mark.parametrize(("name", "value"), [("bins", np.nan), ("global_feature", np.inf), ("identity", -1)])
def test_wrong_values_are_named(copied, name, value):
    array = np.load(copied / f"{name}.npy")
    array[17] = value
    np.save(copied / f"{name}.npy", array)
    meta = json.loads((copied / "meta.json").read_text())
    (copied / "meta.json").write_text(json.dumps({**meta, "checksums": {}}))  # of a writer that means it
    with pytest.raises(ValueError, match=rf"{name}\.npy (holds NaN or infinity, in clip 17|runs from -1 to 7)"):
        open_bank(copied)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARRAYS)
def test_any_damage_of_an_array_is_found(copied, name):
    """Bits and bytes anywhere, in the header too; zeros; an end cut off, or something behind it."""
    path, generator = copied / f"{name}.npy", np.random.default_rng(0)
    whole = path.read_bytes()
    places = [*generator.integers(0, 128, 20), *generator.integers(0, len(whole), 20)]
    mutations = []
    for place in map(int, places):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(generator.integers(8))
        mutations.append(bytes(changed))
    mutations += [whole[:-1], whole + b"x", whole[:200] + bytes(len(whole) - 200), b"", whole[:50]]
    for content in mutations:
        path.write_bytes(content)
        if content != whole:
            with pytest.raises(ValueError, match=rf"{name}\.npy"):
                open_bank(copied)
    path.write_bytes(whole)
    open_bank(copied)


def test_of_a_large_file_some_clips_are_checked(monkeypatch):
    features = np.zeros((100, 50), np.float32)
    monkeypatch.setattr(bank_format, "MAX_CHECKED_BYTES", features.nbytes // 10)
    features[11] = np.nan
    check_finite(features, "it")
    features[20] = np.nan
    with pytest.raises(ValueError, match="in clip 20"):
        check_finite(features, "it")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("version", 1, "is of version 1, this program reads 2"),
        ("tracklet", [], "a clip or more"),
        ("tracklet", None, "damaged"),
        ("grid", {"feature_size": [1, 1, 1], "bin_size": [2, 2, 2], "clip_size": [6, 128, 64]}, "does not fit"),
        ("person", [1], "1 numbers of person for 64 clips"),
        ("surprise", 1, "damaged"),
    ],
)
def test_wrong_metas_are_named(copied, key, value, message):
    meta = json.loads((copied / "meta.json").read_text())
    (copied / "meta.json").write_text(json.dumps({**meta, key: value}))
    with pytest.raises(ValueError, match=rf"meta\.json.*{message}"):
        open_bank(copied)


def test_weights_of_another_network_or_with_nan_are_named(copied, random_case):
    state = torch.load(copied / "glimpse.pt", weights_only=True)
    state["identify.bias"][3] = torch.nan
    torch.save(state, copied / "glimpse.pt")
    with pytest.raises(ValueError, match=r"glimpse\.pt holds NaN or infinity, in identify\.bias"):
        open_bank(copied)
    torch.save(random_case()[1].state_dict(), copied / "glimpse.pt")
    with pytest.raises(ValueError, match=r"glimpse\.pt does not hold the bank's glimpse network: Error.* size"):
        open_bank(copied)


def test_environments_open_a_folder(folder, played):
    env = gymnasium.make("a3d_env:A3D/Attention3D-v0", bank=str(folder))
    expected = gymnasium.make("a3d_env:A3D/Attention3D-v0", bank=played[0], glimpse=played[1])
    observation, info = env.reset(seed=5)
    wanted, wanted_info = expected.reset(seed=5)
    assert info["tracklet"] == wanted_info["tracklet"]
    for name, value in wanted.items():
        np.testing.assert_array_equal(observation[name], value)
    batched = Attention3DVectorEnv(3, bank=folder, reward="log_prob")
    batched.reset(seed=0)
    assert len(batched.process.bank) == 64
    with pytest.raises(ValueError, match="has its own glimpse network"):
        Attention3DVectorEnv(3, bank=folder, glimpse=played[1])
    with pytest.raises(ValueError, match="there is no bank at nowhere"):
        gymnasium.make("a3d_env:A3D/Attention3D-v0", bank="nowhere")


def test_new_people_can_be_kept_but_not_played_with(random_case, tmp_path):
    bank, glimpse = random_case()
    new = dataclasses.replace(bank, identity=bank.identity + glimpse.num_identities)
    with BankWriter(tmp_path / "new", len(new), glimpse, new_people=True) as writer:
        with pytest.raises(ValueError, match="new people have to be 6 or more"):
            writer.append(bank)
        writer.append(new)
    check_same(open_bank(tmp_path / "new")[0], new)
    for opening in (open_playable_bank, lambda path: Attention3DVectorEnv(2, bank=path)):
        with pytest.raises(ValueError, match="people whom its F_c was not trained on"):
            opening(tmp_path / "new")


def test_episodes_can_begin_on_some_clips_only(played):
    env = Attention3DVectorEnv(16, *played, clips=np.array([3, 50]))
    _, info = env.reset(seed=0)
    seen = set(info["clip"].tolist())
    for _ in range(6):
        seen |= set(env.step(env.action_space.sample())[4]["clip"].tolist())
    assert seen == {3, 50}
    assert env.reset(options={"clip": 7})[1]["clip"].tolist() == [7] * 16
    env.set_bank(played[0])
    assert len(set(env.reset(seed=0)[1]["clip"].tolist())) > 8
    with pytest.raises(ValueError, match="clips must be whole numbers from 0 to 63"):
        Attention3DVectorEnv(2, *played, clips=np.array([64]))
