"""Files of tracklets' descriptors with person and camera ids: `.npz` (NumPy) or `.safetensors`."""

import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import dacite
import numpy as np
import safetensors
import safetensors.numpy

from backbone.files import atomic_file
from backbone.reading import check_archive, pass_on_lack_of_memory

ENDINGS = (".npz", ".safetensors")
TEXTS = ("name", "source", "key")
CHECKED_ROWS = 4096  # at a time, so that checking takes little memory
ARRAYS = {"descriptors": np.float32, "person": np.int64, "camera": np.int64, "bins": np.int64, "clip": np.int64}


@dataclass(frozen=True)
class Origin:
    """The origin of a file's descriptors: the data that they describe, and the model that computed them.

    Attributes:
        data: the data, as `backbone.data.source.read_source` takes it, with absolute paths.
        part: the part of the data set that was described: test, query, gallery, train or all.
        options: the data set's settings, those of `backbone.data.DataConfig`.
        model: a digest of the networks' weights; descriptors can be compared only if their digests are equal.
        agent: the name of the agent that chose the bins.
        clip_size: L, H, W, the frames and pixels of a clip.
        feature_size: L_g, H_g, W_g, the cells of a clip's feature map.
        bin_size: L_a, H_a, W_a, the cells of a bin.
    """

    data: str
    part: str
    options: dict[str, Any]
    model: str
    agent: str
    clip_size: tuple[int, int, int]
    feature_size: tuple[int, int, int]
    bin_size: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Descriptors of N tracklets, with their ids and names.

    Attributes:
        descriptors: the features that the model compares by Euclidean distance, averaged over a tracklet's clips,
            float32 (N, D).
        person: person ids in the data, int64 (N,); -1 marks junk, -2 (`UNKNOWN`) a person who is not known.
        camera: camera ids in the data, int64 (N,).
        name: the people's names: for a folder of people the person's folder, otherwise the data set's name and the
            person id; empty if the person is not known.
        source: the tracklets' names.
        key: digests of the frames' files, by which a tracklet is recognised in another file of descriptors.
        bins: the bins that the agent looked at in the middle clip of each tracklet, int64 (N, T).
        clip: the number of that middle clip among the tracklet's consecutive clips, int64 (N,).
        origin: the data that the descriptors describe, and the model that computed them.

    Raises:
        ValueError: the parts do not fit each other, or a descriptor is not finite.
    """

    descriptors: np.ndarray
    person: np.ndarray
    camera: np.ndarray
    name: list[str]
    source: list[str]
    key: list[str]
    bins: np.ndarray
    clip: np.ndarray
    origin: Origin

    def __post_init__(self) -> None:
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self) if field.name != "origin"}
        if len(set(lengths.values())) > 1 or self.descriptors.ndim != 2 or self.bins.ndim != 2:
            raise ValueError(
                f"descriptors are (N, D), bins (N, T) and ids (N,), got {self.descriptors.shape}, "
                f"{self.bins.shape} and {lengths}"
            )
        for start in range(0, len(self), CHECKED_ROWS):
            if not (finite := np.isfinite(self.descriptors[start : start + CHECKED_ROWS]).all(axis=1)).all():
                row = start + int(np.argmin(finite))
                raise ValueError(f"the descriptor of {self.source[row]} holds NaN or infinity")

    def __len__(self) -> int:
        """Return the number of tracklets."""
        return len(self.descriptors)

    def picked(self, rows: np.ndarray) -> "Embeddings":
        """Return some tracklets, by their numbers."""
        parts: dict[str, Any] = {name: getattr(self, name)[rows] for name in ARRAYS}
        parts |= {text: [getattr(self, text)[row] for row in rows] for text in TEXTS}
        return replace(self, **parts)

    def without_descriptors(self) -> "Embeddings":
        """Return ids and names alone, with descriptors of no numbers."""
        return replace(self, descriptors=np.zeros((len(self), 0), dtype=np.float32))


def join_embeddings(parts: Sequence[Embeddings]) -> Embeddings:
    """Return tracklets of one data set, described by one model, after each other.

    Raises:
        ValueError: the parts are of different data, or described by different models.
    """
    first = parts[0].origin
    for part in parts:
        if replace(part.origin, part=first.part) != first:
            raise ValueError(
                f"tracklets of {first.data} by the model {first.model} and of {part.origin.data} by "
                f"{part.origin.model} can't be put together: they are of different data, settings or models"
            )
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
    joined |= {text: [one for part in parts for one in getattr(part, text)] for text in TEXTS}
    is_one_part = all(part.origin.part == first.part for part in parts)
    return Embeddings(**joined, origin=first if is_one_part else replace(first, part="all"))


def save_embeddings(path: Path, embeddings: Embeddings) -> None:
    """Write a file of descriptors, `.npz` or `.safetensors` by its ending; a partial file never remains.

    Raises:
        ValueError: the ending is neither of the two.
    """
    _check_ending(path)
    arrays = {name: np.ascontiguousarray(getattr(embeddings, name), dtype=kind) for name, kind in ARRAYS.items()}
    texts = {key: json.dumps(getattr(embeddings, key)) for key in TEXTS}
    texts["origin"] = json.dumps(asdict(embeddings.origin))
    with atomic_file(path) as file:
        if path.suffix == ".npz":
            names = {key: np.array(getattr(embeddings, key), dtype=np.str_) for key in TEXTS}
            np.savez(file, **arrays, **names, origin=np.array(texts["origin"]))  # type: ignore[arg-type]
        else:
            # not save_file, whose files nobody else may read
            checksum = str(_checksum(arrays, texts))
            file.write(safetensors.numpy.save(arrays, metadata={**texts, "checksum": checksum}))


def load_embeddings(path: Path, *, is_mapped: bool = False) -> Embeddings:
    """Read a file that `save_embeddings` wrote, without running code that the file may hold.

    Args:
        path: the file.
        is_mapped: whether to map the descriptors into memory, read-only, so that more of them can be read than the
            memory holds.

    Raises:
        ValueError: the file is missing, damaged, or holds something else; the message names it.
    """
    _check_ending(path)
    if not path.is_file():
        raise ValueError(f"there is no file of descriptors at {path}: make one with a3d embed")
    try:
        values = (_read_npz if path.suffix == ".npz" else _read_safetensors)(path, is_mapped)
        origin = dacite.from_dict(Origin, json.loads(values["origin"]), dacite.Config(cast=[tuple], strict=True))
        arrays = {name: np.asarray(values[name]) for name in ARRAYS}
        for name, kind in ARRAYS.items():
            if arrays[name].dtype != kind:
                raise TypeError(f"{name} is {arrays[name].dtype}, expected {np.dtype(kind)}")
        if not all(isinstance(text, str) for key in TEXTS for text in values[key]):
            raise TypeError("names, sources and keys are no texts")
        parts: dict[str, Any] = {**arrays, **{key: values[key] for key in TEXTS}}
        return Embeddings(**parts, origin=origin)
    except Exception as error:  # NumPy raises many types for damaged files
        pass_on_lack_of_memory(error)
        raise ValueError(
            f"{path} holds no descriptors that can be read: it is damaged, or not of a3d embed ({error})"
        ) from error


def _read_npz(path: Path, is_mapped: bool) -> dict[str, Any]:
    check_archive(path)
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        values = {name: file[name] for name in file.files if not (is_mapped and name == "descriptors")}
    if is_mapped:
        with zipfile.ZipFile(path) as archive, archive.open("descriptors.npy") as part:
            while part.read(2**20):  # to the end, where its checksum is compared
                pass
        values["descriptors"] = _mapped_part(path, "descriptors.npy")
    return {**values, **{key: values[key].tolist() for key in TEXTS}, "origin": str(values["origin"])}


def _mapped_part(path: Path, name: str) -> np.ndarray:
    """Map an array of an archive whose parts are not compressed, as `np.savez` leaves them."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        part = archive.getinfo(name)
        if part.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed")
        file.seek(part.header_offset + 26)  # the lengths of the part's name and extra field, which follow
        file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)
        start = file.tell()
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{name} is of another version of NumPy's format")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if (
            is_fortran
            or dtype.hasobject
            or file.tell() - start + math.prod(shape) * dtype.itemsize != part.file_size
        ):
            raise ValueError(f"{name} is not as long as it says")
        return _mapped(path, dtype, shape, file.tell())


def _mapped(path: Path, dtype: np.dtype, shape: tuple[int, ...], start: int) -> np.ndarray:
    if not math.prod(shape):  # no file can be mapped from its end on
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", start, shape)


def _read_safetensors(path: Path, is_mapped: bool) -> dict[str, Any]:
    with safetensors.safe_open(path, framework="numpy") as file:
        texts = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in ARRAYS if not (is_mapped and name == "descriptors")}
    if is_mapped:
        with path.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            part = json.loads(opened.read(size))["descriptors"]
        if part["dtype"] != "F32":
            raise TypeError(f"descriptors are {part['dtype']}, expected F32")
        dtype = np.dtype(np.float32)
        arrays["descriptors"] = _mapped(path, dtype, tuple(part["shape"]), 8 + size + part["data_offsets"][0])
    # A damaged name could be that of the checksum, which files of earlier versions lack.
    if unknown := texts.keys() - {*TEXTS, "origin", "checksum"}:
        raise ValueError(f"it has no text of the name {sorted(unknown)[0]!r}")
    if (saved := texts.pop("checksum", None)) is not None and saved != str(_checksum(arrays, texts)):
        raise ValueError("its checksum is wrong")
    return {**arrays, **{key: json.loads(texts[key]) for key in TEXTS}, "origin": texts["origin"]}


def _checksum(arrays: dict[str, np.ndarray], texts: dict[str, str]) -> int:
    """Return the CRC-32 of a file's arrays and texts (for .safetensors: an .npz has checksums of its own)."""
    found = zlib.crc32(repr(sorted(texts.items())).encode())
    for name, array in sorted(arrays.items()):
        found = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), found)
        found = zlib.crc32(np.ascontiguousarray(array).data, found)
    return found


def _check_ending(path: Path) -> None:
    if path.suffix not in ENDINGS:
        raise ValueError(f"{path}: a file of descriptors needs a name that ends in {' or '.join(ENDINGS)}")
