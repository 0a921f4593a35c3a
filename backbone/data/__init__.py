"""Data sets by name: train, query and gallery tracklets."""

from dataclasses import replace
from pathlib import Path

from backbone.data.data_set import DataConfig, ReidData
from backbone.data.registry import DATASETS as DATASETS
from backbone.data.spec import parse_spec
from backbone.data.tracklet import JUNK, UNKNOWN, Tracklet


def load_data(spec: str, config: DataConfig, cache: Path) -> ReidData:
    """Read the data set that `NAME[:DIRECTORY][@OPTION=VALUE,...]` names.

    Args:
        spec: a name of `DATASETS`, with a directory where the data set needs one, and settings that go before
            `config`.
        config: its settings.
        cache: where drawn data is kept.

    Raises:
        ValueError: unknown name or option, or data that is missing or damaged (the message says what and where).
    """
    parsed = parse_spec(spec)
    data = parsed.data_set.load(parsed.directory, parsed.options(config), cache)
    named = {id(one): _named(one, parsed.name) for one in [*data.train, *data.query, *data.gallery]}
    train, query, gallery = ([named[id(one)] for one in part] for part in (data.train, data.query, data.gallery))
    return replace(data, train=train, query=query, gallery=gallery)


def _named(tracklet: Tracklet, data: str) -> Tracklet:
    """Return a tracklet whose person has a name: the reader's, or else the data set's name and the number."""
    if tracklet.person_name or tracklet.person == UNKNOWN:
        return tracklet
    return replace(tracklet, person_name=f"{data} {'junk' if tracklet.person == JUNK else tracklet.person}")
