"""The probe of one run or of several, and its files."""

import dataclasses
from dataclasses import dataclass

from agents.runs.model import Run
from agents.statistics import Interval
from backbone.files import check_writable, write_json
from backbone.progress import counted, log_line
from scripts.probe import JSON, PICTURE, PLACES, ProbeConfig
from scripts.probe.measures import Measured, measure
from scripts.probe.places import draw_places, mean_places
from scripts.probe.report import Cells, agreement_over_runs, draw, over_runs, summarise, verdict


@dataclass(frozen=True)
class Probed:
    """Results of a probe, of one run or of several.

    Attributes:
        table: rows and columns.
        header: line that says what was measured on which people.
        notes: lines that say which values are missing, and why.
        agreement: correlation of the reward with what retrieval gains, by half of the data.
    """

    table: Cells
    header: list[str]
    notes: list[str]
    agreement: dict[str, Interval | None]


def probe(config: ProbeConfig) -> Probed:
    """Measure all rows, and write the numbers and the figure.

    Raises:
        ValueError: the errors of `load_run` and `measure`.
    """
    check_writable(config.folder, is_folder=True)
    tables, agreements, maps, lines, notes, kinds = [], [], [], [], [], []
    for number, checkpoint in enumerate(config.checkpoint, 1):
        if len(config.checkpoint) > 1:
            log_line(f"run {number} of {len(config.checkpoint)}: {checkpoint}")
        run = config.runtime.load_run(checkpoint, config.data)
        kinds.append((run.config.agent, run.config.attention.reward, run.data.name))
        if kinds[-1] != kinds[0]:
            raise ValueError(
                f"{checkpoint} is a run of {', '.join(kinds[-1])}, {config.checkpoint[0]} of "
                f"{', '.join(kinds[0])}: probe them apart"
            )
        measured = measure(
            run, max_clips=config.max_clips, clips_per_batch=config.clips_per_batch, seed=config.seed
        )
        if text := run.cache.describe_replaced():
            log_line(text)
        tables.append(summarise(measured.values, measured.person))
        agreements.append(measured.agreement)
        maps.append(measured.places)
        lines += [line for line in header(run, measured) if line not in lines]
        notes += [note for note in measured.notes if note not in notes]
    who = f"{run.config.agent} on {run.data.name}: means and 95% intervals over "
    who += "people" if len(tables) == 1 else f"{len(tables)} runs"
    table = tables[0] if len(tables) == 1 else over_runs(tables)
    agreement = agreements[0] if len(agreements) == 1 else agreement_over_runs(agreements)
    places = mean_places(maps)
    if not places:
        notes.append(f"{PLACES} is left out: the runs differ in the number of bins")
    probed = Probed(table, [who, *lines], notes, agreement)
    settings = {name: value for name, value in vars(config).items() if name != "runtime"} | vars(config.runtime)
    content = {
        "settings": {name: None if value is None else str(value) for name, value in settings.items()}
        | {"checkpoint": [str(path) for path in config.checkpoint], "data": run.data.name}
        | {"agent": run.config.agent, "reward": run.config.attention.reward},
        "header": probed.header,
        "notes": probed.notes,
        "verdict": verdict(table),
        "agreement": {half: None if one is None else one.to_json() for half, one in agreement.items()},
        "places": {name: one.round(6).tolist() for name, one in places.items()},
        "rows": {
            name: {column: None if cell is None else dataclasses.asdict(cell) for column, cell in row.items()}
            for name, row in table.items()
        },
    }
    write_json(config.folder / JSON, content)
    draw(config.folder / PICTURE, table, who)
    if places:
        draw_places(config.folder / PLACES, places, run.grid)
    return probed


def header(run: Run, measured: Measured) -> list[str]:
    """Return a line that says what was measured on which people of a run."""
    number = {column: (len(person), len(set(person.tolist()))) for column, person in measured.person.items()}
    lines = []
    if "reward" in number:
        clips, people = number["reward"]
        lines.append(
            f"reward ({run.config.attention.reward}), log_prob: {counted(clips, 'clip')} of the "
            f"{counted(people, 'person')} that F_c was fitted on, without augmentation"
        )
    (queries, _), (clips, people) = number["R1"], number["hit_rate"]
    lines.append(
        f"R1, mAP and the columns after: {counted(queries, 'query')} in "
        f"{counted(len(run.data.gallery), 'gallery tracklet')}, {counted(clips, 'clip')} of "
        f"{counted(people, 'person')} that F_c does not know"
    )
    return lines
