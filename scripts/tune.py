"""Search for better settings: `a3d tune`, by Optuna (pip install 'a3d[tune]').

A trial is a training with settings of the declared ranges, in a folder of its own. It is judged on a share of
the training people, who are held out of its training; the test people are neither trained on nor scored. Optuna
proposes settings near those that did well (its tree-structured Parzen estimator). The table of trials, the best
first, goes to tune.csv, and the command that trains by the best settings, on all training people, is printed.
study.log is Optuna's own file of the study, which its other tools read.

Flags that are not listed below are those of a3d train: --preset, --steps, --data, --agent, ...

`a3d tune --ranges ranges.yaml --trials 20 --out runs/tune --preset street --data folder:my_tracklets`, where
ranges.yaml holds, for example,

    joint.learning_rate: {low: 1e-4, high: 1e-3, log: true}
    policy.variance: [0.03, 0.05, 0.1]

The same command goes on after a stop; a larger --trials adds to the study. Other ranges or settings need another
--out.
"""

import dataclasses
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from agents.runs.arguments import read_arguments
from agents.runs.config import TrainConfig
from agents.runs.own import trust_own_code
from agents.runs.ranges import Choice, Ranges, flags, read_ranges
from agents.runs.settings import JobsConfig
from agents.runs.table import Column, Table
from backbone.files import folder_lock, write_text
from backbone.flags import read_flags
from backbone.progress import counted, print_result

if TYPE_CHECKING:
    from optuna.study import Study

    from agents.runs.jobs import Failure

TABLE, STUDY = "tune.csv", "study.log"


@dataclass(frozen=True)
class TuneConfig:
    """A study: ranges of settings, trials, and how they are judged."""

    ranges: Path
    """YAML file of ranges by setting of a3d train: {low: 1e-4, high: 1e-3, log: true}, or a list of values."""
    out: Path
    """Folder of the study."""
    trials: int = 20
    """Number of trials in all, those of earlier commands in this folder included."""
    judged_by: Literal["mAP", "R1"] = "mAP"
    """Score of the people held out that the trials are judged by."""
    held_out: float = 0.25
    """Share of the training people who are held out of the trials' trainings, to judge them; which ones is chosen
    by --data-options.split-seed."""
    sampler_seed: int = 0
    """Seed of the settings that are proposed."""
    runs: Annotated[JobsConfig, tyro.conf.arg(name="")] = field(default_factory=JobsConfig)
    """Number of trials at a time, proposed together, and the machines that they use."""

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"trials must be 1 or more, got {self.trials}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must lie between 0 and 1, got {self.held_out}")


def read(argv: list[str]) -> tuple[TuneConfig, list[str]]:
    """Read the flags, and return those of a3d train as they are."""
    return read_flags(TuneConfig, argv, "tune", __doc__, return_unknown_args=True)


def run(config: TuneConfig, of_training: list[str]) -> int:
    """Run the trials that are missing, print the table and the best command, and return the exit status."""
    from agents.runs.jobs import tell  # --help need not wait for torch

    ranges = read_ranges(config.ranges)
    check_ranges(config, ranges, of_training)
    with folder_lock(config.out):
        study = open_study(config)
        check_same_study(study, config, ranges, of_training)
        failures = run_trials(study, config, ranges, of_training)
        print_result(report(study, config, of_training))
    return tell(failures, "tune")


def check_ranges(config: TuneConfig, ranges: Ranges, of_training: Sequence[str]) -> None:
    """Refuse settings and values that a training would not take, before the first one begins.

    Raises:
        ValueError: such a setting; the message names it and the file.
    """
    named = {*of_training, *flags(dict.fromkeys(ranges, ""))}
    if taken := named & {"--resume", "--out", "--data-options.held-out"}:
        raise ValueError(
            f"{min(taken)} is of a3d train alone: trials begin anew in folders of --out, and --held-out says how "
            "many people are held out of them"
        )
    for number in range(max(len(one.examples) for one in ranges.values())):
        values = {name: one.examples[min(number, len(one.examples) - 1)] for name, one in ranges.items()}
        try:
            settings_of(values, config, of_training)
        except ValueError as error:
            raise ValueError(f"{config.ranges}, with {shlex.join(flags(values))}: {error}") from error


def settings_of(values: Mapping[str, Choice], config: TuneConfig, of_training: Sequence[str]) -> TrainConfig:
    """Return the settings of a trial: those of the command, its own values, and people held out."""
    settings, _ = read_arguments([*of_training, *flags(values)])
    trust_own_code(
        dataclasses.asdict(settings)
    )  # the command line named it: the trial's process reads it from a file
    data = dataclasses.replace(settings.data_options, held_out=config.held_out)
    return dataclasses.replace(settings, data_options=data)


def open_study(config: TuneConfig) -> "Study":
    """Return the study of the folder, or a new one.

    Raises:
        ValueError: Optuna is not installed.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise ValueError(f"a3d tune needs Optuna ({error}): pip install 'a3d[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():  # of what its authors may still change
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = JournalStorage(JournalFileBackend(str(config.out / STUDY)))
        return optuna.create_study(storage=storage, study_name="a3d", direction="maximize", load_if_exists=True)


def check_same_study(study: "Study", config: TuneConfig, ranges: Ranges, of_training: Sequence[str]) -> None:
    """Refuse to add trials whose scores can't be compared with those of the study, and note what it is about.

    Raises:
        ValueError: the study is about other ranges, settings or people; the message names what differs.
    """
    from agents.runs.task import settings_digest

    first = settings_of({name: one.examples[0] for name, one in ranges.items()}, config, of_training)
    about = {
        "the ranges": {name: repr(one) for name, one in ranges.items()},
        "--judged-by": config.judged_by,
        "--held-out": config.held_out,
        "the flags of a3d train": settings_digest(first),
    }
    before = study.user_attrs.get("about", about)
    if differing := [what for what, value in about.items() if before[what] != value]:
        raise ValueError(
            f"the study in {config.out} was begun with other settings, in {', '.join(differing)}: repeat them as "
            "they were, or give another --out"
        )
    study.set_user_attr("about", about)


def run_trials(study: "Study", config: TuneConfig, ranges: Ranges, of_training: Sequence[str]) -> list["Failure"]:
    """Run trials until the study has as many as asked for; those that were begun and not finished come first.

    Returns:
        Trials that failed; they are run again by the next command, and count as bad ones in the meantime.
    """
    from optuna.trial import TrialState

    from agents.runs.jobs import run_jobs
    from agents.runs.task import Task

    at_once = config.runs.jobs or (config.trials if config.runs.backend == "ray" else 1)
    begun = [one.number for one in study.get_trials(states=[TrialState.RUNNING])]
    failures: list[Failure] = []
    while begun or len(study.trials) < config.trials:
        while len(begun) < at_once and len(study.trials) < config.trials:
            begun.append(propose(study, config, ranges))
        wave, begun = begun[:at_once], begun[at_once:]
        tasks = []
        for number in wave:
            settings = settings_of(study.trials[number].params, config, of_training)
            tasks.append(Task("trial", number, settings, folder_of(config, number)))
        failures += run_jobs(tasks, config.runs)
        for task in tasks:
            if (result := task.result()) is not None:
                study.tell(task.seed, result["agent"][config.judged_by])
    return failures


def folder_of(config: TuneConfig, number: int) -> Path:
    """Return the folder of a trial."""
    return config.out / str(number)


def propose(study: "Study", config: TuneConfig, ranges: Ranges) -> int:
    """Add a trial to the study and return its number; the trials so far and the seed decide what is proposed."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # anew for each trial, so that a study goes on after a stop as it would have
        study.sampler = optuna.samplers.TPESampler(
            seed=config.sampler_seed + len(study.trials), constant_liar=True, n_startup_trials=5
        )
    trial = study.ask()
    for name, one in ranges.items():
        one.suggest(trial, name)
    return trial.number


def report(study: "Study", config: TuneConfig, of_training: Sequence[str]) -> str:
    """Write the table of trials, the best first, and return it with the command that trains by the best."""
    from agents.runs.task import RESULT, RunResult
    from backbone.json_file import read_object

    rows: list[dict[str, Any]] = []
    for trial in study.trials:
        path = folder_of(config, trial.number) / RESULT
        scores = read_object(path, RunResult, "remove it, and it is run again")["agent"] if path.exists() else {}
        rows.append({"trial": trial.number, **trial.params, **{name: scores.get(name) for name in ("mAP", "R1")}})
    rows.sort(key=lambda row: (row[config.judged_by] is None, -(row[config.judged_by] or 0)))
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.params))
    shown = [Column("trial"), *(Column(name, spec=".4g") for name in names)]
    table = Table([*shown, Column("mAP", spec=".1f"), Column("R1", spec=".1f")], rows)
    write_text(config.out / TABLE, table.csv())
    best = rows[0]
    if best[config.judged_by] is None:
        return f"{table.text()}\n\nno trial is finished"
    values = {name: best[name] for name in names if name in best}
    command = shlex.join(["a3d", "train", *of_training, *flags(values)])
    return (
        f"{table.text()}\n\n"
        f"scores on {100 * config.held_out:g}% of the training people, held out; see {config.out / TABLE}. The "
        f"best of {counted(len(rows), 'trial')} is chosen by them, so its own scores are too high: train by it "
        f"on all training people, and score the test people once:\n{command}"
    )
