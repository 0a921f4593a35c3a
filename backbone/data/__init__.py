"""Data sets by name: train, query and gallery tracklets."""

from pathlib import Path

from backbone.data.data_set import DataConfig, ReidData
from backbone.data.registry import DATASETS as DATASETS
from backbone.data.spec import parse_spec


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
    return parsed.data_set.load(parsed.directory, parsed.options(config), cache)
