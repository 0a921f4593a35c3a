"""Progress, in lines and bars, on the standard error output."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from backbone.data.video import Progress


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Give a function that shows progress on standard error, a bar for each stage."""
    bars: dict[str, tqdm] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            for bar in bars.values():
                bar.close()
            bars[stage] = tqdm(desc=stage, total=total, unit=" frames")
        bars[stage].total = total
        bars[stage].update(done - bars[stage].n)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()


def say(text: str) -> None:
    """Print a line of progress to the standard error output."""
    print(text, file=sys.stderr, flush=True)
