"""Backbones of timm: where they are cut, that their maps are timm's own, and which can't be had."""

import copy
from functools import cache

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from backbone.build import build_backbone
from backbone.config import BackboneConfig
from backbone.representation import Representation, normalise
from backbone.two_stream import TwoStream
from backbone.weights import load_weights
from backbone.weights_fit import best_fit

# Name: the last part of F_img, C_g, pixels to a cell. None: the streams are summed before the model.
MODELS = {
    "resnet18": ("layer1", 512, 16),
    "resnext50_32x4d": ("layer1", 2048, 16),
    "regnetx_002": ("s1", 368, 16),
    "efficientnet_b0": ("blocks_1", 1280, 16),
    "mobilenetv2_050": ("blocks_1", 1280, 16),
    "mobilenetv3_small_050": ("blocks_0", 288, 16),
    "convnext_atto": ("stages_0", 320, 16),
    "densenet121": ("features_denseblock1", 1024, 32),
    "vit_tiny_patch16_224": (None, 192, 16),
    "xcit_nano_12_p8_224": (None, 128, 8),
    "swin_tiny_patch4_window7_224": (None, 768, 32),
    "test_mambaout": (None, 64, 32),
}
CUT = [name for name, (last, _, _) in MODELS.items() if last is not None]


@cache
def shared(name: str) -> TwoStream:
    """Build a network whose weights no test changes."""
    torch.manual_seed(0)
    return build_backbone(BackboneConfig(f"timm:{name}"))


def as_trained(model: nn.Module) -> nn.Module:
    """Give norms statistics and scales that are not those of new ones, many of which switch their block off."""
    for key, value in model.state_dict().items():
        if value.ndim == 1:
            value.uniform_(-0.1, 0.1) if key.endswith(("bias", "running_mean")) else value.uniform_(0.5, 1.5)
    return model.eval()


def maps_of(network: TwoStream, images: Tensor) -> Tensor:
    with torch.no_grad():
        return network.eval().high_level(network.image_stream(images))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_cut_channels_and_stride(name):
    network, (last, num_channels, stride) = shared(name), MODELS[name]
    if last is None:
        assert isinstance(network.image_stream, nn.Identity)
        assert isinstance(network.flow_stream, nn.Conv2d)
    else:
        for stream in (network.image_stream, network.flow_stream):
            assert [part for part, _ in stream.named_children()][-1] == last
    assert (network.num_channels, network.stride) == (num_channels, stride)


@pytest.mark.parametrize("size", [(2, 64, 32), (1, 40, 72)])
@pytest.mark.parametrize("name", MODELS)
def test_feature_size_is_the_maps(name, size):
    network = shared(name).eval()
    with torch.no_grad():
        maps = network(torch.randn(1, 3, *size), torch.randn(1, 2, *size))
    assert maps.shape == (1, network.num_channels, *network.feature_size(*size))
    assert maps.std() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_gradient_reaches_both_streams(name):
    network = copy.deepcopy(shared(name)).train()
    maps = network(torch.randn(2, 3, 2, 64, 32), torch.randn(2, 2, 2, 64, 32))
    (maps * torch.randn_like(maps)).sum().backward()
    seeing = network.image_stream if MODELS[name][0] else network.high_level
    for part in (seeing, network.flow_stream):
        weight = next(module.weight for module in part.modules() if isinstance(module, nn.Conv2d))
        assert weight.grad.abs().sum() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", CUT)
def test_maps_of_the_cut_network_are_timms(name):
    torch.manual_seed(2)
    settings = {"output_stride": 16} if MODELS[name][2] == 16 else {}
    has_head = MODELS[name][1] == 1280  # of a last 1 x 1 convolution, which features_only leaves out
    model = as_trained(timm.create_model(name, features_only=not has_head, **settings))
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.dilation != (1, 1):
            module.dilation, module.padding = (1, 1), (module.kernel_size[0] // 2,) * 2
    network, images = copy.deepcopy(shared(name)), torch.randn(2, 3, 64, 32)
    state, report = best_fit(network, model.state_dict())
    assert report.share == 1
    assert not report.missing
    network.load_state_dict(state, strict=False)
    with torch.no_grad():
        expected = model.forward_features(images) if has_head else model(images)[-1]
    assert expected.std() > 1e-2
    torch.testing.assert_close(maps_of(network, images), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stride", "grid"),
    [("vit_xsmall_patch16_clip_224", 16, (16, 8)), ("vit_small_patch14_reg4_dinov2", 14, (19, 10))],
)
def test_tokens_of_clip_and_dinov2_become_maps_by_position_at_256_x_128(name, stride, grid):
    torch.manual_seed(3)
    model = as_trained(timm.create_model(name, dynamic_img_size=True))
    network, images = build_backbone(BackboneConfig(f"timm:{name}", flow=None)), torch.randn(1, 3, 256, 128)
    assert network.stride == stride
    state, report = best_fit(network, model.state_dict())  # positions are those of the model's own, square size
    assert report.missing == ()
    network.load_state_dict(state, strict=False)
    padded = nn.functional.pad(images, (0, -128 % stride, 0, -256 % stride))
    with torch.no_grad():
        tokens = model.forward_features(padded)[:, model.num_prefix_tokens :]
    expected = tokens.transpose(1, 2).unflatten(2, grid)
    torch.testing.assert_close(maps_of(network, images), expected, rtol=1e-3, atol=1e-4)


def test_pixels_are_normalised_as_the_models_own_weights_expect():
    assert shared("vit_tiny_patch16_224").pixel_mean == (0.5, 0.5, 0.5)
    assert shared("resnet18").pixel_std == (0.229, 0.224, 0.225)
    clip = torch.full((1, 1, 2, 2, 3), 255, dtype=torch.uint8)
    mean, std = 255 * torch.tensor([0.5, 0.5, 0.5]), 255 * torch.tensor([0.5, 0.25, 0.1])
    assert normalise(clip, mean, std)[0, :, 0, 0, 0].tolist() == pytest.approx([1, 2, 5])


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_maps_of_the_whole_model_are_timms(name):
    settings = {"dynamic_img_size": True} if name.startswith("vit") else {"strict_img_size": False}
    model = as_trained(timm.create_model(name, **settings))
    network, images = copy.deepcopy(shared(name)), torch.randn(1, 3, 64, 32)
    state, report = best_fit(network, model.state_dict())
    assert report.missing == ("flow_stream.weight",)
    network.load_state_dict(state, strict=False)
    with torch.no_grad():
        features = model.forward_features(images)
    if name.startswith("vit"):
        expected = features[:, 1:].transpose(1, 2).unflatten(2, (4, 2))  # without the class token
    else:
        expected = features.permute(0, 3, 1, 2)
    torch.testing.assert_close(maps_of(network, images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_resnet_without_flow_is_timms_with_its_last_stride_taken_out(tmp_path):
    model = as_trained(timm.create_model("resnet18"))
    torch.save(model.state_dict(), tmp_path / "w.pt")
    config = BackboneConfig("timm:resnet18", weights=str(tmp_path / "w.pt"), flow=None)
    network, images = build_backbone(config).eval(), torch.randn(2, 3, 64, 32)
    model.layer4[0].conv1.stride = model.layer4[0].downsample[0].stride = (1, 1)
    with torch.no_grad():
        maps = network(images[:, :, None])
        expected = model.forward_features(images)
    assert expected.std() > 1e-2
    torch.testing.assert_close(maps[:, :, 0], expected, rtol=1e-3, atol=1e-4)
    assert network.flow_stream is None


@pytest.mark.slow
def test_timms_resnet18_is_ours_given_the_same_file(tmp_path):
    safetensors.torch.save_file(as_trained(timm.create_model("resnet18")).state_dict(), tmp_path / "w.safetensors")
    clip, flow = torch.randn(1, 3, 2, 64, 32), torch.randn(1, 2, 2, 64, 32)
    with torch.no_grad():
        ours, theirs = (
            build_backbone(BackboneConfig(name, weights=str(tmp_path / "w.safetensors"))).eval()(clip, flow)
            for name in ("resnet18", "timm:resnet18")
        )
    assert ours.std() > 1e-2
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_an_early_sum_starts_as_the_model_without_flow():
    network, clip = shared("vit_tiny_patch16_224").eval(), torch.randn(1, 3, 2, 64, 32)
    with torch.no_grad():
        maps = network(clip, 10 * torch.randn(1, 2, 2, 64, 32))
        torch.testing.assert_close(maps[:, :, 0], maps_of(network, clip[:, :, 0]))
    assert build_backbone(BackboneConfig("timm:vit_tiny_patch16_224", flow=None)).flow_stream is None


def test_a_transformer_as_a_representation_in_bfloat16():
    config = BackboneConfig("timm:vit_tiny_patch16_224", flow=None, precision="bfloat16")
    representation = Representation(config, num_glimpses=1, num_identities=3)
    maps = representation.feature_map(torch.zeros(1, 2, 32, 32, 3, dtype=torch.uint8), None)
    assert (maps.shape, maps.dtype) == ((1, 192, 2, 2, 2), torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnt18", r"timm \d+.* has no model 'resnt18'; names like it: resnet18, "),
        ("atto", "names like it: .*convnext_atto"),
        ("", r"has no model ''; timm.list_models\(\) lists"),
        ("hf-hub:timm/resnet18", "has no model"),
        ("resnet18.mine", "timm's resnet18 has no weights called 'mine'; known: .*a1_in1k"),
        ("gmlp_ti16_224", r"timm:gmlp_ti16_224 can't be used: it does not take 128 x 64 pixels \("),
        (
            "inception_v4",
            r"can't be used: for 256 x 128 pixels it gives a map of \(6, 2\) cells, expected \(8, 4\)",
        ),
    ],
)
def test_models_that_can_not_be_had_are_named(name, message):
    with pytest.raises(ValueError, match=message):
        build_backbone(BackboneConfig(f"timm:{name}"))


@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "convnext_atto", "vit_tiny_patch16_224"])
def test_imagenet_is_what_timm_fetches(name, monkeypatch):
    published = as_trained(timm.create_model(name)).state_dict()
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: dict(published))
    network = copy.deepcopy(shared(name.partition(".")[0]))
    load_weights(network, f"timm:{name}", "imagenet")
    place = "high_level.model." if name.startswith("vit") else "image_stream."
    key = next(key for key in published if published[key].ndim == 4)
    filters = network.get_parameter(place + key.replace("stem.0", "stem_0"))
    assert torch.equal(filters, published[key])
    flow_filters = next(network.flow_stream.parameters())
    if name.startswith("vit"):
        assert not flow_filters.any()
    else:
        torch.testing.assert_close(flow_filters, filters.mean(1, keepdim=True).expand_as(flow_filters))


def test_offline_says_what_to_download(monkeypatch):
    def fail(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fail)
    message = r"\(no route to host\).*https://huggingface.co/timm/resnet18.a1_in1k, and give its path"
    with pytest.raises(ValueError, match=message):
        load_weights(shared("resnet18"), "timm:resnet18", "imagenet")


def test_a_model_without_published_weights_says_so():
    with pytest.raises(ValueError, match="timm has no pretrained weights for 'dpn48b'"):
        load_weights(shared("resnet18"), "timm:dpn48b", "imagenet")
