import copy
import dataclasses
import itertools

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

import agents
from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid
from a3d_env.env import Attention3DEnv
from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.features import SharedFeatureCallback
from agents.joint_config import JointConfig
from backbone.config import BackboneConfig
from backbone.data.loader import ClipBatch
from backbone.glimpse import describe
from backbone.losses import identity_loss, triplet_loss
from backbone.representation import Representation

GRID = BinGrid(feature_size=(3, 8, 4), bin_size=(2, 3, 2), clip_size=(3, 32, 16))
PEOPLE = [7, 7, 9, 9]
# An off-policy agent's: it learns in the first batch already, and one update a step shows it.
FEW_UPDATES = {"learning_starts": 8, "batch_size": 16, "gradient_steps": 1}


def make_batch(seed: int) -> ClipBatch:
    generator = torch.Generator().manual_seed(seed)
    boxes = np.full((4, 3, 4), np.nan, dtype=np.float32)
    boxes[:, 1] = [2, 4, 6, 8]
    return ClipBatch(
        clip=torch.randint(0, 256, (4, 3, 32, 16, 3), dtype=torch.uint8, generator=generator),
        flow=torch.randn(4, 3, 32, 16, 2, generator=generator).half(),
        person=torch.tensor(PEOPLE),
        tracklet=torch.arange(4),
        source=["a", "b", "c", "d"],
        truth_boxes=boxes,
        num_different=torch.full((4,), 3),
    )


def make_parts(
    name: str = "reinforce", episodes_per_clip: int = 2, num_glimpses: int = 4, config=None, **overrides
):
    torch.manual_seed(0)
    representation = Representation(BackboneConfig(precision="float32"), num_glimpses, num_identities=2)
    bank = FeatureBank.blank(GRID, representation.backbone.num_channels)
    vector_env = Attention3DVectorEnv(4 * episodes_per_clip, bank, representation.glimpse)
    env = VecMonitor(Attention3DVecEnv(vector_env))
    agent = agents.make(name, env, seed=0, **overrides)
    agent.set_logger(configure(None, []))
    shared = SharedFeatureCallback(
        representation,
        map(make_batch, itertools.count()),
        {7: 0, 9: 1},
        GRID,
        config or JointConfig(episodes_per_clip=episodes_per_clip),
    )
    return representation, env, agent, shared


def use_sgd(agent, shared, *, has_parameters: bool = True) -> None:
    """Plain gradient descent makes a step proportional to the gradient, so that steps compare as gradients do."""
    shared.optimizer.adam = torch.optim.SGD(shared.representation.parameters(), lr=0.01)
    shared.optimizer.scheduler = torch.optim.lr_scheduler.ConstantLR(shared.optimizer.adam, factor=1.0)
    if has_parameters:
        agent.policy.optimizer = torch.optim.SGD(agent.policy.parameters(), lr=0.5)


@pytest.mark.parametrize("name", ["reinforce", "a2c"])
def test_one_joint_step_changes_the_parameters_as_one_graph_would(name):
    representation, env, agent, shared = make_parts(name, learning_rate=0.5, max_grad_norm=1e9)
    use_sgd(agent, shared)
    reference, policy = copy.deepcopy(representation), copy.deepcopy(agent.policy)
    agent.learn(env.num_envs * 3, callback=shared)

    finished = env.unwrapped.vector_env.finished
    rollout = agent.collected if name == "reinforce" else agent.rollout_buffer
    batch, identity = make_batch(0), torch.tensor([0, 0, 1, 1])[finished.clip]
    reference.train()
    feature_map = reference.feature_map(batch.clip, batch.flow)
    bins, locations = GRID.pool(feature_map), GRID.locations[finished.bins]
    features = bins[finished.clip[:, None], finished.bins]
    hidden = reference.glimpse.unroll(features, locations)
    descriptor = describe(feature_map.mean((2, 3, 4))[finished.clip], hidden)
    loss = identity_loss(reference.glimpse.identify(descriptor), identity) + triplet_loss(descriptor, identity)
    # The policy gradient stops at g; with a2c it stops at the hidden state.
    seen = reference.glimpse.unroll(features.detach(), locations)[:, :3]
    seen = seen if name == "reinforce" else seen.detach()
    actions, rewards = torch.as_tensor(rollout.actions), torch.as_tensor(rollout.rewards)
    if name == "reinforce":  # (episodes, steps, 3)
        actions, rewards = actions.transpose(0, 1), rewards.sum(1)
    else:  # the update flattened the buffer's actions, episode after episode
        actions, rewards = actions.view(env.num_envs, 3, 3).transpose(0, 1), rewards.sum(0)
    assert 0 < rewards.mean() < 1  # else the advantage would be trivial
    for step in range(3):
        log_prob, values = policy.evaluate_hidden(seen[:, step], actions[step])
        advantage = (rewards - values).detach()
        weight = 1 if name == "reinforce" else 1 / 3  # summed over steps, or averaged
        loss = loss - weight * (advantage * log_prob).mean() + 0.5 * (rewards - values).square().mean() / 3
    loss.backward()
    torch.optim.SGD(reference.parameters(), lr=0.01).step()
    torch.optim.SGD(policy.parameters(), lr=0.5).step()

    for changed, expected in ((representation, reference), (agent.policy, policy)):
        for (key, value), other in zip(changed.named_parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(
                value, other, rtol=1e-4, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}"
            )


@pytest.mark.parametrize("name", [name for name in agents.ALGORITHMS if name not in ("mean", "swapped", "best")])
def test_every_algorithm_trains_jointly_and_counts_finished_episodes(name):
    overrides = {} if agents.ALGORITHMS[name].whole_episodes else FEW_UPDATES
    representation, env, agent, shared = make_parts(name, **overrides)
    before = copy.deepcopy(representation.state_dict())
    agent.learn(env.num_envs * 3 * 4, callback=shared)
    assert shared.step == 4
    changed = {key.split(".")[0] + "." + key.split(".")[1] for key, v in representation.named_parameters()
               if not torch.equal(v, before[key])}  # fmt: skip
    assert changed == {
        "backbone.image_stream", "backbone.flow_stream", "backbone.high_level",
        "glimpse.embed_observation", "glimpse.embed_hidden", "glimpse.identify",
    }  # fmt: skip
    assert set(shared.metrics) == {
        "identity_loss",
        "triplet_loss",
        "accuracy",
        "reward",
        "hit_rate",
        "chance_of_hits",
    }


@pytest.mark.parametrize("name", ["reinforce", "ppo", "sac"])
@pytest.mark.parametrize("num_glimpses", [0, 1, 2])
def test_few_glimpses_train_jointly_and_only_choices_have_a_hit_rate(name, num_glimpses):
    overrides = {} if agents.ALGORITHMS[name].whole_episodes else FEW_UPDATES
    representation, env, agent, shared = make_parts(name, num_glimpses=num_glimpses, **overrides)
    before = copy.deepcopy(representation.state_dict())
    agent.learn(env.num_envs * 2, callback=shared)
    assert shared.step == 2
    assert ("hit_rate" in shared.metrics) == (num_glimpses > 1)
    for key, value in representation.named_parameters():
        is_idle = num_glimpses == 0 and key.startswith("glimpse.embed")  # F_o and F_h see nothing
        assert torch.equal(value, before[key]) == is_idle or key == "glimpse.embed_hidden.h2h.weight", key


@pytest.mark.parametrize("num_glimpses", [0, 1])
def test_a_joint_step_without_decisions_is_that_of_the_supervised_losses(num_glimpses):
    representation, env, agent, shared = make_parts(num_glimpses=num_glimpses)
    use_sgd(agent, shared)
    reference = copy.deepcopy(representation).train()
    agent.learn(env.num_envs, callback=shared)

    batch, clip = make_batch(0), torch.arange(8) // 2
    feature_map = reference.feature_map(batch.clip, batch.flow)
    centre = torch.full((8,), GRID.centre)
    hidden = [reference.glimpse.glimpse(GRID.pool(feature_map)[clip, centre], GRID.locations[centre],
                                        torch.zeros(8, 256))] * num_glimpses  # fmt: skip
    descriptor = torch.cat([feature_map.mean((2, 3, 4))[clip], *hidden], dim=1)
    identity = torch.tensor([0, 0, 1, 1])[clip]
    loss = identity_loss(reference.glimpse.identify(descriptor), identity) + triplet_loss(descriptor, identity)
    loss.backward()
    torch.optim.SGD(reference.parameters(), lr=0.01).step()
    for (key, value), other in zip(representation.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")


def test_the_glimpse_loss_is_the_cross_entropy_of_every_glimpse_beside_the_global_feature():
    config = JointConfig(triplet_weight=0.0, glimpse_weight=0.7, label_smoothing=0.1, episodes_per_clip=2)
    representation, env, agent, shared = make_parts("random", config=config)
    use_sgd(agent, shared, has_parameters=False)
    reference = copy.deepcopy(representation).train()
    agent.learn(env.num_envs * 3, callback=shared)

    finished, batch = env.unwrapped.vector_env.finished, make_batch(0)
    feature_map = reference.feature_map(batch.clip, batch.flow)
    features = GRID.pool(feature_map)[finished.clip[:, None], finished.bins]
    hidden = reference.glimpse.unroll(features, GRID.locations[finished.bins])
    global_feature = feature_map.mean((2, 3, 4))[finished.clip]
    identity = torch.tensor([0, 0, 1, 1])[finished.clip]
    loss = identity_loss(
        reference.glimpse.identify(describe(global_feature, hidden)), identity, label_smoothing=0.1
    )
    glimpse_loss = torch.zeros(())
    for step in range(4):
        only = torch.zeros_like(hidden)
        only[:, step] = hidden[:, step]
        logits = reference.glimpse.identify(describe(global_feature, only))
        glimpse_loss = glimpse_loss + identity_loss(logits, identity, label_smoothing=0.1) / 4
    (loss + 0.7 * glimpse_loss).backward()
    torch.optim.SGD(reference.parameters(), lr=0.01).step()
    assert shared.metrics["glimpse_loss"] == pytest.approx(glimpse_loss.item())
    for (key, value), other in zip(representation.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")


def test_a_glimpse_loss_needs_glimpses_and_a_weight():
    with pytest.raises(ValueError, match="no glimpse to weigh"):
        make_parts(num_glimpses=0, config=JointConfig(glimpse_weight=1.0))
    for weight in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="glimpse_weight must be 0 or more"):
            JointConfig(glimpse_weight=weight)


def test_a_rollout_of_several_episodes_is_learned_from_as_a_whole():
    _, env, agent, shared = make_parts(n_steps=6)
    agent.learn(env.num_envs * 6, callback=shared)
    assert shared.step == 1


def test_environment_agent_and_callback_share_one_glimpse_network():
    representation, env, _, shared = make_parts()
    assert env.get_attr("glimpse")[0] is representation.glimpse is shared.representation.glimpse


def test_the_metrics_are_those_of_the_finished_episodes():
    _, env, agent, shared = make_parts()
    agent.learn(env.num_envs * 3, callback=shared)
    finished, bank = env.unwrapped.vector_env.finished, shared.env.vector_env.process.bank
    hits = [bank.hits[c, b] for c, row in zip(finished.clip, finished.bins, strict=True) for b in row[1:]]
    assert shared.metrics["hit_rate"] == pytest.approx(np.mean(hits))
    assert shared.metrics["reward"] == shared.metrics["accuracy"]  # the identity reward


def test_learning_rates_are_halved():
    _, env, agent, shared = make_parts()
    shared = SharedFeatureCallback(
        shared.representation, shared.batches, shared.labels, GRID,
        JointConfig(learning_rate=0.08, halve_every=2, episodes_per_clip=2),
    )  # fmt: skip
    agent.learn(env.num_envs * 3 * 5, callback=shared)
    assert shared.optimizer.adam.param_groups[0]["lr"] == pytest.approx(0.02)


def test_the_centre_loss_moves_each_centre_to_its_people():
    _, env, agent, shared = make_parts()
    config = JointConfig(learning_rate=1e-9, center_weight=5e-4, weight_decay=5e-4, episodes_per_clip=2)
    batch = next(shared.batches)
    shared = SharedFeatureCallback(shared.representation, itertools.repeat(batch), shared.labels, GRID, config)
    agent.learn(env.num_envs * 3 * 10, callback=shared)
    pooled = shared.representation.pool(shared.representation.feature_map(batch.clip, batch.flow)).detach()
    for person, number in shared.labels.items():
        mean = pooled[batch.person == person].mean(0)
        assert (shared.optimizer.centers[number] - mean).norm() < 0.3 * mean.norm()


def test_a_loss_without_weight_is_not_shown():
    _, env, agent, shared = make_parts(
        config=JointConfig(triplet_weight=0.0, glimpse_weight=1.0, episodes_per_clip=2)
    )
    agent.learn(env.num_envs * 3, callback=shared)
    assert {name for name in shared.metrics if name.endswith("loss")} == {"identity_loss", "glimpse_loss"}


def test_a_loss_that_is_not_finite_is_an_error():
    representation, env, agent, shared = make_parts()
    torch.nn.init.constant_(representation.glimpse.identify.bias, float("nan"))
    with pytest.raises(ValueError, match="the loss became nan at step 0"):
        agent.learn(env.num_envs * 3, callback=shared)


def test_an_environment_of_the_wrong_size_is_an_error():
    *_, agent, shared = make_parts(episodes_per_clip=3)
    shared.config = JointConfig(episodes_per_clip=2)
    with pytest.raises(ValueError, match="needs an environment of 8, got 12"):
        agent.learn(36, callback=shared)


def test_an_environment_with_another_glimpse_network_is_an_error():
    _, env, agent, shared = make_parts()
    shared.representation = copy.deepcopy(shared.representation)
    with pytest.raises(ValueError, match="glimpse network of its own"):
        agent.learn(env.num_envs * 3, callback=shared)


def test_metrics_are_of_the_last_batch_only():
    _, env, agent, shared = make_parts()
    shared.batches = (
        dataclasses.replace(make_batch(n), truth_boxes=make_batch(n).truth_boxes if n == 0 else None)
        for n in itertools.count()
    )
    agent.learn(env.num_envs * 3, callback=shared)
    assert "hit_rate" in shared.metrics
    agent.learn(env.num_envs * 3, callback=shared)
    assert "hit_rate" not in shared.metrics


def test_a_replay_keeps_observations_as_they_are_under_normalisation():
    _, env, _, shared = make_parts()
    agent = agents.make("sac", VecNormalize(env), seed=0, learning_starts=10_000)
    agent.learn(env.num_envs * 3, callback=shared)
    agent.learn(env.num_envs * 3, callback=shared, reset_num_timesteps=False)
    process, replay = env.unwrapped.vector_env.process, agent.replay_buffer
    first = process.observe(process.start(torch.arange(env.num_envs) // 2))
    np.testing.assert_array_equal(replay.observations["bin"][3], first["bin"])


def test_single_environments_are_refused():
    *_, shared = make_parts()
    agent = agents.make("a2c", DummyVecEnv([Attention3DEnv]))
    with pytest.raises(TypeError, match="needs an Attention3DVecEnv, got DummyVecEnv"):
        agent.learn(3, callback=shared)
