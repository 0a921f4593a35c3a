"""Data sets and changed settings of theirs in one text, as `synthetic@seed=2000,passers_by=1`."""

import dataclasses
import json
import re
from typing import Any

from backbone.data import DataConfig


def parse_data(text: str, options: DataConfig, seed: int = 0) -> tuple[str, DataConfig]:
    """Read NAME[:DIRECTORY][@OPTION=VALUE,...], whose options are those of `DataConfig` or `SyntheticConfig`.

    Args:
        text: such as `synthetic@seed=2000` or `folder:other_tracklets@test_fraction=1`.
        options: of the data that was trained on, for those that are not named.
        seed: the run's number, which is added to a `seed` that is named, so that each run meets other people.

    Raises:
        ValueError: an option that there is not, or a value that is none.
    """
    spec, separator, end = text.rpartition("@")
    assignments = [part for part in end.split(",") if part]
    if not (separator and assignments and all(re.match(r"\w+=", part) for part in assignments)):
        spec, assignments = text, []  # an @ in a folder's name
    own: dict[str, Any] = {}
    drawn: dict[str, Any] = {}
    for assignment in assignments:
        name, _, value = assignment.partition("=")
        fields, values = (options, own) if hasattr(options, name) else (options.synthetic, drawn)
        if name == "synthetic" or not isinstance(old := getattr(fields, name, None), bool | int | float):
            raise ValueError(f"{text}: {name!r} is no option of the data that can be set here")
        try:
            values[name] = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"{text}: {name} must be a number, true or false, got {value!r}") from error
        is_of_kind = type(values[name]) is type(old) or (type(old), type(values[name])) == (float, int)
        if not is_of_kind:
            raise ValueError(f"{text}: {name} must be a {type(old).__name__}, got {value!r}")
    if "seed" in drawn:
        drawn["seed"] += seed
    return spec, dataclasses.replace(options, **own, synthetic=dataclasses.replace(options.synthetic, **drawn))
