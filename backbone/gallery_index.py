"""A gallery's index on the disk: built once, added to, and searched with little memory.

Short codes of all descriptors are searched whole (`backbone.short_codes`); the best candidates are then compared
by their descriptors, and no others are read. A folder NAME.index holds `index.json` (`Contents`), `codes.npz` (the
map to codes) and for each part that was added, by number: `0.npz` (ids, a file of `backbone.embeddings` without
descriptors), `0.codes.npy`, `0.halves.npy` (descriptors, centred and scaled, float16) and `0.sums.npy` (CRC-32 of
each descriptor).
"""

import dataclasses
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import dacite
import numpy as np

from backbone.data.array_file import read_array, read_verified, write_array, write_parts
from backbone.embeddings import Embeddings, join_embeddings, load_embeddings, save_embeddings
from backbone.files import folder_lock, temporary_folder
from backbone.json_file import read_object, write_object
from backbone.search import Allowed, Found, blocks_of, members_of_groups, scan
from backbone.short_codes import Coder

ENDING = ".index"
CONTENTS, CODES = "index.json", "codes.npz"
VERSION, METRIC = 1, "euclidean"
REMEDY = "build the index anew"
MOST_READ = 2**30  # bytes of descriptors that opening reads, to compare their digest
TRIED, WANTED, ASKED, FOUND = (200, 400, 800, 1600, 3200), 0.995, 100, 10


@dataclass(frozen=True)
class Contents:
    """Contents of an index.

    Attributes:
        version: version of the format.
        metric: distance that the order is of.
        model: digest of the networks that computed the descriptors.
        size: D, numbers of a descriptor.
        rows: number of tracklets of each part.
        candidates: number of candidates that are compared by their descriptors.
        recall: share of the 10 nearest that are found with so many candidates, of some of the gallery's own rows.
    """

    version: int
    metric: str
    model: str
    size: int
    rows: list[int]
    candidates: int
    recall: float


def build_index(folder: Path, embeddings: Embeddings) -> "GalleryIndex":
    """Write an index of descriptors to a new folder.

    Raises:
        ValueError: there are no descriptors, there is something at that path, or another command is writing there.
    """
    if not embeddings.descriptors.size:
        raise ValueError(f"an index is of a descriptor or more, got {embeddings.descriptors.shape}")
    with temporary_folder(folder) as partial:
        if folder.exists():
            raise ValueError(f"there is something at {folder} already: remove it, or name another index")
        coder = Coder.fit(embeddings.descriptors)
        coder.save(partial / CODES)
        rows = np.arange(len(embeddings))
        _write_part(partial, 0, embeddings.without_descriptors(), embeddings.descriptors, rows, coder)
        size, model = embeddings.descriptors.shape[1], embeddings.origin.model
        contents = Contents(VERSION, METRIC, model, size, [len(embeddings)], TRIED[0], 0.0)
        _write_contents(partial, contents)
        _measure(open_index(partial))
        partial.rename(folder)
    return open_index(folder)


def add_to_index(folder: Path, embeddings: Embeddings, *, is_last: bool = True) -> "GalleryIndex":
    """Add those tracklets to an index that it lacks, by the digests of their frames' files.

    Args:
        folder: the index's folder.
        embeddings: descriptors of the tracklets.
        is_last: False if more will be added, so that the recall is not measured anew, which reads all descriptors.

    Raises:
        ValueError: the index can't be read, holds descriptors of another model or tracklets of other data, or
            another command is writing there.
    """
    _contents_of(folder)  # before a lock is left in a folder that is no index
    with folder_lock(folder):
        index = open_index(folder)
        found, size = index.contents, embeddings.descriptors.shape[1]
        if (embeddings.origin.model, size) != (found.model, found.size):
            raise ValueError(
                f"{folder} is an index of {found.size:,} numbers by the model {found.model}, got {size:,} by "
                f"{embeddings.origin.model}, which can't be compared: build another index"
            )
        known = set(index.gallery.key)
        rows = np.array([row for row, key in enumerate(embeddings.key) if key not in known], dtype=np.int64)
        if not len(rows):
            return index
        ids = embeddings.without_descriptors().picked(rows)
        join_embeddings([index.gallery, ids])  # an error if they are of different data
        _write_part(folder, len(found.rows), ids, embeddings.descriptors, rows, index.coder)
        _write_contents(folder, dataclasses.replace(found, rows=[*found.rows, len(rows)]))
        if is_last:
            _measure(open_index(folder))
        return open_index(folder)


def open_index(folder: Path) -> "GalleryIndex":
    """Open an index; its descriptors are mapped into memory.

    Checksums are compared; of descriptors that take more than 1 GiB only when they are found.

    Raises:
        ValueError: a file is missing, damaged, truncated, or of another version; the message names it.
    """
    contents = _contents_of(folder)
    coder = Coder.load(folder / CODES)
    if len(coder.mean) != contents.size:
        raise ValueError(f"{folder / CODES} is of {len(coder.mean)} numbers, expected {contents.size}: {REMEDY}")
    bytes_of_codes = -(-len(coder.centres) // 2)
    is_small = 2 * contents.size * sum(contents.rows) <= MOST_READ
    ids, codes, halves, sums = [], [], [], []  # of each part
    for number, count in enumerate(contents.rows):
        path = folder / f"{number}.npz"
        ids.append(load_embeddings(path))
        if len(ids[-1]) != count or ids[-1].origin.model != contents.model:
            raise ValueError(f"{path} holds {len(ids[-1]):,} tracklets by {ids[-1].origin.model}: {REMEDY}")
        codes.append(_read(folder / f"{number}.codes.npy", np.uint8, (count, bytes_of_codes)))
        halves.append(_read(folder / f"{number}.halves.npy", np.float16, (count, contents.size), is_small))
        sums.append(_read(folder / f"{number}.sums.npy", np.uint32, (count,)))
    return GalleryIndex(
        folder, contents, coder, join_embeddings(ids), np.concatenate(codes), halves, np.concatenate(sums)
    )


@dataclass(frozen=True, eq=False)
class GalleryIndex:
    """An index that was opened.

    Attributes:
        folder: its folder.
        contents: what index.json says.
        coder: the map from descriptors to codes.
        gallery: ids of the G tracklets, without descriptors.
        codes: their codes, uint8 (G, bytes).
        halves: descriptors of each part, centred and scaled, float16 (N, D).
        sums: CRC-32 of each row of these, uint32 (G,).
    """

    folder: Path
    contents: Contents
    coder: Coder
    gallery: Embeddings
    codes: np.ndarray
    halves: list[np.ndarray]
    sums: np.ndarray

    def nearest(
        self, query: np.ndarray, count: int, *, allowed: Allowed | None = None, groups: np.ndarray | None = None
    ) -> Found:
        """Find the nearest rows; arguments and result as of `backbone.search.nearest`, a few rows may be missed.

        Distances are those of descriptors that were rounded to float16.

        Raises:
            ValueError: the sizes do not fit each other, or a descriptor in the index is damaged.
        """
        if query.ndim != 2 or query.shape[1] != self.contents.size or count < 1:
            raise ValueError(
                f"{self.folder} takes queries (Q, {self.contents.size}) and a count of 1 or more, got "
                f"{query.shape} and {count}"
            )
        count = min(count, len(self.codes))
        rows = np.full((len(query), count), -1, dtype=np.int64)
        distances = np.full(rows.shape, np.inf)
        asked = ((query - self.coder.mean) / self.coder.scale).astype(np.float32)
        most = max(self.contents.candidates, 10 * count)
        for numbers, candidates in self.candidates(query, most, allowed, groups):
            for number, some in zip(numbers, candidates, strict=True):
                some = np.sort(some[some >= 0])
                difference = self._halves_of(some).astype(np.float32)
                difference -= asked[number]
                squares = np.einsum("ij,ij->i", difference, difference)
                best = np.argsort(squares, kind="stable")[:count]
                self._check(some[best])
                rows[number, : len(best)] = some[best]
                distances[number, : len(best)] = self.coder.scale * np.sqrt(squares[best].astype(np.float64))
        return Found(rows, distances)

    def candidates(
        self, query: np.ndarray, most: int, allowed: Allowed | None = None, groups: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the queries of each group with the rows whose codes are nearest, int64 (Q, C), best first."""
        short = self.coder.project(query)
        for of_group, members in members_of_groups(len(query), len(self.codes), allowed, groups):
            is_whole = allowed is None or len(members) == len(self.codes)
            index = self._whole if is_whole else self.coder.index(self.codes[members])
            _, found = index.search(short[of_group], min(most, len(members)))
            yield of_group, np.where(found < 0, -1, members[found])

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all descriptors, centred and scaled, float32, a block at a time, not by the map of the files."""
        for number, part in enumerate(self.halves):
            for rows in blocks_of(*part.shape):
                start = part.offset + rows.start * part.strides[0]  # type: ignore[attr-defined]  # a memmap's
                count = (rows.stop - rows.start) * self.contents.size
                block = np.fromfile(self.folder / f"{number}.halves.npy", np.float16, count, offset=start)
                yield block.reshape(-1, self.contents.size).astype(np.float32)

    @cached_property
    def _whole(self):  # type: ignore[no-untyped-def]  # faiss has no types
        return self.coder.index(self.codes)

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *self.contents.rows])

    def _halves_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the descriptors of rows that are in order, as they are kept.

        They are read, not copied from the map, of which the system would keep gigabytes around them in memory.
        """
        found = np.empty((len(rows), self.contents.size), np.float16)
        part_of = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(part_of).tolist():
            path, part = self.folder / f"{number}.halves.npy", self.halves[number]
            places = np.flatnonzero(part_of == number)
            with path.open("rb", buffering=0) as file:
                for place, row in zip(
                    places.tolist(), (rows[places] - self._starts[number]).tolist(), strict=True
                ):
                    file.seek(part.offset + row * part.strides[0])
                    if file.readinto(found[place].data) != part.strides[0]:
                        raise ValueError(f"{path} is truncated, before row {row}: {REMEDY}")
        return found

    def _check(self, rows: np.ndarray) -> None:
        order = np.argsort(rows)
        for row, half in zip(rows[order], self._halves_of(rows[order]), strict=True):
            if zlib.crc32(half.data) != self.sums[row]:
                part = int(np.searchsorted(self._starts, row, side="right")) - 1
                raise ValueError(f"{self.folder / f'{part}.halves.npy'} is damaged, at row {row}: {REMEDY}")


def _measure(index: GalleryIndex) -> None:
    """Write to an index how many candidates are needed to find the nearest of some of its own tracklets."""
    rows = np.unique(np.linspace(0, len(index.codes) - 1, ASKED).astype(np.int64))
    asked = index._halves_of(rows).astype(np.float32)
    known = scan(asked, index.blocks(), min(FOUND + 1, len(index.codes)))
    # back to where queries are
    ((_, found),) = index.candidates(asked * index.coder.scale + index.coder.mean, TRIED[-1])
    recall = 1.0
    for candidates in TRIED:
        shares = [
            np.isin(near[near != row][:FOUND], some[:candidates]).mean() if len(near) > 1 else 1.0
            for row, near, some in zip(rows, known, found, strict=True)
        ]
        if (recall := float(np.mean(shares))) >= WANTED:
            break
    contents = dataclasses.replace(index.contents, candidates=candidates, recall=recall)
    _write_contents(index.folder, contents)


def _contents_of(folder: Path) -> Contents:
    if not (folder / CONTENTS).is_file():
        wrong = (
            "the folder is none: remove it, or name another"
            if folder.exists()
            else "make one with a3d search --build"
        )
        raise ValueError(f"there is no index at {folder}: {wrong}")
    contents = dacite.from_dict(Contents, read_object(folder / CONTENTS, Contents, REMEDY))
    if (contents.version, contents.metric) != (VERSION, METRIC):
        raise ValueError(
            f"{folder / CONTENTS} is of version {contents.version} and metric {contents.metric}, this program "
            f"reads {VERSION} and {METRIC}: {REMEDY}"
        )
    if not contents.rows or min(contents.rows) < 1:
        raise ValueError(f"{folder / CONTENTS} says that its parts hold {contents.rows} tracklets: {REMEDY}")
    return contents


def _write_contents(folder: Path, contents: Contents) -> None:
    write_object(folder / CONTENTS, dataclasses.asdict(contents), indent=2)


def _write_part(
    folder: Path, number: int, ids: Embeddings, descriptors: np.ndarray, rows: np.ndarray, coder: Coder
) -> None:
    """Write rows of descriptors, which may be more than fit the memory, with the ids of these rows."""
    codes: list[np.ndarray] = []
    sums: list[int] = []

    def halves() -> Iterator[np.ndarray]:
        for part in blocks_of(*shape):
            block = descriptors[rows[part]]
            half = coder.halves(block)
            codes.append(coder.codes(block))
            sums.extend(zlib.crc32(row.data) for row in half)
            yield half

    shape = (len(rows), descriptors.shape[1])
    write_parts(folder / f"{number}.halves.npy", np.dtype(np.float16), shape, halves())
    write_array(folder / f"{number}.codes.npy", np.concatenate(codes))
    write_array(folder / f"{number}.sums.npy", np.array(sums, dtype=np.uint32))
    save_embeddings(folder / f"{number}.npz", ids)


def _read(path: Path, dtype: type[np.generic], shape: tuple[int, ...], is_checked: bool = True) -> np.ndarray:
    array = read_verified(path) if is_checked else read_array(path)
    if array is None:
        raise ValueError(f"{path} is missing, truncated or damaged: {REMEDY}")
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{path} holds {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}: {REMEDY}")
    return array
