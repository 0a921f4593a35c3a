"""Functions that readers of published data sets share: finding folders, and errors that say what is missing."""

from collections.abc import Sequence
from pathlib import Path


def find_root(directory: Path, wanted: str, *, inside: Sequence[str], layout: str, source: str) -> Path:
    """Return `<directory>/<one of inside>/<wanted>`.

    Args:
        directory: directory that the user gave.
        wanted: name of the folder to find.
        inside: folders that it may lie in, the empty name for the directory itself.
        layout: text of the whole layout, for the error.
        source: text that says where users get the data, for the error.

    Raises:
        ValueError: the folder is in none of them.
    """
    for folder in inside:
        if (path := directory / folder / wanted).is_dir():
            return path
    raise ValueError(f"there is no folder {wanted} in {directory}; the layout is {layout} ({source})")


def numbered_folders(folder: Path, prefix: str, layout: str) -> dict[int, Path]:
    """Return the folders called `<prefix><number>`, by number, sorted; others are passed over.

    Raises:
        ValueError: the folder is missing, or two have one number.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; the layout is {layout}")
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        number = path.name.removeprefix(prefix)
        if path.is_dir() and path.name.startswith(prefix) and number.isdecimal():
            if int(number) in found:
                raise ValueError(f"{path} and {found[int(number)]} have one number; the layout is {layout}")
            found[int(number)] = path
    return dict(sorted(found.items()))
