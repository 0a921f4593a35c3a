"""f_g by each pooling against its formula, written out cell by cell."""

import math

import pytest
import torch

from backbone.config import BackboneConfig
from backbone.pooling import POOLINGS, QualityPooling, build_pooling
from backbone.representation import Representation

MAPS = torch.randn(2, 5, 3, 4, 2, generator=torch.Generator().manual_seed(0))


def randomised(name: str, num_channels: int = 5) -> torch.nn.Module:
    pooling = build_pooling(name, num_channels)
    generator = torch.Generator().manual_seed(1)
    for parameter in pooling.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return pooling


def qan(frames: list[list[float]], weight: list[float], bias: float) -> list[float]:
    """Liu et al.'s weighted mean of one clip's frames, as a loop."""
    qualities = [
        1 / (1 + math.exp(-sum(w * x for w, x in zip(weight, frame, strict=True)) - bias)) for frame in frames
    ]
    total = [0.0] * len(weight)
    for quality, frame in zip(qualities, frames, strict=True):
        for channel, value in enumerate(frame):
            total[channel] += quality * value / sum(qualities)
    return total


def test_quality_by_hand():
    pooling = QualityPooling(1)
    torch.nn.init.ones_(pooling.quality.weight)
    # Two frames of one cell, 0 and log 3: qualities 1/2 and 3/4, so 2/5 of the first and 3/5 of the second.
    frames = torch.tensor([0, math.log(3)]).view(1, 1, 2, 1, 1)
    assert pooling(frames).item() == pytest.approx(0.6 * math.log(3))


def test_quality_against_a_loop():
    pooling = randomised("quality")
    weight, bias = pooling.quality.weight[0].tolist(), pooling.quality.bias.item()
    for clip, pooled in zip(MAPS, pooling(MAPS), strict=True):
        frames = [[sum(clip[channel, frame].flatten().tolist()) / 8 for channel in range(5)] for frame in range(3)]
        assert pooled.tolist() == pytest.approx(qan(frames, weight, bias), rel=1e-4, abs=1e-6)


def test_separate_against_a_loop():
    pooling = randomised("separate")
    score, score_bias = pooling.cell_score.weight.flatten().tolist(), pooling.cell_score.bias.item()
    quality = pooling.temporal.quality
    for clip, pooled in zip(MAPS, pooling(MAPS), strict=True):
        frames = []
        for frame in range(3):
            cells = clip[:, frame].flatten(1).T.tolist()  # 8 cells of 5 channels
            shares = [
                math.exp(sum(w * x for w, x in zip(score, cell, strict=True)) + score_bias) for cell in cells
            ]
            frames.append([sum(s * cell[c] for s, cell in zip(shares, cells, strict=True)) / sum(shares)
                           for c in range(5)])  # fmt: skip
        expected = qan(frames, quality.weight[0].tolist(), quality.bias.item())
        assert pooled.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", [name for name in POOLINGS if name != "gem"])
def test_each_starts_as_the_mean_and_sends_gradients_to_all_it_learns(name):
    pooling, maps = build_pooling(name, 5), MAPS.clone().requires_grad_()
    pooled = pooling(maps)
    torch.testing.assert_close(pooled, MAPS.mean((2, 3, 4)))
    pooled.square().sum().backward()
    assert maps.grad.abs().sum() > 0
    for key, parameter in pooling.named_parameters():
        if "weight" in key:
            assert parameter.grad.abs().sum() > 0


def test_qualities_near_zero_do_not_divide_by_zero():
    pooling = QualityPooling(1)
    torch.nn.init.constant_(pooling.quality.weight, 1.0)
    pooled = pooling(torch.tensor([-1000.0, -1001.0]).view(1, 1, 2, 1, 1))
    share = 1 / (1 + math.exp(-1))
    assert pooled.item() == pytest.approx(-1000 * share - 1001 * (1 - share))


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="unknown pooling 'max'; known: mean, gem, quality, separate"):
        build_pooling("max", 5)


def test_the_rest_of_the_representation_starts_alike_whatever_the_pooling():
    def build(pooling: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        return Representation(BackboneConfig(pooling=pooling), num_glimpses=0, num_identities=3).state_dict()

    mean, others = build("mean"), [build("quality"), build("separate")]
    assert not any(name.startswith("pool") for name in mean)  # checkpoints are those of before
    assert all(torch.equal(value, other[name]) for other in others for name, value in mean.items())


def test_gem_by_hand():
    maps = torch.tensor([1.0, 2.0, -3.0]).view(1, 1, 1, 1, 3)
    pooling = build_pooling("gem", 1)
    assert pooling(maps).item() == pytest.approx(((1 + 8 + 0) / 3) ** (1 / 3), rel=1e-4)
    pooling.power.data.fill_(1.0)
    assert pooling(maps).item() == pytest.approx(1.0, rel=1e-4)
