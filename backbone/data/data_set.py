"""Data sets: the description of one, its settings, and its tracklets to train on and to search."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from backbone.data.sets.planted_settings import PlantedConfig
from backbone.data.sets.synthetic_settings import SyntheticConfig
from backbone.data.tracklet import Tracklet
from backbone.protocol import OTHER_CAMERA, Protocol


@dataclass(frozen=True)
class DataConfig:
    """Tracklets to train and test on."""

    test_fraction: float = 0.5
    """Share of a folder's people who are kept for the test."""
    split_seed: int = 0
    """Seed that chooses which people of a folder are kept for the test, and which people held_out takes."""
    held_out: float = 0.0
    """Share of the training people who are not trained on, but tested on in the place of the test people: to
    choose settings without those, as a3d tune does; 0: none."""
    split: int = 0
    """Number of the published split of prid and ilids, 0 to 9."""
    swap_halves: bool = False
    """Train on the half of an ilids split that is the test half in the common reading."""
    protocol: str = ""
    """Name of the protocol of the search: other_camera, same_clothes or cloth_changing of ccvid and mevid,
    ground_to_aerial or aerial_to_ground of g2a and agvpreid; empty: the data set's usual one."""
    check_counts: bool = True
    """Refuse lsvid, g2a, agvpreid, mevid and ccvid where people, tracklets and the like are not as many as was
    published; false: say so, and go on."""
    bridge_gaps: int = 0
    """Longest gap, in frames, of a track of video:VIDEO,TRACKS that is filled with boxes."""
    planted: PlantedConfig = field(default_factory=PlantedConfig)
    """Settings of planted:DIRECTORY, real people who carry drawn things."""
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    """Settings of the built-in data."""


@dataclass(frozen=True)
class ReidData:
    """Tracklets to train on and, of other people, queries and a gallery to search.

    Attributes:
        name: display name of the data set.
        train: tracklets of the training identities.
        query: tracklets that are searched for in the gallery, one by one.
        gallery: tracklets that are searched; a query may be among them, as the same person by the same camera is
            left out.
        distractors: person ids in the gallery that stand for nobody, such as what a detector took for people.
        protocol: filter of the pairs of a query and a gallery tracklet that count.
    """

    name: str
    train: list[Tracklet]
    query: list[Tracklet]
    gallery: list[Tracklet]
    distractors: frozenset[int] = frozenset()
    protocol: Protocol = OTHER_CAMERA

    @property
    def train_people(self) -> list[int]:
        """The training identities' person ids, sorted: F_c's outputs in order."""
        return sorted({tracklet.person for tracklet in self.train})

    @property
    def tracklets(self) -> list[Tracklet]:
        """All tracklets, each once."""
        return list({id(one): one for one in [*self.train, *self.query, *self.gallery]}.values())

    @property
    def knows_truth(self) -> bool:
        """Tell whether the place of the identifying thing is known in all tracklets."""
        return all(one.truth_boxes is not None for one in self.tracklets)


Read = Callable[[Path | None, DataConfig, Path], ReidData]


@dataclass(frozen=True)
class DataSet:
    """The description of a data set: all that is known of it before it is read.

    Attributes:
        name: name that selects the data set.
        read: function that returns the tracklets, from the directory (None: none was named), the settings, and the
            folder for drawn data.
        example: example of the text that names the data set.
        needs_directory: whether a directory has to be named.
        is_drawn: whether its people are drawn by a seed, others for another seed.
        options: names of the settings in `DataConfig` or `SyntheticConfig` that change it.
        undivided: function that returns all tracklets of a directory without a division into train, query and
            gallery, and None of one with it; None if there always is a division.
        num_splits: number of divisions of the people that its authors published; None: none.
        frame_folders: folders of the directory that hold its frames; empty: anywhere.
        frame_name: pattern of its frames' file names, whose groups `folder` and `above` are the name of the folder
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
            raise ValueError(f"the data needs a directory: write --data {self.example}")
        data = self.read(directory, config, cache)
        if not isinstance(data, ReidData):
            raise ValueError(f"{self.name} has to return backbone.data.ReidData, and returned {data!r:.200}")
        return data
