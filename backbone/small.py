"""A small network for the CPU."""

from torch import nn

from backbone.two_stream import TwoStream


def small(*, with_flow: bool = True) -> TwoStream:
    """Return a network for the CPU: 64 x 16 x 8 a frame at 64 x 32, 18,000 parameters."""
    high_level = nn.Sequential(
        *_conv(16, 32, kernel_size=3, stride=2),
        # 1 x 1 convolutions from here, so that a bin's features depend little on pixels outside it (a cell sees 13
        # pixels).
        *_conv(32, 64, kernel_size=1),
        # No ReLU at the end: in training from scratch, cross entropy falls faster on centred features.
        *_conv(64, 64, kernel_size=1)[:-1],
    )
    flow_stream = _small_stream(in_channels=2) if with_flow else None
    network = TwoStream(_small_stream(in_channels=3), flow_stream, high_level, num_channels=64, stride=4)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _small_stream(in_channels: int) -> nn.Sequential:
    return nn.Sequential(*_conv(in_channels, 16, kernel_size=5, stride=2), *_conv(16, 16, kernel_size=3))


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
    return convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
