"""The text that names data, `NAME[:DIRECTORY][@OPTION=VALUE,...]`, taken apart."""

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

from backbone.data.data_set import DataConfig, DataSet
from backbone.data.registry import DATASETS, OWN_OPTIONS, get_data_set
from backbone.own import check_trusted, is_own, trust

VIDEO = "video"


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """Name of some data, and its settings.

    Attributes:
        name: name of a data set (one of your own is `module:function`), `video`, or a path that stands alone.
        place: text that follows the name and a colon: a directory, or VIDEO,TRACKS; empty if nothing does.
        assignments: settings of the data, such as `test_fraction=0.3`.
    """

    name: str
    place: str = ""
    assignments: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the text without the settings."""
        return f"{self.name}:{self.place}" if self.place else self.name

    @property
    def is_own(self) -> bool:
        """Tell whether it is a data set of the user's own, `module:function`."""
        return is_own(self.name)

    @property
    def is_data_set(self) -> bool:
        """Tell whether it is a data set, which can be trained and tested on."""
        return self.name in DATASETS or self.is_own

    @property
    def data_set(self) -> DataSet:
        """The data set's description.

        Raises:
            ValueError: unknown name.
        """
        return get_data_set(self.name)

    @property
    def directory(self) -> Path | None:
        """The directory, with ~ expanded; None where none is named."""
        return Path(self.place).expanduser() if self.place else None

    @property
    def video_and_tracks(self) -> tuple[Path, Path]:
        """The two files of video:VIDEO,TRACKS.

        Raises:
            ValueError: there is one alone.
        """
        video, comma, tracks = self.place.rpartition(",")
        if not comma:
            raise ValueError(f"video:{self.place} names no tracks; write video:VIDEO,TRACKS")
        return Path(video).expanduser(), Path(tracks).expanduser()

    def absolute(self) -> str:
        """Return a text that names the same data from any folder, without settings.

        Links stay: tracklets are named after them.
        """
        if self.name == VIDEO:
            return f"{VIDEO}:{','.join(map(_absolute, self.video_and_tracks))}"
        if self.is_data_set:
            return str(dataclasses.replace(self, place=self.place and _absolute(Path(self.place))))
        return _absolute(Path(str(self)))

    def options(self, defaults: DataConfig, seed: int = 0) -> DataConfig:
        """Return the settings of the data.

        Args:
            defaults: settings to take if they are not assigned here.
            seed: number of the run, added to a `seed` that is assigned, so that each run meets other people.

        Raises:
            ValueError: an option that this data does not have, or a value of another type.
        """
        own: dict[str, Any] = {}
        drawn: dict[str, Any] = {}
        for assignment in self.assignments:
            name, _, text = assignment.partition("=")
            fields, values = (defaults, own) if hasattr(defaults, name) else (defaults.synthetic, drawn)
            old = getattr(fields, name, None)
            if name not in self._known_options() or not isinstance(old, bool | int | float | str):
                known = [one for one in self._known_options() if not isinstance(_value(defaults, one), tuple)]
                raise ValueError(
                    f"{self}@{assignment}: {name!r} is no option of the data that can be set here; "
                    + (f"options of {self.name} are {', '.join(known)}" if known else f"{self} has none")
                )
            values[name] = _read(text, type(old), f"{self}@{assignment}: {name}")
        if "seed" in drawn:
            drawn["seed"] += seed
        synthetic = dataclasses.replace(defaults.synthetic, **drawn)
        return dataclasses.replace(defaults, **own, synthetic=synthetic)

    def _known_options(self) -> tuple[str, ...]:
        if self.name == VIDEO:
            return ("bridge_gaps",)
        if self.is_own:  # without importing it: a file may name it
            return OWN_OPTIONS
        return self.data_set.options if self.is_data_set else ()


def parse_spec(text: str) -> DataSpec:
    """Take apart `NAME[:DIRECTORY][@OPTION=VALUE,...]`.

    An @ belongs to the directory's name if no option follows, or if there is a directory (or file) of that name.
    """
    spec, separator, end = text.rpartition("@")
    assignments = tuple(part for part in end.split(",") if part)
    name, place = _name_and_place(text)
    is_name = not (separator and assignments and all(re.match(r"\w+=", part) for part in assignments))
    if is_name or os.path.exists(os.path.expanduser(place or name)):
        return DataSpec(name, place)
    return DataSpec(*_name_and_place(spec), assignments)


def _name_and_place(text: str) -> tuple[str, str]:
    name, _, place = text.partition(":")
    if name not in (*DATASETS, VIDEO):
        function, _, rest = place.partition(":")
        if is_own(own := f"{name}:{function}"):
            return own, rest
    return name, place


def parse_data(text: str, options: DataConfig, seed: int = 0) -> tuple[str, DataConfig]:
    """Return what `text` names without its settings, and these, over `options` (`DataSpec.options`).

    Raises:
        ValueError: an option that this data does not have, or a value of another type.
    """
    spec = parse_spec(text)
    return str(spec), spec.options(options, seed)


def trust_data(text: str) -> None:
    """Let files name the data set of the user's own that a text names, if it names one (`backbone.own.trust`)."""
    if (spec := parse_spec(text)).is_own:
        trust(spec.name)


def check_trusted_data(text: str, source: object) -> None:
    """Refuse a data set, module:function, that a file names and the user has not vouched for.

    Args:
        text: text that the file holds.
        source: name of the file, for the error.

    Raises:
        ValueError: `trust_data` was not told of it.
    """
    if (spec := parse_spec(text)).is_own:
        check_trusted(spec.name, source, "a data set")


def _value(options: DataConfig, name: str) -> Any:
    return getattr(options, name) if hasattr(options, name) else getattr(options.synthetic, name)


def _read(text: str, kind: type, what: str) -> bool | int | float | str:
    """Read a value of that type, or a whole number for a float; text is taken as it is.

    Raises:
        ValueError: the value is of another type; the message begins with `what`.
    """
    if kind is str:
        return text
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{what} must be a number, true or false, got {text!r}") from error
    if type(value) is not kind and (kind, type(value)) != (float, int):
        raise ValueError(f"{what} must be a {kind.__name__}, got {text!r}")
    return value


def _absolute(path: Path) -> str:
    return os.path.abspath(path.expanduser())
