import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from a3d_env.bins import BinGrid
from a3d_env.process import AttentionProcess
from agents.controls import centre_agent, random_agent
from agents.rollout import follow
from agents.runs.config import CHECKPOINT
from agents.runs.describe import TrackletMeans, clip_bank, clip_batches, describe_tracklets, tracklet_bank
from agents.runs.model import load_run
from agents.runs.presets import get_preset
from agents.runs.scoring import evaluate, table
from agents.runs.trained import TrainedModel
from backbone.config import BackboneConfig, DescriptorConfig
from backbone.data import DataConfig, load_data
from backbone.data.cache import FrameCache
from backbone.data.clips import consecutive_clips
from backbone.data.load_config import LoadConfig
from backbone.data.loader import TestBatches
from backbone.data.sets.synthetic import SyntheticConfig
from backbone.metrics import Search, evaluate_retrieval
from backbone.representation import Representation
from scripts.cli import main

GRID = BinGrid((3, 16, 8), (2, 6, 4), (3, 64, 32))
LOAD = LoadConfig(height=64, width=32, num_frames=3, workers=0)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    options = SyntheticConfig(
        num_train_people=2, num_test_people=6, num_frames=8, height=64, width=32, tracklets_per_camera=1
    )
    folder = tmp_path_factory.mktemp("data")
    data = load_data("synthetic", DataConfig(synthetic=options), folder)
    torch.manual_seed(0)
    representation = Representation(BackboneConfig(precision="float32"), num_glimpses=4, num_identities=2)
    config = replace(get_preset("tiny"), load=LOAD)
    cache = FrameCache(folder, 64, 32, "dis-fast")
    return data, TrainedModel(config, representation, GRID, centre_agent(), cache, [])


@pytest.mark.slow
def test_scores_equal_a_slow_evaluation_tracklet_by_tracklet(parts):
    data, model = parts
    scores = evaluate(model, {"centre": centre_agent()}, data, clips_per_batch=5)

    descriptors, hits = {}, []
    for tracklet in [*data.query, *data.gallery]:
        clips = []
        for number in range(len(consecutive_clips(len(tracklet), 3))):
            with torch.no_grad():
                batch = TestBatches([tracklet], model.cache, 3, clips_per_batch=1)[number]
                bank = clip_bank(model, batch)
                process = AttentionProcess(bank, model.representation.glimpse)
                episodes = follow(centre_agent(), process, torch.zeros(1, dtype=torch.long))
                clips.append(process.descriptor(episodes)[0])
            if bank.hits[0].any():
                hits += [bank.hits[0, number] for number in episodes.bins[0, 1:].tolist()]
        descriptors[id(tracklet)] = torch.stack(clips).mean(0)
    search = Search(
        *(torch.stack([descriptors[id(t)] for t in part]) for part in (data.query, data.gallery)),
        *([t.person for t in part] for part in (data.query, data.gallery)),
        *([t.camera for t in part] for part in (data.query, data.gallery)),
    )
    for name, value in evaluate_retrieval(search).as_dict().items():
        assert scores["centre"][name] == pytest.approx(value)
    assert scores["centre"]["hit_rate"] == pytest.approx(100 * np.mean(hits))


def test_by_cosine_clips_count_by_confidence_and_by_their_different_frames(parts):
    data, model = parts
    torch.manual_seed(0)
    descriptor = DescriptorConfig(compared="global")
    network = Representation(BackboneConfig(precision="float32"), 4, 2, descriptor).eval()
    model = replace(model, representation=network)
    batches = clip_batches(model, data.query, clips_per_batch=5)
    means, slow = TrackletMeans(len(data.query), network), [0.0] * len(data.query)
    for number in range(len(batches)):
        batch = batches[number]
        with torch.no_grad():
            bank = clip_bank(model, batch)
            process = AttentionProcess(bank, network.glimpse)
            episodes = follow(centre_agent(), process, torch.arange(len(bank)))
            read = process.descriptor(episodes)
            means.add(batch, read)
            logits = network.glimpse.identify(read)
        for row, tracklet in enumerate(batch.tracklet.tolist()):
            _, frames = batches.clips(number)[row]
            weight = logits[row].softmax(0).max() * len(set(frames.tolist()))
            slow[tracklet] = slow[tracklet] + weight * bank.global_feature[row]
    expected = torch.stack([total / total.norm() for total in slow])
    torch.testing.assert_close(means.values(), expected, rtol=1e-4, atol=1e-6)


def test_the_batch_size_changes_nothing(parts):
    data, model = parts
    one, other = (evaluate(model, {"centre": centre_agent()}, data, clips_per_batch=n)["centre"] for n in (5, 36))
    assert one == pytest.approx(other)


def test_a_few_clips_of_each_tracklet_are_spread_over_it(parts):
    data, model = parts
    few = clip_batches(model, data.query[:2], clips_per_batch=3, clips_per_tracklet=2)  # of 8 frames: 3 clips
    assert [(tracklet, frames[0]) for tracklet, frames in few.all_clips] == [(0, 0), (0, 6), (1, 0), (1, 6)]
    assert len(few) == 2
    every = clip_batches(model, data.query[:2])
    assert len(clip_batches(model, data.query[:2], clips_per_tracklet=9).all_clips) == len(every.all_clips) == 6


@pytest.mark.parametrize(("clip", "number"), [(None, 1), (0, 0), (2, 2), (9, 2)])
@torch.no_grad()
def test_of_each_tracklet_one_clip_is_shown_or_its_last(parts, clip, number):
    data, model = parts
    described = describe_tracklets(model, data.query[:2], clip=clip)  # 3 clips each
    assert described.clip.tolist() == [number, number]
    for row, tracklet in enumerate(data.query[:2]):
        process = model.process(tracklet_bank(model, tracklet, number))
        episodes = follow(model.agent, process)
        torch.testing.assert_close(described.read[row], process.descriptor(episodes)[0], rtol=1e-4, atol=1e-5)
        assert described.bins[row].tolist() == episodes.bins[0].tolist()


@pytest.mark.parametrize("num_glimpses", [0, 1])
def test_without_choices_there_is_no_hit_rate_and_every_agent_scores_alike(parts, num_glimpses):
    data, model = parts
    representation = Representation(BackboneConfig(precision="float32"), num_glimpses, num_identities=2)
    agents = {"centre": centre_agent(), "random": random_agent()}
    scores = evaluate(replace(model, representation=representation), agents, data)
    assert scores["centre"] == scores["random"]
    assert scores["centre"]["hit_rate"] is None
    assert 0 < scores["centre"]["mAP"] <= 100


def test_the_table_is_aligned_and_shows_what_is_unknown():
    scores = {"agent": {"R1": 12.345, "hit_rate": None, "EER": 1.0}, "random bins": {"R1": 100.0, "hit_rate": 3.0}}
    assert table(scores).splitlines() == [
        "                   R1  hit_rate",
        "agent            12.3         -",
        "random bins     100.0       3.0",
    ]


@pytest.fixture(scope="module")
def run(tiny_run):
    return tiny_run


def test_a_checkpoint_scores_as_its_run_did(run, tmp_path, capsys):
    assert main(["evaluate", "--checkpoint", str(run), "--controls", "--json", str(tmp_path / "s.json")]) == 0
    scores = json.loads((tmp_path / "s.json").read_text())
    assert list(scores["reinforce"]) == ["R1", "R5", "R10", "R20", "mAP", "mINP", "hit_rate", "found", "overlap"]
    metrics = json.loads((run / "metrics.json").read_text())
    for name, value in metrics["after"].items():
        assert scores["reinforce"][name] == pytest.approx(value, abs=0.006)
    assert scores["random bins"]["mAP"] == pytest.approx(metrics["controls"]["random bins"]["mAP"], abs=0.006)
    printed = capsys.readouterr().out
    assert [line.split("  ")[0] for line in printed.splitlines()[2:]] == [
        "reinforce",
        "random bins",
        "centre bins",
    ]


DAMAGES = {
    "nan": lambda state: state["shared"]["representation"]["glimpse.identify.bias"].fill_(torch.nan),
    "nan as tested": lambda state: state["tested"]["glimpse.identify.bias"].fill_(torch.nan),
    "nan policy": lambda state: state["agent"]["policy"]["action_net.0.bias"].fill_(torch.nan),
    "no config": lambda state: state.pop("config"),
    "no agent": lambda state: state.pop("agent"),
    "other shape": lambda state: state["tested"].update({"glimpse.identify.bias": torch.ones(99)}),
}


@pytest.mark.parametrize("damage", ["missing", "truncated", "text", "code", "list", *DAMAGES])
def test_damaged_checkpoints_are_named(run, tmp_path, capsys, damage):
    path = tmp_path / CHECKPOINT
    content = (run / CHECKPOINT).read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        path.write_text("weights")
    elif damage == "list":
        torch.save([1], path)
    elif damage in DAMAGES:
        state = torch.load(run / CHECKPOINT, weights_only=True)
        DAMAGES[damage](state)
        torch.save(state, path)
    elif damage == "code":
        torch.save({"shared": {"representation": LOAD}}, path)  # an object of a class of ours
    assert main(["evaluate", "--checkpoint", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path) in error
    assert "weights_only" not in error  # torch's advice would run the code in the file
    assert "Traceback" not in error


def test_what_cannot_be_written_is_explained(run, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["evaluate", "--checkpoint", str(run), "--json", str(tmp_path / "file" / "s.json")]) == 2
    printed = capsys.readouterr()
    assert "reinforce" in printed.out  # the work is not lost
    assert "a3d evaluate: error:" in printed.err
    assert "scoring standard: 4 queries, gallery 4 tracklets of 4 people" in printed.out


def test_an_interruption_is_no_traceback(run, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("agents.runs.scoring.score_model", interrupt)
    assert main(["evaluate", "--checkpoint", str(run)]) == 130
    assert "stopped" in capsys.readouterr().err


def test_thresholds_are_printed_and_written(run, tmp_path, capsys):
    flags = ["--false-accept-rates", "0.1", "0", "--json", str(tmp_path / "scores.json")]
    assert main(["evaluate", "--checkpoint", str(run), *flags]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"reinforce: equal error rate \d+\.\d% at the distance", printed)
    assert re.search(
        r"below [\d.]+: [\d.]+% of pairs of two people are accepted \(at most 10%\), and \d+\.\d% of pairs of one",
        printed,
    )
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["protocol"].startswith("synthetic, scoring standard: 4 queries, gallery 4 tracklets")
    scores = written["reinforce"]
    assert 0 <= scores["EER"] <= 100
    assert scores["FAR=0.0_distance"] <= scores["FAR=0.1_distance"]


@pytest.mark.slow
def test_people_who_were_trained_on_are_counted_however_their_folder_is_named(tmp_path, own_cache, capsys):
    """Of eight people four are trained on; another division searches for some of them."""
    root, generator = tmp_path / "people@split_seed=1", np.random.default_rng(0)
    for person in range(8):
        for camera in "ab":
            (folder := root / f"p{person}" / camera / "1").mkdir(parents=True)
            for frame in range(3):
                cv2.imwrite(str(folder / f"{frame}.png"), generator.integers(0, 256, (64, 32, 3), dtype=np.uint8))
    flags = ["--preset", "tiny", "--steps", "1", "--data", f"folder:{root}", "--out", str(tmp_path / "run")]
    assert main(["train", *flags]) == 0
    evaluate = ["evaluate", "--checkpoint", str(tmp_path / "run")]
    capsys.readouterr()
    assert main(evaluate) == 0  # the name is a name, not an option
    assert "were trained on" not in capsys.readouterr().err
    run = load_run(tmp_path / "run")
    trained = {one.source.split("/")[1] for one in run.data.train}
    assert main([*evaluate, "--part", "all"]) == 0
    printed = capsys.readouterr()
    assert "4 of the 8 people searched for" in printed.err
    assert "16 queries, gallery 16 tracklets of 8 people" in printed.out
    for spelling in (root, tmp_path / "run" / ".." / root.name):
        assert main([*evaluate, "--data", f"folder:{spelling}@split_seed=2"]) == 0
        others = load_data(f"folder:{root}", DataConfig(split_seed=2), tmp_path)
        leaked = trained & {one.source.split("/")[1] for one in others.query}
        assert leaked
        assert f"{len(leaked)} of the 4 people searched for" in capsys.readouterr().err


@pytest.mark.slow
def test_names_that_are_no_text_are_trained_on_and_described(tmp_path, own_cache):
    """Of an old disk, as in Latin-1; a console that shows ASCII alone is no reason to stop."""
    generator = np.random.default_rng(0)
    for person in range(4):
        for camera in "ab":
            folder = tmp_path / "mine" / os.fsdecode(b"J\xfcrgen %d" % person) / camera / "1"
            try:
                folder.mkdir(parents=True)
            except OSError:
                pytest.skip("this disk takes no such names")
            for frame in range(3):
                picture = generator.integers(0, 256, (64, 32, 3), dtype=np.uint8)
                (folder / f"{frame}.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    run, data = str(tmp_path / "run"), f"folder:{tmp_path}/mine"
    file, found = str(tmp_path / "e.safetensors"), str(tmp_path / "found.json")
    assert main(["data", "check", "--data", data]) == 0
    assert main(["train", "--preset", "tiny", "--steps", "1", "--data", data, "--out", run]) == 0
    assert main(["embed", "--checkpoint", run, "--data", data, "--out", file]) == 0
    done = subprocess.run(
        [sys.executable, "-m", "scripts.cli", "search", "--query", file, "--gallery", file, "--json", found],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(json.loads(Path(found).read_text(encoding="utf-8"))) == 8
