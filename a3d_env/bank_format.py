"""The format of a bank's folder: names and content of its files, and functions that check and open them."""

import dataclasses
import json
import mmap
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dacite
import numpy as np

from a3d_env.bins import BinGrid

VERSION = 2
META, GLIMPSE = "meta.json", "glimpse.pt"
DTYPES: dict[str, type[np.generic]] = {
    "bins": np.float32,
    "global_feature": np.float32,
    "identity": np.int64,
    "truth_boxes": np.float64,
    "frames": np.uint8,
}
# Most bytes of features that `check_finite` reads: reading all of a large bank takes minutes.
MAX_CHECKED_BYTES = 2**30


@dataclass(frozen=True)
class BankMeta:
    """The content of `meta.json`, which describes a bank's folder.

    Attributes:
        version: version of the folder's format.
        grid: the grid of bins.
        tracklet: the display name of each clip's tracklet, N names.
        num_channels: C_g.
        num_glimpses: T of the glimpse network.
        num_identities: the number of identities that F_c distinguishes.
        new_people: whether F_c knows none of the clips' people; their identities are then numbers after F_c's.
        has_frames: whether the folder holds the clips' frames.
        has_truth_boxes: whether the folder holds boxes of the identifying thing.
        num_things: the number of things whose boxes the folder holds, K.
        person: each clip's person id in the data set (N), if given.
        camera: each clip's camera id in the data set (N), if given.
        checksums: the CRC-32 of each array's file (`checksum`), by the array's name, and that of meta.json
            (`meta_checksum`), by the name meta.json.
    """

    version: int
    grid: BinGrid
    tracklet: list[str]
    num_channels: int
    num_glimpses: int
    num_identities: int
    new_people: bool
    has_frames: bool
    has_truth_boxes: bool
    num_things: int = 1
    person: list[int] | None = None
    camera: list[int] | None = None
    checksums: dict[str, int] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each array in the folder."""
        count, num_frames = len(self.tracklet), self.grid.clip_size[0]
        shapes: dict[str, tuple[int, ...]] = {
            "bins": (count, self.grid.num_bins, self.num_channels),
            "global_feature": (count, self.num_channels),
            "identity": (count,),
        }
        if self.has_truth_boxes:
            things = (self.num_things,) if self.num_things > 1 else ()
            shapes["truth_boxes"] = (count, num_frames, *things, 4)
        if self.has_frames:
            shapes["frames"] = (count, *self.grid.clip_size, 3)
        return shapes


def read_meta(folder: Path | str) -> BankMeta:
    """Read the description of a bank's folder.

    Raises:
        ValueError: the folder holds no bank, a damaged one, or one of another version.
    """
    path = Path(folder) / META
    if not path.is_file():
        raise ValueError(f"there is no bank at {folder}: it has no {META}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data["version"]
        # another version may have other fields
        meta = _meta_from(data) if version == VERSION else None
    except (ValueError, dacite.DaciteError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged, or not of a bank: {error!r}") from error
    if meta is None:
        raise ValueError(f"{path} is of version {version}, this program reads {VERSION}: make the bank again")
    if not meta.tracklet:
        raise ValueError(f"{path} is damaged: a bank has a clip or more")
    for name in ("person", "camera"):
        if (numbers := getattr(meta, name)) is not None and len(numbers) != len(meta.tracklet):
            raise ValueError(f"{path} is damaged: {len(numbers)} numbers of {name} for {len(meta.tracklet)} clips")
    if META in meta.checksums and meta.checksums[META] != meta_checksum(meta):
        raise ValueError(f"{path} is damaged: its content does not have its checksum")
    return meta


def _meta_from(data: dict[str, Any]) -> BankMeta:
    return dacite.from_dict(BankMeta, data, dacite.Config(cast=[tuple], strict=True))


def meta_checksum(meta: BankMeta) -> int:
    """Return the CRC-32 of a meta's values, without this checksum itself."""
    others = {name: number for name, number in meta.checksums.items() if name != META}
    values = dataclasses.asdict(dataclasses.replace(meta, checksums=others))
    if meta.num_things == 1:  # folders written before there was another number
        del values["num_things"]
    text = json.dumps(values, sort_keys=True)
    return zlib.crc32(text.encode())


def checksum(path: Path) -> int:
    """Return a file's CRC-32."""
    found = 0
    with path.open("rb") as file:
        while part := file.read(2**22):
            found = zlib.crc32(part, found)
    return found


def open_array(
    path: Path, dtype: type[np.generic], shape: tuple[int, ...], expected: int | None = None
) -> np.ndarray:
    """Map an array file into memory, copy-on-write: changes of the array do not reach the file.

    Args:
        path: the file.
        dtype: the required dtype.
        shape: the required shape.
        expected: the file's checksum, if it is known; it is not compared for files above `MAX_CHECKED_BYTES`.

    Raises:
        ValueError: the file is missing, damaged, truncated, or of another shape or dtype.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    size = path.stat().st_size
    try:
        found = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # NumPy raises many types, as the header is a Python expression
        raise ValueError(f"{path} can't be read, is it truncated? {error}") from error
    if found.shape != shape or found.dtype != dtype or not found.flags.c_contiguous:
        raise ValueError(f"{path} holds {found.dtype} {found.shape}, expected {np.dtype(dtype)} {shape}")
    if size != found.offset + found.nbytes:
        raise ValueError(f"{path} has {size:,} bytes, expected {found.offset + found.nbytes:,}: it is damaged")
    if expected is not None and size <= MAX_CHECKED_BYTES and checksum(path) != expected:
        raise ValueError(f"{path} is damaged: its content does not have its checksum")
    if sys.platform != "linux":
        return np.load(path, mmap_mode="c")
    # Linux reserves memory for a copy-on-write map, and so refuses one larger than all memory (as by NumPy's mode
    # "c"), unless it is asked not to reserve any. Python has a name for 0x4000 from 3.13 on.
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE | no_reserve, mmap.PROT_READ | mmap.PROT_WRITE)
    return np.frombuffer(mapped, dtype, found.size, found.offset).reshape(shape)


def check_finite(features: np.ndarray, where: str) -> None:
    """Search features for NaN and infinity; above `MAX_CHECKED_BYTES` only in clips spread over the bank.

    Raises:
        ValueError: a feature is NaN or infinite.
    """
    every = -(-features.nbytes // MAX_CHECKED_BYTES)
    clips_at_once = max(1, 2**24 // features[0].nbytes)
    for start in range(0, len(features), every * clips_at_once):
        part = features[start : start + every * clips_at_once : every]
        finite = np.isfinite(part).reshape(len(part), -1).all(1)
        if not finite.all():
            clip = start + every * int(np.argmin(finite))
            raise ValueError(f"{where} holds NaN or infinity, in clip {clip}: has the training diverged?")


def check_identities(identity: np.ndarray, meta: BankMeta, where: str) -> None:
    """Compare identities with those that F_c knows.

    Raises:
        ValueError: an identity is not one of F_c's, or, if all people are new, it is one of F_c's.
    """
    known = (identity >= 0) & (identity < meta.num_identities)
    if not np.all((identity >= meta.num_identities) if meta.new_people else known):
        allowed = f"be {meta.num_identities} or more" if meta.new_people else f"run to {meta.num_identities - 1}"
        raise ValueError(
            f"{where} runs from {identity.min()} to {identity.max()}; numbers of "
            f"{'new' if meta.new_people else 'known'} people have to {allowed}"
        )
