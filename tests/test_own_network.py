"""A backbone of the user's own, by module:name."""

import pytest
import torch
from torch import nn

from backbone.build import build_backbone
from backbone.config import BackboneConfig
from backbone.two_stream import TwoStream


class Strided(nn.Module):
    """Says nothing of itself."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, stride=4, padding=1)

    def forward(self, frames):
        return self.conv(frames)


class Telling(Strided):
    num_channels, stride = 5, 4
    pixel_mean = pixel_std = (0.5, 0.5, 0.5)

    def forward(self, frames):
        if frames.shape[2:] != (64, 32):
            raise AssertionError("it takes no other size")
        return super().forward(frames)


class Pooling(Strided):
    def forward(self, frames):
        return super().forward(frames).mean((2, 3))


class Cropping(Strided):
    """Fits what it is tried on, and not all other sizes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 4, stride=4)


class Texts(nn.Module):
    def forward(self, frames):
        return "a map"


class Boasting(Strided):
    num_channels, stride = 8, 4


class Uneven(Strided):
    num_channels, stride = 5, 2.5


class Demanding(Strided):
    def __init__(self, size):
        super().__init__()


def both(stride=4):
    streams = [nn.Conv2d(channels, 6, 3, stride, 1) for channels in (3, 2)]
    return TwoStream(*streams, nn.Identity(), num_channels=6, stride=stride)


def wrong():
    network = both()
    network.stride = 2
    return network


def number():
    return 3


def build(name, **settings):
    return build_backbone(BackboneConfig(f"{__name__}:{name}", **{"flow": None, **settings}))


def test_channels_and_stride_are_found_where_the_network_does_not_say_them():
    network = build("Strided").eval()
    assert (network.num_channels, network.stride, network.flow_stream) == (5, 4, None)
    clip = torch.randn(2, 3, 3, 18, 10)
    maps = network(clip)
    assert maps.shape == (2, 5, *network.feature_size(3, 18, 10)) == (2, 5, 3, 5, 3)
    own = network.image_stream.network
    torch.testing.assert_close(maps[1, :, 2], own(clip[1, :, 2][None])[0])
    assert (network.training, own.training) == (False, False)
    assert build("Strided").image_stream.network.training


def test_a_network_that_says_them_is_not_tried_out():
    network = build("Telling")
    assert network(torch.zeros(1, 3, 2, 64, 32)).shape == (1, 5, 2, 16, 8)
    assert network.pixel_mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("flow", ["dis-fast", None])
def test_a_flow_stream_comes_with_a_two_stream_network(flow):
    network = build("both", flow=flow)
    assert (network.flow_stream is None) == (flow is None)
    given = None if flow is None else torch.zeros(1, 2, 2, 16, 8)
    assert network(torch.zeros(1, 3, 2, 16, 8), given).shape == (1, 6, 2, 4, 2)


def test_a_file_of_its_own_state_fits(tmp_path):
    trained = Strided()
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    network = build("Strided", weights=str(tmp_path / "w.pt"))
    assert torch.equal(network.image_stream.network.conv.weight, trained.conv.weight)
    assert "2 of 2 tensors fit" in network.weights_report


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Pooling", r"Pooling made \(1, 5\) of frames \(1, 3, 128, 64\): maps \(1, C, h, w\) are needed"),
        ("Texts", r"Texts made an object of type str of frames"),
        ("Uneven", r"stride of the backbone .*Uneven must be a whole number above 0, got 2\.5"),
        ("Demanding", r"Demanding has to be .* without arguments: missing a required argument: 'size'"),
        ("number", r"number has to be .* makes a torch\.nn\.\S*Module, and made an object of type int"),
        ("__doc__", r"__doc__ has to be a class or a function that makes .*, got an object of type str"),
        ("Missing", r"Missing' can't be imported: .* has no attribute 'Missing'"),
    ],
)
def test_what_is_no_such_network_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        build(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Boasting", r"Boasting made \(2, 5, 5, 3\) of \(2, 3, 18, 10\), where .* mean \(2, 8, 5, 3\)"),
        ("wrong", r"wrong made \(1, 6, 2, 5, 3\) of \(1, 3, 2, 18, 10\), where .* mean \(1, 6, 2, 9, 5\)"),
        ("Cropping", r"Cropping made \(2, 5, 4, 2\) of \(2, 3, 18, 10\), where .* mean \(2, 5, 5, 3\)"),
    ],
)
def test_maps_of_another_shape_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        build(name)(torch.zeros(1, 3, 2, 18, 10))


def test_flow_needs_a_flow_stream():
    with pytest.raises(
        ValueError, match=r"Strided has no flow stream: leave the flow out \(--backbone\.flow None\)"
    ):
        build("Strided", flow="dis-fast")


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="the backbone 'no_such_module:Net' can't be imported: No module named"):
        build_backbone(BackboneConfig("no_such_module:Net", flow=None))
