"""The two-stream network: its sizes are the paper's tables, its output is equation 1, frame by frame."""

import copy
import dataclasses
import json

import pytest
import torch
from torch import Tensor, nn

from agents.runs.checkpoint import read_checkpoint
from agents.runs.presets import get_preset
from agents.runs.training import train
from backbone.build import build_backbone
from backbone.config import BackboneConfig
from backbone.representation import Representation
from backbone.resnet import resnet50
from backbone.small import small
from backbone.two_stream import TwoStream
from scripts.cli import main

# Tables I and II, then III: the rows' output sizes for a frame of 256 x 128.
LOW_ROWS = {"conv1": ("0", (64, 128, 64)), "maxpool": ("3", (64, 64, 32)), "res1": ("4", (256, 64, 32))}
HIGH_ROWS = {"res2": ("0", (512, 32, 16)), "res3": ("1", (1024, 16, 8)), "res4": ("2", (2048, 16, 8))}


def convolutions(module: nn.Module, *, of_shortcuts: bool = False) -> list[nn.Conv2d]:
    return [
        part
        for name, part in module.named_modules()
        if isinstance(part, nn.Conv2d) and (of_shortcuts or "downsample" not in name)
    ]


def record_sizes(network: TwoStream) -> dict[str, tuple[int, ...]]:
    """Return where each row's output size will be noted when the network runs."""
    sizes: dict[str, tuple[int, ...]] = {}

    def note(row: str):
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            sizes[row] = tuple(output.shape[1:])

        return hook

    for stream in ("image_stream", "flow_stream"):
        for row, (part, _) in LOW_ROWS.items():
            getattr(network, stream).get_submodule(part).register_forward_hook(note(f"{stream} {row}"))
    for row, (part, _) in HIGH_ROWS.items():
        network.high_level.get_submodule(part).register_forward_hook(note(row))
    return sizes


def test_resnet50_is_tables_1_to_3():
    network = resnet50().eval()
    sizes = record_sizes(network)
    with torch.no_grad():
        maps = network(torch.randn(1, 3, 1, 256, 128), torch.randn(1, 2, 1, 256, 128))
    expected = {
        f"{stream} {row}": size
        for stream in ("image_stream", "flow_stream")
        for row, (_, size) in LOW_ROWS.items()
    }
    assert sizes == expected | {row: size for row, (_, size) in HIGH_ROWS.items()}
    assert maps.shape == (1, 2048, 1, 16, 8)
    assert network.num_channels == 2048
    assert len(convolutions(network.flow_stream)) == 10  # "consists of 10 convolution layers", section III-D
    first = network.flow_stream[0]
    assert (first.in_channels, first.kernel_size, first.stride) == (2, (7, 7), (2, 2))
    assert [len(stage) for stage in network.high_level] == [4, 6, 3]
    assert all(part.stride == (1, 1) for part in convolutions(network.high_level[2], of_shortcuts=True))


def test_table_3_as_printed_is_a_setting():
    with torch.device("meta"):
        network = resnet50(stages=(3, 6, 4, 3))
        assert [len(stage) for stage in network.high_level] == [6, 4, 3]
        assert network(torch.empty(2, 3, 6, 256, 128), torch.empty(2, 2, 6, 256, 128)).shape == (2, 2048, 6, 16, 8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "resnet18", "small"])
@pytest.mark.parametrize("with_flow", [True, False])
@pytest.mark.parametrize("size", [(2, 128, 64), (1, 33, 47), (3, 16, 16)])
def test_feature_size_is_the_maps(name, with_flow, size):
    with torch.device("meta"):
        network = build_backbone(BackboneConfig(name, flow="dis-fast" if with_flow else None))
        flow = torch.empty(2, 2, *size) if with_flow else None
        maps = network(torch.empty(2, 3, *size), flow)
    assert maps.shape == (2, network.num_channels, *network.feature_size(*size))
    assert (network.flow_stream is not None) == with_flow


@pytest.mark.parametrize("name", ["small", "resnet18"])
def test_equation_1_frame_by_frame(name):
    torch.manual_seed(0)
    network = build_backbone(BackboneConfig(name)).eval()
    clip, flow = torch.randn(2, 3, 2, 32, 16), torch.randn(2, 2, 2, 32, 16)
    with torch.no_grad():
        maps = network(clip, flow)
        for b, frame in [(0, 0), (0, 1), (1, 0), (1, 1)]:
            summed = network.image_stream(clip[b, :, frame][None]) + network.flow_stream(flow[b, :, frame][None])
            torch.testing.assert_close(maps[b, :, frame], network.high_level(summed)[0], rtol=1e-4, atol=1e-4)
    assert maps.std() > 0


def test_both_streams_learn():
    network = small()
    network(torch.randn(1, 3, 2, 32, 16), torch.randn(1, 2, 2, 32, 16)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_small_is_small():
    assert sum(parameter.numel() for parameter in small().parameters()) == pytest.approx(18_000, rel=0.02)
    assert small().feature_size(6, 64, 32) == (6, 16, 8)


def test_a_cell_of_small_sees_13_pixels():
    network = small(with_flow=False).eval()
    clip = torch.randn(1, 3, 1, 64, 64, requires_grad=True)
    network(clip)[0, :, 0, 8, 8].sum().backward()
    seen = clip.grad[0, :, 0].abs().sum(0) > 0
    assert seen.any(0).sum() == seen.any(1).sum() == 13


@pytest.mark.parametrize(
    ("with_flow", "clip", "flow", "message"),
    [
        (True, (1, 2, 3, 32, 16), (1, 2, 3, 32, 16), r"clip must be \(B, 3, L, H, W\), got \(1, 2, 3, 32, 16\)"),
        (True, (3, 3, 32, 16), None, "clip must be"),
        (True, (1, 3, 2, 32, 16), None, "has a flow stream"),
        (False, (1, 3, 2, 32, 16), (1, 2, 2, 32, 16), "without a flow stream"),
        (
            True,
            (1, 3, 2, 32, 16),
            (1, 2, 1, 32, 16),
            r"flow must be .*\(1, 3, 2, 32, 16\), got \(1, 2, 1, 32, 16\)",
        ),
        (True, (1, 3, 2, 32, 16), (1, 3, 2, 32, 16), "flow must be"),
    ],
)
def test_wrong_inputs_are_named(with_flow, clip, flow, message):
    with torch.device("meta"):
        network = small(with_flow=with_flow)
        with pytest.raises(ValueError, match=message):
            network(torch.empty(clip), None if flow is None else torch.empty(flow))


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"unknown backbone 'vgg'; known: resnet50, resnet18, small, timm:<name>"):
        build_backbone(BackboneConfig("vgg"))


def test_config_without_flow_builds_no_flow_stream():
    network = build_backbone(BackboneConfig("small", flow=None))
    assert network.flow_stream is None
    assert network.image_stream[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_frozen_backbone_keeps_its_state_while_the_rest_is_trained(tmp_path):
    preset = get_preset("tiny")
    backbone = dataclasses.replace(preset.backbone, weights="synthetic", frozen=True, pooling="quality")
    joint = dataclasses.replace(preset.joint, weight_decay=0.1)
    train(dataclasses.replace(preset, steps=3, backbone=backbone, joint=joint), tmp_path / "run")
    trained = read_checkpoint(tmp_path / "run")["shared"]["representation"]
    for key, value in build_backbone(backbone).state_dict().items():
        assert torch.equal(trained[f"backbone.{key}"], value), key
    torch.manual_seed(preset.seed)
    untrained = Representation(backbone, preset.attention.num_glimpses, len(trained["glimpse.identify.weight"]))
    parts = ("glimpse.embed_observation", "glimpse.embed_hidden", "glimpse.identify", "pool")
    changed = [key for key, value in untrained.state_dict().items() if not torch.equal(trained[key], value)]
    assert {part for part in parts if any(key.startswith(part) for key in changed)} == set(parts)


def test_a_frozen_backbone_has_no_gradient_and_stays_in_evaluation():
    network = Representation(BackboneConfig(frozen=True, precision="float32"), 2, 3)
    before = copy.deepcopy(network.backbone.state_dict())
    clip = torch.randint(0, 256, (2, 3, 32, 16, 3), dtype=torch.uint8)
    assert network.train() is network
    assert network.glimpse.training
    assert not any(module.training for module in network.backbone.modules())
    assert not network.feature_map(clip, torch.randn(2, 3, 32, 16, 2)).requires_grad
    assert torch.is_grad_enabled()
    assert all(torch.equal(value, before[key]) for key, value in network.backbone.state_dict().items())
    assert not any(parameter.requires_grad for parameter in network.backbone.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["reinforce", "ppo", "sac"])
def test_a_run_with_a_frozen_backbone_is_resumed_and_evaluated(tmp_path, agent):
    out = ["--out", str(tmp_path / "run")]
    flags = ["--preset", "tiny", "--agent", agent, "--backbone.frozen", "--backbone.name", "timm:test_resnet"]
    flags += ["--backbone.weights", "None", "--attention.bin-size", "2", "1", "1"]
    assert main(["train", *flags, *out, "--steps", "2"]) == 0
    first = read_checkpoint(tmp_path / "run")["shared"]["representation"]
    assert main(["train", "--resume", *out, "--steps", "3"]) == 0
    second = read_checkpoint(tmp_path / "run")["shared"]["representation"]
    for key, value in first.items():
        assert torch.equal(value, second[key]) or not key.startswith("backbone."), key
    assert not torch.equal(first["glimpse.identify.weight"], second["glimpse.identify.weight"])
    assert main(["evaluate", "--checkpoint", str(tmp_path / "run"), "--json", str(tmp_path / "s.json")]) == 0
    assert json.loads((tmp_path / "s.json").read_text())[agent]["R1"] >= 0
