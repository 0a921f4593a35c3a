"""Run the paper's ablations over seeds and report them beside the paper's figures: `a3d ablate`.

Tables are 7, 8, 9 and 10, figures fig5, fig6 and fig7. levers switches off the parts of the strong recipe one by
one, ladder the metric and the ways of training of a recipe; all runs all of these.
Every run is a process of its own in <out>/<row>/<seed>; finished runs are never run again, interrupted ones go on,
and a failed one does not stop the others. The report is <out>/table7.md with .csv, .json and .png beside it.

Table VII on built-in data, two runs at a time:
`a3d ablate --table 7 --recipe strong --seeds 5 --jobs 2 --out out/table7`

Two rows of it, to see whether it works: `a3d ablate --preset tiny --seeds 1 --rows full,random --out out/try`

On a cluster (pip install 'a3d[cluster]'): `a3d ablate --table 7 --backend ray --out out/table7`

Table X on your own tracklets: `a3d ablate --table 10 --preset small --data folder:mine --test-data folder:others`

The report again, of what is finished so far: `a3d ablate --table 7 --out out/table7 --report-only`

Any further flag is one of `a3d train`: --preset, --data, --steps, --seed (the first one), --device, ...
"""

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from agents.runs.arguments import read_arguments
from agents.runs.config import TrainConfig
from agents.runs.settings import JobsConfig
from backbone.files import check_writable, folder_lock
from backbone.flags import read_flags
from backbone.progress import print_result
from scripts.ablate.tables import COST, FULL, TABLES

if TYPE_CHECKING:
    from agents.runs.jobs import Failure
    from scripts.ablate.plan import Plan


@dataclass(frozen=True)
class AblateConfig:
    """Settings of an ablation."""

    table: Literal["7", "8", "9", "10", "fig5", "fig6", "fig7", "ladder", "levers", "all"] = "7"
    """Name of the paper's table or figure."""
    seeds: int = 5
    """Number of runs of each row, each with a seed of its own."""
    out: Path | None = None
    """Folder of the runs and reports; by default runs/<table>. Tables in one folder share the runs that they have
    in common."""
    rows: str = ""
    """Rows to run, by name, as in full,random, of all tables that have any of them; unknown names are answered
    with the known ones."""
    recipe: str | None = None
    """Recipe that the settings start from, as in a3d train; levers takes strong."""
    test_data: str = "synthetic@seed=2000,passers_by=3"
    """Other data that Table X tests on: NAME[:DIRECTORY], and settings of it if they differ from the training
    data's, as in synthetic@seed=2000,passers_by=3 (a busier street); run s adds s to a seed."""
    keep: bool = False
    """Keep all checkpoints; otherwise only those of the full method."""
    report_only: bool = False
    """Run nothing; report what is finished."""
    runs: Annotated[JobsConfig, tyro.conf.arg(name="")] = field(default_factory=JobsConfig)
    """Number of runs at a time, and the machines that they use."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"seeds must be 1 or more, got {self.seeds}")

    @property
    def folder(self) -> Path:
        """Folder of the runs and reports."""
        names = {"all": "ablations", "9": COST} | {name: table.name for name, table in TABLES.items()}
        return self.out or Path("runs") / names[self.table]

    @property
    def names(self) -> list[str]:
        """The rows asked for; none: all."""
        return [name.strip() for name in self.rows.split(",") if name.strip()]


def base_settings(recipe: str | None, flags: list[str]) -> TrainConfig:
    """Return the settings that a table's rows change.

    Raises:
        ValueError: a flag that makes no sense here, unknown preset or recipe.
    """
    if "--resume" in flags:
        raise ValueError("--resume is not needed: the same command goes on where it was interrupted")
    if recipe is not None:
        flags = [*flags, "--recipe", recipe]
    return read_arguments(flags)[0]


def make_plans(arguments: AblateConfig, flags: list[str]) -> list["Plan"]:
    """Plan the tables that are asked for.

    Raises:
        ValueError: settings that can't be used.
    """
    from scripts.ablate.plan import make_plan  # --help need not wait for torch

    if arguments.table == "levers" and arguments.recipe not in (None, "strong"):
        raise ValueError(f"levers are those of the recipe strong, got --recipe {arguments.recipe}")
    asked = [table for name, table in TABLES.items() if arguments.table in (name, "all")]
    recipes = dict.fromkeys(table.recipe or arguments.recipe for table in asked)
    settings = {recipe: base_settings(recipe, flags) for recipe in recipes}
    tables = [(table, settings[table.recipe or arguments.recipe]) for table in asked]
    rows = {table.name: [row.name for row in table.rows(config)] for table, config in tables}
    known = dict.fromkeys(name for names in rows.values() for name in names)
    if unknown := [name for name in arguments.names if name not in known]:
        raise ValueError(
            f"--table {arguments.table} has no row {', '.join(map(repr, unknown))}; "
            f"known: {', '.join(known) or 'none'}"
        )
    plans = []
    for table, config in tables:
        names = [name for name in arguments.names if name in rows[table.name]]
        if arguments.names and not names:  # of all tables, one without any of these rows
            continue
        recipe = config.recipe
        # Beside tables of another recipe, the base of this one goes into a folder of its own.
        shares_base = arguments.table != "all" or recipe == settings[arguments.recipe].recipe
        plans.append(
            make_plan(
                table,
                config,
                arguments.folder,
                seeds=arguments.seeds,
                base=FULL.name if shares_base else str(recipe),
                names=names,
                test_data=arguments.test_data,
                keep=arguments.keep,
                report_only=arguments.report_only,
            )
        )
    return plans


def ablate(arguments: AblateConfig, flags: list[str]) -> list["Failure"]:
    """Run what is missing and write the reports.

    Returns:
        The runs that failed.

    Raises:
        ValueError: settings that can't be used, or a folder with runs of other settings.
    """
    from agents.runs.jobs import run_jobs
    from scripts.ablate.cost import TITLE, report_cost
    from scripts.ablate.plan import merge_tasks
    from scripts.ablate.report import make_report, write_report
    from scripts.ablate.text import main_table

    check_writable(arguments.folder, is_folder=True)
    plans = make_plans(arguments, flags)
    failures: list[Failure] = []
    with nullcontext() if arguments.report_only else folder_lock(arguments.folder):
        if not arguments.report_only:
            failures = run_jobs(merge_tasks(plans), arguments.runs)
        for plan in plans:
            report = make_report(plan)
            path = write_report(report, arguments.folder)
            print_result(f"\n{report['title']}\n\n{main_table(report)}\n\nsee {path}")
        if arguments.table == "9" or (arguments.table == "all" and not arguments.names):
            config = base_settings(arguments.recipe, flags)
            if text := report_cost(config, arguments.folder, report_only=arguments.report_only):
                print_result(f"\n{TITLE}\n\n{text}\n\nsee {arguments.folder / COST}.md")
    return failures


def read(argv: list[str]) -> tuple[AblateConfig, list[str]]:
    """Read the flags; those that are not known here are flags of a3d train."""
    return read_flags(AblateConfig, argv, "ablate", __doc__, return_unknown_args=True)


def run(config: AblateConfig, flags: list[str]) -> int:
    """Run what is missing, report, and say which runs failed."""
    from agents.runs.jobs import tell

    return tell(ablate(config, flags), "ablate")
