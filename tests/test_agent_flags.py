"""Settings of single algorithms: from flags and files, as they are used, and as they are kept."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from test_algorithms import make_env
from test_policy_command import interrupt

import agents
from a3d_env.bank_file import save_bank
from a3d_env.playground import playground
from agents.runs.agent_flags import take_agent_settings
from agents.runs.arguments import read_arguments
from agents.runs.bank_policy import load_policy
from agents.runs.build import (
    build_agent,
    build_environment,
    build_grid,
    build_representation,
    initial_learning_rate,
    make_agent,
)
from agents.runs.config import config_from_json, config_to_json
from agents.settings import known_settings, read_settings, settings_used
from scripts.cli import main
from scripts.compare import CompareConfig, make_tasks
from scripts.compare.task import run

FILE = """
ppo:
  learning_rate: 3e-4
  n_epochs: 7
sac: {train_freq: [2, step]}
"""


class OwnKind(OnPolicyAlgorithm):
    """An algorithm that inherits from none of the registry's."""

    def __init__(self, policy, env, learning_rate=0.5, n_steps=8, gamma=0.9, own=1, **kwargs):
        more = {"gae_lambda": 0.5, "vf_coef": 0.5, "max_grad_norm": 1.0, "use_sde": False, "sde_sample_freq": -1}
        super().__init__(policy, env, learning_rate, n_steps, gamma=gamma, **{**more, **kwargs})
        self.own = own


class Guesser:
    """An algorithm that is none of stable-baselines3's: it keeps the best place of those it tried."""

    def __init__(self, env, width=1.0, seed=0):
        self.env, self.width = env, width
        self.generator = np.random.default_rng(seed)
        self.place, self.best = np.zeros(3), -np.inf

    def learn(self, total_timesteps):
        self.env.reset()
        for _ in range(total_timesteps // self.env.num_envs):
            place = self.generator.uniform(-self.width, self.width, 3)
            _, rewards, dones, _ = self.env.step(np.tile(place, (self.env.num_envs, 1)).astype(np.float32))
            if dones.all() and rewards.mean() > self.best:
                self.place, self.best = place, rewards.mean()

    def predict(self, observation, deterministic=False):
        return np.tile(self.place, (len(observation["location"]), 1)).astype(np.float32), None

    def get_parameters(self):
        return {"place": torch.from_numpy(self.place)}

    def set_parameters(self, parameters):
        self.place = parameters["place"].numpy()


class Broken(Guesser):
    def __init__(self, env, kind=TypeError):
        raise kind("of my own")


class Forgetful:
    """A guesser that can't be asked for what it learned."""

    __init__, learn, predict = Guesser.__init__, Guesser.learn, Guesser.predict
    set_parameters = Guesser.set_parameters


class Named(Guesser):
    def __init__(self, env, **own):
        self.own = own


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("banks") / "playground"
    save_bank(folder, *playground(num_clips=32, num_glimpses=2))
    return folder


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "agents.yaml"
    path.write_text(FILE)
    return path


def test_flags_go_before_files_and_names_stay(file):
    flags = ["--agents.ppo.n-epochs=2", "--agents.my.module:Own.learning-rate", "3e-4", "--agents", str(file)]
    rest, own = take_agent_settings(["--agents", "ppo,sac", *flags, "--seeds", "1"])
    assert rest == ["--agents", "ppo,sac", "--seeds", "1"]
    assert own.of("ppo") == {"learning_rate": 3e-4, "n_epochs": 2}
    assert own.of("my.module:Own") == {"learning_rate": 3e-4}
    assert own.of("dqn") == {}
    read = read_settings("sac", agents.ALGORITHMS["sac"].build, own.of("sac"))
    assert read == {"train_freq": (2, "step")}
    noise = read_settings("td3", agents.ALGORITHMS["td3"].build, {"action_noise": 0.3})["action_noise"]
    assert noise._sigma.tolist() == [0.3] * 3
    assert read_settings("ppo", agents.ALGORITHMS["ppo"].build, {"use_sde": True}) == {"use_sde": True}
    with pytest.raises(ValueError, match=r"action_noise of the agent td3 must be .*, got True"):
        read_settings("td3", agents.ALGORITHMS["td3"].build, {"action_noise": True})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--agents.ppo.learning-rat", "1"], "ppo has no setting learning_rat; known: learning_rate, n_steps,"),
        (["--agents.ppo.n-epochs", "lots"], "setting n_epochs of the agent ppo must be int, got 'lots'"),
        (["--agents.sac.gamma", "1"], "--agents.sac sets up an agent that is not used here: ppo"),
        (["--agents.ppo.gamma"], "--agents.ppo.gamma needs a value"),
        (["--agents.gamma", "1"], "as in --agents.ppo.learning-rate 3e-4"),
        (["--agents.ppo.policy-kwargs", "{eyes: 2}"], "ppo can't be made with these settings: .*'eyes'"),
        (["--agents.ppo.batch-size", "0"], "ppo can't be used with these settings: .*batch_size"),
        (["--agents.ppo.gamma", "{"], "--agents.ppo.gamma is no YAML"),
        (["--agents.ppo.n-epochs", "True"], "setting n_epochs of the agent ppo must be int, got True"),
        (["--agents.ppo.gamma", "2026-13-45"], "--agents.ppo.gamma is no YAML that can be read: month must be"),
        (["--agents", "nowhere.yaml"], "error: nowhere.yaml can't be read: No such file"),
    ],
)
def test_mistakes_are_explained(bank, tmp_path, capsys, flags, message):
    where = ["--bank", str(bank), "--out", str(tmp_path / "out")]
    assert main(["policy", *where, "--agent", "ppo", *flags]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_what_is_refused_when_learning_begins_is_explained(bank, tmp_path, capsys):
    flags = ["--agent", "sac", "--agents.sac.train-freq", "0"]
    assert main(["policy", "--bank", str(bank), "--out", str(tmp_path / "out"), "--num-envs", "8", *flags]) == 2
    assert "error: the agent sac can't be used with these settings: Should at least" in capsys.readouterr().err


def test_errors_of_ones_own_code_keep_their_place():
    for name, given in (("OwnKind", {"policy_kwargs": {"eyes": 2}}), ("Guesser", {"eyes": 2})):
        with pytest.raises(ValueError, match=r"can't be made with these settings: .*'eyes'"):
            make_agent(f"{__name__}:{name}", make_env(2), **given)
    with pytest.raises(TypeError, match="of my own") as caught:
        make_agent(f"{__name__}:Broken", make_env(2))
    assert caught.traceback[-1].path == Path(__file__)
    with pytest.raises(AssertionError, match="of my own"):
        make_agent(f"{__name__}:Broken", make_env(2), kind=AssertionError)


def test_keywords_of_ones_own_may_have_any_name():
    own = {"name": "a", "algorithm": "b", "entry": 3}
    assert make_agent(f"{__name__}:Named", make_env(2), **own).algorithm.own == own
    assert "name a, algorithm b, entry 3" in agents.describe(f"{__name__}:Named", **own)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ppo: 3", "must hold settings by agent and keyword"),
        ("dqnn: {gamma: 1}", "unknown agent 'dqnn'"),
        ("sac: {gama: 1}", "sac has no setting gama"),
        ("ppo: {gamma: 1", "is no YAML"),
        ("ppo: {gamma: 2026-13-45}", "bad.yml is no YAML that can be read: month must be"),
        ("# \xe9", "bad.yml can't be read: 'utf-8' codec"),
        ("evil:Agent: {gamma: 1}", "evil:Agent: using it runs its code"),
    ],
)
def test_mistakes_in_files_are_explained(bank, tmp_path, capsys, text, message):
    (tmp_path / "bad.yml").write_text(text, encoding="latin-1")
    where = ["--bank", str(bank), "--out", str(tmp_path / "out")]
    assert main(["compare", *where, "--agents", "ppo", "--agents", str(tmp_path / "bad.yml")]) == 2
    assert message in capsys.readouterr().err


def test_what_reinforce_fixes_is_no_setting_of_it():
    known = known_settings(agents.ALGORITHMS["reinforce"].build)
    assert {"learning_rate", "vf_coef", "baseline", "policy_kwargs"} < set(known)
    assert not {"gamma", "ent_coef", "env", "seed", "device"} & set(known)


def test_a_policy_is_trained_with_them_and_comes_back_with_them(bank, file, tmp_path, capsys):
    where = ["--bank", str(bank), "--out", str(tmp_path / "out"), "--timesteps", "16", "--num-envs", "8"]
    assert main(["policy", *where, "--agent", "ppo", "--agents", str(file), "--agents.ppo.clip-range", "0.1"]) == 0
    assert "learning_rate 0.0003, n_epochs 7" in capsys.readouterr().err
    used = json.loads(torch.load(tmp_path / "out" / "policy.pt", weights_only=True)["config"])["algorithm"]
    assert (used["learning_rate"], used["n_epochs"], used["clip_range"], used["gamma"]) == (3e-4, 7, 0.1, 1.0)
    assert used["policy_kwargs"]["variance"] == 0.1
    assert settings_used(load_policy(tmp_path / "out", make_env(8))) == used | {"batch_size": 8}


def test_a_run_is_trained_with_them_and_goes_on_with_them(tmp_path, monkeypatch):
    flags = ["--agents.a2c.learning-rate", "0.125", "--agents.a2c.vf-coef", "0.25"]
    config, _ = read_arguments(["--preset", "tiny", "--agent", "a2c", *flags])
    assert config.agent_settings == {"learning_rate": 0.125, "vf_coef": 0.25}
    assert initial_learning_rate(config) == 0.125
    representation = build_representation(config, 4)
    agent = build_agent(config, build_environment(config, representation, build_grid(config, representation)))
    used = settings_used(agent)
    assert (used["learning_rate"], used["vf_coef"], used["gamma"]) == (0.125, 0.25, 1.0)
    text = config_to_json(config, used)  # as config.json and the checkpoint have it
    assert json.loads(text)["algorithm"] == used
    assert config_from_json(text, tmp_path) == config

    monkeypatch.setattr(
        "agents.runs.checkpoint.read_checkpoint", lambda _: {"config": config, "shared": {"step": 1}}
    )
    resume = ["--resume", "--out", str(tmp_path)]
    assert read_arguments(resume)[0].agent_settings == config.agent_settings
    with pytest.raises(ValueError, match="agent_settings included"):
        read_arguments([*resume, "--agents.a2c.vf-coef", "0.5"])


def test_each_run_of_a_comparison_has_those_of_its_agent(bank, file, tmp_path):
    _, own = take_agent_settings(["--agents", str(file)])
    config = CompareConfig(bank, "ppo", seeds=1, steps=64, out=tmp_path)
    changed = CompareConfig(bank, "ppo", agent_settings={"ppo": own.of("ppo")}, seeds=1, steps=64, out=tmp_path)
    (ppo, random, *_), (task, other, *_) = make_tasks(config), make_tasks(changed)
    assert ppo.digest != task.digest
    assert random.digest == other.digest
    assert run(task) == 0
    assert task.result()["algorithm"]["n_epochs"] == 7


def test_a_file_says_who_is_compared(bank, tmp_path, capsys):
    (tmp_path / "agents.yaml").write_text("centre: {}\n")
    flags = ["--bank", str(bank), "--out", str(tmp_path / "out"), "--report-only"]
    assert main(["compare", *flags, "--agents", str(tmp_path / "agents.yaml")]) == 2
    assert "no run is finished" in capsys.readouterr().err


def test_an_algorithm_of_no_known_kind_gets_what_those_of_the_registry_share():
    name = f"{__name__}:OwnKind"
    agent = agents.make(name, make_env(8), own=3)
    assert (agent.learning_rate, agent.gamma, agent.n_steps, agent.own) == (1e-3, 1.0, 1, 3)
    assert type(agent.policy) is agents.AttentionPolicy
    said = agents.describe(name, own=3)
    assert said == (
        f"{name} is set up with AttentionPolicy, continuous actions, gamma 1.0, gae_lambda 1.0, ent_coef 0.0, "
        "learning_rate 0.001, own 3"
    )
    assert "is set up as ppo is: AttentionPolicy" in agents.describe("stable_baselines3:PPO")
    locations = {"overview_locations": [[0.125, 0.25, 0.5]] * 48}
    assert len(agents.describe(name, policy_kwargs=locations)) < len(said) + 200  # the first locations alone


def test_an_algorithm_that_stands_alone_is_compared(bank, tmp_path):
    name = f"{__name__}:Guesser"
    config = CompareConfig(bank, name, agent_settings={name: {"width": 0.75}}, seeds=1, steps=640, out=tmp_path)
    task = make_tasks(config)[0]
    assert run(task) == 0
    result = task.result()
    assert (result["steps"], result["algorithm"]) == (640, {"width": 0.75})
    assert len(result["curve"]) >= 9
    assert result["curve"][-1]["reward"] == pytest.approx(np.mean(result["clips"]["reward"]), abs=1e-5)


def test_an_algorithm_that_stands_alone_is_trained_and_comes_back(bank, tmp_path, capsys):
    where = ["--bank", str(bank), "--out", str(tmp_path / "out"), "--timesteps", "640", "--num-envs", "64"]
    assert (
        main(["policy", *where, "--agent", f"{__name__}:Guesser", f"--agents.{__name__}:Guesser.width", "0.5"])
        == 0
    )
    assert "is no stable-baselines3 algorithm and sets itself up" in capsys.readouterr().err
    agents.trust(f"{__name__}:Guesser")
    agent = load_policy(tmp_path / "out", make_env(2))
    assert agent.algorithm.width == 0.5
    assert agent.algorithm.place.any()
    assert (
        main(["train", "--preset", "tiny", "--agent", f"{__name__}:Guesser", "--out", str(tmp_path / "run")]) == 2
    )
    assert "train it on a bank (a3d policy, a3d compare)" in capsys.readouterr().err


def test_what_cannot_be_loaded_is_not_scored_untrained(bank, tmp_path, capsys, monkeypatch):
    out, flags = tmp_path / "out", ["--timesteps", "16", "--num-envs", "8", "--agent", f"{__name__}:Forgetful"]
    command = ["policy", "--bank", str(bank), "--out", str(out), *flags]
    with monkeypatch.context() as patch:
        patch.setattr("agents.runs.bank_policy.score", interrupt)
        assert main(command) == 130
    lost = f"{out} holds a policy that can't be loaded and has no scores: remove that folder"
    assert f"stopped; {lost}" in capsys.readouterr().err
    assert main(command) == 2
    assert f"error: {lost}" in capsys.readouterr().err
    agents.trust(f"{__name__}:Forgetful")
    with pytest.raises(ValueError, match="it was not saved"):
        load_policy(out, make_env(2))


class Until(BaseCallback):
    """Stops a training after 16 steps."""

    ended = False

    def _on_step(self):
        return self.num_timesteps < 16

    def _on_training_end(self):
        self.ended = True


def test_callbacks_stop_an_algorithm_that_stands_alone_and_are_told_of_the_end(monkeypatch):
    agent, callback = make_agent(f"{__name__}:Guesser", make_env(8)), Until()
    assert agent.learn(800, callback).num_timesteps == 16
    assert callback.ended
    monkeypatch.setattr(Guesser, "learn", interrupt)
    callback = Until()
    with pytest.raises(KeyboardInterrupt):
        agent.learn(800, callback)
    assert callback.ended
    assert agent._watched.callback is None
