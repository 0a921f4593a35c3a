"""What a data set is: its description, its settings, and its tracklets to train on and to search."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from backbone.data.sets.synthetic_settings import SyntheticConfig
from backbone.data.tracklet import Tracklet


@dataclass(frozen=True)
class DataConfig:
    """Which tracklets to train and test on."""

    test_fraction: float = 0.5
    """Share of a folder's people who are kept for the test."""
    split_seed: int = 0
    """Which people these are."""
    split: int = 0
    """Which of the ten published splits of prid and ilids, 0 to 9."""
    swap_halves: bool = False
    """Train on the half of an ilids split that is the test half in the common reading."""
    bridge_gaps: int = 0
    """Of video:VIDEO,TRACKS: boxes are put in where a track misses as many frames or fewer."""
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    """What the built-in data draws."""


@dataclass(frozen=True)
class ReidData:
    """Tracklets to train on and, of other people, queries and a gallery to search.

    Attributes:
        name: the data set's, for display.
        train: of the training identities.
        query: each is searched for in the gallery.
        gallery: what is searched; a query may be in it, as the same person by the same camera is left out.
        distractors: the person ids in the gallery that stand for nobody, as for what a detector took for people.
    """

    name: str
    train: list[Tracklet]
    query: list[Tracklet]
    gallery: list[Tracklet]
    distractors: frozenset[int] = frozenset()

    @property
    def train_people(self) -> list[int]:
        """The training identities' person ids, sorted: F_c's outputs in order."""
        return sorted({tracklet.person for tracklet in self.train})

    @property
    def knows_truth(self) -> bool:
        """Whether all tracklets know where the identifying thing is."""
        return all(one.truth_boxes is not None for one in [*self.train, *self.query, *self.gallery])


Read = Callable[[Path | None, DataConfig, Path], ReidData]


@dataclass(frozen=True)
class DataSet:
    """The description of a data set: all that is known of it before it is read.

    Attributes:
        name: the name by which it is asked for.
        read: returns the tracklets, from the directory (None: none was named), the settings, and the folder for
            drawn data.
        example: how to ask for it.
        needs_directory: whether a directory has to be named.
        is_drawn: whether its people are drawn by a seed, others for another seed.
        options: the settings in `DataConfig` or `SyntheticConfig` that change it.
        undivided: returns all tracklets of a directory without a division into train, query and gallery, and None
            of one with it; None where there always is a division.
        num_splits: how many divisions of the people its authors published; None: none.
        frame_folders: where in the directory its frames lie; empty: anywhere.
        frame_name: what its frames' files are called, the groups `folder` and `above` being the name of the folder
            that a frame lies in and of the one above; None: images of any name.
    """

    name: str
    read: Read
    example: str
    needs_directory: bool = True
    is_drawn: bool = False
    options: tuple[str, ...] = ()
    undivided: Callable[[Path], list[Tracklet] | None] | None = None
    num_splits: int | None = None
    frame_folders: tuple[str, ...] = ()
    frame_name: re.Pattern[str] | None = None

    def everybody(self, directory: Path | None) -> list[Tracklet] | None:
        """Return all tracklets, if there is a directory and it comes without a division; else None."""
        return self.undivided(directory) if self.undivided and directory else None

    def load(self, directory: Path | None, config: DataConfig, cache: Path) -> ReidData:
        """Read the data set.

        Raises:
            ValueError: no directory is named, data is missing or damaged, or what was read is no `ReidData`; the
                message says what and where.
        """
        if directory is None and self.needs_directory:
            raise ValueError(f"where is it? Write --data {self.example}")
        data = self.read(directory, config, cache)
        if not isinstance(data, ReidData):
            raise ValueError(f"{self.name} has to return backbone.data.ReidData, and returned {data!r:.200}")
        return data
