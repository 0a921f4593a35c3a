"""Division of people into those trained on, queries and gallery."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from backbone.data.data_set import DataConfig, ReidData
from backbone.data.tracklet import JUNK, Tracklet

PARTS = ("train", "query", "gallery")


def divide(name: str, tracklets: Sequence[Tracklet], config: DataConfig) -> ReidData:
    """Divide the people of tracklets that come without a division; the first of each camera ask."""
    train, test = split_people(tracklets, test_fraction=config.test_fraction, seed=config.split_seed)
    return ReidData(name, train, first_of_each_camera(test), test)


def held_out(data: ReidData, share: float, seed: int) -> ReidData:
    """Return the training people alone, a share of whom are tested on; the test people are left out.

    Raises:
        ValueError: too few training people (`split_people`).
    """
    train, test = split_people(data.train, test_fraction=share, seed=seed)
    name = f"{data.name} (its training people)"
    return replace(data, name=name, train=train, query=first_of_each_camera(test), gallery=test)


def everybody(data: ReidData) -> ReidData:
    """Return the data with all people searched for, those of the training half, too, which is empty then.

    The first tracklet of each person in each camera asks, if another camera has an answer; junk and distractors
    don't ask.
    """
    tracklets = data.tracklets
    known = [one for one in tracklets if one.person != JUNK and one.person not in data.distractors]
    return replace(data, train=[], query=first_of_each_camera(known), gallery=tracklets)


def cameras_of_people(tracklets: Iterable[Tracklet]) -> dict[int, set[int]]:
    """Return the cameras that see each person."""
    cameras: dict[int, set[int]] = {}
    for tracklet in tracklets:
        cameras.setdefault(tracklet.person, set()).add(tracklet.camera)
    return cameras


def first_of_each_camera(tracklets: Sequence[Tracklet]) -> list[Tracklet]:
    """Return the first tracklet of each person in each camera, if another camera has that person, too."""
    cameras = cameras_of_people(tracklets)
    first = {(tracklet.person, tracklet.camera): tracklet for tracklet in reversed(tracklets)}
    return [tracklet for (person, _), tracklet in sorted(first.items()) if len(cameras[person]) > 1]


def as_divided(name: str, tracklets: Iterable[tuple[str, Tracklet]]) -> ReidData:
    """Return the data of tracklets that come with a division.

    Args:
        name: name of the data.
        tracklets: pairs of a part, a name of `PARTS`, and a tracklet.

    Raises:
        ValueError: there is no query or no gallery, or people are in both halves.
    """
    parts: dict[str, list[Tracklet]] = {part: [] for part in PARTS}
    for part, tracklet in tracklets:
        parts[part].append(tracklet)
    if empty := [part for part in ("query", "gallery") if not parts[part]]:
        raise ValueError(f"{name} has a division of its own, and nobody in its {' and '.join(empty)}")
    tested = {one.person for one in [*parts["query"], *parts["gallery"]]}
    if both := sorted({one.person_name for one in parts["train"] if one.person in tested}):
        raise ValueError(
            f"people of the train part of {name} are in its query or gallery, too: {', '.join(both[:5])} "
            f"({len(both)} in all). A test is of people who were not trained on: remove them from one of the two."
        )
    return ReidData(name, parts["train"], parts["query"], parts["gallery"])


def split_people(
    tracklets: Sequence[Tracklet], *, test_fraction: float, seed: int
) -> tuple[list[Tracklet], list[Tracklet]]:
    """Divide tracklets into train and test by person: no person is on both sides.

    A query is a person seen again by another camera, so people with two or more cameras are divided
    first. People with one camera are divided after them: they can be trained on, and in the test
    half they are distractors in the gallery. The division depends on the people and the seed, not
    on the order of the tracklets, which is kept.

    Args:
        tracklets: the tracklets of all people.
        test_fraction: share of people in the test half, between 0 and 1; it is rounded to whole
            people, and bent where it would leave fewer than 2 people on a side.
        seed: seed of numpy's `default_rng`.

    Returns:
        The train tracklets and the test tracklets.

    Raises:
        ValueError: `test_fraction` is not between 0 and 1, or there are too few people.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction is {test_fraction}; it must lie between 0 and 1, both excluded")
    cameras_of = cameras_of_people(tracklets)
    several = sorted(person for person, cameras in cameras_of.items() if len(cameras) > 1)
    single = sorted(person for person, cameras in cameras_of.items() if len(cameras) == 1)
    if len(several) < 2 or len(cameras_of) < 4:
        raise ValueError(
            f"{len(several)} of {len(cameras_of)} people are seen by two cameras or more. The test half "
            "needs at least 2 of these (a query must be found again by another camera, among other people), "
            "and the train half at least 2 people more, of any kind. Add people, or name a second view "
            "of them as a second camera."
        )
    rng = np.random.default_rng(seed)
    most = min(len(several), len(cameras_of) - 2)
    num_several = min(max(int(test_fraction * len(several) + 0.5), 2), most)
    most = len(cameras_of) - 2 - num_several
    num_single = min(int(test_fraction * len(single) + 0.5), most)
    test = {*rng.permutation(several)[:num_several].tolist(), *rng.permutation(single)[:num_single].tolist()}
    return (
        [tracklet for tracklet in tracklets if tracklet.person not in test],
        [tracklet for tracklet in tracklets if tracklet.person in test],
    )
