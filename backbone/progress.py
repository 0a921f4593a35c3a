"""What commands print: results, and progress and errors in lines and bars."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

Progress = Callable[[str, int, int], None]
"""Called with the stage ("counting frames", "cutting"), the frames done and the frames in all."""

# The C0 and C1 controls but tab and newline, with which a name could move the cursor or colour, hide and replace
# what a terminal shows; and the marks that turn the direction of text around.
CONTROLS = [*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
ESCAPED = {code: chr(code).encode("unicode_escape").decode() for code in CONTROLS}


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
    """Print progress or an error to the standard error output."""
    print(visible(text), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print a result to the standard output."""
    print(visible(text), flush=True)


def visible(text: str) -> str:
    r"""Return a text whose control characters are shown as `\x1b`: names in files are anybody's."""
    return text.translate(ESCAPED)
