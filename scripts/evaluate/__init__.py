"""Score trained models on a data set: `a3d evaluate`.

Every tracklet is cut into consecutive clips, each described by [f_g, h_1..h_T] at the bins that the agent chooses.
The clips' average is compared by Euclidean distance (section III-D), or by the run's learned metric
(--descriptor.compared of a3d train).

On the data of its training, beside random and centre bins: `a3d evaluate --checkpoint runs/benchmark --controls`

The distance below which two tracklets are taken for one person:
`a3d evaluate --checkpoint runs/benchmark --false-accept-rates 0.01 0.001`

On other data: `a3d evaluate --checkpoint runs/benchmark --data folder:my_tracklets --json scores.json`

By another protocol than the data's usual one (docs/public_data.md): in other clothes alone
`a3d evaluate --checkpoint runs/ccvid --data ccvid:/data/CCVID@protocol=cloth_changing`

On everybody in a folder, not only its test half: add `--part all`

On all ten splits, each trained on first (the same command goes on where it was stopped):
`a3d evaluate --splits all --train prid:/data/prid --preset prid --out runs/prid`

Trained on one data set, tested on another (Table X):
`a3d evaluate --splits all --train ilids:/data/ilids --test prid:/data/prid --preset ilids --out runs/ilids`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from agents.runs.settings import JobsConfig, ScoringConfig
from backbone.data import TestPart
from backbone.files import check_writable, write_json
from backbone.flags import read_flags
from backbone.progress import log_line, print_result
from scripts.options import Checkpoint, Data, Runtime, RuntimeOptions

if TYPE_CHECKING:
    from agents.runs.jobs import Failure
    from agents.runs.scoring import Scores


@dataclass(frozen=True)
class EvaluateConfig(ScoringConfig):
    """Models, data and settings of a scoring."""

    checkpoint: Checkpoint[Path | None] = None
    data: Data = None
    part: TestPart = "test"
    """People to search for: test, those of the test half; or all: everybody in a folder; of other data the
    training half, too. Scores of people who were trained on are not those of strangers; a line says how many they
    are."""
    splits: str = ""
    """Splits of the data to train on and to score, in the place of a checkpoint: all, or some, as in 0,3,7. Of
    prid and ilids they are the ten published ones; people of other data are drawn or divided anew. Further flags
    are those of a3d train: --preset, --steps, --agent, ..."""
    train: str | None = None
    """Data to train on with --splits, NAME[:DIRECTORY]; by default the preset's."""
    test: str | None = None
    """Other data to test on with --splits, in the form of --data; split s adds s to a seed that is named."""
    out: Path | None = None
    """Folder of the runs and scores of --splits."""
    runs: Annotated[JobsConfig, tyro.conf.arg(name="")] = field(default_factory=JobsConfig)
    """Number of runs of --splits at a time, and the machines that they use."""
    json: Path | None = None
    """Write the scores to this file as JSON, too."""
    runtime: Runtime = field(default_factory=RuntimeOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.checkpoint is None and not self.splits:
            raise ValueError("nothing to score: give --checkpoint, or --splits to train on first")
        if self.checkpoint is not None and self.splits:
            raise ValueError("--checkpoint names a trained model, --splits trains models: give one of the two")
        if self.splits and self.out is None:
            raise ValueError("--splits needs a folder for its runs: --out")
        if self.splits and self.data is not None:
            raise ValueError(
                "--data goes with --checkpoint: with --splits give --train and, for other test data, --test"
            )
        if self.splits and self.part != "test":
            raise ValueError("--part all goes with --checkpoint: splits are scored on their test halves")
        only_splits = ("train", "test", "out")
        if not self.splits and (given := [name for name in only_splits if getattr(self, name) is not None]):
            raise ValueError(f"--{given[0]} goes with --splits; other data for a checkpoint is --data")


def threshold_lines(scores: Mapping[str, "Scores"], false_accept_rates: Sequence[float]) -> list[str]:
    """Return lines that say which thresholds were found."""
    lines = []
    for name, row in scores.items():
        lines.append(f"{name}: equal error rate {row['EER']:.1f}% at the distance {row['EER_distance']:.4g}")
        lines += [
            f"  below {row[f'FAR={rate}_distance']:.4g}: {row[f'FAR={rate}_reached']:.3g}% of pairs of two people "
            f"are accepted (at most {100 * rate:g}%), and {row[f'FAR={rate}_TAR']:.1f}% of pairs of one"
            for rate in false_accept_rates
        ]
    return lines


def score_checkpoint(arguments: EvaluateConfig) -> tuple[dict[str, "Scores"], str]:
    """Rebuild what a checkpoint holds and score it; return the scores, and the protocol of the search in a line.

    Raises:
        ValueError: the checkpoint or the data can't be used, or the data of the training is no longer what it was.
    """
    from agents.runs.scoring import score_model  # --help need not wait for torch

    assert arguments.checkpoint is not None
    run = arguments.runtime.load_run(arguments.checkpoint, arguments.data, arguments.part)
    return score_model(run, run.data, arguments)


def read(argv: list[str]) -> tuple[EvaluateConfig, list[str]]:
    """Read the flags; with --splits, those that are not known here are flags of a3d train."""
    config, flags = read_flags(EvaluateConfig, argv, "evaluate", __doc__, return_unknown_args=True)
    if flags and not config.splits:
        read_flags(EvaluateConfig, argv, "evaluate", __doc__)  # which says what is unknown, and ends
    if "--resume" in flags:
        raise ValueError("--resume is no flag of --splits: the same command goes on where it was stopped")
    return config, flags


def run(config: EvaluateConfig, flags: list[str]) -> int:
    """Score a checkpoint or, with --splits, train first; print the scores."""
    failures: list[Failure] = []
    if config.splits:
        from scripts.evaluate.splits import SplitRuns, evaluate_splits, splits_table

        assert config.out is not None
        check_writable(config.out, is_folder=True)
        runs = SplitRuns(config.splits, config.out, flags, config.train, config.test, config.runs, config.runtime)
        report, failures = evaluate_splits(runs, config)
        print_result(splits_table(report))
        for failure in failures:
            log_line(f"a3d evaluate: {failure}")
    else:
        from agents.runs.scoring import table

        scores, protocol = score_checkpoint(config)
        print_result(protocol)
        print_result(table(scores))
        if config.false_accept_rates:
            print_result("\n".join(threshold_lines(scores, config.false_accept_rates)))
        report = {**scores, "protocol": protocol}
    if config.json is not None:
        write_json(config.json, report)
    return 1 if failures else 0
