"""What a compiled step has to trace has no graph breaks."""

import pytest
import torch

from a3d_env.process import AttentionProcess
from backbone.config import BackboneConfig
from backbone.representation import Representation


@pytest.fixture(autouse=True)
def _forget():
    yield
    torch._dynamo.reset()


def whole(function):
    """The function compiled in one graph; a break would be an error."""
    return torch.compile(function, fullgraph=True, backend="eager")


def test_the_backbone_is_one_graph():
    network = Representation(BackboneConfig(), num_glimpses=1, num_identities=2).eval()
    clip = torch.randint(0, 256, (1, 2, 16, 16, 3), dtype=torch.uint8)
    flow = torch.randn(1, 2, 2, 16, 16)
    maps = whole(network.maps)(clip, flow)
    assert torch.equal(maps, network.maps(clip, flow))
    assert maps.requires_grad


def test_an_episode_is_one_graph(random_case):
    process = AttentionProcess(*random_case(num_glimpses=2))

    def play(clip, actions):
        episodes = process.step(process.start(clip), actions)
        return process.observe(episodes), episodes.bins, process.judge(episodes).reward

    clip, actions = torch.tensor([3, 0, 1]), 2 * torch.rand(3, 3) - 1
    (seen, bins, reward), (wanted, wanted_bins, wanted_reward) = whole(play)(clip, actions), play(clip, actions)
    assert torch.equal(bins, wanted_bins)
    assert torch.equal(reward, wanted_reward)
    torch.testing.assert_close(seen, wanted, rtol=0, atol=1e-6)  # one product for all rows
