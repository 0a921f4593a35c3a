import dataclasses
import json

import cv2
import pytest

from agents.features import SharedFeatureCallback
from agents.runs import task as task_module
from agents.runs.build import build_agent, build_environment, build_grid, build_representation
from agents.runs.config import config_to_json, with_seed
from agents.runs.jobs import why_it_failed
from agents.runs.logs import read_history
from agents.runs.presets import get_preset
from agents.runs.recipes import STRONG_LEVERS, strong
from agents.runs.task import (
    Task,
    perform,
    read_task,
    settings_digest,
    write_task,
)
from backbone.data import DataConfig
from backbone.data.spec import parse_data
from backbone.files import folder_lock
from scripts.ablate import AblateConfig, make_plans
from scripts.ablate.cost import cost_table, measure_cost
from scripts.ablate.plan import make_plan, merge_tasks
from scripts.ablate.report import make_report, write_report
from scripts.ablate.tables import TABLES, WITHOUT_ATTENTION, lever_row, with_settings
from scripts.ablate.text import markdown, table_csv
from scripts.cli import main

NO_DECISIONS = {
    "agent": "centre",
    "joint.episodes_per_clip": 1,
    "attention.reward": "log_prob",
    "attention.overview": None,
    "policy.locator": "linear",
}
NO_GLIMPSES = {**NO_DECISIONS, "attention.num_glimpses": 0, "joint.glimpse_weight": 0.0}
TABLE_7 = {
    "full": {},
    "without_attention": NO_GLIMPSES,
    "random": {"agent": "random"},
    "without_rnn": {**NO_DECISIONS, "attention.num_glimpses": 1},
    "without_rl": {"agent": "untrained"},
    "without_flow": {"backbone.flow": None},
    "qan": {**NO_GLIMPSES, "backbone.pooling": "quality"},
    "separate": {**NO_GLIMPSES, "backbone.pooling": "separate"},
    "centre": {"agent": "centre"},
    "truth": {"agent": "truth"},
}


def flat(config) -> dict:
    """A configuration's settings by section.name."""
    values = {}
    for name, value in dataclasses.asdict(config).items():
        section = value if name in ("load", "backbone", "attention", "joint", "policy") else {"": value}
        values |= {f"{name}.{key}".strip("."): each for key, each in section.items()}
    return values


def rich_settings():
    """Settings of which a row without decisions has to take back as many as there can be."""
    return with_settings(
        get_preset("tiny"),
        attention={"reward": "glimpses", "overview": (1, 4, 3), "num_glimpses": 4, "bin_size": (4, 6, 3)},
        joint={"glimpse_weight": 0.5, "episodes_per_clip": 8},
        policy={"locator": "mixture"},
        load={"num_frames": 6, "height": 128, "width": 64},
    )


@pytest.mark.parametrize("name", TABLE_7)
def test_table_7_changes_these_settings_and_no_others(name):
    rows = {row.name: row for row in TABLES["7"].rows(rich_settings())}
    assert list(rows) == list(TABLE_7)
    before, after = flat(rich_settings()), flat(rows[name].change(rich_settings()))
    assert {key: value for key, value in after.items() if value != before[key]} == TABLE_7[name]


def test_table_7_has_the_papers_figures():
    paper = {row.name: row.paper for row in TABLES["7"].rows(rich_settings())}
    assert paper["full"] == {"R1": 87.9, "R5": 98.6, "mAP": 92.5}
    assert paper["random"] == {"R1": 80.5, "R5": 96.8, "mAP": 87.6}
    assert paper["truth"] == {}


@pytest.mark.parametrize(
    ("table", "own", "expected"),
    [
        ("8", (4, 6, 3), [1, 2, 4]),
        ("fig5", (4, 6, 3), [(1, 6, 3), (2, 6, 3), (4, 6, 3), (6, 6, 3)]),
        ("fig5", (3, 6, 3), [(1, 6, 3), (2, 6, 3), (3, 6, 3), (4, 6, 3), (6, 6, 3)]),
        ("fig6", (4, 6, 3), [(4, rows, columns) for rows in (3, 6, 9) for columns in (2, 3, 5)]),
        ("fig6", (6, 1, 2), [(6, rows, columns) for rows in (1, 2) for columns in (1, 2, 3)]),
    ],
)
def test_sizes_of_figures_and_numbers_of_glimpses(table, own, expected):
    config = with_settings(rich_settings(), attention={"bin_size": own})
    changed = [row.change(config) for row in TABLES[table].rows(config)]
    if table == "8":
        assert [each.attention.num_glimpses for each in changed] == expected
    else:
        assert [each.attention.bin_size for each in changed] == expected
        for each in changed:
            build_grid(each, build_representation(each, 2))  # every bin fits


def test_bins_are_not_larger_than_the_map():
    config = rich_settings()
    height, width = build_grid(config, build_representation(config, 2)).feature_size[1:]
    whole = with_settings(config, attention={"bin_size": (4, height, width)})
    sizes = {row.change(whole).attention.bin_size for row in TABLES["fig6"].rows(whole)}
    assert sizes == {(4, rows, columns) for rows in (height // 2, height) for columns in (width // 2, width)}


@pytest.mark.slow
def test_every_row_of_every_table_can_be_built():
    config = get_preset("tiny")
    rows = [row for table in TABLES.values() if table.recipe is None for row in table.rows(config)]
    different = {settings_digest(changed): changed for changed in (row.change(config) for row in rows)}
    assert len(different) > len(TABLES)
    for changed in different.values():
        representation = build_representation(changed, 6)
        env = build_environment(changed, representation, build_grid(changed, representation))
        build_agent(changed, env)


def test_a_row_with_another_agent_has_none_of_the_settings_of_the_one_asked_for():
    config = dataclasses.replace(get_preset("tiny"), agent_settings={"policy_weight": 2})
    for table in TABLES.values():
        for row in table.rows(config):
            changed = row.change(config)
            assert changed.agent_settings == (config.agent_settings if changed.agent == "reinforce" else {})


def test_the_strong_recipe_is_taken_apart_lever_by_lever(tmp_path):
    config = strong(get_preset("tiny"))
    plan = make_plan(TABLES["levers"], config, tmp_path, seeds=1)
    # what the preset has, too, is no lever, nor is what acts on a triplet loss that is not there
    same = {name for name, switch_back in STRONG_LEVERS.items() if switch_back(config) == config} | {
        "global_triplet"
    }
    assert same < set(STRONG_LEVERS)
    assert list(plan.tasks) == ["full", *(lever_row(name) for name in STRONG_LEVERS if name not in same)]
    for name, tasks in plan.tasks.items():
        levers = {lever_row(lever): change for lever, change in STRONG_LEVERS.items()}
        expected = config if name == "full" else levers[name](config)
        assert settings_digest(tasks[0].config) == settings_digest(expected)
    for row in TABLES["7"].rows(config):  # nor does the recipe keep any row from being built
        changed = row.change(config)
        representation = build_representation(changed, 6)
        build_agent(changed, build_environment(changed, representation, build_grid(changed, representation)))


def test_all_tables_in_one_folder_keep_recipes_apart(tmp_path):
    arguments = AblateConfig(table="all", seeds=1, out=tmp_path)
    plans = make_plans(arguments, ["--preset", "tiny"])
    assert [plan.table.name for plan in plans] == [
        "table7",
        "table8",
        "fig5",
        "fig6",
        "table10",
        "fig7",
        "ladder",
        "levers",
    ]
    tasks = {task.row: task for task in merge_tasks(plans)}
    assert (tasks["full"].config.policy.locator, tasks["strong"].config.policy.locator) == ("linear", "mixture")
    assert (tasks["full"].points, tasks["full"].test_data) == (10, "synthetic@seed=2000,passers_by=3")
    assert (tasks["qan"].points, tasks["qan"].test_data) == (0, "synthetic@seed=2000,passers_by=3")
    alone = make_plans(dataclasses.replace(arguments, table="levers"), ["--preset", "tiny"])
    assert alone[0].tasks["full"][0].folder == tmp_path / "full" / "0"


@pytest.mark.parametrize(
    ("rows", "tables"), [("random", ["table7"]), ("without_rnn", ["table7", "table8"]), ("", None)]
)
def test_of_all_tables_those_that_have_a_row_are_run(rows, tables, tmp_path):
    plans = make_plans(AblateConfig(table="all", rows=rows, out=tmp_path), ["--preset", "tiny"])
    assert [plan.table.name for plan in plans] == (tables or [table.name for table in TABLES.values()])
    if rows:
        assert [row.name for plan in plans for row in plan.rows] == [rows] * len(tables)
    with pytest.raises(ValueError, match="--table all has no row 'nothing'"):
        make_plans(AblateConfig(table="all", rows="nothing", out=tmp_path), ["--preset", "tiny"])


def test_a_seed_draws_other_people_the_same_for_all_rows(tmp_path):
    config = dataclasses.replace(get_preset("tiny"), seed=10)
    second = with_seed(config, 2)
    assert (second.seed, second.data_options.synthetic.seed, second.data_options.split_seed) == (12, 2, 2)
    plan = make_plan(TABLES["7"], config, tmp_path, seeds=3)
    for tasks in plan.tasks.values():
        assert [task.config.seed for task in tasks] == [10, 11, 12]
        assert [task.config.data_options.synthetic.seed for task in tasks] == [0, 1, 2]


def test_tables_share_runs_with_the_same_settings(tmp_path):
    config = get_preset("tiny")
    plans = [make_plan(TABLES[name], config, tmp_path, seeds=2) for name in ("7", "8", "fig5", "fig7")]
    tasks = merge_tasks(plans)
    folders = [str(task.folder.relative_to(tmp_path)) for task in tasks]
    own = config.attention.bin_size[0]  # of 3 frames
    lengths = [f"bin_length_{length}" for length in (1, 2, 3) if length != own]
    others = ["two_glimpses", *lengths]  # one step is w/o RNN, four are full
    assert folders == [f"{name}/{seed}" for seed in range(2) for name in [*TABLE_7, *others]]
    assert [task.points for task in tasks[:2]] == [10, 0]  # for figure 7
    assert [task.keep for task in tasks[:2]] == [True, False]  # the full method's stays


def test_what_does_not_change_the_outcome_does_not_change_the_digest():
    config = get_preset("tiny")
    free = dataclasses.replace(config, preset="x", device="cuda", checkpoint_every=7, log_every=3)
    free = dataclasses.replace(free, load=dataclasses.replace(config.load, workers=0))
    assert settings_digest(free) == settings_digest(config)
    for other in ({"steps": 7}, {"seed": 7}, {"data": "folder:x"}, {"agent": "random"}):
        assert settings_digest(dataclasses.replace(config, **other)) != settings_digest(config)


def write_result(task, **extra) -> None:
    task.folder.mkdir(parents=True, exist_ok=True)
    row = {"R1": 50.0, "R5": 80.0, "R10": 90.0, "mAP": 60.0, "hit_rate": 20.0}
    result = {
        "row": task.row,
        "seed": task.seed,
        "agent": row,
        "controls": {"random bins": row, "centre bins": row},
        "before": row,
        "steps": task.config.steps,
        "seconds": 1.0,
        "num_train_people": 6,
        "settings_digest": settings_digest(task.config),
        "settings": json.loads(config_to_json(task.config)),
    }
    for name, value in extra.items():
        result[name] = {**result[name], **value} if name == "agent" else value
    (task.folder / "result.json").write_text(json.dumps(result))


@pytest.fixture
def three_seeds(tmp_path):
    """A plan of full and random, with results of three seeds, but for the last of random."""
    plan = make_plan(TABLES["7"], get_preset("tiny"), tmp_path, seeds=4, names=["full", "random"])
    for name, rank1 in (("full", [50, 60, 70, 99]), ("random", [40, 55, 60])):
        for task, value in zip(plan.tasks[name], rank1, strict=False):
            write_result(task, agent={"R1": float(value)})
    return plan


def test_means_intervals_and_paired_differences_are_those_computed_by_hand(three_seeds, tmp_path, real_pictures):
    for task in three_seeds.tasks["full"][3:]:
        (task.folder / "result.json").unlink()
    report = make_report(three_seeds)
    full, random = report["rows"]
    # 50, 60, 70: deviation 10; t(2 degrees of freedom, 97.5%) = 4.30265; 4.30265 * 10 / sqrt(3) = 24.8414
    assert full["means"]["R1"] == pytest.approx(
        {"value": 60, "low": 35.1586, "high": 84.8414, "count": 3}, abs=1e-3
    )
    # -10, -5, -10: mean -25/3, deviation 2.88675; 4.30265 * 2.88675 / sqrt(3) = 7.17109
    expected = {"value": -25 / 3, "low": -15.5044, "high": -1.16224, "count": 3}
    assert random["differences"]["R1"] == pytest.approx(expected, abs=1e-3)
    assert full["differences"]["R1"] is None
    assert random["paper_differences"] == {"R1": -7.4, "R5": -1.8, "mAP": -4.9}
    # on random's representations the controls have 50 each: -10, 5, 10; mean 5/3
    assert random["same_representation"]["agent less random bins"]["R1"]["value"] == pytest.approx(5 / 3)
    text = markdown(report)
    assert "| proposed (full) | 60.0 ± 24.8 | 80.0 ± 0.0 |" in text
    assert "| -8.3 ± 7.2 | -7.4 |" in text
    assert "80.5 / 96.8 / 87.6" in text
    rows = [line.split(",") for line in table_csv(report).splitlines()]
    assert rows[2][rows[0].index("R1_less_full_low")] == "-15.5044"
    with real_pictures():
        path = write_report(report, tmp_path / "report")
    assert json.loads(path.with_suffix(".json").read_text()) == report
    assert cv2.imread(str(path.with_suffix(".png"))) is not None


def test_only_seeds_of_both_rows_are_compared(three_seeds):
    report = make_report(three_seeds)
    full, random = report["rows"]
    assert full["means"]["R1"]["value"] == pytest.approx((50 + 60 + 70 + 99) / 4)
    assert random["differences"]["R1"]["value"] == pytest.approx(-25 / 3)
    assert report["missing"] == ["random/3"]
    assert "**Not finished**, and left out: random/3." in markdown(report)


def test_one_seed_has_no_interval(tmp_path):
    plan = make_plan(TABLES["7"], get_preset("tiny"), tmp_path, seeds=1, names=["full", "random"])
    for tasks in plan.tasks.values():
        write_result(tasks[0])
    report = make_report(plan)
    assert report["rows"][1]["differences"]["R1"] == {"value": 0, "low": None, "high": None, "count": 1}
    assert "| random attention | 50.0 | 80.0 | 60.0 | 20.0 | +0.0 | -7.4 |" in markdown(report)
    write_report(report, tmp_path)


@pytest.mark.parametrize("table", ["8", "fig5", "fig6", "fig7", "10"])
def test_reports_of_the_other_tables(table, tmp_path):
    plan = make_plan(TABLES[table], get_preset("tiny"), tmp_path, seeds=2, test_data="synthetic@seed=9")
    for tasks in plan.tasks.values():
        for task in tasks:
            curve = [{"step": step, "R1": step, "mAP": 2.0 * step} for step in (0, 3, 6)]
            scores = {"R1": 30.0 + task.seed, "R5": 1.0, "R10": 2.0, "R20": 3.0, "mAP": 4.0, "hit_rate": None}
            other = dict.fromkeys(("agent", "random bins", "centre bins"), scores)
            write_result(task, curve=curve, other_data={"synthetic@seed=9": other})
    report = make_report(plan)
    text = write_report(report, tmp_path).read_text()
    if table == "fig7":
        # 6 people, 2 in a batch: 3 batches are an epoch
        assert [point["epoch"] for point in report["rows"][0]["curve"]] == [0, 1, 2]
        assert "| 2.0 | 6 | 6.0 ± 0.0 | 12.0 ± 0.0 |" in text
    if table == "10":
        # 30 and 31: deviation 0.70711, t(1) = 12.7062: 6.4
        assert "| proposed (full) | 30.5 ± 6.4 | 1.0 ± 0.0 | 2.0 ± 0.0 | 3.0 ± 0.0 |" in text
        assert "64.2 / 84.7 / 92.8 / 98.5" in text
        assert "tested on synthetic@seed=9" in text
        assert [row["means"]["own R1"]["value"] for row in report["rows"]] == [50, 50, 50]


def test_rows_that_are_not_there_and_truth_that_is_not_known(tmp_path):
    config = get_preset("tiny")
    with pytest.raises(ValueError, match="has no row 'nothing'; known: full, without_attention, random"):
        make_plan(TABLES["7"], config, tmp_path, seeds=1, names=["full", "nothing"])
    for person in "abcd":
        for camera in "12":
            folder = tmp_path / "people" / person / camera / "walk"
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / "0.png"), cv2.UMat(64, 32, cv2.CV_8UC3).get())
    own = dataclasses.replace(config, data=f"folder:{tmp_path / 'people'}")
    assert "truth" not in make_plan(TABLES["7"], own, tmp_path, seeds=1).tasks
    with pytest.raises(ValueError, match="leave out the row truth"):
        make_plan(TABLES["7"], own, tmp_path, seeds=1, names=["truth"])


FAKE_RUN = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
task = json.loads((folder / "task.json").read_text())
if task["row"] == "random":
    sys.exit("this cannot be")
scores = dict(R1=1.0, R5=1.0, R10=1.0, mAP=1.0, hit_rate=None)
controls = {"random bins": scores, "centre bins": scores}
result = dict(agent=scores, controls=controls, seconds=1, settings=task["config"])
(folder / "result.json").write_text(json.dumps(result))
"""


@pytest.fixture
def fake_runs(monkeypatch, tmp_path_factory):
    """Runs without training: each writes its settings as a result, but the row random fails."""
    folder = tmp_path_factory.mktemp("module")
    (folder / "fake_run.py").write_text(FAKE_RUN)
    monkeypatch.syspath_prepend(folder)
    started = []

    def process(task):
        started.append(task.title)
        return "fake_run", str(task.folder)

    monkeypatch.setattr(Task, "process", property(process))
    return started


@pytest.mark.slow
def test_only_what_is_missing_is_run(fake_runs, tmp_path, capsys):
    flags = ["ablate", "--preset", "tiny", "--rows", "full,without_rl", "--out", str(tmp_path)]
    assert main([*flags, "--seeds", "2"]) == 0
    assert fake_runs == ["full/0", "without_rl/0", "full/1", "without_rl/1"]
    fake_runs.clear()
    assert main([*flags, "--seeds", "3", "--jobs", "2"]) == 0
    assert sorted(fake_runs) == ["full/2", "without_rl/2"]
    fake_runs.clear()
    (tmp_path / "table7.md").unlink()
    assert main([*flags, "--seeds", "3"]) == 0
    assert fake_runs == []
    assert "| proposed (full) | 1.0 ± 0.0 |" in (tmp_path / "table7.md").read_text()
    assert "proposed (full)" in capsys.readouterr().out


@pytest.mark.slow
def test_a_failed_run_is_reported_and_does_not_stop_the_others(fake_runs, tmp_path, capsys):
    flags = [
        "ablate",
        "--preset",
        "tiny",
        "--rows",
        "full,random,without_rl",
        "--seeds",
        "2",
        "--out",
        str(tmp_path),
    ]
    assert main(flags) == 1
    assert fake_runs == [f"{row}/{seed}" for seed in (0, 1) for row in ("full", "random", "without_rl")]
    error = capsys.readouterr().err
    assert f"random/1 failed: exit status 1; see {tmp_path / 'random' / '1' / 'error.txt'}" in error
    assert "this cannot be" in (tmp_path / "random" / "1" / "error.txt").read_text()
    assert "this cannot be" in (tmp_path / "random" / "1" / "log.txt").read_text()
    assert "left out: random/0, random/1." in (tmp_path / "table7.md").read_text()
    fake_runs.clear()
    assert main(flags) == 1
    assert fake_runs == ["random/0", "random/1"]


def test_nothing_is_run_for_a_report_only(fake_runs, tmp_path):
    flags = ["ablate", "--preset", "tiny", "--seeds", "1", "--out", str(tmp_path)]
    assert main([*flags, "--rows", "full"]) == 0
    assert main([*flags, "--report-only"]) == 0
    assert fake_runs == ["full/0"]
    text = (tmp_path / "table7.md").read_text()
    assert "left out: without_attention/0, random/0," in text
    assert "truth" not in text  # whether the data knows it is not looked up


def test_a_report_alone_is_of_the_settings_that_were_run(fake_runs, tmp_path):
    flags = ["ablate", "--preset", "tiny", "--rows", "full", "--seeds", "1", "--out", str(tmp_path)]
    assert main(flags) == 0
    assert main([*flags, "--report-only", "--steps", "3"]) == 2
    assert fake_runs == ["full/0"]


def test_runs_with_other_settings_are_not_mixed(fake_runs, tmp_path, capsys):
    flags = ["ablate", "--preset", "tiny", "--rows", "full", "--seeds", "1", "--out", str(tmp_path)]
    assert main(flags) == 0
    assert main([*flags, "--steps", "3", "--load.num-people", "3"]) == 2
    assert "holds a run with other settings (steps, load): take another folder" in capsys.readouterr().err
    (tmp_path / "full" / "0" / "result.json").rename(tmp_path / "full" / "0" / "config.json")
    (tmp_path / "full" / "0" / "config.json").write_text(config_to_json(get_preset("tiny")))
    assert main([*flags, "--steps", "3"]) == 2  # an unfinished run counts, too


def test_two_ablations_do_not_work_in_one_folder(fake_runs, tmp_path, capsys):
    flags = ["ablate", "--preset", "tiny", "--rows", "full", "--seeds", "1", "--out", str(tmp_path)]
    with folder_lock(tmp_path):
        assert main(flags) == 2
        assert "another command is at work" in capsys.readouterr().err
    assert fake_runs == []
    assert main(flags) == 0


def test_a_damaged_history_stops_no_run(tmp_path):
    (tmp_path / "history.jsonl").write_text("?\n")
    assert Task("full", 0, get_preset("tiny"), tmp_path).steps_taken() == 0


def make_task(folder, **settings) -> Task:
    config = get_preset("tiny")
    config = dataclasses.replace(config, load=dataclasses.replace(config.load, workers=0))
    task = Task("full", 0, config, folder, **settings)
    write_task(task)
    return task


def test_a_task_is_read_as_it_was_written(tmp_path):
    task = make_task(tmp_path, points=3, test_data="synthetic@seed=1", keep=True)
    assert dataclasses.asdict(read_task(tmp_path)) == dataclasses.asdict(task)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, own_cache):
    """The folder of a finished run with its result."""
    folder = tmp_path_factory.mktemp("runs") / "plain"
    make_task(folder)
    assert task_module.main([str(folder)]) == 0
    return folder


def same(one, other) -> bool:
    return all(one[name] == other[name] for name in ("agent", "controls", "before", "steps", "settings_digest"))


def test_a_finished_run_leaves_one_result_and_no_checkpoint(finished):
    result = read_task(finished).result()
    metrics = json.loads((finished / "metrics.json").read_text())
    assert result["agent"] == metrics["after"]
    assert result["controls"] == metrics["controls"]
    assert set(result["agent"]) == {"R1", "R5", "R10", "mAP", "hit_rate"}
    assert result["num_train_people"] == 6
    assert not (finished / "checkpoint.pt").exists()


@pytest.mark.slow
def test_an_interrupted_run_goes_on_from_its_checkpoint(finished, tmp_path, monkeypatch):
    task = make_task(tmp_path, keep=True)
    learn, steps = SharedFeatureCallback._learn_from, []

    def interrupt(self, episodes):
        steps.append(self.step)
        if self.step == 4 and steps.count(4) == 1:
            raise KeyboardInterrupt
        learn(self, episodes)

    monkeypatch.setattr(SharedFeatureCallback, "_learn_from", interrupt)
    assert task_module.main([str(tmp_path)]) == 130
    assert task.result() is None
    assert task_module.main([str(tmp_path)]) == 0
    assert steps == [0, 1, 2, 3, 4, 3, 4, 5]
    assert same(task.result(), read_task(finished).result())
    assert (tmp_path / "checkpoint.pt").exists()


def test_a_run_that_fails_leaves_its_traceback(tmp_path, capsys):
    task = make_task(tmp_path)
    write_task(dataclasses.replace(task, config=dataclasses.replace(task.config, agent="nothing")))
    assert task_module.main([str(tmp_path)]) == 1
    assert task.error_file == tmp_path / "error.txt"
    assert why_it_failed(task).startswith("ValueError: unknown agent 'nothing'")
    assert "Traceback" in task.error_file.read_text()


@pytest.mark.slow
def test_points_of_the_course_and_other_data(finished, tmp_path):
    task = make_task(tmp_path, points=3, test_data="synthetic@seed=5")
    assert task_module.main([str(tmp_path)]) == 0
    result = task.result()
    assert same(result, read_task(finished).result())  # to look does not change what is learned
    assert [point["step"] for point in result["curve"]] == [0, 2, 4, 6]
    for point, row in ((result["curve"][0], result["before"]), (result["curve"][-1], result["agent"])):
        assert {name: point[name] for name in row} == row
    assert set(result["other_data"]["synthetic@seed=5"]) == {"agent", "random bins", "centre bins"}
    assert result["other_data"]["synthetic@seed=5"]["agent"].keys() == {
        "R1",
        "R5",
        "R10",
        "R20",
        "mAP",
        "mINP",
        "hit_rate",
        "found",
        "overlap",
    }
    assert not (tmp_path / "points").exists()
    # what was not measured is not there
    assert dataclasses.replace(task, test_data="synthetic@seed=6").result() is None
    assert dataclasses.replace(read_task(finished), points=3).result() is None


@pytest.mark.slow
def test_a_course_that_was_not_kept_is_trained_again(tmp_path):
    perform(make_task(tmp_path, keep=True))
    result = perform(make_task(tmp_path, points=2, keep=True))
    assert [point["step"] for point in result["curve"]] == [0, 3, 6]
    assert [entry["step"] for entry in read_history(tmp_path / "history.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_other_data_is_named_with_its_settings():
    options = DataConfig()
    assert parse_data("folder:/a/b@c", options, 3) == ("folder:/a/b@c", options)
    spec, changed = parse_data("synthetic:/x@seed=100,passers_by=2.5,look_alikes=true", options, 3)
    assert spec == "synthetic:/x"
    synthetic = dataclasses.replace(options.synthetic, seed=103, passers_by=2.5, look_alikes=True)
    assert changed == dataclasses.replace(options, synthetic=synthetic)
    spec, changed = parse_data("folder:x@test_fraction=0.9", options, 3)
    assert (spec, changed.test_fraction) == ("folder:x", 0.9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("synthetic@nothing=1", "'nothing' is no option"),
        ("synthetic@seen_frames=1", "'seen_frames' is no option"),
        ("synthetic@seed=x", "seed must be a number, true or false, got 'x'"),
        ("synthetic@look_alikes=2", "look_alikes must be a bool, got '2'"),
    ],
)
def test_other_data_that_cannot_be(text, message):
    with pytest.raises(ValueError, match=message):
        parse_data(text, DataConfig(), 0)


@pytest.mark.slow
def test_costs_are_measured_in_turns():
    config = get_preset("tiny")
    report = measure_cost(config, rounds=2, seconds=0)
    assert [row["name"] for row in report["rows"]] == ["without_attention", "full"]
    base, full = report["rows"]
    assert base["training_ratio"] == base["inference_ratio"] == {"value": 1, "low": 1, "high": 1, "count": 2}
    assert full["training_seconds_per_batch"]["value"] > 0
    # 8 frames a tracklet are 3 clips of 3 frames, the last one repeating
    for row in report["rows"]:
        rate = row["clips_per_second"]["value"]
        assert row["frames_per_second"]["value"] == pytest.approx(3 * rate)
        assert row["videos_per_second"]["value"] == pytest.approx(rate / 3)
    # F_o and F_h, layer by layer, and F_a: (inputs + 1) x outputs, 4 bytes each; and the variance
    embedding = 65 * 128 + 129 * 256 + 4 * 128 + 129 * 256 + 2 * 257 * 256
    assert full["megabytes"] - base["megabytes"] == pytest.approx(4e-6 * (embedding + 257 * 3 + 3))
    assert "| w/o attention |" in cost_table(report)
    assert WITHOUT_ATTENTION.change(config).attention.num_glimpses == 0


@pytest.mark.slow
def test_the_command_from_end_to_end(tmp_path, capsys, runs_here):
    flags = ["ablate", "--preset", "tiny", "--seeds", "1", "--jobs", "2", "--steps", "2", "--load.workers", "0"]
    assert main([*flags, "--rows", "full", "--out", str(tmp_path)]) == 0  # in a process of its own
    with runs_here():
        assert main([*flags, "--rows", "full,random", "--out", str(tmp_path)]) == 0
    assert "| proposed (full) |" in capsys.readouterr().out
    report = json.loads((tmp_path / "table7.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["full", "random"]
    assert report["missing"] == []
    for name in ("full", "random"):
        result = json.loads((tmp_path / name / "0" / "result.json").read_text())
        assert result["steps"] == 2
        assert result["settings"]["agent"] == ("reinforce" if name == "full" else "random")
    assert (tmp_path / "full" / "0" / "checkpoint.pt").exists()
    assert not (tmp_path / "random" / "0" / "checkpoint.pt").exists()
    assert {path.name for path in tmp_path.glob("table7.*")} == {
        f"table7.{e}" for e in ("csv", "json", "md", "png")
    }


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "nothing"], "unknown preset 'nothing'"),
        (["--preset", "tiny", "--resume"], "--resume is not needed"),
        (["--preset", "tiny", "--rows", "nothing"], "has no row 'nothing'"),
        (["--table", "levers", "--recipe", "paper"], "levers are those of the recipe strong, got --recipe paper"),
    ],
)
def test_mistakes_are_explained_in_one_line(flags, message, tmp_path, capsys):
    assert main(["ablate", *flags, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_numbers_start_at_one(capsys):
    assert main(["ablate", "--seeds", "0"]) == main(["ablate", "--jobs", "0"]) == 2
    error = capsys.readouterr().err
    assert "seeds must be 1 or more, got 0" in error
    assert "jobs must be 1 or more, got 0" in error
