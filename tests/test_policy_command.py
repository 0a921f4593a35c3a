"""Policies trained on a bank: that they learn, are scored on other tracklets, and come back from their file."""

import json
import re
from dataclasses import asdict

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecMonitor

from a3d_env.bank_file import save_bank
from a3d_env.playground import playground
from a3d_env.process import AttentionProcess
from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.controls import centre_agent
from agents.policy_config import PolicyConfig
from agents.rollout import follow
from agents.runs.arguments import read_arguments
from agents.runs.bank_policy import (
    POLICY,
    PolicyRunConfig,
    build_policy_run,
    load_policy,
    split_clips,
    train_and_save,
    train_policy,
)
from agents.runs.policy_episodes import PolicyEpisodes
from agents.runs.policy_scores import score, text_table
from agents.statistics import Interval
from backbone.tensor_file import save_tensors
from scripts.cli import main
from scripts.compare import CompareConfig

FEW = ("--held-out", "0.1")  # clips to score, of which all bins are tried


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("banks") / "playground"
    save_bank(folder, *playground(num_clips=48))
    return folder


def vec_env(bank):
    return VecMonitor(Attention3DVecEnv(Attention3DVectorEnv(4, bank)))


@pytest.mark.slow
def test_reinforce_learns_where_to_look(bank, tmp_path):
    table, steps_per_second = train_policy(PolicyRunConfig(bank, tmp_path, timesteps=16_000, reward="log_prob"))
    mean = {name: row["reward"].value for name, row in table.items()}
    assert mean["policy"] > mean["random bins"] + 0.5
    assert mean["best bins"] >= mean["policy"]
    assert mean["best bins"] > -0.05
    assert table["truth bins"]["hit_rate"] == Interval(100, 100, 100)
    for row in table.values():
        assert all(cell.low <= cell.value <= cell.high for cell in row.values())
        assert row["reward"] == row["log_prob"]
    assert steps_per_second > 0
    policy = table["policy"]["reward"]
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["scores"]["policy"]["reward"] == [policy.value, policy.low, policy.high]


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["reinforce", "trpo", "sac", "dqn", "ppo-multidiscrete", "untrained", "random"])
def test_every_agent_runs_and_comes_back_from_its_file(bank, tmp_path, agent, capsys):
    flags = ["--agent", agent, "--timesteps", "96", "--num-envs", "8", "--reward", "identity", *FEW]
    assert main(["policy", "--bank", str(bank), "--out", str(tmp_path), *flags]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].split() == ["reward", "log_prob", "hit_rate"]
    assert [line[:12].strip() for line in printed[2:-1]] == [
        "policy", "random bins", "centre bins", "truth bins", "best bins"
    ]  # fmt: skip
    assert "environment steps a second" in printed[-1]

    own = load_policy(tmp_path, vec_env(bank))
    state = torch.load(tmp_path / "policy.pt", weights_only=True)
    for name, value in own.get_parameters()["policy"].items():
        assert torch.equal(value, state["parameters"]["policy"][name])
    config = PolicyRunConfig(bank, tmp_path / "again", agent, 96, num_envs=8, reward="identity", held_out=0.1)
    train_and_save(config, build_policy_run(config)[0])
    again = torch.load(tmp_path / "again" / "policy.pt", weights_only=True)["parameters"]["policy"]
    assert all(torch.equal(value, again[name]) for name, value in state["parameters"]["policy"].items())


def test_episodes_of_one_clip_can_be_compared(bank, tmp_path):
    flags = [*FEW, "--timesteps", "96", "--num-envs", "8", "--episodes-per-clip", "4", "--policy.baseline", "clip"]
    assert main(["policy", "--bank", str(bank), "--out", str(tmp_path), *flags]) == 0
    assert load_policy(tmp_path, vec_env(bank)).baseline == "clip"


def test_clips_held_out_are_never_trained_on(bank, tmp_path, monkeypatch):
    seen = set()
    advance = Attention3DVectorEnv.advance

    def watched(self, actions):
        result = advance(self, actions)
        seen.update(self.episodes.clip.tolist())
        return result

    monkeypatch.setattr(Attention3DVectorEnv, "advance", watched)
    config = PolicyRunConfig(bank, tmp_path, timesteps=3000, num_envs=32)
    train_and_save(config, build_policy_run(config)[0])
    names = [f"playground/{number}" for number in range(48)]
    training, held_out = split_clips(names, 0.25)
    assert len(held_out) == 12
    assert seen == set(training.tolist())


def test_a_tracklets_clips_stay_together():
    tracklet = ["a"] * 5 + ["b"] * 3 + ["c"] + ["d"] * 7
    training, held_out = split_clips(tracklet, 0.5)
    sides = [{tracklet[clip] for clip in side} for side in (training, held_out)]
    assert sides[0] | sides[1] == set("abcd")
    assert not sides[0] & sides[1]
    assert len(sides[0]) == 2
    assert sorted([*training, *held_out]) == list(range(16))
    for share in (0.0, 1.0, 0.1):
        with pytest.raises(ValueError, match="train on 1 or more, and hold out 1 or more"):
            split_clips(tracklet, share)


def test_scores_by_hand(played):
    process = AttentionProcess(*played, "identity")
    clip = torch.tensor([0, 1, 8, 9])  # of the people 0 and 1
    episodes = follow(centre_agent(), process, clip)
    row = score(process, centre_agent(), clip)["policy"]
    judgement = process.judge(episodes)
    assert row["reward"].value == pytest.approx(judgement.is_right.float().mean().item())
    bank = played[0]
    hits = [bank.hits[c, b] for c, bins in zip(clip, episodes.bins[:, 1:], strict=True) for b in bins]
    assert row["hit_rate"].value == pytest.approx(100 * np.mean(hits))
    log_prob = process.glimpse.identify(process.descriptor(episodes)).log_softmax(1)
    expected = log_prob[torch.arange(4), bank.identity[clip]].mean().item()
    assert row["log_prob"].value == pytest.approx(expected, abs=1e-5)


def test_one_person_has_no_interval_and_unknown_truth_no_hit_rate(random_case):
    process = AttentionProcess(*random_case())
    table = score(process, centre_agent(), torch.tensor([2]))
    assert "truth bins" not in table
    assert not table["policy"]["log_prob"].has_bounds
    assert table["policy"]["hit_rate"] is None
    row = {"reward": Interval(0.5, 0.25, 0.75), "log_prob": Interval(-1.0), "hit_rate": None}
    assert text_table({"a": row}) == (
        "                       reward                    log_prob                    hit_rate\n"
        "a        0.500 [0.250, 0.750]                      -1.000                           -"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--bank", "nowhere"], "there is no bank at nowhere"),
        (["--agent", "nobody"], "unknown agent 'nobody'; known: reinforce"),
        (["--reward", "praise"], "unknown reward 'praise'"),
        (["--held-out", "0"], "hold out 1 or more"),
        (["--num-envs", "0"], "num_envs must be 1 or more"),
        (["--policy.variance", "0"], "variance must be above 0"),
    ],
)
def test_mistakes_are_explained(bank, tmp_path, capsys, flags, message):
    assert main(["policy", "--bank", str(bank), "--out", str(tmp_path / "out"), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_settings_out_of_range_are_errors(bank, tmp_path, capsys):
    assert main(["policy", "--bank", str(bank), "--out", str(tmp_path), "--timesteps", "0"]) == 2
    assert "timesteps must be 1 or more, got 0" in capsys.readouterr().err


def test_what_is_there_is_kept_and_what_is_damaged_is_named(bank, tmp_path, capsys, random_case, monkeypatch):
    (tmp_path / "policy.pt").write_text("weights")
    assert main(["policy", "--bank", str(bank), "--out", str(tmp_path)]) == 2
    assert "already holds a policy" in capsys.readouterr().err
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match=r"policy\.pt is no policy that can be read"):
            load_policy(folder, vec_env(bank))

    save_bank(tmp_path / "short", *random_case(num_glimpses=1))
    assert main(["policy", "--bank", str(tmp_path / "short"), "--out", str(tmp_path / "out")]) == 2
    assert "1 glimpses: 2 or more are needed" in capsys.readouterr().err

    monkeypatch.setattr("agents.runs.bank_policy.StepProgress._on_step", interrupt)
    assert main(["policy", "--bank", str(bank), "--out", str(tmp_path / "out")]) == 130
    assert "stopped; nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_stopped_while_it_is_scored_is_scored_by_the_same_command(bank, tmp_path, capsys, monkeypatch):
    command = ["policy", "--bank", str(bank), "--out", str(tmp_path), "--timesteps", "96", "--num-envs", "8", *FEW]
    with monkeypatch.context() as patch:
        patch.setattr("agents.runs.policy_scores.best_bins", interrupt)
        assert main(command) == 130
    assert "policy.pt is written, and the same command scores it" in capsys.readouterr().err
    written = (tmp_path / "policy.pt").read_bytes()
    assert main([*command, "--seed", "1"]) == 2
    assert "already holds a policy" in capsys.readouterr().err
    assert main(command) == 0
    assert "scoring" in capsys.readouterr().err
    assert (tmp_path / "policy.pt").read_bytes() == written
    assert json.loads((tmp_path / "scores.json").read_text())["steps_per_second"] > 0
    assert main(command) == 2


@pytest.mark.slow
def test_a_learning_curve_is_left(bank, tmp_path):
    config = PolicyRunConfig(bank, tmp_path, timesteps=1200, num_envs=4, episodes_per_clip=1)
    train_and_save(config, build_policy_run(config)[0])
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert len(lines) == 100
    assert lines[-1]["step"] == 1200
    assert all(-10 < line["reward"] <= 0 for line in lines)
    assert (tmp_path / "curves.png").stat().st_size > 0


def test_every_command_earns_the_same_by_default(bank, tmp_path, capsys):
    train, _ = read_arguments([])  # the recipe strong
    policy, compare = PolicyRunConfig(bank, tmp_path), CompareConfig(bank)
    assert train.attention.reward == policy.reward == compare.reward == "glimpses"
    assert train.joint.episodes_per_clip == policy.episodes_per_clip == compare.episodes_per_clip == 8
    assert train.policy.baseline == policy.policy.baseline == compare.policy.baseline == "clip"
    assert (policy.timesteps, policy.num_envs) == (compare.steps, compare.num_envs)
    for command in ("policy", "compare"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert re.search(r"--(time)?steps INT, --(time)?steps INT", capsys.readouterr().out)


def test_an_episode_alone_on_its_clip_is_compared_with_the_value(bank, tmp_path):
    agent, *_ = build_policy_run(PolicyRunConfig(bank, tmp_path, num_envs=4, episodes_per_clip=1))
    assert agent.baseline == "value"


def test_a_policy_with_inhibition_is_told_what_was_looked_at(bank, tmp_path):
    policy = PolicyConfig(learning_rate=None, locator="mixture", inhibition=5.0)
    config = PolicyRunConfig(bank, tmp_path, num_envs=8, overview=(1, 2, 2), policy=policy)
    agent, *_ = build_policy_run(config)
    save_tensors(
        tmp_path / POLICY,
        {"config": json.dumps(asdict(config), default=str), "parameters": agent.get_parameters()},
    )
    assert PolicyEpisodes(tmp_path).agent.policy.inhibition == 5.0
