"""The command that describes tracklets, beside what an evaluation compares."""

import dataclasses

import numpy as np
import pytest
import torch
from test_source import frames

from agents.deterministic import DeterministicModel
from agents.runs.describe import describe_tracklets, share_of
from agents.runs.model import load_model, load_run
from agents.runs.scoring import ScoringConfig, score_model
from agents.runs.settings import ShardsConfig
from agents.runs.shards import run_shards
from backbone.data.clips import consecutive_clips
from backbone.embeddings import load_embeddings
from backbone.metrics import Search, evaluate_retrieval
from scripts.cli import main


@pytest.fixture(scope="module")
def run(tiny_run):
    return tiny_run


def test_descriptors_score_as_the_evaluation_does(run, tmp_path):
    parts = {}
    for part in ("query", "gallery"):
        path = tmp_path / f"{part}.npz"
        assert main(["embed", "--checkpoint", str(run), "--part", part, "--out", str(path)]) == 0
        parts[part] = load_embeddings(path)
    query, gallery = parts["query"], parts["gallery"]
    search = Search(
        query.descriptors, gallery.descriptors, query.person, gallery.person, query.camera, gallery.camera
    )
    scores = evaluate_retrieval(search)
    loaded = load_run(run)
    wanted, _ = score_model(loaded, loaded.data, ScoringConfig())
    for name, value in scores.as_dict().items():
        assert wanted["reinforce"][name] == pytest.approx(value)
    assert query.source == [one.source for one in loaded.data.query]
    assert query.bins.shape == (len(query), 4)
    assert (query.bins[:, 0] == loaded.grid.centre).all()
    # 8 frames by 3: clips 0, 1 and 2, of which 1 is in the middle
    assert query.clip.tolist() == [1] * len(query)
    assert query.origin.clip_size == (3, 64, 32)
    assert query.origin.options["synthetic"]["num_test_people"] == 4


def test_the_same_tracklet_alone_or_with_others_is_described_alike(run, tmp_path):
    for name in "abc":
        frames(tmp_path / "all" / name, [f"{number}.png" for number in range(1, 5)])
    found = []
    for spec in (tmp_path / "all", tmp_path / "all" / "b"):
        path = tmp_path / "one.safetensors"
        assert main(["embed", "--checkpoint", str(run), "--data", str(spec), "--out", str(path)]) == 0
        found.append(load_embeddings(path))
    assert found[0].source == ["a", "b", "c"]
    np.testing.assert_allclose(found[0].descriptors[1], found[1].descriptors[0], rtol=1e-5, atol=1e-6)


def test_the_data_of_the_training_need_not_be_there(run, tmp_path, capsys, monkeypatch):
    def gone(*_):
        raise ValueError("the training data is gone")

    monkeypatch.setattr("agents.runs.model.load_data", gone)
    frames(tmp_path / "one", ["1.png"])
    flags = ["--checkpoint", str(run), "--data", str(tmp_path / "one"), "--out", str(tmp_path / "one.npz")]
    assert main(["embed", *flags]) == 0
    assert "1 tracklets of 0 known people, 1,088 numbers each" in capsys.readouterr().out


def test_mistakes_are_explained_and_nothing_is_left(run, tmp_path, capsys):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.png").write_bytes(b"no image")
    out = tmp_path / "out.npz"
    flags = ["--checkpoint", str(run), "--out", str(out)]
    assert main(["embed", *flags, "--data", str(tmp_path / "bad")]) == 2
    assert f"{tmp_path}/bad/1.png (8 bytes) is no image" in capsys.readouterr().err
    assert main(["embed", *flags, "--data", "nowhere"]) == 2
    assert "no tracklets at 'nowhere'" in capsys.readouterr().err
    assert not out.exists()
    assert main(["embed", *flags[:2], "--out", "x.bin"]) == 2
    assert capsys.readouterr().err.startswith("a3d embed: error: --out x.bin has to end in .npz or .safetensors\n")


def test_the_bins_are_those_of_the_clip_in_the_middle(run):
    model = load_model(run, device="cpu")
    model.representation.precision = "float32"
    torch.manual_seed(0)
    for parameter in [*model.agent.policy.parameters(), *model.representation.glimpse.parameters()]:
        torch.nn.init.normal_(parameter, std=0.4)  # so that it looks elsewhere in each clip
    tracklets = load_run(run).data.query
    described = describe_tracklets(model, tracklets)
    module = DeterministicModel(model.representation, model.agent, model.grid)
    bins, descriptors = [], []
    for one in tracklets:
        clips = [model.cache.clip(one, frame_indices) for frame_indices in consecutive_clips(len(one), 3)]
        clip, flow = (torch.from_numpy(np.stack(part)) for part in zip(*clips, strict=True))
        with torch.no_grad():
            of_clips, looked_at, _ = module(clip, flow.float())
        bins.append(looked_at[len(clips) // 2])
        descriptors.append(of_clips.mean(dim=0))
    assert torch.equal(described.bins, torch.stack(bins))
    assert len({tuple(row.tolist()) for row in looked_at}) > 1
    torch.testing.assert_close(described.descriptors, torch.stack(descriptors), rtol=1e-4, atol=1e-4)


def test_the_digest_tells_models_apart(run):
    model = load_model(run)
    assert model.digest == load_model(run).digest
    changed = load_model(run)
    with torch.no_grad():
        next(changed.agent.policy.action_net.parameters()).add_(1)
    assert changed.digest != model.digest
    changed = load_model(run)
    with torch.no_grad():
        changed.representation.glimpse.identify.bias.add_(1)
    assert changed.digest != model.digest
    other = dataclasses.replace(model, config=dataclasses.replace(model.config, agent="untrained"))
    assert other.digest != model.digest


@pytest.mark.slow
def test_shards_put_together_are_the_same_bytes(run, tmp_path, runs_here):
    flags = ["embed", "--checkpoint", str(run), "--out"]
    assert main([*flags, str(tmp_path / "whole.npz")]) == 0
    with runs_here():
        assert main([*flags, str(tmp_path / "shards.npz"), "--shards", "3"]) == 0
    assert (tmp_path / "shards.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shards.npz", "whole.npz"]


def test_the_same_command_runs_a_shard_that_failed(run, tmp_path, runs_here, capsys, monkeypatch):
    flags = ["embed", "--checkpoint", str(run), "--out", str(tmp_path / "out.npz"), "--shards", "2"]
    begun = []
    describe = describe_tracklets

    def fails_once(*given, share):
        begun.append(share)
        if share == (1, 2) and len(begun) == 2:
            raise ValueError("frame 7 is damaged")
        return describe(*given, share=share)

    monkeypatch.setattr("agents.runs.describe.describe_tracklets", fails_once)
    with runs_here():
        assert main(flags) == 2
        assert not (tmp_path / "out.npz").exists()
        printed = capsys.readouterr().err
        assert "shard 2 of 2 failed: ValueError: frame 7 is damaged" in printed
        assert "1 shard of 2 failed: the same command runs what is missing" in printed
        assert main([*flags, "--jobs", "2"]) == 0  # by whatever number of processes
    assert begun == [(0, 2), (1, 2), (1, 2)]
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]
    assert main([*flags[:-2], "--backend", "ray"]) == 2
    assert "give --shards, 2 or more" in capsys.readouterr().err


def test_a_folder_that_is_not_of_shards_is_not_removed(tmp_path):
    (tmp_path / "out.npz.shards").mkdir()
    (tmp_path / "out.npz.shards" / "notes.txt").write_text("mine")
    with (
        pytest.raises(ValueError, match=r"out.npz.shards is where shards go, .* holds notes.txt: move it"),
        run_shards("scripts.embed", ShardsConfig(), tmp_path / "out.npz", ShardsConfig(shards=2), 2, ""),
    ):
        pass


@pytest.mark.parametrize("of", [1, 2, 3, 5])
def test_shares_are_all_of_it_cut_between_tracklets(of):
    owner = torch.tensor([0, 0, 0, 0, 0, 0, 1, 2, 2, 3, 4, 4])
    shares = [share_of(owner, 5, number, of) for number in range(of)]
    assert [row for rows, _ in shares for row in range(rows.start, rows.stop)] == [0, 1, 2, 3, 4]
    for rows, numbers in shares:
        clips = [clip for clip, index in enumerate(owner.tolist()) if rows.start <= index < rows.stop]
        assert {clip // 5 for clip in clips} == set(numbers)
