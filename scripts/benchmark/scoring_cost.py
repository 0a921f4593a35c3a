"""Cost of scoring at the size of MARS: time and memory, and the plain way that its speed is compared with."""

import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from agents.runs.children import end_with_parent, run_module
from backbone.metrics import RetrievalScores, Search, compared, evaluate_retrieval, score_ranking
from backbone.progress import print_result

Work = Literal["scoring", "ranking", "re-ranking"]

NUM_PEOPLE, NUM_CAMERAS = 634, 6
KNOWN_SHARE = 0.7  # of the gallery; the rest are distractors
FILLED = 1024  # rows at a time, so that making descriptors takes no more memory than they do


@dataclass(frozen=True)
class Size:
    """Numbers of the descriptors that are compared.

    Attributes:
        num_queries: number of queries.
        num_gallery: number of descriptors in the gallery.
        num_numbers: number of features of a descriptor.
    """

    num_queries: int
    num_gallery: int
    num_numbers: int

    def __str__(self) -> str:
        """Return the size as it is printed."""
        return f"{self.num_queries:,} x {self.num_gallery:,} of {self.num_numbers:,} numbers"


MARS_SIZE = Size(1980, 11_310, 3072)
"""Queries and gallery without junk; [f_g, h_1..h_4] of ResNet50."""


def draw_case(size: Size, seed: int = 0) -> Search:
    """Return random descriptors around their people's centres, and in the gallery distractors, person 0."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    num_known = int(KNOWN_SHARE * size.num_gallery)
    people = np.arange(size.num_queries) % NUM_PEOPLE + 1
    other_people = np.where(
        np.arange(size.num_gallery) < num_known, np.arange(size.num_gallery) % NUM_PEOPLE + 1, 0
    )
    cameras, other_cameras = (rng.integers(1, NUM_CAMERAS + 1, len(one)) for one in (people, other_people))
    centres = torch.randn(NUM_PEOPLE + 1, size.num_numbers, generator=generator)

    def describe(of: np.ndarray) -> Tensor:
        descriptors = torch.empty(len(of), size.num_numbers)
        for start in range(0, len(of), FILLED):
            part = descriptors[start : start + FILLED]
            part.normal_(generator=generator)
            part += centres[torch.from_numpy(of[start : start + FILLED])]
        return descriptors

    return Search(describe(people), describe(other_people), people, other_people, cameras, other_cameras)


def score_plainly(case: Search) -> tuple[float, float]:
    """Score a query at a time by sorting the whole gallery, the precision at every rank by a loop in Python.

    That is how the best-known code for re-identification does it where it isn't compiled.

    Returns:
        R1 and mAP in percent.
    """
    query, gallery = (torch.as_tensor(one).double() for one in (case.query, case.gallery))
    # of each query to all others, less its own square, which changes no order
    distances = torch.addmm((gallery * gallery).sum(1), query, gallery.T, alpha=-2).numpy()
    found_first, precisions = [], []
    for row, person, camera in zip(distances, case.query_people, case.query_cameras, strict=True):
        order = np.argsort(row)
        is_same = case.gallery_people[order] == person
        hits = is_same[~(is_same & (case.gallery_cameras[order] == camera))]
        if not hits.any():
            continue
        found_first.append(hits[0])
        precision = [hits_so_far / rank for rank, hits_so_far in enumerate(hits.cumsum(), start=1)]
        precisions.append((np.asarray(precision) * hits).sum() / hits.sum())
    return 100 * float(np.mean(found_first)), 100 * float(np.mean(precisions))


@dataclass(frozen=True)
class ScoringCost:
    """Time and memory of one scoring.

    Attributes:
        what: name of the scoring, as it is printed.
        seconds: seconds that passed.
        cpu_seconds: seconds of all threads.
        peak_bytes: most bytes of memory at a time, above what Python and the arguments took before.
    """

    what: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int

    def __str__(self) -> str:
        """Return time and memory as they are printed."""
        return (
            f"{self.what}: {self.seconds:.2f} s, {self.cpu_seconds:.2f} CPU s, "
            f"{self.peak_bytes / 2**20:,.0f} MiB above what was given"
        )


def scoring_cost(work: Work = "scoring", size: Size = MARS_SIZE) -> ScoringCost:
    """Score in a process of its own, with as many threads as this one has.

    Args:
        work: `scoring`, from descriptors to scores; `ranking`, from distances that are given to scores; or
            `re-ranking`, from descriptors by way of k-reciprocal neighbours.
        size: numbers of the descriptors.

    Raises:
        subprocess.CalledProcessError: the process failed; its standard error output was shown.
    """
    task = json.dumps({"work": work, "size": asdict(size), "threads": torch.get_num_threads()})
    done = run_module("scripts.benchmark.scoring_cost", task)
    done.check_returncode()
    return ScoringCost(**json.loads(done.stdout))


def _score_here(work: Work, size: Size) -> ScoringCost:
    _prepare(work, draw_case(Size(20, 100, 4)))()  # the first time pays for libraries
    score = _prepare(work, draw_case(size))
    before, started, cpu_started = _peak_bytes(), time.perf_counter(), time.process_time()
    score()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    done = {"scoring": "scoring {}", "ranking": "ranking {}, distances given", "re-ranking": "re-ranking {}"}
    return ScoringCost(done[work].format(size), seconds, cpu_seconds, _peak_bytes() - before)


def _prepare(work: Work, case: Search) -> Callable[[], RetrievalScores]:
    if work == "ranking":
        chunks = list(compared(case))
        return lambda: score_ranking(chunks)
    return lambda: evaluate_retrieval(case, rerank=work == "re-ranking")


def _peak_bytes() -> int:
    """Return the most memory that this process had so far.

    On Linux `ru_maxrss` of a new process begins at what its parent had, and would hide what it takes itself.
    """
    status = Path("/proc/self/status")
    if status.exists() and (
        found := re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(encoding="utf-8"), re.MULTILINE)
    ):
        return 1024 * int(found[1])
    import resource  # not on every system

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Do the task of the first argument, JSON, and print what it cost as JSON."""
    end_with_parent()
    task = json.loads(sys.argv[1])
    torch.set_num_threads(task["threads"])
    print_result(json.dumps(asdict(_score_here(task["work"], Size(**task["size"])))))


if __name__ == "__main__":
    main()
