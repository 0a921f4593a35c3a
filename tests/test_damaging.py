"""Files with seeded damage: each is read as it was written, made anew, or named in an error."""

import dataclasses
import json
import time

import cv2
import numpy as np
import pytest
import torch

from a3d_env.bank import FeatureBank
from a3d_env.bank_file import open_bank, save_bank
from a3d_env.bins import BinGrid
from agents.runs.bank_policy import PolicyRunConfig, read_policy
from agents.runs.checkpoint import read_checkpoint
from agents.runs.config import config_from_json, config_to_json
from agents.runs.logs import read_history
from agents.runs.presets import get_preset
from agents.runs.task import RunResult, Task, read_task, write_task
from backbone.data import array_file
from backbone.data.cache import FrameCache
from backbone.data.frame_files import read_image
from backbone.data.sets.synthetic import SyntheticConfig, read_synthetic
from backbone.data.tracklet import FrameFiles, Tracklet
from backbone.data.tracks import read_tracks
from backbone.embeddings import Embeddings, Origin, load_embeddings, save_embeddings
from backbone.glimpse import GlimpseNetwork
from backbone.json_file import write_object
from backbone.tensor_file import load_tensors, save_tensors
from backbone.weights_file import read_state
from scripts.compare.task import CompareResult, read_object

resource = pytest.importorskip("resource")
MUTATIONS = 200
EDITS = list(b'0123456789-.,"[]{} \n')
LONGEST_SECONDS, MOST_KILOBYTES = 5, 300_000
CONFIG = get_preset("tiny")
DRAWN = SyntheticConfig(
    num_train_people=2, num_test_people=2, tracklets_per_camera=1, num_frames=1, height=32, width=16, passers_by=0
)
RNG = np.random.default_rng(0)
NOISE = RNG.random((6, 8)).astype(np.float32)
IMAGE = cv2.resize(RNG.integers(0, 256, (8, 4, 3), dtype=np.uint8), (24, 48))


def damaged(content: bytes, generator: np.random.Generator) -> bytes:
    """Return the content with flipped bits, cut, with zeros, more or swapped bytes, or a character edited."""
    data = bytearray(content)
    first, second = sorted(int(place) for place in generator.integers(0, len(data), 2))
    size = int(generator.integers(1, 64))
    match int(generator.integers(6)):
        case 0:
            for place in generator.integers(0, len(data), int(generator.integers(1, 9))):
                data[place] ^= 1 << int(generator.integers(8))
        case 1:
            del data[first:]
        case 2:
            data[first : first + size] = bytes(len(data[first : first + size]))
        case 3:
            data += generator.bytes(size)
        case 4:
            one, other = data[first : first + size], data[second : second + size]
            if first + size <= second and len(one) == len(other):
                data[first : first + size], data[second : second + size] = other, one
        case 5:
            data[first : first + int(generator.integers(2))] = bytes([generator.choice(EDITS)])
    return bytes(data)


def plain(value):
    """Return a value made of texts, numbers and containers, to be compared."""
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, torch.Tensor | np.ndarray):
        value = np.asarray(value)
        return str(value.dtype), value.shape, value.tobytes()  # NaN is like itself there
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else repr(value)


def checkpoint(folder):
    weights = {"backbone.weight": torch.from_numpy(NOISE), "glimpse.identify.weight": torch.zeros(2, 3)}
    state = {
        "config": config_to_json(CONFIG),
        "people": [1, 2],
        "training_data": "a",
        "training_places": ["b"],
        "shared": {"step": 3, "representation": weights},
        "agent": {"policy": weights},
        "agent_training": {"counters": {}},
        "random": {"torch": torch.get_rng_state()},
        "scores_before": {"agent": {"R1": 1.0}},
        "seconds": 1.5,
        "progress": {"loss": [1.0]},
        "tested": weights,
    }
    save_tensors(folder / "checkpoint.pt", state)
    return lambda: read_checkpoint(folder)


def policy(folder):
    settings = dataclasses.asdict(PolicyRunConfig(bank=folder, out=folder))
    parameters = {"policy": {"weight": torch.from_numpy(NOISE)}}
    save_tensors(folder / "policy.pt", {"config": json.dumps(settings, default=str), "parameters": parameters})
    return lambda: read_policy(folder)


def weights(folder):
    save_tensors(folder / "weights.pt", {"a": torch.from_numpy(NOISE), "b": torch.ones(3)})
    return lambda: read_state(folder / "weights.pt")


def embeddings(folder, name="a.npz"):
    numbers, names = np.arange(6), [f"name {number}" for number in range(6)]
    origin = Origin("data", "test", {"split": 1}, "model", "agent", (1, 1, 1), (1, 1, 1), (1, 1, 1))
    parts = Embeddings(NOISE, numbers, numbers, names, names, names, np.ones((6, 4), np.int64), numbers, origin)
    save_embeddings(folder / name, parts)
    return lambda: load_embeddings(folder / name)


def safetensors(folder):
    return embeddings(folder, "a.safetensors")


def compared(folder):
    result = CompareResult(
        "ppo", 0, "a1b2", [{"step": 3, "reward": 0.25}], {"reward": [0.5, None]}, [1, 2], [[1]], [1, 1, 1], 64, 2,
        1.5, None, {"agent": "ppo"}, {}, {"torch": "2"},
    )  # fmt: skip
    write_object(folder / "0.json", dataclasses.asdict(result))
    return lambda: read_object(folder / "0.json", CompareResult, "run it again")


def ablated(folder):
    task, scores = Task("full", 0, CONFIG, folder), {"R1": 12.5, "hit_rate": None}
    settings = json.loads(config_to_json(CONFIG))
    write_object(folder / "result.json", dataclasses.asdict(RunResult(scores, {"centre": scores}, 1, settings)))
    return task.result


def written_task(folder):
    write_task(Task("full", 0, CONFIG, folder))
    return lambda: read_task(folder)


def cached(folder):
    (folder / "frames").mkdir()
    paths = tuple(folder / "frames" / f"{number}.png" for number in range(3))
    for path in paths:
        cv2.imwrite(str(path), IMAGE)
    tracklet = Tracklet(0, 0, FrameFiles(paths), "here")

    def read():
        return FrameCache(folder / "cache", 48, 24, "farneback").flow(tracklet)

    read()
    return read


def drawn(folder):
    def read():
        train, test = read_synthetic(DRAWN, folder)
        return [[one.person, one.truth_boxes, np.array(one.frames.array())] for one in (*train, *test)]

    read()
    return read


def bank(folder):
    grid = BinGrid((2, 2, 2), (1, 1, 1), (2, 8, 8))
    maps = torch.from_numpy(RNG.random((3, 3, 2, 2, 2)).astype(np.float32))
    clips = FeatureBank.from_feature_map(maps, grid, torch.arange(3), ["a", "b", "c"])
    folder.rmdir()
    save_bank(folder, clips, GlimpseNetwork(3, 2, 3))

    def read():
        found, network = open_bank(folder)
        return [found.bins, found.global_feature, found.identity, found.tracklet, network.state_dict()]

    return read


def picture(folder):
    cv2.imwrite(str(folder / "a.png"), IMAGE)
    return lambda: read_image(folder / "a.png")


FORMATS = [
    checkpoint,
    policy,
    weights,
    embeddings,
    safetensors,
    compared,
    ablated,
    written_task,
    cached,
    drawn,
    bank,
    picture,
]
# What people and other programs write, without a checksum: what it says now is read, and is of the right kind.
TEXTS = {
    "config.json": (
        lambda path: path.write_text(config_to_json(CONFIG)),
        lambda path: isinstance(config_from_json(path.read_bytes(), path), type(CONFIG)),
    ),
    "history.jsonl": (
        lambda path: path.write_text("".join(f'{{"step": {step}, "loss": {step / 7}}}\n' for step in range(9))),
        lambda path: all(isinstance(line["step"], int) for line in read_history(path)),
    ),
    "tracks.txt": (
        lambda path: path.write_text("".join(f"{frame},1,{frame},2,30,60,1,-1,-1,-1\n" for frame in range(1, 20))),
        lambda path: np.isfinite(read_tracks(path)[0].boxes).all(),
    ),
    "a.jpg": (
        lambda path: cv2.imwrite(str(path), IMAGE),
        lambda path: read_image(path).ndim == 3,
    ),
}


def damage_all(files, read, is_right, names):
    """Damage one of the files at a time, and put it back."""
    generator, contents, caught = np.random.default_rng(1), {path: path.read_bytes() for path in files}, 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(MUTATIONS):
        path = files[number % len(files)]
        path.write_bytes(damaged(contents[path], generator))
        array_file._VERIFIED.clear()  # as a new process would begin
        started = time.monotonic()
        try:
            found = read()
        except (ValueError, OSError) as error:
            assert any(name in str(error) for name in (path.name, *names)), (number, error)  # noqa: PT017
            caught += 1
        else:
            assert is_right(found), (number, path)
        assert time.monotonic() - started < LONGEST_SECONDS
        path.write_bytes(contents[path])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KILOBYTES
    return caught


@pytest.mark.slow
@pytest.mark.parametrize("write", FORMATS)
def test_a_damaged_file_is_named_or_read_as_it_was(write, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    read = write(folder)
    expected = plain(read())
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.parent.name != "frames")
    caught = damage_all(files, read, lambda found: plain(found) == expected, [str(folder)])
    assert caught or write in (cached, drawn)  # which heal


@pytest.mark.parametrize("name", TEXTS)
def test_damaged_text_is_named_or_read_as_what_it_says(name, tmp_path):
    write, is_sound = TEXTS[name]
    write(path := tmp_path / name)
    damage_all([path], lambda: is_sound(path), bool, [])


OTHER = [3.5, "text", [[]], None]
WITHOUT = object()


@pytest.mark.parametrize("write", [checkpoint, policy])
def test_values_of_other_types_are_named(write, tmp_path):
    read = write(tmp_path)
    (path,) = tmp_path.iterdir()
    state = load_tensors(path)
    for name in [name for name in state if name not in ("training_data", "training_places", "progress", "tested")]:
        for value in (*OTHER, WITHOUT):
            if type(value) is type(state[name]):
                continue
            save_tensors(path, {key: one for key, one in {**state, name: value}.items() if one is not WITHOUT})
            with pytest.raises(ValueError, match=path.name):
                read()


@pytest.mark.parametrize("write", [compared, ablated, written_task])
def test_json_of_other_types_is_named(write, tmp_path):
    read = write(tmp_path)
    (path,) = tmp_path.iterdir()
    whole = json.loads(path.read_text())
    whole.pop("checksum")
    path.write_text(json.dumps(whole))
    read()  # a file of a version without checksums
    for name in set(whole) - {"peak_mb", "test_data", "num_train_people", "curve", "other_data"}:
        for value in (*OTHER, WITHOUT):
            if type(value) is type(whole[name]) or (name == "seconds" and value == OTHER[0]):
                continue
            path.write_text(
                json.dumps({key: one for key, one in {**whole, name: value}.items() if one is not WITHOUT})
            )
            with pytest.raises(ValueError, match=rf"{path.name} is damaged, or of another version"):
                read()
