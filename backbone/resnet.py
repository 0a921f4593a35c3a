"""ResNets as two-stream networks (Tables I to III)."""

from collections.abc import Callable

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from backbone.two_stream import TwoStream


def resnet50(*, with_flow: bool = True, stages: tuple[int, int, int, int] = (3, 4, 6, 3)) -> TwoStream:
    """Return the paper's network: 2,048 x 16 x 8 a frame at 256 x 128 (Tables I to III).

    `stages` has the number of blocks of each stage. Table III prints (3, 6, 4, 3), for which no published weights
    exist.
    """
    return _from_resnet(lambda: ResNet(Bottleneck, list(stages)), with_flow)


def resnet18(*, with_flow: bool = True) -> TwoStream:
    """Return ResNet18 as a two-stream network: 512 x 16 x 8 a frame at 256 x 128."""
    return _from_resnet(lambda: ResNet(BasicBlock, [2, 2, 2, 2]), with_flow)


# A torchvision ResNet's parts and where each goes in image_stream (Table I) and high_level (Table III).
RESNET_PARTS = {
    "conv1": "image_stream.0",
    "bn1": "image_stream.1",
    "layer1": "image_stream.4",
    "layer2": "high_level.0",
    "layer3": "high_level.1",
    "layer4": "high_level.2",
}


def _from_resnet(build: Callable[[], ResNet], with_flow: bool) -> TwoStream:
    image, flow = build(), build()
    flow.conv1 = nn.Conv2d(2, 64, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(flow.conv1.weight, mode="fan_out", nonlinearity="relu")
    _remove_stride(image.layer4[0])
    return TwoStream(
        _low_level(image),
        _low_level(flow) if with_flow else None,
        nn.Sequential(image.layer2, image.layer3, image.layer4),
        num_channels=image.fc.in_features,
        stride=16,
        published=RESNET_PARTS,
    )


def _low_level(resnet: ResNet) -> nn.Sequential:
    return nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, resnet.layer1)


def _remove_stride(block: nn.Module) -> None:
    """Make a stage's first block keep the map's size ("last stage stride 1", section III-E)."""
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
