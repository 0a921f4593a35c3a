"""Every entry of the registry on a bank whose answer is known: it learns, saves, loads, and goes on as it was."""

import dataclasses
import io

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_checker import check_env as check_sb3
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor

import agents
import agents.controls
from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid
from a3d_env.env import Attention3DEnv
from a3d_env.interface import action_space
from a3d_env.process import AttentionProcess
from a3d_env.sb3 import ActionModeWrapper, Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.control_algorithm import ControlAlgorithm
from agents.controls import swap_partners
from agents.extractors import OverviewReader
from agents.reinforce import REINFORCE
from agents.rollout import follow
from agents.runs.build import initial_learning_rate, policy_settings
from agents.runs.presets import get_preset
from agents.runs.recipes import get_recipe, with_settings
from agents.state import load_training_state, training_state
from backbone.glimpse import GlimpseNetwork

NUM_IDENTITIES = 4
GRID = BinGrid(feature_size=(2, 3, 2), bin_size=(1, 1, 1), clip_size=(2, 12, 8))
PLACES = [(0, 0, 0), (1, 0, 0)]  # of the bin that carries the identity, in even clips and in odd ones

CONTROLS = [name for name, entry in agents.ALGORITHMS.items() if entry.build is ControlAlgorithm]
LEARNING = [name for name in agents.ALGORITHMS if name not in (*CONTROLS, "untrained")]
# Environment steps after which each finds both places; TD3 and DDPG, whose one action follows the slope of a value
# that has steps, find one, and stay.
STEPS = dict.fromkeys(LEARNING, 2_000) | dict.fromkeys(["reinforce", "a2c", "ppo", "dqn", "qrdqn"], 3_000)
# Rates at which they learn in a half or a third of the steps that their own rates take.
RATES = dict.fromkeys(LEARNING, 3e-3) | {"reinforce": 3e-2, "a2c": 3e-2, "ppo": 1e-2, "trpo": 1e-3}
ONE_PLACE = ("td3", "ddpg")


class OwnPPO(PPO):
    """What a user may bring."""


class OwnReinforce(REINFORCE):
    """What a user may bring, too."""


def analytic(num_clips: int = 16, num_glimpses: int = 2) -> tuple[FeatureBank, GlimpseNetwork]:
    """One bin carries the identity, and every bin says which of two places it is at.

    Channels 0 to 3 are the identity's code, 4 and 5 the place's. F_c counts the codes seen, so that an episode
    that looks at the bin is right for sure, and any other says 0, which is right for one clip in four. With one
    decision the best earns 1, and whoever does not look at the clip at most (1 + 1/4) / 2 = 0.625.
    """
    clip = torch.arange(num_clips)
    identity, place = clip // 2 % NUM_IDENTITIES, clip % 2
    maps = torch.zeros(num_clips, NUM_IDENTITIES + 2, *GRID.feature_size)
    maps[clip, NUM_IDENTITIES + place] = 1
    for number in clip.tolist():
        maps[(number, identity[number], *PLACES[number % 2])] = 1
    glimpse = GlimpseNetwork(NUM_IDENTITIES + 2, num_glimpses, NUM_IDENTITIES).requires_grad_(False)
    for parameter in glimpse.parameters():
        parameter.zero_()
    for layer in (glimpse.embed_observation.what[0], glimpse.embed_observation.what[2], glimpse.embed_hidden.i2h):
        layer.weight.fill_diagonal_(1)
    for weight in glimpse.glimpse_weights:
        weight[:, :NUM_IDENTITIES].fill_diagonal_(10)
    names = [f"clip {number}" for number in range(num_clips)]
    zeros = torch.zeros(num_clips, NUM_IDENTITIES + 2)
    return FeatureBank.from_feature_map(maps, GRID, identity, names, global_feature=zeros), glimpse


def make_env(num_envs: int = 64, **settings) -> VecMonitor:
    env = VecMonitor(Attention3DVecEnv(Attention3DVectorEnv(num_envs, *analytic(), **settings)))
    env.seed(0)
    return env


def make_agent(name: str, env: VecMonitor, **overrides):
    kwargs = (
        {"policy_kwargs": {"variance": 0.2}} if agents.get_algorithm(name).policy is agents.AttentionPolicy else {}
    )
    return agents.make(name, env, seed=0, device="cpu", **kwargs, **overrides)


def mean_reward(agent, process: AttentionProcess) -> float:
    episodes = follow(agent, process, torch.arange(len(process.bank)))
    return process.judge(episodes).reward.mean().item()


def test_the_analytic_bank_pays_1_for_the_place_and_a_quarter_without():
    process = AttentionProcess(*analytic(num_glimpses=4))
    clips = torch.arange(16)
    for glimpse_number in (1, 2, 3):
        for bins, expected in (
            (torch.tensor([GRID.index(PLACES[clip % 2]) for clip in range(16)]), 1.0),
            (GRID.centre, 0.25),
        ):
            episodes = process.start(clips)
            while not process.is_over(episodes):
                looks = bins if episodes.num_glimpses == glimpse_number else torch.full((16,), GRID.centre)
                episodes = process.look(episodes, torch.as_tensor(looks).expand(16))
            assert process.judge(episodes).reward.mean().item() == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING)
def test_every_algorithm_learns_where_to_look_saves_loads_and_goes_on(name, tmp_path):
    env, process = make_env(), AttentionProcess(*analytic())
    agent = make_agent(name, env, learning_rate=RATES[name])
    agent.learn(STEPS[name])
    reward = mean_reward(agent, process)
    random = mean_reward(agents.controls.random_agent(), process)
    assert random < 0.4
    # what is best without looking at the clip, and what only looking at it can earn
    assert reward >= 0.625 if name in ONE_PLACE else reward > 0.9
    agent.save(tmp_path / "agent")
    loaded = type(agent).load(tmp_path / "agent", env=agent.get_env())
    assert mean_reward(loaded, process) == reward

    buffer = io.BytesIO()
    torch.save({"parameters": agent.get_parameters(), "training": training_state(agent)}, buffer)
    state = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    resumed = make_agent(name, make_env(), learning_rate=RATES[name])
    resumed.set_parameters(state["parameters"])
    load_training_state(resumed, state["training"])
    assert (resumed.num_timesteps, resumed._n_updates) == (agent.num_timesteps, agent._n_updates)
    assert mean_reward(resumed, process) == reward
    resumed.learn(128, reset_num_timesteps=False)
    assert resumed.num_timesteps == agent.num_timesteps + 128
    assert resumed._n_updates > agent._n_updates


@pytest.mark.parametrize("name", ["ppo", "trpo", "sac", "td3", "dqn", "ppo-multidiscrete"])
def test_with_an_overview_every_kind_of_policy_looks_at_it(name):
    env = make_env(8, overview=(2, 3, 2))
    kwargs = {"policy_kwargs": {"locator": "mixture"}} if name in ("ppo", "trpo") else {}
    overrides = (
        {} if name in ("ppo", "trpo", "ppo-multidiscrete") else {"learning_starts": 24, "gradient_steps": 1}
    )
    agent = agents.make(name, env, seed=0, device="cpu", **kwargs, **overrides)
    agent.learn(48)
    names = [key for key in agent.policy.state_dict() if key.endswith("key.weight")]
    assert names
    fresh = agents.make(name, env, seed=0, device="cpu", **kwargs, **overrides).policy.state_dict()
    assert any(not torch.equal(agent.policy.state_dict()[key], fresh[key]) for key in names)


@pytest.mark.parametrize(("name", "mode"), [("ppo-multidiscrete", "multidiscrete"), ("dqn", "discrete")])
def test_evaluating_an_agent_that_chooses_among_bins_reads_them_as_bins(name, mode):
    env = make_env(8)
    agent = agents.make(name, env, seed=0)
    refusal = rf"give locations as floats.*ActionModeWrapper\(env, '{mode}'\)"
    with pytest.raises(ValueError, match=refusal):
        evaluate_policy(agent, env, 8)
    with pytest.warns(UserWarning, match="not of the same type"), pytest.raises(ValueError, match=refusal):
        agent.learn(8, EvalCallback(make_env(8), eval_freq=1))
    rewards = []
    for known in (agent.get_env(), ActionModeWrapper(make_env(8), mode)):
        known.seed(3)
        rewards.append(evaluate_policy(agent, known, 32, return_episode_rewards=True, warn=False)[0])
    assert rewards[0] == rewards[1]
    agent.learn(8, EvalCallback(known, eval_freq=1, verbose=0, warn=False))


def test_the_reader_says_where_each_head_looks_and_how_sure_it_is():
    env = make_env(2, overview=(2, 3, 2))
    locations = env.get_attr("overview_locations")[0]
    torch.manual_seed(0)
    reader = OverviewReader(env.observation_space, locations.tolist())
    seen = {name: torch.as_tensor(value) for name, value in env.reset().items()}
    features = reader(seen)
    assert features.shape == (2, reader.features_dim) == (2, 256 + 16)
    assert torch.equal(features[:, :256], seen["hidden"])
    for row in range(2):
        bins = seen["overview"][row].view(12, -1)
        keys = (torch.cat([bins, locations], 1) @ reader.key.weight.T + reader.key.bias).clamp(min=0)
        scores = keys @ reader.score.weight.T + reader.score.bias
        for head in range(4):
            weights = scores[:, head].softmax(0)
            where = features[row, 256 + 3 * head : 259 + 3 * head]
            torch.testing.assert_close(where, (weights[:, None] * locations).sum(0))
            torch.testing.assert_close(features[row, 268 + head], (weights * scores[:, head]).sum())
    with pytest.raises(ValueError, match=r"has 12 bins, .* \(12, 3\), got \(3, 3\)"):
        OverviewReader(env.observation_space, locations[:3].tolist())


def test_an_algorithm_of_ones_own_needs_no_entry():
    env = make_env(8)
    agent = agents.make(f"{__name__}:OwnPPO", env, seed=0, learning_rate=1e-2)
    assert type(agent).__name__ == "OwnPPO"
    agent.learn(48)
    assert (agent.n_steps, agent.batch_size) == (1, 8)
    assert agents.get_algorithm("stable_baselines3:DQN").action_mode == "discrete"
    assert not agents.get_algorithm("stable_baselines3:TD3").whole_episodes


def test_an_algorithm_of_ones_own_is_set_up_as_the_one_it_inherits_from():
    own, known = agents.get_algorithm(f"{__name__}:OwnReinforce"), agents.ALGORITHMS["reinforce"]
    assert dataclasses.replace(own, build=known.build) == known
    config = dataclasses.replace(get_preset("tiny"), agent=f"{__name__}:OwnReinforce")
    policy = get_recipe("strong")(config).policy
    assert policy_settings(config.agent, policy) == policy_settings("reinforce", policy)
    rates = [
        initial_learning_rate(
            with_settings(dataclasses.replace(config, agent=name), policy={"learning_rate": None})
        )
        for name in ("reinforce", config.agent)
    ]
    assert rates == [3e-3, 3e-3]
    trained = []
    for name in (config.agent, "reinforce"):
        trained.append(agents.make(name, make_env(8), seed=0).learn(48).policy.state_dict())
    assert all(torch.equal(value, trained[1][name]) for name, value in trained[0].items())


def test_the_best_finds_the_place_and_swapped_and_mean_know_of_it():
    process = AttentionProcess(*analytic(num_glimpses=4), reward="log_prob")
    clips = torch.arange(16)
    seen = {name: follow(agents.controls.ControlAgent(name), process, clips).bins[:, 1:] for name in CONTROLS[:-1]}
    places = torch.tensor([GRID.index(PLACES[number % 2]) for number in range(16)])
    assert torch.equal(seen["best"], places[:, None].expand(16, 3))
    partners = swap_partners(process.bank.identity.numpy())
    assert torch.equal(seen["swapped"], seen["best"][partners])
    # halfway between the places in time, which is one of the two; along height and width they agree
    assert len(seen["mean"].unique()) == 1
    assert tuple(GRID.corners[seen["mean"][0, 0]].tolist()) in PLACES
    with pytest.raises(ValueError, match="best is not in an observation"):
        agents.make("best", make_env(2)).predict(make_env(2).reset())


@pytest.mark.parametrize("name", ["mean", "swapped", "best"])
def test_controls_that_know_the_table_play_in_an_environment(name):
    env = make_env(6)
    agent = agents.make(name, env, seed=0)
    agent.learn(36)
    finished = env.unwrapped.vector_env.finished
    process = env.unwrapped.vector_env.process
    assert torch.equal(follow(agent, process, finished.clip).bins, finished.bins)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dqnn", "unknown agent 'dqnn'; known: reinforce, .*module:Class"),
        ("no_such_module:PPO", "can't be imported: No module"),
        ("stable_baselines3:POP", "can't be imported: .*POP"),
        ("json:JSONDecoder", "is no stable-baselines3 algorithm"),
        ("json:loads", "is no stable-baselines3 algorithm"),
    ],
)
def test_what_is_no_algorithm_is_said(name, message):
    with pytest.raises(ValueError, match=message):
        agents.make(name, make_env(1))


@pytest.mark.parametrize("mode", ["discrete", "multidiscrete"])
def test_chosen_bins_are_what_is_looked_at(mode):
    env = ActionModeWrapper(make_env(12), mode)
    env.reset()
    actions = np.arange(12) if mode == "discrete" else GRID.corners.numpy()
    *_, infos = env.step(actions)
    assert [info["bin"].tolist() for info in infos] == GRID.corners.tolist()
    assert env.get_attr("action_mode") == [mode] * 12
    with pytest.raises(ValueError, match="only a continuous environment"):
        ActionModeWrapper(make_env(2, action_mode=mode), mode)


def test_an_agents_own_environment_can_be_given_to_another():
    env = agents.make("dqn", make_env(4)).get_env()
    again = agents.make("qrdqn", env, seed=0, learning_starts=0, batch_size=4)
    assert again.get_env() is env
    again.learn(8)
    with pytest.raises(ValueError, match="only a continuous environment"):
        agents.make("ppo", env)


@pytest.mark.parametrize("mode", ["discrete", "multidiscrete"])
def test_environments_take_bins_by_number_or_position(mode, played):
    single = gymnasium.make("a3d_env:A3D/Attention3D-v0", action_mode=mode)
    check_env(single.unwrapped, skip_render_check=True)
    check_sb3(single.unwrapped)
    grid = played[0].grid
    assert single.action_space == action_space(grid, mode)
    bins = [0, 197, 100]
    actions = [grid.corners[number].numpy() if mode == "multidiscrete" else number for number in bins]
    vector = Attention3DVectorEnv(3, *played, action_mode=mode, exact=True)
    single.reset(options={"clip": 2})
    vector.reset(options={"clip": 2})
    for number, action in zip(bins, actions, strict=True):
        observation, reward, _, _, info = single.step(action)
        many, rewards, *_, infos = vector.step(np.stack([action] * 3))
        last = infos.get("final_info", infos)
        assert info["bin"].tolist() == last["bin"][1].tolist() == grid.corners[number].tolist()
        if "final_info" not in infos:
            np.testing.assert_array_equal(observation["hidden"], many["hidden"][1])
        assert reward == rewards[1]


@pytest.mark.parametrize(
    ("mode", "action", "message"),
    [
        ("discrete", 198, "numbered from 0 to 197"),
        ("discrete", -1, "numbered from 0 to 197"),
        ("discrete", 1.5, "whole numbers"),
        ("discrete", [1, 2], "expected an action of Discrete"),
        ("multidiscrete", [3, 0, 0], r"below \(3, 11, 6\)"),
        ("multidiscrete", [0, -1, 0], r"below \(3, 11, 6\)"),
        ("multidiscrete", [0, 0], "expected an action of MultiDiscrete"),
        ("multidiscrete", [0.5, 0, 0], "whole numbers"),
        ("luck", 0, "unknown action_mode 'luck'; known: continuous, discrete, multidiscrete"),
    ],
)
def test_actions_that_are_no_bins_are_said(mode, action, message, played):
    def play() -> None:
        env = Attention3DEnv(*played, action_mode=mode)
        env.reset()
        env.step(np.asarray(action))

    with pytest.raises(ValueError, match=message):
        play()


def test_another_banks_positions_are_not_mixed_up(played, random_case):
    env = Attention3DVectorEnv(2, *played, action_mode="discrete")
    other = random_case(num_channels=19, num_identities=8, grid=BinGrid(bin_size=(4, 6, 4)))[0]
    with pytest.raises(ValueError, match=r"among \(3, 11, 6\) positions, the other bank has \(3, 11, 5\)"):
        env.set_bank(other)


def test_an_environment_of_another_action_mode_is_refused():
    with pytest.raises(ValueError, match="only a continuous environment can be given another action mode"):
        agents.make("dqn", make_env(2, action_mode="multidiscrete"))
    assert agents.make("dqn", make_env(2, action_mode="discrete")).action_space.n == 12


def test_a_bare_environments_rewards_are_logged():
    env = Attention3DVecEnv(Attention3DVectorEnv(8, *analytic()))
    agent = agents.make("reinforce", env, seed=0)
    agent.learn(16)
    assert all("r" in episode for episode in agent.ep_info_buffer)
    assert len(agent.ep_info_buffer) == 16


@pytest.mark.parametrize("name", ["reinforce", "dqn", "ppo-multidiscrete"])
def test_a_saved_agent_comes_back_without_knowing_its_kind_of_action(name, tmp_path):
    agent = make_agent(name, make_env(4), **({"buffer_size": 100} if name == "dqn" else {}))
    agent.save(tmp_path / "agent")
    bare = Attention3DVecEnv(Attention3DVectorEnv(4, *analytic()))
    again = agents.load(name, tmp_path / "agent", bare, device="cpu")
    process = AttentionProcess(*analytic())
    assert mean_reward(again, process) == mean_reward(agent, process)
    again.learn(8)
