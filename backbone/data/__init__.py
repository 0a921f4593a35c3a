"""Data sets by name: train, query and gallery tracklets."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from backbone.data.data_set import DataConfig, ReidData
from backbone.data.division import everybody, held_out
from backbone.data.registry import DATASETS as DATASETS
from backbone.data.spec import parse_spec
from backbone.data.tracklet import JUNK, UNKNOWN, Tracklet

TestPart = Literal["test", "all"]


def load_data(spec: str, config: DataConfig, cache: Path, part: TestPart = "test") -> ReidData:
    """Read the data set that `NAME[:DIRECTORY][@OPTION=VALUE,...]` names.

    Args:
        spec: a name of `DATASETS`, with a directory where the data set needs one, and settings that go before
            `config`.
        config: settings of the data.
        cache: folder of drawn data.
        part: people to search for: the test half, or all, people of the training, too (`division.everybody`).

    Raises:
        ValueError: unknown name or option, or data that is missing or damaged (the message says what and where).
    """
    parsed = parse_spec(spec)
    options = parsed.options(config)
    if part == "all" and (found := parsed.data_set.everybody(parsed.directory)) is not None:
        data = everybody(ReidData(str(parsed), [], [], found))
    else:
        data = parsed.data_set.load(parsed.directory, options, cache)
        data = held_out(data, options.held_out, options.split_seed) if options.held_out else data
        data = everybody(data) if part == "all" else data
    named = {id(one): _named(one, parsed.name) for one in [*data.train, *data.query, *data.gallery]}
    train, query, gallery = ([named[id(one)] for one in part] for part in (data.train, data.query, data.gallery))
    return replace(data, train=train, query=query, gallery=gallery)


def _named(tracklet: Tracklet, data: str) -> Tracklet:
    """Return a tracklet whose person has a name: the reader's, or else the data set's name and the number."""
    if tracklet.person_name or tracklet.person == UNKNOWN:
        return tracklet
    return replace(tracklet, person_name=f"{data} {'junk' if tracklet.person == JUNK else tracklet.person}")
