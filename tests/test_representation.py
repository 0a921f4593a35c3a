"""Pixels to the feature map: normalised as computed by hand, and close in both precisions."""

import pytest
import torch

from backbone import representation as module
from backbone.config import BackboneConfig
from backbone.representation import Representation, has_bfloat16, normalise

CLIP = torch.randint(0, 256, (2, 3, 32, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
FLOW = torch.randn(2, 3, 32, 16, 2, generator=torch.Generator().manual_seed(1))


def build(precision: str = "float32", flow: str | None = "none") -> Representation:
    torch.manual_seed(0)
    return Representation(BackboneConfig("small", flow=flow, precision=precision), 2, 5).eval()


def test_normalise_by_hand():
    clip = torch.tensor([0, 0, 0, 255, 255, 255, 51, 102, 204], dtype=torch.uint8).reshape(1, 1, 1, 3, 3)
    images = normalise(clip)
    assert images.dtype == torch.float32
    assert images.shape == (1, 3, 1, 1, 3)
    expected = [
        [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
        [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225],
        [(0.2 - 0.485) / 0.229, (0.4 - 0.456) / 0.224, (0.8 - 0.406) / 0.225],
    ]
    torch.testing.assert_close(images[0, :, 0, 0].T, torch.tensor(expected))


def test_normalise_keeps_the_memory_in_order():
    assert normalise(CLIP).permute(0, 2, 3, 4, 1).is_contiguous()


@pytest.mark.parametrize("clip", [CLIP.float(), CLIP[0], CLIP.permute(0, 4, 1, 2, 3)])
def test_other_clips_are_refused(clip):
    with pytest.raises(ValueError, match=r"uint8 \(B, L, H, W, 3\), got torch\."):
        normalise(clip)


def test_feature_map_is_the_backbones():
    network = build()
    with torch.no_grad():
        maps = network.feature_map(CLIP, FLOW)
        expected = network.backbone(normalise(CLIP), FLOW.permute(0, 4, 1, 2, 3))
    assert maps.shape == (2, 64, 3, *network.backbone.feature_size(3, 32, 16)[1:])
    torch.testing.assert_close(maps, expected)


def test_x_and_y_of_the_flow_are_its_channels():
    network = build()
    with torch.no_grad():
        swapped = network.feature_map(CLIP, FLOW.flip(-1))
        assert not torch.allclose(swapped, network.feature_map(CLIP, FLOW), atol=1e-3)


def test_flow_in_float16_as_the_cache_holds_it():
    network = build()
    with torch.no_grad():
        torch.testing.assert_close(
            network.feature_map(CLIP, FLOW.half()), network.feature_map(CLIP, FLOW), rtol=0.02, atol=0.02
        )


def test_bfloat16_is_close_to_float32():
    with torch.no_grad():
        exact, rounded = (build(precision).feature_map(CLIP, FLOW) for precision in ("float32", "bfloat16"))
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("available", [True, False])
def test_auto_asks_the_hardware(monkeypatch, available):
    monkeypatch.setattr(module, "has_bfloat16", lambda device: available)
    with torch.no_grad():
        expected = build("bfloat16" if available else "float32").feature_map(CLIP, FLOW)
        assert torch.equal(build("auto").feature_map(CLIP, FLOW), expected)


def test_other_devices_have_no_bfloat16():
    assert isinstance(has_bfloat16(torch.device("cpu")), bool)
    assert not has_bfloat16(torch.device("meta"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradients_reach_the_first_layers(precision):
    network = build(precision).train()
    network.feature_map(CLIP, FLOW).square().mean().backward()
    for stream in (network.backbone.image_stream, network.backbone.flow_stream):
        assert stream[0].weight.grad.abs().sum() > 0


def test_without_a_flow_stream():
    network = build(flow=None)
    with torch.no_grad():
        assert network.feature_map(CLIP, None).shape == (2, 64, 3, 8, 4)  # of 32 x 16 pixels, stride 4
    assert network.device == torch.device("cpu")
