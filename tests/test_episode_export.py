import sys

import numpy as np
import pytest
from PIL import Image

import agents
from a3d_env.render import draw_frame
from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.episodes import record_episode
from agents.episodes.export import write_gif, write_minari, write_rerun


@pytest.fixture(scope="module")
def episodes():
    env = Attention3DVecEnv(Attention3DVectorEnv(num_envs=2))
    agent = agents.make("reinforce", env)
    return [record_episode(env, agent, clip=clip, deterministic=False) for clip in (1, 5, 9)]


def test_the_gif_has_every_frame(episodes, tmp_path):
    write_gif(tmp_path / "one.gif", episodes[0])
    with Image.open(tmp_path / "one.gif") as image:
        milliseconds = 0
        for frame in range(image.n_frames):
            image.seek(frame)
            milliseconds += image.info["duration"]
        assert milliseconds == 6 * 500  # frames that look alike are one
        image.seek(0)
        first = np.array(image.convert("RGB")).astype(int)
    drawn = draw_frame(episodes[0].process.bank, 0, 0, episodes[0].bins.tolist())
    assert np.abs(first - drawn).mean() < 3  # 256 colours
    assert [path.name for path in tmp_path.iterdir()] == ["one.gif"]


def test_minari_recovers_an_environment_of_the_same_rewards(episodes, tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    write_minari(tmp_path, episodes)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset("a3d/episodes-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (3, 9)
    env = dataset.recover_environment()
    for number, (stored, episode) in enumerate(zip(dataset, episodes, strict=True)):
        assert stored.rewards[-1] == episode.reward
        observation, _ = env.reset(options={"clip": number})
        np.testing.assert_array_equal(stored.observations["hidden"][0], observation["hidden"])
        for step, action in enumerate(stored.actions):
            observation, reward, terminated, _, info = env.step(action)
            assert reward == stored.rewards[step]
            assert terminated == stored.terminations[step]
            np.testing.assert_array_equal(stored.observations["bin"][step + 1], observation["bin"])
        assert stored.infos["identity"][-1] == info["identity"] == episode.identity
    env.close()
    with pytest.raises(ValueError, match="bank"):
        write_minari(tmp_path, episodes)  # what is there is kept


def test_only_episodes_of_one_run_go_together(episodes, tmp_path, random_case):
    pytest.importorskip("minari")
    other = record_episode(
        Attention3DVectorEnv(1, *random_case(num_channels=19)), agents.controls.ControlAgent("centre")
    )
    with pytest.raises(ValueError, match="not of one run"):
        write_minari(tmp_path, [episodes[0], other])
    with pytest.raises(ValueError, match="no episodes"):
        write_minari(tmp_path, [])


@pytest.mark.slow
def test_a_rerun_recording_holds_the_clip_and_the_bins(episodes, tmp_path):
    rerun = pytest.importorskip("rerun")
    write_rerun(tmp_path / "episodes.rrd", episodes)
    assert [path.name for path in tmp_path.iterdir()] == ["episodes.rrd"]
    recording = (
        rerun.dataframe.load_recording(str(tmp_path / "episodes.rrd")) if hasattr(rerun, "dataframe") else None
    )
    if recording is not None:
        paths = {column.entity_path for column in recording.schema().component_columns()}
        assert {"/episode_0/clip", "/episode_2/clip/bins", "/episode_1/probability_of_truth"} <= paths


@pytest.mark.parametrize(("name", "write"), [("minari", write_minari), ("rerun", write_rerun)])
def test_what_is_not_installed_is_said(name, write, episodes, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"pip install 'a3d\[export\]'"):
        write(tmp_path / "out", episodes)
    assert not list(tmp_path.iterdir())
