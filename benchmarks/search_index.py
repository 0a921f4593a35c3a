"""Measure the index of a large gallery on generated descriptors: memory, CPU time, recall.

python benchmarks/search_index.py FOLDER [ROWS]

FOLDER gets the index, 6.3 KB for each of ROWS descriptors (1,000,000 by default) of 3,072 numbers, and is removed
afterwards. Two processes, so that the peak of memory is each one's own: one builds, one searches.

The descriptors are of people with 4 tracklets each: 512 directions, whose variance falls as 1 / rank, carry people
(1) and tracklets (0.36); noise in all directions has the size of a thirtieth of the variance of both.
"""

import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from backbone.embeddings import Embeddings, Origin
from backbone.gallery_index import add_to_index, build_index, open_index
from backbone.progress import print_result
from backbone.search import scan

SIZE, DIRECTIONS, PER_PERSON, AT_ONCE, QUERIES = 3072, 512, 4, 50_000, 100
ORIGIN = Origin("generated", "all", {}, "generated", "none", (1, 1, 1), (1, 1, 1), (1, 1, 1))


def generate(start: int, rows: int) -> np.ndarray:
    """Return descriptors of numbers `start` to `start + rows`, float32 (rows, 3072)."""
    basis = np.random.default_rng(0).normal(size=(DIRECTIONS, SIZE)) / SIZE**0.5
    basis = (basis * np.arange(1, DIRECTIONS + 1)[:, None] ** -0.5).astype(np.float32)
    generator = np.random.default_rng([1, start])
    people = np.repeat(generator.standard_normal((-(-rows // PER_PERSON), DIRECTIONS), np.float32), PER_PERSON, 0)
    parts = people[:rows] + np.float32(0.6) * generator.standard_normal((rows, DIRECTIONS), np.float32)
    found = parts @ basis
    level = np.float32((1.36 / 30 * (basis**2).sum() / SIZE) ** 0.5)
    for first in range(0, rows, 4096):
        part = found[first : first + 4096]
        part += level * generator.standard_normal(part.shape, np.float32)
    return found


def embeddings(start: int, rows: int) -> Embeddings:
    """Return generated descriptors with ids."""
    numbers = np.arange(start, start + rows)
    names = [f"person {number}" for number in (numbers // PER_PERSON).tolist()]
    sources = [f"generated/{number:09d}" for number in numbers.tolist()]
    zeros = np.zeros(rows, np.int64)
    parts = generate(start, rows), numbers // PER_PERSON, numbers % PER_PERSON, names, sources, sources
    return Embeddings(*parts, np.zeros((rows, 4), np.int64), zeros, ORIGIN)


def report(what: str, seconds: float) -> None:
    """Print CPU seconds, and the peak of this process's memory until now."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print_result(f"{what}: {seconds:.2f} CPU s; peak {peak:.2f} GiB")


def build(folder: Path, rows: int) -> None:
    """Build the index, 50,000 descriptors at a time."""
    cpu = 0.0
    for start in range(0, rows, AT_ONCE):
        part = embeddings(start, min(AT_ONCE, rows - start))
        begun = time.process_time()
        is_last = start + AT_ONCE >= rows
        index = add_to_index(folder, part, is_last=is_last) if start else build_index(folder, part)
        cpu += time.process_time() - begun
    contents = index.contents
    report(f"{len(index.gallery):,} tracklets indexed, {contents.candidates} candidates", cpu)


def search(folder: Path, rows: int) -> None:
    """Search for 100 queries, of people in the gallery; compare with an exact search of the kept descriptors."""
    started = time.process_time()
    index = open_index(folder)
    report("opened", time.process_time() - started)
    numbers = np.linspace(0, rows - 1, QUERIES).astype(np.int64)
    generator = np.random.default_rng(2)
    query = np.empty((QUERIES, SIZE), np.float32)
    noise = 0.6 * generator.standard_normal((QUERIES, DIRECTIONS)) / 2**0.5
    basis = np.random.default_rng(0).normal(size=(DIRECTIONS, SIZE)) / SIZE**0.5
    basis *= np.arange(1, DIRECTIONS + 1)[:, None] ** -0.5
    kept = index._halves_of(numbers).astype(np.float32)
    query[:] = kept * index.coder.scale + index.coder.mean + noise @ basis  # other tracklets of those people
    for what in ("first search for 100", "second search for 100"):
        started = time.process_time()
        found = index.nearest(query, 10)
        report(what, time.process_time() - started)
    started = time.process_time()
    index.nearest(query[:1], 10)
    report("search for one", time.process_time() - started)
    asked = ((query - index.coder.mean) / index.coder.scale).astype(np.float32)
    exact = scan(asked, index.blocks(), 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.rows.tolist(), exact.tolist(), strict=True)])
    print_result(
        f"recall@10 {recall:.4f}; the nearest is that of an exact search for {(found.rows == exact)[:, 0].sum()}"
    )


def main() -> None:
    """Build and search in processes of their own, and remove the index."""
    folder, rows = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    if len(sys.argv) > 3:
        {"build": build, "search": search}[sys.argv[3]](folder / "large.index", rows)
        return
    try:
        for what in ("build", "search"):
            subprocess.run([sys.executable, __file__, str(folder), str(rows), what], check=True)
        size = sum(path.stat().st_size for path in (folder / "large.index").iterdir())
        print_result(f"{size / 2**30:.2f} GiB on the disk")
    finally:
        shutil.rmtree(folder / "large.index", ignore_errors=True)


if __name__ == "__main__":
    main()
