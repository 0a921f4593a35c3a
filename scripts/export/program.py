"""A model as one file, and how near the file comes to what evaluation computes."""

import contextlib
import io
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from a3d_env.bank import FeatureBank
from a3d_env.process import AttentionProcess
from agents.deterministic import DeterministicModel, export_program
from agents.rollout import at_test, follow
from agents.runs.model import TrainedModel
from backbone.files import atomic_path

OUTPUTS = ("descriptor", "bins", "identity_logits")
CHECKED_BATCHES = (1, 5)
# More than rounding, as the sums of float32 come in another order.
TOLERANCE = 1e-3

Precision = Literal["auto", "float32", "bfloat16"]
Outputs = tuple[np.ndarray, ...]
Runner = Callable[[tuple[Tensor, ...]], Outputs]


@dataclass(frozen=True)
class Parity:
    """Difference between an exported file and what `a3d embed` and `a3d evaluate` compute.

    Attributes:
        clips: number of clips that were compared.
        same_bins: number of these clips at which both looked at the same bins: a choice between two bins that
            score alike can fall to either.
        difference: largest difference of a number in descriptors and logits, over those clips; NaN if one is NaN.
    """

    clips: int
    same_bins: int
    difference: float


def example(model: TrainedModel, count: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Return made-up inputs for `count` clips: clip and, with a flow stream, flow."""
    generator = torch.Generator().manual_seed(seed)
    size = (count, *model.grid.clip_size)
    # Smooth in time and space, as pictures are: noise alone would average to the same everywhere.
    coarse = torch.rand(count * size[1], 3, 8, 4, generator=generator)
    frames = torch.nn.functional.interpolate(coarse, size[2:], mode="bilinear")
    clip = (255 * frames).to(torch.uint8).permute(0, 2, 3, 1).unflatten(0, size[:2]).contiguous()
    if model.cache.flow_method is None:
        return (clip,)
    return clip, torch.randn(*size, 2, generator=generator)


@torch.no_grad()
def export_model(model: TrainedModel, path: Path) -> Parity:
    """Write a model as one file, all or nothing, if it computes what the model does in float32.

    Args:
        model: model, on the CPU.
        path: file to write, which ends in .onnx or .pt2.

    Raises:
        ValueError: an agent that can't be exported, or a file that computes something else.
    """
    program = export_program(DeterministicModel(model.representation, model.agent, model.grid), example(model, 2))
    with atomic_path(path) as partial:
        if path.suffix == ".onnx":
            _write_onnx(program, partial, model)
            run = _onnx_runner(partial)
        else:
            with warnings.catch_warnings():  # of weights whose memory is not in order: they are saved, too
                warnings.filterwarnings("ignore", "No complete tensor")
                torch.export.save(program, content := io.BytesIO())
            # to memory, then to disk: PyTorch's own writing ends the process where a disk is full
            partial.write_bytes(content.getvalue())
            run = _program_runner(partial)
        parity = compare(model, run, "float32")
        # not above, so that NaN is refused, too
        if parity.same_bins < parity.clips - 1 or not parity.difference <= TOLERANCE:
            raise ValueError(
                f"the exported file computes other outputs than the model ({parity}); nothing was written"
            )
    return parity


def load_runner(path: Path) -> Runner:
    """Return what runs an exported file on clip and, with a flow stream, flow."""
    return _onnx_runner(path) if path.suffix == ".onnx" else _program_runner(path)


@torch.no_grad()
def compare(model: TrainedModel, run: Runner, precision: Precision) -> Parity:
    """Compare with episodes of the decision process, as evaluation has them.

    Args:
        model: model, on the CPU.
        run: function that runs the exported file.
        precision: precision of the model's backbone.
    """
    clips, same, largest = 0, 0, 0.0
    for count in CHECKED_BATCHES:
        inputs = example(model, count, seed=count)
        ours, theirs = describe_clips(model, inputs, precision), run(inputs)
        alike = (ours[1] == theirs[1]).all(axis=1)
        clips += len(alike)
        same += int(alike.sum())
        for own, other in ((ours[0], theirs[0]), (ours[2], theirs[2])):
            # np.maximum, unlike max, keeps NaN
            largest = float(np.maximum(largest, np.abs(own - other)[alike].max(initial=0)))
    return Parity(clips, same, largest)


@torch.no_grad()
def describe_clips(model: TrainedModel, inputs: tuple[Tensor, ...], precision: Precision) -> Outputs:
    """Return descriptors, bins and logits of clips as evaluation computes them, in a precision of its own."""
    network = model.representation
    own, network.precision = network.precision, precision
    try:
        maps = network.feature_map(inputs[0], inputs[1] if len(inputs) > 1 else None)
    finally:
        network.precision = own
    numbers, names = torch.arange(len(maps)), [""] * len(maps)
    bank = FeatureBank.from_feature_map(
        maps, model.grid, torch.zeros_like(numbers), names, global_feature=network.global_feature(maps)
    )
    process = AttentionProcess(bank, network.glimpse)
    episodes = follow(at_test(model.agent), process, numbers)
    compared, weights = network.compare(process.descriptor(episodes))
    parts = (weights[:, None] * compared, episodes.bins, process.verdict(episodes).logits)
    return tuple(part.numpy() for part in parts)


def _write_onnx(program: torch.export.ExportedProgram, path: Path, model: TrainedModel) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise ValueError(f"ONNX needs its libraries ({error}): pip install 'a3d[export]'") from error
    names = ["clip", "flow"] if model.cache.flow_method is not None else ["clip"]
    sizes = tuple({0: "batch"} for _ in names)
    # The exporter prints each of its stages, and warns of its own old parts.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = torch.onnx.export(
            program,
            dynamo=True,
            input_names=names,
            output_names=list(OUTPUTS),
            dynamic_shapes=sizes,
            external_data=False,
            verbose=False,
        )
    assert written is not None
    proto = written.model_proto
    facts = {
        "agent": model.config.agent,
        "flow_method": str(model.cache.flow_method),
        "model": model.digest,
        "people": json.dumps(model.people),
        "bin_corners": json.dumps(model.grid.corners.tolist()),
    }
    onnx.helper.set_model_props(proto, facts)
    onnx.save(proto, path)


def _onnx_runner(path: Path) -> Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [argument.name for argument in session.get_inputs()]

    def run(inputs: tuple[Tensor, ...]) -> Outputs:
        arrays = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return tuple(session.run(list(OUTPUTS), arrays))

    return run


def _program_runner(path: Path) -> Runner:
    module = torch.export.load(path).module()
    return lambda inputs: tuple(output.numpy() for output in module(*inputs))
