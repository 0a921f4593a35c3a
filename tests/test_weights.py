"""Weights into both streams: ImageNet's and our own fit exactly; damage is an error."""

import re
from pathlib import Path
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
from torchvision.models import resnet18

from backbone.build import build_backbone
from backbone.config import BackboneConfig
from backbone.resnet import resnet18 as two_stream_resnet18
from backbone.weights import imagenet_url, load_weights
from backbone.weights_file import read_state
from backbone.weights_fit import two_stream_state

URL = imagenet_url("resnet18")


@pytest.fixture(scope="module")
def torchvision_model():
    torch.manual_seed(0)
    model = resnet18(weights=None).eval()
    for key, value in model.state_dict().items():
        if "running" in key:
            value.uniform_(0.5, 1.5)
    return model


@pytest.fixture(scope="module")
def weights_file(torchvision_model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision_model.state_dict(), path)
    return path


def test_torchvision_file_gives_torchvisions_features(torchvision_model, weights_file):
    network = build_backbone(BackboneConfig("resnet18", weights=str(weights_file))).eval()
    model, image = torchvision_model, torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        low = model.layer1(model.maxpool(model.relu(model.bn1(model.conv1(image)))))
        torch.testing.assert_close(network.image_stream(image), low, rtol=1e-4, atol=1e-4)
        # res2 and res3; the strides of res4 differ
        torch.testing.assert_close(
            network.high_level[:2](low), model.layer3(model.layer2(low)), rtol=1e-4, atol=1e-4
        )
    for ours, theirs in zip(network.high_level[2].parameters(), model.layer4.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_flow_stream_starts_as_the_image_stream_with_colours_averaged(torchvision_model, weights_file):
    network = build_backbone(BackboneConfig("resnet18", weights=str(weights_file)))
    rgb = torchvision_model.conv1.weight
    average = (rgb[:, 0] + rgb[:, 1] + rgb[:, 2]) / 3
    for channel in (0, 1):
        torch.testing.assert_close(network.flow_stream[0].weight[:, channel], average)
    image, flow = network.image_stream.state_dict(), network.flow_stream.state_dict()
    assert image.keys() == flow.keys()
    assert all(torch.equal(image[key], flow[key]) for key in image if key != "0.weight")


def test_state_without_flow_has_no_flow_and_no_classifier(torchvision_model):
    state = two_stream_state(two_stream_resnet18(with_flow=False), torchvision_model.state_dict())
    assert {key.split(".")[0] for key in state} == {"image_stream", "high_level"}
    assert len(state) == len(torchvision_model.state_dict()) - 2  # fc.weight, fc.bias


def test_the_weights_that_come_with_the_library_are_the_small_backbones():
    network = build_backbone(BackboneConfig("small", weights="synthetic"))
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    with pytest.raises(ValueError, match="no synthetic weights for 'resnet18'; known: small"):
        build_backbone(BackboneConfig("resnet18", weights="synthetic"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}, "size mismatch for image_stream"),
        ({"conv1.weight": torch.zeros(64)}, "size mismatch for image_stream.0.weight"),
        ({"conv1.weight": torch.zeros(64, 3, 3, 3)}, "size mismatch for image_stream.0.weight"),
        ({"layer2.0.extra": torch.zeros(1)}, "Unexpected key"),
        ({"layer4.1.bn2.weight": None}, "Missing key"),
    ],
)
def test_imagenet_weights_fit_exactly(torchvision_model, tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    state = {**torchvision_model.state_dict(), **changes}
    state = {key: value for key, value in state.items() if value is not None}
    torch.save(state, tmp_path / "checkpoints" / Path(URL).name)
    with pytest.raises(
        ValueError, match=rf"(?s)'imagenet' do not fit the backbone 'resnet18'.*{message}"
    ) as error:
        load_weights(two_stream_resnet18(), "resnet18", "imagenet")
    assert len(str(error.value)) < 900


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no weights file at .*w.pth"),
        (b"", "w.pth can't be read as weights"),
        (b"no weights", "w.pth can't be read as weights"),
        ([torch.zeros(1)], "w.pth is no state dict"),
        ({"epoch": 3, "state": {}}, "w.pth is no state dict"),
        ({0: torch.zeros(1)}, "w.pth is no state dict"),
        ({"path": Path("code")}, "w.pth can't be read as weights"),  # an object, which loading would have to build
        ({"a": torch.ones(2), "b": torch.tensor([1, float("nan")])}, "w.pth holds NaN or infinity in b$"),
        ({"a": torch.tensor(float("inf")), "b": torch.tensor(float("nan"))}, r"in a \(and 1 more\)"),
    ],
)
def test_damaged_file_is_named(tmp_path, content, message):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        read_state(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_truncated_file_is_named(weights_file, tmp_path, share):
    content = weights_file.read_bytes()
    path = tmp_path / "cut.pth"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"cut\.pth can't be read as weights: it is truncated"):
        read_state(path)


def test_damaged_safetensors_are_named(torchvision_model, tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({**torchvision_model.state_dict(), "bad": torch.tensor(float("nan"))}, path)
    with pytest.raises(ValueError, match=r"w\.safetensors holds NaN or infinity in bad"):
        read_state(path)
    for content in (path.read_bytes()[:100_000], b"", b"no weights"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"w\.safetensors can't be read as weights: it is truncated"):
            read_state(path)


def test_without_flow_small_starts_from_weights_that_never_saw_any():
    both, images = (
        build_backbone(BackboneConfig("small", weights="synthetic", flow=f)) for f in ("dis-fast", None)
    )
    assert images.flow_stream is None
    for part in ("image_stream", "high_level"):
        ours, theirs = getattr(both, part)[0].weight, getattr(images, part)[0].weight
        assert ours.shape == theirs.shape
        assert not torch.allclose(ours, theirs)


def test_no_imagenet_weights_for_small():
    with pytest.raises(ValueError, match="no ImageNet weights for 'small'; known: resnet50, resnet18"):
        build_backbone(BackboneConfig("small", weights="imagenet"))


@pytest.mark.parametrize("error", [URLError("no route"), TimeoutError("slow"), RuntimeError("invalid hash value")])
def test_offline_says_which_file_to_put_where(monkeypatch, tmp_path, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    target = tmp_path / "hub/checkpoints" / Path(URL).name
    with pytest.raises(ValueError, match=f"(?s){re.escape(URL)}.*{re.escape(str(target))}"):
        build_backbone(BackboneConfig("resnet18", weights="imagenet"))


def test_imagenet_file_is_fetched_once(monkeypatch, tmp_path, weights_file):
    calls = []

    def fetch(url: str, path: str, hash_prefix: str) -> None:
        calls.append((url, hash_prefix))
        Path(path).write_bytes(weights_file.read_bytes())

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    expected = torch.load(weights_file, weights_only=True)["conv1.weight"]
    for _ in range(2):
        network = build_backbone(BackboneConfig("resnet18", weights="imagenet"))
        assert torch.equal(network.image_stream[0].weight, expected)
    assert calls == [(URL, "f37072fd")]  # resnet18-f37072fd.pth


def test_truncated_imagenet_file_is_named(monkeypatch, tmp_path, weights_file):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = tmp_path / "checkpoints" / Path(URL).name
    path.parent.mkdir()
    path.write_bytes(weights_file.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} can't be read as weights"):
        build_backbone(BackboneConfig("resnet18", weights="imagenet"))
