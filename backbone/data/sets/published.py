"""Published data sets: the description of one's layout, counts and protocols, and the reader of all of them."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backbone.data.data_set import DataConfig, DataSet, ReidData
from backbone.data.sets.layout import find_root
from backbone.data.sets.listings import Listing
from backbone.data.tracklet import JUNK, Tracklet
from backbone.progress import log_line
from backbone.protocol import Protocol

Test = Callable[[Path], tuple[list[Tracklet], list[Tracklet]]]
"""Function of the data's folder that returns queries and gallery."""


@dataclass(frozen=True)
class Published:
    """The description of a data set whose parts are given.

    Attributes:
        name: name that selects the data set.
        layout: text of the layout, for errors.
        source: text that says where users get it, for errors.
        anchor: folder that tells the data's folder.
        inside: folders of the directory that may be the data's folder, the empty name for the directory itself.
        train: listing of the training tracklets.
        tests: queries and gallery by protocol, the usual one first.
        counts: published numbers, by what is counted: "<part> <what>" with the parts train, query, gallery, test
            (both) and all, and people, tracklets, frames, cameras and clothes.
        frame_folders: folders that hold frames.
        frame_name: pattern of a frame's name.
    """

    name: str
    layout: str
    source: str
    anchor: str
    inside: tuple[str, ...]
    train: Listing
    tests: Mapping[Protocol, Test]
    counts: Mapping[str, int]
    frame_folders: tuple[str, ...]
    frame_name: str

    def read(self, directory: Path | None, config: DataConfig, cache: Path | None = None) -> ReidData:
        """Read the data set.

        Raises:
            ValueError: unknown protocol, or files that are missing or, if `config.check_counts`, not as published.
        """
        assert directory is not None
        protocol = self._protocol(config.protocol)
        found = find_root(directory, self.anchor, inside=self.inside, layout=self.layout, source=self.source)
        root = found.parent
        parts = (self.train(root), *self.tests[protocol](root))
        train, query, gallery = (
            [dataclasses.replace(one, source=f"{self.name}/{one.name}") for one in part if len(one)]
            for part in parts
        )
        data = ReidData(self.name, train, query, gallery, protocol=protocol)
        self._check(data, root, config.check_counts)
        return data

    def data_set(self) -> DataSet:
        """Return the entry of the registry."""
        return DataSet(
            self.name,
            self.read,
            example=f"{self.name}:<directory>",
            options=("protocol", "check_counts") if len(self.tests) > 1 else ("check_counts",),
            frame_folders=self.frame_folders,
            frame_name=re.compile(self.frame_name),
        )

    def _protocol(self, name: str) -> Protocol:
        by_name = {protocol.name: protocol for protocol in self.tests}
        if name and name not in by_name:
            known = " or ".join(f"{self.name}:<directory>@protocol={one}" for one in by_name)
            raise ValueError(f"{self.name} has no protocol {name!r}; write {known}")
        return by_name[name] if name else next(iter(self.tests))

    def _check(self, data: ReidData, root: Path, is_error: bool) -> None:
        """Compare what was read with what was published.

        Raises:
            ValueError: there is a difference, and it is an error.
        """
        parts = {"train": data.train, "query": data.query, "gallery": data.gallery}
        parts |= {"test": [*data.query, *data.gallery], "all": data.tracklets}
        differences = []
        for what, wanted in {**self.counts, "people in both halves": 0}.items():
            part, _, kind = what.partition(" ")
            if kind == "in both halves":
                both = {one.person for one in parts["train"]} & {one.person for one in parts["test"]}
                got = len(both - {JUNK})
            else:
                got = _COUNTS[kind](parts[part])
            if got != wanted:
                differences.append(f"{got:,} {what}, expected {wanted:,}")
        text = f"{root} has {'; '.join(differences)} ({self.source})"
        if differences and is_error:
            as_it_is = f"{self.name}:<directory>@check_counts=false"
            raise ValueError(f"{text}. Is it whole? {as_it_is} reads it all the same")
        if differences:
            log_line(text)


_COUNTS: dict[str, Callable[[list[Tracklet]], int]] = {
    "people": lambda tracklets: len({one.person for one in tracklets} - {JUNK}),
    "tracklets": len,
    "frames": lambda tracklets: sum(map(len, tracklets)),
    "cameras": lambda tracklets: len({one.camera for one in tracklets}),
    "clothes": lambda tracklets: len({(one.person, one.clothes) for one in tracklets}),
}


def apart(query: Listing, gallery: Listing) -> Test:
    """Return the test of queries and a gallery that are listed apart."""
    return lambda root: (query(root), gallery(root))


def asked(listing: Listing, rows: Callable[[Path], np.ndarray], first: int) -> Test:
    """Return the test of a listing some of whose tracklets are the queries; all others are the gallery.

    Args:
        listing: listing of queries and gallery.
        rows: function that returns the numbers of the queries.
        first: number of the first tracklet.
    """

    def test(root: Path) -> tuple[list[Tracklet], list[Tracklet]]:
        tracklets, wanted = listing(root), (rows(root) - first).tolist()
        if len(set(wanted)) < len(wanted) or not set(wanted) <= set(range(len(tracklets))):
            raise ValueError(
                f"the list of queries of {root} has rows twice, or beyond the {len(tracklets)} tracklets"
            )
        others = sorted(set(range(len(tracklets))) - set(wanted))
        return [tracklets[row] for row in wanted], [tracklets[row] for row in others]

    return test


def swapped(test: Test) -> Test:
    """Return the test with the gallery's tracklets as queries, and the queries as the gallery."""
    return lambda root: test(root)[::-1]
