"""Output of the commands: results on standard output; progress and errors on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

Progress = Callable[[str, int, int], None]
"""Called with the stage ("counting frames", "cutting"), the frames done and the frames in all."""

# Characters by which a file's name could change what a terminal shows: the C0 and C1 control characters (but tab
# and newline) move the cursor, colour or hide text; the bidirectional marks reverse its direction.
CONTROLS = [*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
ESCAPED = {code: chr(code).encode("unicode_escape").decode() for code in CONTROLS}


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Yield a function that shows progress on standard error, with a bar for each stage."""
    bars: dict[str, tqdm] = {}

    def update(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            for bar in bars.values():
                bar.close()
            bars[stage] = tqdm(desc=stage, total=total, unit=" frames")
        bars[stage].total = total
        bars[stage].update(done - bars[stage].n)

    try:
        yield update
    finally:
        for bar in bars.values():
            bar.close()


def progress_bar(
    total: int, desc: str, unit: str, seconds: tuple[float, float] = (0.2, 15), **options: Any
) -> tqdm:
    """Return a progress bar on standard error; in a file, where each of its states is a line, it is drawn seldom.

    Args:
        total: number of steps.
        desc: text in front of the bar.
        unit: name of a step.
        seconds: fewest seconds between two states, on a terminal and in a file.
        options: further arguments of `tqdm`.
    """
    is_terminal = sys.stderr.isatty()
    options |= {"mininterval": seconds[not is_terminal], "dynamic_ncols": is_terminal}
    return tqdm(desc=desc, total=total, unit=unit, file=sys.stderr, **options)


def log_line(text: str) -> None:
    """Print progress or an error to the standard error output."""
    print(escape_controls(text), file=sys.stderr, flush=True)


def print_result(text: str) -> None:
    """Print a result to the standard output."""
    print(escape_controls(text), flush=True)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 query", "1,200 queries"."""
    plural = f"{noun}s".replace("persons", "people").replace("querys", "queries")
    return f"{number:,} {noun if number == 1 else plural}"


def escape_controls(text: str) -> str:
    r"""Return a text with its control characters escaped (such as `\x1b`), as names in files can't be trusted."""
    return text.translate(ESCAPED)
