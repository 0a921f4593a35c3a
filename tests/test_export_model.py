"""The command that exports a run, and what onnxruntime makes of the file."""

import json

import numpy as np
import pytest
import torch

from agents.deterministic import DeterministicModel
from scripts.cli import main
from scripts.export_model import OUTPUTS, compare, example
from scripts.run import load_model

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


def test_a_torch_program_is_written_and_named(run, tmp_path, capsys):
    path = tmp_path / "model.pt2"
    assert main(["export", "--checkpoint", str(run), "--out", str(path)]) == 0
    assert "on 6 clips it looks at the same bins as the model in 6" in capsys.readouterr().out
    model = load_model(run)
    with torch.no_grad():
        own = DeterministicModel(model.representation, model.agent, model.grid)(*example(model, 3))
        found = torch.export.load(path).module()(*example(model, 3))
    torch.testing.assert_close(found[0], own[0], rtol=1e-4, atol=1e-4)


def test_an_export_that_computes_something_else_is_not_written(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "scripts.export_model._program_runner",
        lambda path: (
            lambda inputs: (
                np.zeros((len(inputs[0]), 1088)),
                np.full((len(inputs[0]), 4), 3),
                np.zeros((len(inputs[0]), 6)),
            )
        ),
    )
    assert main(["export", "--checkpoint", str(run), "--out", str(tmp_path / "model.pt2")]) == 2
    assert "does not compute what the model does" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_differences_are_those_of_clips_with_the_same_bins(run):
    model = load_model(run)
    module = DeterministicModel(model.representation, model.agent, model.grid)

    @torch.no_grad()
    def nearly(inputs):
        descriptor, bins, logits = (output.numpy() for output in module(*inputs))
        bins[0, 2] += 1
        descriptor[0] += 50
        descriptor[1:] += 0.25
        return descriptor, bins, logits

    parity = compare(module, nearly, [example(model, 1), example(model, 3)])
    assert (parity.clips, parity.same_bins) == (4, 2)
    assert parity.difference == pytest.approx(0.25, abs=1e-5)


def test_mistakes_are_explained(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["export", "--checkpoint", str(run), "--out", str(tmp_path / "model.bin")])
    assert "end in .onnx or .pt2" in capsys.readouterr().err
    assert main(["export", "--checkpoint", str(tmp_path), "--out", str(tmp_path / "model.onnx")]) == 2
    assert "no checkpoint at" in capsys.readouterr().err
