"""Data sets by name: train, query and gallery tracklets."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from backbone.data.sets.folder import read_folder, split_people
from backbone.data.sets.ilids import read_ilids
from backbone.data.sets.layout import Halves
from backbone.data.sets.mars import read_mars
from backbone.data.sets.prid import read_prid
from backbone.data.sets.synthetic import SyntheticConfig, read_synthetic
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
        name: for people.
        train: of the training identities.
        query: each is searched for in the gallery.
        gallery: what is searched; a query may be in it, as the same person by the same camera is left out.
    """

    name: str
    train: list[Tracklet]
    query: list[Tracklet]
    gallery: list[Tracklet]

    @property
    def train_people(self) -> list[int]:
        """The training identities' person ids, sorted: F_c's outputs in order."""
        return sorted({tracklet.person for tracklet in self.train})

    @property
    def knows_truth(self) -> bool:
        """Whether all tracklets know where the identifying thing is."""
        return all(one.truth_boxes is not None for one in [*self.train, *self.query, *self.gallery])


def _synthetic(directory: Path | None, config: DataConfig, cache: Path) -> ReidData:
    train, test = read_synthetic(config.synthetic, directory or cache)
    query = [tracklet for tracklet in test if tracklet.camera == 0]
    gallery = [tracklet for tracklet in test if tracklet.camera == 1]
    return ReidData("synthetic", train, query, gallery)


def _folder(directory: Path | None, config: DataConfig, cache: Path) -> ReidData:
    if directory is None:
        raise ValueError("which folder? Write --data folder:<directory>")
    train, test = split_people(read_folder(directory), test_fraction=config.test_fraction, seed=config.split_seed)
    # The first tracklet of each person in each camera asks, if another camera has an answer.
    cameras: dict[int, set[int]] = {}
    for tracklet in test:
        cameras.setdefault(tracklet.person, set()).add(tracklet.camera)
    first = {(tracklet.person, tracklet.camera): tracklet for tracklet in reversed(test)}
    query = [tracklet for (person, _), tracklet in sorted(first.items()) if len(cameras[person]) > 1]
    return ReidData(f"folder:{directory}", train, query, test)


def _published(name: str, read: Callable[[Path, DataConfig], Halves]) -> Callable[..., ReidData]:
    def load(directory: Path | None, config: DataConfig, cache: Path) -> ReidData:
        if directory is None:
            raise ValueError(f"where is it? Write --data {name}:<directory>")
        halves = read(directory, config)
        return ReidData(name, halves.train, halves.query, halves.gallery)

    return load


# Those whose authors published ten divisions of the people.
TEN_SPLITS = ("prid", "ilids")

DATASETS: dict[str, Callable[[Path | None, DataConfig, Path], ReidData]] = {
    "synthetic": _synthetic,
    "folder": _folder,
    "prid": _published("prid", lambda directory, config: read_prid(directory, config.split)),
    "ilids": _published(
        "ilids", lambda directory, config: read_ilids(directory, config.split, swap_halves=config.swap_halves)
    ),
    "mars": _published("mars", lambda directory, config: read_mars(directory)),
}


def load_data(spec: str, config: DataConfig, cache: Path) -> ReidData:
    """Read the data set that `NAME[:DIRECTORY]` names.

    Args:
        spec: a name of `DATASETS`, with a directory where the data set needs one.
        config: its settings.
        cache: where drawn data is kept.

    Raises:
        ValueError: unknown name, or data that is missing or damaged (the message says what and where).
    """
    name, _, directory = spec.partition(":")
    if name not in DATASETS:
        raise ValueError(f"unknown data {name!r}; known: {', '.join(DATASETS)} (write NAME or NAME:DIRECTORY)")
    return DATASETS[name](Path(directory).expanduser() if directory else None, config, cache)
