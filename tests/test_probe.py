"""The rows that an agent is compared with, against values by hand, and the command from end to end."""

import dataclasses
import itertools
import json

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from a3d_env.process import AttentionProcess
from agents.controls import centre_agent, random_agent, swap_partners
from agents.probes import (
    RecordingRule,
    following,
    judge_by_means,
    looking_at,
    mean_locations,
)
from agents.runs.model import load_run
from agents.runs.scoring import evaluate, searched_tracklets
from agents.statistics import Interval
from backbone.descriptor import Comparison
from scripts.cli import main
from scripts.probe import ProbeConfig
from scripts.probe.clip_set import ClipSet
from scripts.probe.measures import AVERAGE_PLACE, BEST, CENTRE, OTHER_CLIP, POLICY, ROWS, TRUTH, measure
from scripts.probe.query_oracle import QueryOracle
from scripts.probe.report import COLUMNS, Cell, over_runs, summarise, text_table, verdict


def test_the_mean_location_of_each_step_takes_every_clips_place():
    locations = torch.tensor([[[0.0, 0.2, -1.0], [1.0, 0.0, 0.0]], [[0.5, 0.4, 1.0], [-1.0, 0.0, 0.5]]])
    expected = torch.tensor([[0.25, 0.3, 0.0], [0.0, 0.0, 0.25]])
    torch.testing.assert_close(mean_locations(locations), expected.expand(2, 2, 3))


def test_a_recording_says_where_the_agent_looked_and_can_be_played_again(random_case):
    process = AttentionProcess(*random_case(num_clips=3))
    recording, agent = RecordingRule(random_agent()), random_agent()
    first, second = (recording(process, torch.arange(3)) for _ in range(2))
    locations = recording.locations()
    assert locations.shape == (6, 3, 3)
    for numbers, episodes in ((torch.arange(3), first), (torch.arange(3, 6), second)):
        assert torch.equal(looking_at(locations)(process, numbers).bins, episodes.bins)
    swapped = looking_at(locations)(process, torch.tensor([4, 5, 3]))
    assert torch.equal(swapped.bins, second.bins[[1, 2, 0]])  # as the other clips were looked at
    assert torch.equal(following(agent)(process, torch.arange(3)).bins, first.bins)


def test_actions_beyond_the_edge_count_as_the_edge(random_case):
    class Far:
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return np.tile(np.float32([3, 0.1, -2]), (len(observation["location"]), 1)), None

    process, recording = AttentionProcess(*random_case(num_clips=2)), RecordingRule(Far())
    recording(process, torch.arange(2))
    torch.testing.assert_close(recording.locations(), torch.tensor([1, 0.1, -1]).expand(2, 3, 3))


@pytest.mark.parametrize("people", [[4, 9], [1, 1, 2, 2], [3, 1, 1, 1, 2, 2, 3, 3, 1, 4], [*range(50), *[7] * 40]])
def test_each_clip_gets_one_of_another_person_and_each_is_given_once(people):
    person = np.array(people)
    for seed in range(5):
        partners = swap_partners(person, seed)
        assert (person[partners] != person).all()
        assert sorted(partners) == list(range(len(person)))
        assert (swap_partners(person, seed) == partners).all()


def test_what_is_swapped_in_does_not_tell_whose_clip_it_is():
    """A person's clips share a stranger as seldom as any four clips do."""
    person = np.repeat(np.arange(50), 4)
    shared = []
    for seed in range(20):
        stranger = person[swap_partners(person, seed)].reshape(50, 4)
        shared += [len(set(row.tolist())) < 4 for row in stranger]
    # four draws without replacement among 196 clips of 49 people: 1 - 192 188 184 / (195 194 193) = 0.090
    assert np.mean(shared) == pytest.approx(0.09, abs=0.03)


def test_without_enough_others_nothing_is_swapped():
    with pytest.raises(ValueError, match="one person has 3 of 5 clips"):
        swap_partners([1, 1, 1, 2, 3])


def test_the_judge_is_the_softmax_of_squared_distances(random_case):
    _, glimpse = random_case()
    generator = torch.Generator().manual_seed(0)
    means, descriptors = (0.05 * torch.randn(count, 5 + 4 * 256, generator=generator) for count in (3, 7))
    judge = judge_by_means(glimpse, Comparison("concatenation", 5, 4, 256), means)
    expected = functional.softmax(-(torch.cdist(descriptors, means) ** 2), dim=1)
    torch.testing.assert_close(judge.identify(descriptors).softmax(1), expected, rtol=1e-4, atol=1e-5)
    assert judge.embed_hidden is glimpse.embed_hidden


def test_differences_are_of_the_same_people():
    """People differ by far more than the rows do: only paired, the difference is seen, and it is exact."""
    person = np.repeat(np.arange(6), 4)
    policy = 100.0 * person + np.tile([0.0, 1.0, 2.0, 3.0], 6)
    missing = policy - 2
    missing[::4] = np.nan
    values = {
        POLICY: {"reward": policy, "overlap": policy},
        OTHER_CLIP: {"reward": policy - 0.5, "overlap": policy - 1},  # more overlap is neither better nor worse
        AVERAGE_PLACE: {"reward": policy + 1},
        BEST: {"reward": missing},
    }
    table = summarise(values, {"reward": person, "overlap": person})
    assert list(table) == [POLICY, AVERAGE_PLACE, OTHER_CLIP, BEST]
    cell = table[OTHER_CLIP]["reward"]
    assert cell.value.value == pytest.approx(policy.mean() - 0.5)
    assert cell.value.high - cell.value.low > 100
    for name, expected in ((OTHER_CLIP, 0.5), (AVERAGE_PLACE, -1), (BEST, 2)):
        difference = table[name]["reward"].policy_minus_row
        assert [difference.value, difference.low, difference.high] == pytest.approx([expected] * 3)
    assert table[POLICY]["reward"].policy_minus_row is None
    assert table[OTHER_CLIP]["R1"] is None
    assert verdict(table) == [
        'policy mean against "policy, another clip": better in reward',
        'policy mean against "policy, average place": worse in reward',
    ]
    assert "0.500 [0.500, 0.500]*" in text_table(table)
    assert (
        summarise(values, dict.fromkeys(("reward", "overlap"), np.zeros(24)))[POLICY]["reward"] is None
    )  # one person has no interval


@pytest.fixture(scope="module")
def folder(tiny_run):
    return tiny_run


@pytest.fixture(scope="module")
def measured(folder):
    """What is measured of that run, which takes seconds."""
    return measure(load_run(folder))


@pytest.mark.slow
def test_the_command_writes_table_numbers_and_picture(folder, measured, capsys, monkeypatch, real_pictures):
    monkeypatch.setattr("scripts.probe.probing.measure", lambda run, **settings: measured)
    with real_pictures():
        assert main(["probe", "--checkpoint", str(folder)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "of the 6 people that F_c was fitted on" in printed[1]
    assert "4 queries in 4 gallery tracklets" in printed[2]
    assert [line[:22].strip() for line in printed[5:13]] == list(ROWS)
    content = json.loads((folder / "probe" / "probe.json").read_text())
    assert list(content["rows"]) == list(ROWS)
    assert content["rows"][TRUTH]["hit_rate"]["value"] == {"value": 100, "low": 100, "high": 100}
    for row, column in itertools.product(ROWS, COLUMNS):
        cell = content["rows"][row][column]
        assert cell["value"]["low"] <= cell["value"]["value"] <= cell["value"]["high"]
        assert (cell["policy_minus_row"] is None) == (row == POLICY)
    assert content["rows"][BEST]["log_prob"]["policy_minus_row"]["high"] <= 0
    assert content["settings"]["reward"] == load_run(folder).config.attention.reward
    assert cv2.imread(str(folder / "probe" / "probe.png")).shape[1] > 1000
    halves = ("training people", "test people")
    lines = [
        f"reward and retrieval, correlation over the bins of a clip as the next look, {half}" for half in halves
    ]
    assert [line.rpartition(": ")[0] for line in printed if line.startswith("reward and retrieval, corr")] == lines
    assert all(-1 <= one["low"] <= one["high"] <= 1 for one in content["agreement"].values() if one is not None)
    paid = [f"reward, {halves[0]}", f"gallery_log_prob, {halves[1]}"]
    gained = [f"gain of retrieval, {half}" for half in halves]
    looked = "looks of the policy, test people, %"
    assert list(content["places"]) == [paid[0], gained[0], paid[1], gained[1], looked]
    places = {name: np.array(values) for name, values in content["places"].items()}
    assert {values.shape for values in places.values()} == {load_run(folder).grid.positions}
    assert places[looked].sum() == pytest.approx(100, abs=1e-3)
    assert cv2.imread(str(folder / "probe" / "places.png")).shape[0] > 500


@pytest.mark.slow
def test_the_policys_scores_are_the_evaluations_and_batches_change_nothing(folder, measured):
    run = load_run(folder)
    other = measure(run, clips_per_batch=7)
    scores = evaluate(run, {"agent": run.agent}, run.data)
    row = measured.values[POLICY]
    for column in ("R1", "mAP", "hit_rate", "found", "overlap"):
        assert np.nanmean(row[column]) == pytest.approx(scores["agent"][column])
        assert len(row[column]) == len(measured.person[column])
    for name in (POLICY, OTHER_CLIP, AVERAGE_PLACE, BEST):
        for column, values in measured.values[name].items():
            np.testing.assert_allclose(values, other.values[name][column], rtol=1e-3, atol=1e-3)


def test_the_oracle_brings_queries_nearer_to_their_people(folder):
    run = load_run(folder)
    run.representation.eval()
    clips = ClipSet(run, searched_tracklets(run.data), max_clips=1)
    recording = RecordingRule(centre_agent())
    with torch.no_grad():
        descriptors = clips.watch({POLICY: recording}, "policy")[POLICY].descriptors.values()
        oracle = QueryOracle(
            centre_agent(), clips, run.data, run.representation, descriptors, recording.locations()
        )
        rows = {BEST: oracle, CENTRE: following(centre_agent())}
        seen = clips.watch(rows, "oracle", oracle.log_prob)
    found = seen[BEST].descriptors.values()
    queries, gallery = slice(0, 4), slice(4, 8)
    assert [tracklet.person for tracklet in clips.tracklets[queries]] == [
        tracklet.person for tracklet in clips.tracklets[gallery]
    ]
    assert oracle.judged.tolist() == [index < 4 for index in clips.tracklet]
    torch.testing.assert_close(found[gallery], descriptors[gallery])  # these are looked at as before
    before, after = (-(torch.cdist(part[queries], descriptors[gallery]) ** 2) for part in (descriptors, found))
    truth = torch.arange(4)
    assert functional.cross_entropy(after, truth) < functional.cross_entropy(before, truth)
    paid = {name: values.columns()["gallery_log_prob"] for name, values in seen.items()}
    assert (np.isnan(paid[CENTRE]) == ~oracle.judged).all()
    assert (paid[BEST] >= paid[CENTRE])[oracle.judged].all()
    np.testing.assert_allclose(paid[CENTRE][:4], before.log_softmax(1).diagonal(), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_without_truth_and_on_strangers_rows_and_columns_are_left_out(folder, tmp_path, capsys):
    for person, camera, frame in itertools.product("abcdef", "12", range(7)):
        path = tmp_path / "people" / person / camera / "walk" / f"{frame}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(ord(person) + frame).integers(0, 255, (64, 32, 3), np.uint8)
        cv2.imwrite(str(path), pixels)
    flags = ["--data", f"folder:{tmp_path / 'people'}", "--out", str(tmp_path / "out"), "--max-clips", "2"]
    assert main(["probe", "--checkpoint", str(folder), *flags]) == 0
    printed = capsys.readouterr().out
    assert "truth is left out on the test people: the data does not say where to look" in printed
    assert "reward, log_prob: F_c was not fitted on people of these data" in printed
    rows = json.loads((tmp_path / "out" / "probe.json").read_text())["rows"]
    assert list(rows) == [name for name in ROWS if name != TRUTH]
    assert all(
        row["reward"] is row["log_prob"] is row["hit_rate"] is row["found"] is None for row in rows.values()
    )
    assert all(row["R1"] is not None for row in rows.values())
    assert "log_prob" not in printed.splitlines()[4].split()  # columns without a value are not printed
    assert rows[CENTRE]["overlap"]["value"] == {"value": 100, "low": 100, "high": 100}
    # The reward of people whom F_c does not know: the best bins are those of the largest.
    paid = {name: row["gallery_log_prob"]["value"]["value"] for name, row in rows.items()}
    assert max(paid, key=paid.get) == BEST
    assert rows[BEST]["gallery_log_prob"]["policy_minus_row"]["high"] < 0


@pytest.mark.slow
def test_one_person_with_most_clips_can_not_be_swapped(folder):
    run = load_run(folder)
    train = [tracklet for tracklet in run.data.train if tracklet.person in run.people[:2]]
    run = dataclasses.replace(run, data=dataclasses.replace(run.data, train=train[1:]))
    measured = measure(run)
    expected = '"policy, another clip" is left out on the training people: one person'
    assert any(note.startswith(expected) for note in measured.notes)
    assert set(measured.values[OTHER_CLIP]) == set(COLUMNS) - {"reward", "log_prob"}
    assert summarise(measured.values, measured.person)[OTHER_CLIP]["reward"] is None


@pytest.mark.slow
def test_several_runs_are_averaged_with_students_t(folder, measured, tmp_path, capsys, monkeypatch):
    other = tmp_path / "other"
    assert main(["train", "--preset", "tiny", "--steps", "1", "--seed", "1", "--out", str(other)]) == 0
    half = {
        row: {column: values / 2 for column, values in columns.items()} for row, columns in measured.values.items()
    }
    of_seed = {0: measured, 1: dataclasses.replace(measured, values=half)}
    monkeypatch.setattr("scripts.probe.probing.measure", lambda run, **settings: of_seed[run.config.seed])
    command = ["probe", "--max-clips", "1", "--checkpoint"]
    rows = {}
    for name, checkpoints in (("one", [folder]), ("two", [other]), ("both", [folder, other])):
        assert main([*command, *map(str, checkpoints), "--out", str(tmp_path / name)]) == 0
        rows[name] = json.loads((tmp_path / name / "probe.json").read_text())["rows"]
    assert "means and 95% intervals over 2 runs" in capsys.readouterr().out
    for row, columns in rows["both"].items():
        for column, cell in columns.items():
            for part in ("value", "policy_minus_row"):
                if row == POLICY and part == "policy_minus_row":
                    assert cell[part] is None
                    continue
                one, two = (rows[name][row][column][part]["value"] for name in ("one", "two"))
                assert cell[part]["value"] == pytest.approx((one + two) / 2)
                # t of one degree of freedom is 12.706; two values deviate by half their distance from the mean
                margin = 12.7062 * abs(one - two) / 2
                assert cell[part]["high"] - cell[part]["value"] == pytest.approx(margin, rel=1e-4, abs=1e-9)
    with pytest.raises(ValueError, match=r"or several and where the results go \(--out\); got 2"):
        ProbeConfig((folder, other))
    with pytest.raises(ValueError, match="given twice"):
        ProbeConfig((folder, folder), out=tmp_path)
    random = tmp_path / "random"
    assert main(["train", "--preset", "tiny", "--steps", "1", "--agent", "random", "--out", str(random)]) == 0
    assert main([*command, str(folder), str(random), "--out", str(tmp_path / "mixed")]) == 2
    assert "is a run of random, identity, synthetic" in capsys.readouterr().err


def test_a_row_or_cell_that_one_run_lacks_is_left_out():
    whole = {name: {column: Cell(Interval(1.0, 0.5, 1.5), None) for column in COLUMNS} for name in (POLICY, TRUTH)}
    partial = {POLICY: {**whole[POLICY], "reward": None}}
    table = over_runs([whole, partial])
    assert list(table) == [POLICY]
    assert table[POLICY]["reward"] is None
    assert table[POLICY]["R1"] == Cell(Interval(1.0, 1.0, 1.0), None)


def test_mistakes_are_explained(folder, tmp_path, capsys, monkeypatch):
    for flags, message in (
        (["--checkpoint", str(tmp_path)], "there is no checkpoint"),
        (["--checkpoint", str(folder), "--data", "nothing"], "unknown data"),
    ):
        assert main(["probe", *flags]) == 2
        assert f"a3d probe: error: {message}" in capsys.readouterr().err

    with pytest.raises(ValueError, match="max_clips must be 1 or more, got 0"):
        ProbeConfig((folder,), max_clips=0)
    run = load_run(folder)
    empty = dataclasses.replace(run, data=dataclasses.replace(run.data, query=[]))
    with pytest.raises(ValueError, match="no tracklets in its test half"):
        measure(empty)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("scripts.probe.probing.measure", interrupt)
    out = tmp_path / "out"
    assert main(["probe", "--checkpoint", str(folder), "--out", str(out)]) == 130
    assert "stopped; nothing was written" in capsys.readouterr().err
    assert not out.exists()


def test_without_decisions_there_is_nothing_to_probe(folder, tmp_path):
    out = tmp_path / "one glimpse"
    assert (
        main(["train", "--preset", "tiny", "--steps", "1", "--attention.num-glimpses", "1", "--out", str(out)])
        == 0
    )
    with pytest.raises(ValueError, match="1 glimpses: 2 or more are needed"):
        measure(load_run(out))
    assert ProbeConfig((out / "checkpoint.pt",)).folder == out / "probe"
