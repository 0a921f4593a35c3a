"""What a compiled step has to trace has no graph breaks."""

import copy

import pytest
import torch

from a3d_env.process import AttentionProcess
from backbone.config import BackboneConfig
from backbone.representation import Representation, _compiled_maps


@pytest.fixture(autouse=True)
def _forget():
    yield
    torch._dynamo.reset()


def whole(function):
    """The function compiled in one graph; a break would be an error."""
    return torch.compile(function, fullgraph=True, backend="eager")


@pytest.mark.slow
def test_the_backbone_is_one_graph():
    network = Representation(BackboneConfig(), num_glimpses=1, num_identities=2).eval()
    clip = torch.randint(0, 256, (1, 2, 16, 16, 3), dtype=torch.uint8)
    flow = torch.randn(1, 2, 2, 16, 16)
    maps = whole(network.maps)(clip, flow)
    assert torch.equal(maps, network.maps(clip, flow))
    assert maps.requires_grad


def test_a_setting_compiles_the_backbone_of_every_network(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    _compiled_maps.cache_clear()
    network = Representation(BackboneConfig(flow=None, compiled=True), num_glimpses=1, num_identities=2).eval()
    clip = torch.randint(0, 256, (1, 2, 16, 16, 3), dtype=torch.uint8)
    maps = [one.feature_map(clip, None) for one in (network, copy.deepcopy(network))]
    assert compiled == [Representation.maps]
    network.is_compiled = False
    assert torch.equal(maps[0], network.feature_map(clip, None))
    assert torch.equal(*maps)
    _compiled_maps.cache_clear()


@pytest.mark.slow
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
