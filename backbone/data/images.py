"""Folders of numbered images, and videos that are one, as the MOT challenges keep them."""

import configparser
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
SEQUENCE_LAYOUT = "img1/000001.jpg, 000002.jpg and so on without a gap, or the images without a folder around them"
INFO = "seqinfo.ini"


@dataclass(frozen=True)
class Sequence:
    """The frames of a video that is a folder.

    Attributes:
        paths: images in order.
        length: number of frames that its seqinfo.ini promises; 0 if nothing is promised.
    """

    paths: tuple[Path, ...]
    length: int


def read_sequence(folder: Path) -> Sequence:
    """Find the frames of a video that is a folder of images numbered from 0 or 1, or a MOT sequence around one.

    Of `seqinfo.ini`, if there is one, imDir (by default img1), imExt and seqLength are used; the frame rate
    means nothing here.

    Raises:
        ValueError: there are no images, a number is missing between them or in a name, or seqinfo.ini can't be
            read.
    """
    info = configparser.ConfigParser(interpolation=None)
    try:
        if (folder / INFO).is_file():
            info.read(folder / INFO, encoding="utf-8-sig")
        values = dict(info["Sequence"]) if info.has_section("Sequence") else {}
        length = int(values.get("seqlength", 0))
    except (configparser.Error, ValueError) as error:  # a text that is no UTF-8, too
        raise ValueError(f"{folder / INFO} can't be read: {' '.join(str(error).split())}") from error
    inside = Path(values.get("imdir", "img1" if (folder / "img1").is_dir() else ""))
    if inside.is_absolute() or ".." in inside.parts or not (folder / inside).is_dir():
        raise ValueError(f"{folder / INFO} says imDir={inside}, and there is no such folder in {folder}")
    endings = (f".{values['imext'].lower().lstrip('.')}",) if "imext" in values else IMAGE_ENDINGS
    changed = (folder / inside).stat().st_mtime_ns
    return Sequence(_without_gaps(folder / inside, endings, changed), length)


@lru_cache(maxsize=16)
def _without_gaps(folder: Path, endings: tuple[str, ...], changed: int) -> tuple[Path, ...]:
    """Return a folder's images in order, listed once for each time that it was `changed`."""
    numbers = images_in(folder, SEQUENCE_LAYOUT, endings)
    first = min(numbers)
    if first > 1:
        raise ValueError(f"{numbers[first]} is the first image, and frames are numbered from 0 or 1")
    for number, (found, path) in enumerate(numbers.items(), first):
        if found != number:
            raise ValueError(f"frame {number}, before {path}, is missing: the tracks would be on other frames")
    return tuple(numbers.values())


def images_in(folder: Path, layout: str, endings: tuple[str, ...] = IMAGE_ENDINGS) -> dict[int, Path]:
    """Return a folder's images by the numbers that their names end with, in order.

    Raises:
        ValueError: there is none, a name has no number, or two have the same.
    """
    numbers: dict[int, Path] = {}
    with os.scandir(folder) as entries:  # asks nothing about files that are no links: data sets have a million
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        stem, ending = os.path.splitext(entry.name)
        if ending.lower() not in endings or entry.name.startswith("."):
            continue
        path = folder / entry.name
        if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and path.is_dir()):
            continue
        number = stem.rpartition("_")[2]
        if not number.isdecimal():
            raise ValueError(f"the frame {path} is not numbered; the layout is {layout}")
        if int(number) in numbers:
            raise ValueError(f"{path} and {numbers[int(number)]} have one number; the layout is {layout}")
        numbers[int(number)] = path
    if not numbers:
        raise ValueError(f"{folder} holds no images ({', '.join(endings)}); the layout is {layout}")
    return dict(sorted(numbers.items()))
