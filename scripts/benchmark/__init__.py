"""Measure what the fast paths gain, each against the plain way in the same run: `a3d benchmark`.

All of it, in a minute or two: `a3d benchmark`

A quick look, with the figures as JSON, too: `a3d benchmark --seconds 0.2 --json speed.json`

With the re-ranking of a gallery as large as that of MARS, a quarter of a minute more: `a3d benchmark --rerank`

With training and inference of ResNet50 on a GPU, three minutes more: `a3d benchmark --device cuda`
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backbone.files import check_writable, write_json
from backbone.flags import Device
from backbone.progress import print_result


@dataclass(frozen=True)
class BenchmarkConfig:
    """Settings of the measurements."""

    seconds: float = 2.0
    """Seconds to measure each of the two ways of each comparison."""
    device: Device = "auto"
    rerank: bool = False
    """Measure k-reciprocal re-ranking at MARS's size, too."""
    training: bool = False
    """Measure joint training of ResNet50 at 256 x 128, and inference, where there is no GPU, too: an hour."""
    json: Path | None = None
    """Write the figures to this file as JSON, too."""


def run(config: BenchmarkConfig) -> None:
    """Measure, and print each figure as it is measured."""
    from agents.runs.build import pick_device  # --help need not wait for torch
    from scripts.benchmark.comparisons import COMPARISONS, RANKED
    from scripts.benchmark.scoring_cost import MARS_SIZE, Size, Work, scoring_cost
    from scripts.benchmark.training import SIZES, as_json, measure_training

    if config.json is not None:
        check_writable(config.json)
    device = pick_device(config.device)
    print_result(f"{'ms, plain':>10} {'ms, fast':>10} {'ratio':>7}")
    rows = []
    for compare in COMPARISONS:
        row = compare(config.seconds, device)
        rows.append(row)
        print_result(
            f"{1e3 * row.plain_seconds:>10.1f} {1e3 * row.fast_seconds:>10.1f} {row.ratio:>6.1f}x  {row.what}"
        )
    print_result("")
    costs = []
    works: list[tuple[Work, Size]] = [("ranking", RANKED), ("scoring", MARS_SIZE), ("re-ranking", MARS_SIZE)]
    for work, size in works if config.rerank else works[:2]:
        costs.append(scoring_cost(work, size))
        print_result(str(costs[-1]))
    trained = None
    if device.type == "cuda" or config.training:
        print_result("")
        trained = measure_training(SIZES["full"], device)
    if config.json is not None:
        comparisons = [{**asdict(row), "ratio": row.ratio} for row in rows]
        figures: dict[str, Any] = {"comparisons": comparisons, "scoring": [asdict(cost) for cost in costs]}
        if trained is not None:
            figures["training"] = as_json(trained)
        write_json(config.json, figures)
