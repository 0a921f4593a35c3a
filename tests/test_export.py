"""The command that exports a run, and what onnxruntime makes of the file."""

import dataclasses
import itertools
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from agents.deterministic import DeterministicModel
from agents.runs.describe import describe_tracklets
from agents.runs.embedding import embed
from agents.runs.model import load_model, load_run
from backbone.data.clips import consecutive_clips
from backbone.data.inputs import network_inputs
from backbone.data.tracklet import Frames
from scripts.cli import main
from scripts.export.program import OUTPUTS, compare, describe_clips, example

pytestmark = pytest.mark.slow

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def run(tmp_path_factory, own_cache):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    flags = ["--attention.overview", "2", "3", "2", "--policy.locator", "mixture"]
    assert main(["train", "--preset", "tiny", "--steps", "2", *flags, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    assert main(["export", "--checkpoint", str(run), "--out", str(path)]) == 0
    return path


def test_the_page_uses_the_file_as_it_is(exported, monkeypatch):
    page = (Path(__file__).parents[1] / "docs" / "trained_model.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(exported.parent)
    found = {}
    exec(block.replace("a3d.onnx", exported.name), found)
    assert np.linalg.norm(found["descriptor"]) == pytest.approx(1)


@pytest.mark.parametrize("count", [1, 5])
def test_onnxruntime_computes_what_the_model_does(run, exported, count):
    model = load_model(run, device="cpu")
    module = DeterministicModel(model.representation, model.agent, model.grid)
    clip, flow = example(model, count, seed=7)
    with torch.no_grad():
        descriptor, bins, logits = module(clip, flow)
    session = onnxruntime.InferenceSession(exported)
    found = session.run(list(OUTPUTS), {"clip": clip.numpy(), "flow": flow.numpy()})
    np.testing.assert_array_equal(found[1], bins)
    np.testing.assert_allclose(found[0], descriptor, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[2], logits, rtol=1e-4, atol=1e-4)


def test_the_file_says_what_it_is(run, exported):
    model = load_model(run)
    session = onnxruntime.InferenceSession(exported)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["people"]) == model.people
    assert (facts["agent"], facts["flow_method"], facts["model"]) == ("reinforce", "dis-fast", model.digest)
    assert [one.shape[1:] for one in session.get_inputs()] == [[3, 64, 32, 3], [3, 64, 32, 2]]
    assert {one.name: one.type for one in session.get_inputs()}["clip"] == "tensor(uint8)"


def test_real_frames_and_the_programs_inputs_give_what_embed_writes(run, exported, tmp_path):
    generator = np.random.default_rng(0)
    low = (generator.random((7, 8, 4, 3)) * 255).astype(np.uint8)
    heights = [150, 150, 150, 150, 64, 40, 30]  # shrunk, as they are, and enlarged
    frames = [cv2.resize(frame, (70, height)) for frame, height in zip(low, heights, strict=True)]
    (tmp_path / "person").mkdir()
    for number, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / "person" / f"{number}.png"), frame[:, :, ::-1])
    model = load_model(run, device="cpu")
    model.representation.precision = "float32"
    described = embed(model, str(tmp_path / "person"), "test")
    session = onnxruntime.InferenceSession(exported)
    shape = session.get_inputs()[0].shape
    assert shape == ["batch", 3, 64, 32, 3]
    clip, flow, num_different = network_inputs(iter(frames), *shape[2:4], shape[1], "dis-fast")
    assert (len(clip), num_different.tolist()) == (3, [3, 3, 1])  # the last clip is padded
    # The flow of a clip by itself would stand still in the padding, here and where two frames are left.
    assert np.abs(flow[2]).max() == np.abs(flow[2, 0]).max()
    found = session.run(list(OUTPUTS), {"clip": clip, "flow": flow})
    np.testing.assert_allclose(found[0].mean(axis=0), described.descriptors[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found[1][1], described.bins[0])


def test_a_torch_program_is_written_and_named(run, tmp_path, capsys):
    path = tmp_path / "model.pt2"
    assert main(["export", "--checkpoint", str(run), "--out", str(path)]) == 0
    assert "on 6 clips it looks at the same bins as the model in 6" in capsys.readouterr().out
    model = load_model(run)
    with torch.no_grad():
        own = DeterministicModel(model.representation, model.agent, model.grid)(*example(model, 3))
        found = torch.export.load(path).module()(*example(model, 3))
    torch.testing.assert_close(found[0], own[0], rtol=1e-4, atol=1e-4)


def nearly(model, change):
    """What the model computes, changed."""

    def run(inputs):
        outputs = [output.copy() for output in describe_clips(model, inputs, "float32")]
        change(*outputs)
        return tuple(outputs)

    return run


def fill_nan(descriptor, bins, logits):
    descriptor[:] = np.nan


def other_bins(descriptor, bins, logits):
    bins[:, 2] += 1


def other_logits(descriptor, bins, logits):
    logits += 0.01


@pytest.mark.parametrize("change", [fill_nan, other_bins, other_logits])
def test_an_export_that_computes_something_else_is_not_written(run, tmp_path, monkeypatch, capsys, change):
    model = load_model(run, device="cpu")
    program = torch.export.export(torch.nn.Identity(), (torch.ones(1),))  # the model's own takes seconds
    monkeypatch.setattr("scripts.export.program.export_program", lambda *_: program)
    monkeypatch.setattr("scripts.export.program._program_runner", lambda path: nearly(model, change))
    assert main(["export", "--checkpoint", str(run), "--out", str(tmp_path / "model.pt2")]) == 2
    assert "the exported file computes other outputs than the model" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_differences_are_those_of_clips_with_the_same_bins(run):
    model = load_model(run, device="cpu")

    def change(descriptor, bins, logits):
        bins[0, 2] += 1
        descriptor[0] += 50
        descriptor[1:] += 0.25

    parity = compare(model, nearly(model, change), "float32")  # of 1 and 5 clips
    assert (parity.clips, parity.same_bins) == (6, 4)
    assert parity.difference == pytest.approx(0.25, abs=1e-5)


def test_it_is_compared_with_what_embedding_computes(run, tmp_path):
    model = load_model(run, device="cpu")
    model.representation.precision = "float32"
    data = load_run(run).data
    tracklets = [dataclasses.replace(one, frames=FirstFrames(one.frames, 3)) for one in data.query]
    described = describe_tracklets(model, tracklets)
    found = []
    for one in tracklets:
        clip, flow = (torch.from_numpy(np.array(part))[None] for part in model.cache.clip(one, np.arange(3)))
        found.append(describe_clips(model, (clip, flow.float()), "float32"))
    np.testing.assert_allclose(
        np.concatenate([outputs[0] for outputs in found]), described.descriptors, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(np.concatenate([outputs[1] for outputs in found]), described.bins)


def test_the_clips_of_a_tracklet_add_up_to_what_is_compared_by_cosine(tmp_path, own_cache):
    flags = ["--preset", "tiny", "--steps", "2", "--descriptor.compared", "global", "--out", str(tmp_path / "run")]
    assert main(["train", *flags]) == 0
    run = load_run(tmp_path / "run", device="cpu")
    run.representation.precision = "float32"
    tracklet = run.data.query[0]  # of 8 frames: clips of 3, 3 and 2
    total = 0.0
    for indices in consecutive_clips(len(tracklet), run.config.load.num_frames):
        clip, flow = (torch.from_numpy(np.array(part))[None] for part in run.cache.clip(tracklet, indices))
        total = total + describe_clips(run, (clip, flow.float()), "float32")[0][0] * len(set(indices.tolist()))
    described = describe_tracklets(run, [tracklet]).descriptors[0]
    np.testing.assert_allclose(total / np.linalg.norm(total), described, rtol=1e-4, atol=1e-5)


@dataclasses.dataclass(frozen=True)
class FirstFrames:
    """The first frames of others."""

    frames: Frames
    count: int

    def __len__(self):
        return self.count

    def read(self):
        yield from itertools.islice(self.frames.read(), self.count)

    @property
    def key(self):
        return f"{self.frames.key}{self.count}"


def test_mistakes_are_explained(run, tmp_path, capsys):
    assert main(["export", "--checkpoint", str(run), "--out", str(tmp_path / "model.bin")]) == 2
    assert "end in .onnx or .pt2" in capsys.readouterr().err
    assert main(["export", "--checkpoint", str(tmp_path), "--out", str(tmp_path / "model.onnx")]) == 2
    assert "no checkpoint at" in capsys.readouterr().err
