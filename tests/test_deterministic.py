"""The module for export computes what episodes come to, whoever decides."""

import pytest
import torch

import agents
from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid
from a3d_env.process import AttentionProcess
from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.deterministic import DeterministicModel, export_program
from agents.rollout import follow
from backbone.config import BackboneConfig
from backbone.representation import Representation

GRID = BinGrid((3, 16, 8), (2, 6, 4), (3, 64, 32))
OVERVIEW = BinGrid((3, 16, 8), (2, 6, 4), (3, 64, 32), (2, 3, 3))
LOOKED = BinGrid((3, 16, 8), (2, 6, 4), (3, 64, 32), (2, 3, 3), shows_looked=True)


def build(name, grid=GRID, num_glimpses=4, flow="dis-fast", **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = BackboneConfig(flow=flow, precision="float32")
        representation = Representation(config, num_glimpses, num_identities=7).eval()
        for module in representation.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5)
        blank = FeatureBank.blank(grid, 64)
        env = Attention3DVecEnv(Attention3DVectorEnv(4, blank, representation.glimpse))
        agent = agents.make(name, env, seed=1, **settings)
        # at their start neither hidden states nor policies tell much apart
        for parameter in [*agent.policy.parameters(), *representation.glimpse.parameters()]:
            torch.nn.init.normal_(parameter, std=0.4)
    return representation, agent


def inputs(count, flow=True):
    generator = torch.Generator().manual_seed(count)
    patches = torch.randint(0, 256, (count, 3, 4, 2, 3), dtype=torch.uint8, generator=generator)
    clip = patches.repeat_interleave(16, dim=2).repeat_interleave(16, dim=3)  # noise would all average to grey
    return (clip, torch.randn(count, 3, 64, 32, 2, generator=generator)) if flow else (clip,)


@torch.no_grad()
def expected(representation, agent, grid, clip, flow=None):
    maps = representation.feature_map(clip, flow)
    pooled, people = representation.pool(maps), torch.zeros(len(clip), dtype=torch.long)
    bank = FeatureBank.from_feature_map(maps, grid, people, ["clip"] * len(clip), global_feature=pooled)
    process = AttentionProcess(bank, representation.glimpse)
    episodes = follow(agent, process, torch.arange(len(clip)))
    return process.descriptor(episodes), episodes.bins, process.verdict(episodes).logits


CASES = {
    "reinforce": {},
    "ppo": {"grid": LOOKED, "policy_kwargs": {"locator": "mixture", "inhibition": 9.0}},
    "a2c": {},
    "trpo": {},
    "sac": {"grid": OVERVIEW},
    "td3": {"grid": OVERVIEW},
    "ddpg": {},
    "tqc": {},
    "dqn": {},
    "qrdqn": {},
    "ppo-discrete": {"grid": OVERVIEW},
    "ppo-multidiscrete": {"grid": OVERVIEW},
    "untrained": {},
    "centre": {},
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_episode_of_every_agent(name):
    settings = dict(CASES[name])
    grid = settings.get("grid", GRID)
    representation, agent = build(name, **settings)
    module = DeterministicModel(representation, agent, grid)
    arguments = inputs(5)
    with torch.no_grad():
        descriptor, bins, logits = module(*arguments)
    wanted = expected(representation, agent, grid, *arguments)
    assert torch.equal(bins, wanted[1])
    torch.testing.assert_close(descriptor, wanted[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits, wanted[2], rtol=1e-5, atol=1e-5)
    if name not in ("centre", "dqn"):  # of random weights dqn's values are alike everywhere
        assert len(bins[:, 1:].unique()) > 1  # the comparison is of something


@pytest.mark.parametrize("num_glimpses", [0, 1])
def test_without_choices_and_without_flow(num_glimpses):
    representation, agent = build("reinforce", num_glimpses=num_glimpses, flow=None)
    arguments = inputs(2, flow=False)
    with torch.no_grad():
        descriptor, bins, _ = DeterministicModel(representation, agent, GRID)(*arguments)
    wanted = expected(representation, agent, GRID, *arguments)
    assert bins.shape == (2, num_glimpses)
    torch.testing.assert_close(descriptor, wanted[0], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_exported_program_takes_any_number_of_clips(name):
    flow = "dis-fast" if name in ("reinforce", "ppo") else None  # costs time, and is the same for all agents
    representation, agent = build(name, num_glimpses=4 if flow else 2, flow=flow, **CASES[name])
    module = DeterministicModel(representation, agent, CASES[name].get("grid", GRID))
    program = export_program(module, inputs(2, flow is not None)).module()
    with torch.no_grad():
        for count in (1, 5):
            arguments = inputs(count, flow is not None)
            exported, own = program(*arguments), module(*arguments)
            assert torch.equal(exported[1], own[1])
            torch.testing.assert_close(exported[0], own[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["random", "truth", "best"])
def test_what_takes_more_than_an_observation_is_refused(name):
    representation, agent = build(name)
    with pytest.raises(ValueError, match=f"control {name} decides by more than its observation"):
        DeterministicModel(representation, agent, GRID)
