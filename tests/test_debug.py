"""`a3d debug`: the episodes of a run and of a policy, by name and by outcome."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from a3d_env.bank_file import save_bank
from a3d_env.playground import playground
from a3d_env.process import AttentionProcess
from agents.episodes import Episode
from agents.rollout import follow
from agents.runs.model import load_run
from agents.runs.picks import Outcome, Pick, choose
from agents.runs.run_episodes import RunEpisodes, _is_called, best_scale
from agents.runs.scoring import evaluate
from backbone.data.tracklet import FrameFiles, Tracklet
from scripts.cli import main
from scripts.debug.pages import read_change


@pytest.fixture(scope="module")
def trained(tiny_run):
    return tiny_run


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("debug")
    bank, glimpse = playground(num_clips=32)
    save_bank(folder / "bank", bank, glimpse)
    bank.frames = None
    save_bank(folder / "blind", bank, glimpse)
    flags = ["--bank", str(folder / "bank"), "--out", str(folder / "policy"), "--timesteps", "600"]
    assert main(["policy", *flags]) == 0
    return folder / "policy"


def debug(*flags):
    return main(["debug", *(str(flag) for flag in flags)])


def data_of(page):
    return json.loads(re.search(r"const E = (.*);", page.read_text()).group(1))


@pytest.mark.slow
def test_a_query_and_what_if(trained, tmp_path, capsys):
    assert (
        debug("--checkpoint", trained, "--query", 1, "--set-glimpse", "2=0,3,1", "--out", tmp_path, "--gif") == 0
    )
    printed = capsys.readouterr().out
    assert "query-1 (synthetic/" in printed
    assert "reinforce looked 4 times, and the gallery says synthetic" in printed
    assert "With glimpse 2 at (0, 3, 1) instead of" in printed
    assert {path.name for path in tmp_path.iterdir()} - {".lock"} == {
        f"query-1-2at0.3.1.{kind}" for kind in ("html", "npz", "gif")
    }
    data = data_of(tmp_path / "query-1-2at0.3.1.html")
    assert [one["kind"] for one in data["episodes"][0]["ranking"]].count("true") == 1
    changed = Episode.load(tmp_path / "query-1-2at0.3.1.npz")
    assert changed.corner(2) == (0, 3, 1)
    assert changed.judge == "the gallery"
    assert changed.original.corner(2) != (0, 3, 1)


def test_the_episode_and_the_ranking_are_the_evaluations(trained):
    run = load_run(trained)
    episodes = RunEpisodes(run, run.agent, "reinforce")
    described = episodes._described
    episode, gallery = episodes.record(episodes.find("query", "0"))
    row = episodes.find("query", "0").number
    torch.testing.assert_close(described.read[row], episode.descriptor)
    process = AttentionProcess(episode.process.bank, run.representation.glimpse)
    expected = process.descriptor(follow(run.agent, process, torch.tensor([0])))[0]
    torch.testing.assert_close(episode.descriptor, expected)

    # by the mean of a query's clips the ranks are those that R1 and R5 count
    scores = evaluate(run, {"agent": run.agent}, run.data)
    queries = [episodes.find("query", str(number)).number for number in range(len(run.data.query))]
    ranks = [
        episodes._gallery(episodes.tracklets[row]).rank(described.descriptors[row]).true_match.rank
        for row in queries
    ]
    for name, most in (("R1", 1), ("R5", 5)):
        assert 100 * np.mean(np.array(ranks) <= most) == pytest.approx(scores["agent"][name])
    assert gallery.person == run.data.query[0].person


@pytest.mark.slow
def test_episodes_by_outcome_have_an_index(trained, tmp_path, capsys):
    assert debug("--checkpoint", trained, "--worst", 2, "--random", 1, "--out", tmp_path) == 0
    printed = capsys.readouterr().out
    assert re.match(r"4 episodes, \d of them right", printed)
    pages = sorted(tmp_path.glob("query-*.html"))
    assert len(pages) == 3
    index = (tmp_path / "index.html").read_text()
    assert all(f'href="{page.name}"' in index for page in pages)
    assert all(data_of(page)["index"] == "index.html" for page in pages)
    assert index.count('src="data:image/') == 3
    assert index.count("of 4, the lowest first") == 2
    assert index.count("here because: drawn at random") == 1
    right = [data_of(page)["episodes"][0]["is_right"] for page in pages]
    assert (index.count('<a class="right"'), index.count('<a class="wrong"')) == (sum(right), 3 - sum(right))
    assert f"<h1>3 episodes, {sum(right)} of them right</h1>" in index


def test_a_training_tracklet_is_judged_by_f_c_and_earns_the_runs_reward(trained, tmp_path):
    name = load_run(trained).data.train[3].source
    assert debug("--checkpoint", trained, "--train", name, "--sample", "--clip", 1, "--out", tmp_path) == 0
    (path,) = tmp_path.glob("train-*.npz")
    episode = Episode.load(path)
    assert episode.judge == "F_c"
    assert episode.tracklet == name
    assert np.isfinite(episode.advantages).all()


@pytest.mark.slow
def test_best_goes_by_f_c_which_knows_training_people(tmp_path, capsys):
    run = tmp_path / "run"
    few = ["--steps", "1", "--attention.num-glimpses", "3", "--attention.bin-size", "2", "6", "3"]  # all are tried
    assert main(["train", "--preset", "tiny", *few, "--out", str(run)]) == 0
    assert debug("--checkpoint", run, "--train", 0, "--agent", "best", "--out", tmp_path / "page") == 0
    assert "best looked 3 times, and F_c says" in capsys.readouterr().out


@pytest.mark.slow
def test_other_peoples_tracklets_are_not_judged_by_f_c(trained, tmp_path, capsys):
    for person in range(4):
        for camera in "ab":
            folder = tmp_path / "street" / f"p{person:02d}" / camera / "1"
            folder.mkdir(parents=True)
            for frame in range(6):
                colour = np.full((64, 32, 3), 40 * person + frame, dtype=np.uint8)
                cv2.imwrite(str(folder / f"{frame}.png"), colour)
    data = ["--data", f"folder:{tmp_path / 'street'}"]
    assert debug("--checkpoint", trained, *data, "--train", 0, "--out", tmp_path / "out") == 2
    assert "F_c was not trained on folder:" in capsys.readouterr().err
    assert debug("--checkpoint", trained, *data, "--query", 0, "--out", tmp_path / "out") == 0
    assert re.search(r"the gallery says p0\d \(", capsys.readouterr().out)  # by the folder's name
    # a clip that is not there is no reason to show nothing
    assert debug("--checkpoint", trained, *data, "--worst", 4, "--clip", 5, "--out", tmp_path / "out") == 2
    assert "no episode ended in that way" in capsys.readouterr().err


@pytest.mark.parametrize("agent", ["truth", "random"])
def test_a_control_in_the_agents_place(trained, tmp_path, agent, capsys):
    assert debug("--checkpoint", trained, "--query", 0, "--agent", agent, "--out", tmp_path) == 0
    assert f"{agent} looked 4 times" in capsys.readouterr().out


@pytest.mark.slow
def test_a_policy_on_its_bank(policy, tmp_path, capsys):
    pytest.importorskip("minari")
    assert debug("--checkpoint", policy, "--clip", 7, 9, "--worst", 1, "--minari", "--out", tmp_path) == 0
    assert "8 episodes" in capsys.readouterr().out  # a quarter is held out
    assert {"clip-7.html", "clip-9.html", "index.html", "minari"} <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "minari" / "bank" / "meta.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "no episode is chosen: give --query 12"),
        (["--query", "99"], "there is no query tracklet 99: they are numbered 0 to 3"),
        (
            ["--query", "nobody"],
            "no query tracklets are called nobody: give a number, a folder, or a name as in synth",
        ),
        (["--query", "0", "--clip", "9"], "has 3 clips, numbered from 0: there is no clip 9"),
        (["--query", "0", "--clip", "0", "1"], "one clip of each tracklet"),
        (["--query", "0", "--set-glimpse", "2=3,5"], "--set-glimpse is GLIMPSE=TIME,HEIGHT,WIDTH"),
        (["--query", "0", "--set-glimpse", "1=0,0,0"], "glimpse 1 can't be changed"),
        (["--query", "0", "--set-glimpse", "2=0,99,0"], "no bin has its corner at (0, 99, 0)"),
        (["--query", "0", "--agent", "sac"], "unknown control 'sac'; known: random"),
        (["--query", "0", "--agent", "swapped"], "swapped needs other clips"),
        (["--query", "0", "--agent", "best"], "F_c does not know the queries' people"),
        (["--worst", "1", "--agent", "best"], "F_c does not know the queries' people"),
        (["--worst", "1", "--agent", "random"], "random chooses bins at random"),
        (["--worst", "1", "--sample"], "--sample goes with --query"),
        (["--query", "0", "--minari"], "take --train"),
        (["--query", "0", "--bank", "somewhere"], "--bank is for policies"),
        (["--train", "0", "--data", "nothing"], "unknown data 'nothing'"),
    ],
)
def test_mistakes_are_explained(trained, tmp_path, capsys, flags, message):
    assert debug("--checkpoint", trained, "--out", tmp_path / "out", *flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_mistakes_about_policies_are_explained(policy, tmp_path, capsys):
    for flags, message in (
        (["--query", "1"], "on a bank's clips: choose them by --clip"),
        (["--clip", "32"], "there is no clip 32: the bank's are numbered 0 to 31"),
        (["--clip", "1", "--bank", "nowhere"], "there is no bank at nowhere"),
        (
            ["--clip", "1", "--bank", policy.parent / "blind"],
            "holds no frames to show: make it with a3d bank --frames",
        ),
        (["--clip", "1", "--data", "synthetic"], "--data is for runs"),
    ):
        assert debug("--checkpoint", policy, "--out", tmp_path / "out", *flags) == 2
        assert message in capsys.readouterr().err
    assert debug("--checkpoint", tmp_path, "--query", 0, "--out", tmp_path / "out") == 2


def test_numbers_out_of_range_are_errors(trained, tmp_path, capsys):
    assert debug("--checkpoint", trained, "--worst", -1, "--out", tmp_path) == 2
    assert "worst must be 0 or more" in capsys.readouterr().err


def test_what_is_chosen_by_outcome():
    outcomes = [
        Outcome(Pick("query", number, str(number)), probability, is_right, confidence)
        for number, (probability, is_right, confidence) in enumerate(
            [(0.5, True, 0.5), (0.1, False, 0.9), (0.2, False, 0.3), (0.05, False, 0.4)]
        )
    ]
    worst = choose(outcomes, worst=2, wrong=0, random=0, seed=0)
    assert [pick.number for pick in worst] == [3, 1]
    wrong = choose(outcomes, worst=0, wrong=9, random=0, seed=0)
    assert [pick.number for pick in wrong] == [1, 3, 2]
    assert len(choose(outcomes, worst=1, wrong=1, random=2, seed=3)) == 4  # random ones are others
    everything = choose(outcomes, worst=1, wrong=2, random=4, seed=0)
    assert sorted(pick.number for pick in everything) == [0, 1, 2, 3]  # each once
    assert {pick.number: pick.why for pick in everything} == {
        3: "probability of the true person, number 1 of 4, the lowest first; mistake, number 2 of 3, the most "
        "confident first",
        1: "mistake, number 1 of 3, the most confident first",
        0: "drawn at random",
        2: "drawn at random",
    }
    assert choose(outcomes, worst=0, wrong=0, random=2, seed=1) == choose(
        outcomes, worst=0, wrong=0, random=2, seed=1
    )


def test_changes_are_read():
    assert read_change("2=3,5,1") == (2, (3, 5, 1))
    for text in ("2", "2=", "=1,2,3", "2=1,2,3,4", "a=1,2,3", "2=1,2,x"):
        with pytest.raises(ValueError, match="as in 2=3,5,1"):
            read_change(text)


def test_the_scale_makes_probabilities_as_sure_as_they_are_right():
    # Two people, right in three of four, by the same margin: the best probability is 3/4, a margin of ln 3.
    answers = [(torch.tensor([64.0, 0.0]), truth) for truth in (0, 0, 0, 1)]
    assert best_scale(answers) * 64 == pytest.approx(np.log(3), rel=0.1)
    assert best_scale([]) == 1


def test_tracklets_are_found_by_name_and_folder(tmp_path):
    tracklet = Tracklet(1, 0, FrameFiles((tmp_path / "7" / "1.jpg",)), "folder/0012/cam1/7")
    for name in ("folder/0012/cam1/7", "0012/cam1/7", "7", str(tmp_path / "7")):
        assert _is_called(tracklet, name)
    for name in ("2/cam1/7", "folder", str(tmp_path), str(Path(tmp_path.name) / "7")):
        assert not _is_called(tracklet, name)
