"""A weights file of the user's: what fits is loaded, whatever wraps it, and what does not is reported."""

import re

import pytest
import safetensors.torch
import timm
import torch
from torchvision.models import resnet18

from backbone.build import build_backbone
from backbone.config import BackboneConfig
from backbone.representation import Representation
from backbone.resnet import resnet18 as two_stream_resnet18
from backbone.small import small
from backbone.weights import load_weights
from backbone.weights_file import read_state
from backbone.weights_fit import best_fit


@pytest.fixture(scope="module")
def torchvision_model():
    torch.manual_seed(0)
    return resnet18(weights=None)


def test_own_state_comes_back(tmp_path):
    saved, network = small(), small()
    torch.save(saved.state_dict(), tmp_path / "own.pt")
    load_weights(network, "small", str(tmp_path / "own.pt"))
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in saved.state_dict().items())
    assert network.weights_report == (
        f"{tmp_path / 'own.pt'} into the backbone 'small':\n"
        "  35 of 35 tensors fit, 17,808 of 17,808 parameters (100.0%)"
    )
    without_flow = small(with_flow=False)
    load_weights(without_flow, "small", str(tmp_path / "own.pt"))
    assert all(torch.equal(value, saved.state_dict()[key]) for key, value in without_flow.state_dict().items())
    assert "  not used (12): flow_stream.0.weight, " in without_flow.weights_report


def test_a_file_without_a_flow_stream_leaves_it_as_initialised(tmp_path):
    without_flow, network = small(with_flow=False), small()
    before = {key: value.clone() for key, value in network.flow_stream.state_dict().items()}
    torch.save(without_flow.state_dict(), tmp_path / "half.pt")
    load_weights(network, "small", str(tmp_path / "half.pt"))
    assert all(torch.equal(value, before[key]) for key, value in network.flow_stream.state_dict().items())
    assert torch.equal(network.image_stream[0].weight, without_flow.image_stream[0].weight)
    assert "nothing for (10, as initialised): flow_stream.0.weight, " in network.weights_report


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        (
            {"layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)},
            [
                "of another shape (2, as initialised): "
                "image_stream.4.0.conv1.weight ((64, 64, 1, 1) in the file, (64, 64, 3, 3) here), "
                "flow_stream.4.0.conv1.weight ((64, 64, 1, 1) in the file, (64, 64, 3, 3) here)",
                "not used (2): fc.weight, fc.bias",
            ],
        ),
        (
            {"conv1.weight": torch.zeros(64)},
            [
                "of another shape (2, as initialised): "
                "image_stream.0.weight ((64,) in the file, (64, 3, 7, 7) here), "
                "flow_stream.0.weight ((64,) in the file, (64, 2, 7, 7) here)",
                "not used (2): fc.weight, fc.bias",
            ],
        ),
        ({"layer2.0.extra": torch.zeros(1)}, ["not used (3): fc.weight, fc.bias, layer2.0.extra"]),
        (
            {"layer4.1.bn2.weight": None, "fc.weight": None, "fc.bias": None},
            ["nothing for (1, as initialised): high_level.2.1.bn2.weight"],
        ),
        (
            {f"head.{number}": torch.zeros(1) for number in range(7)},
            ["not used (9): fc.weight, fc.bias, head.0, head.1 and 5 more"],
        ),
    ],
)
def test_what_does_not_fit_of_a_file_is_reported(torchvision_model, tmp_path, changes, lines):
    state = {**torchvision_model.state_dict(), **changes}
    torch.save({key: value for key, value in state.items() if value is not None}, tmp_path / "other.pth")
    network = two_stream_resnet18()
    load_weights(network, "resnet18", str(tmp_path / "other.pth"))
    title, counts, *rest = network.weights_report.splitlines()
    assert title == f"{tmp_path / 'other.pth'} into the backbone 'resnet18':"
    assert re.fullmatch(
        r"  12[345] of 125 tensors fit, [\d,]+ of 11,330,880 parameters \((99\.\d|100\.0)%\)", counts
    )
    assert ("100.0%" in counts) == (len(rest) == 1 and "not used" in rest[0])
    assert rest == [f"  {line}" for line in lines]
    assert torch.equal(network.high_level[0][0].conv1.weight, state["layer2.0.conv1.weight"])


def test_numbers_of_the_report():
    network, other = small(), small()
    state = {key: value for key, value in other.state_dict().items() if key.startswith("high_level.")}
    state["high_level.0.weight"] = torch.zeros(32, 8, 3, 3)
    fitting, report = best_fit(network, state)
    # 32 + 32 of the first batch norm, 32 x 64 and 64 x 64 filters of 1 x 1, 64 + 64 of each batch norm after them
    assert report.num_parameters == (64 + 2048 + 128 + 4096 + 128, 17_808)
    assert report.num_tensors == (4 + 1 + 4 + 1 + 4, 35)
    assert report.misshapen == (("high_level.0.weight", (32, 8, 3, 3), (32, 16, 3, 3)),)
    assert {key.partition(".")[0] for key in report.missing} == {"image_stream", "flow_stream"}
    assert report.unused == ()
    assert fitting.keys() == {key for key in state if key != "high_level.0.weight"}


@pytest.mark.parametrize(
    "state", [{}, {"a": torch.zeros(3)}, {"layer4.1.conv2.weight": torch.zeros(512, 512, 3, 3)}]
)
def test_a_file_of_another_network_is_an_error(tmp_path, state):
    network = two_stream_resnet18()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    message = (
        r"w\.pt does not fit the backbone 'resnet18', less than half of which it would fill: \d of 125 tensors"
    )
    with pytest.raises(ValueError, match=message) as error:
        load_weights(network, "resnet18", str(tmp_path / "w.pt"))
    assert len(str(error.value)) < 900
    assert "and 1" in str(error.value)  # the list of names is cut short
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("ending", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize(
    "prefix", ["", "module.", "backbone.", "model.", "encoder.", "module.model.", "model.module.backbone."]
)
def test_formats_and_prefixes(torchvision_model, tmp_path, ending, prefix):
    state = {prefix + key: value for key, value in torchvision_model.state_dict().items()}
    path = tmp_path / f"w{ending}"
    if ending == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    network = two_stream_resnet18()
    load_weights(network, "resnet18", str(path))
    assert torch.equal(network.image_stream[0].weight, torchvision_model.conv1.weight)
    printed = network.weights_report
    assert "(100.0%)" in printed
    unused = re.search(r"not used \(2\): (.*)", printed).group(1)
    assert set(unused.split(", ")) == {f"{prefix}fc.weight", f"{prefix}fc.bias"}
    assert (f"without '{prefix}' before the file's names" in printed) == bool(prefix)


@pytest.mark.parametrize("wrapper", [("state_dict",), ("model",), ("state_dict", "model")])
def test_wrapped_state_dicts(torchvision_model, tmp_path, wrapper):
    state = torchvision_model.state_dict()
    for name in wrapper:
        state = {name: state, "epoch": 3}
    torch.save(state, tmp_path / "w.pt")
    assert read_state(tmp_path / "w.pt").keys() == torchvision_model.state_dict().keys()


def test_half_precision_is_cast(torchvision_model, tmp_path):
    state = {key: value.half() if value.is_floating_point() else value for key, value in
             torchvision_model.state_dict().items()}  # fmt: skip
    torch.save(state, tmp_path / "w.pt")
    network = build_backbone(BackboneConfig("resnet18", weights=str(tmp_path / "w.pt")))
    assert network.image_stream[0].weight.dtype == torch.float32
    assert torch.equal(network.image_stream[0].weight, torchvision_model.conv1.weight.half().float())


def test_the_checkpoint_of_a_run(tmp_path):
    representation = Representation(BackboneConfig("small"), 2, 5)
    checkpoint = {
        "config": "{}",
        "people": [1, 2],
        "shared": {"step": 3, "representation": representation.state_dict()},
    }
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    network = build_backbone(BackboneConfig("small", weights=str(tmp_path / "checkpoint.pt")))
    for key, value in representation.backbone.state_dict().items():
        assert torch.equal(network.state_dict()[key], value)
    printed = network.weights_report
    assert "(100.0%)" in printed
    assert "not used" not in printed  # F_o, F_h and F_c are no part of the backbone


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext_atto", "efficientnet_lite0", "vit_tiny_patch16_224"])
def test_timms_names(name, tmp_path):
    model = timm.create_model(name)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "model.safetensors")
    network = build_backbone(BackboneConfig(f"timm:{name}", weights=str(tmp_path / "model.safetensors")))
    printed = network.weights_report
    assert f"({'99.9' if name.startswith('vit') else '100.0'}%)" in printed  # the early sum's convolution
    assert ("nothing for (1, as initialised): flow_stream.weight" in printed) == name.startswith("vit")
    largest = {value.max().item() for value in model.parameters()}
    streams = (network.image_stream, network.high_level)
    assert all(value.max().item() in largest for stream in streams for value in stream.parameters())
