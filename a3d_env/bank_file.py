"""Banks as folders, which are written batch by batch and mapped into memory, and so can be larger than memory.

A folder holds `bins.npy`, `global_feature.npy`, `identity.npy` and, if the bank has them, `frames.npy` and
`truth_boxes.npy` (shapes as in `FeatureBank`), `meta.json` (`BankMeta`) and `glimpse.pt`, the weights of F_o, F_h
and F_c.
"""

import dataclasses
import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from a3d_env.bank import FeatureBank
from a3d_env.bank_format import (
    DTYPES,
    GLIMPSE,
    META,
    VERSION,
    BankMeta,
    check_finite,
    check_identities,
    checksum,
    meta_checksum,
    open_array,
    read_meta,
)
from backbone.files import deferred_error_file, explain_disk_full, temporary_folder, to_disk
from backbone.glimpse import GlimpseNetwork
from backbone.reading import pass_on_lack_of_memory
from backbone.tensor_file import UnknownTensor, load_tensors


class BankWriter:
    """Writes a bank's folder, a batch of clips at a time: `with BankWriter(...) as writer: writer.append(bank)`.

    The files are written to a temporary folder beside `folder`, which is renamed when the block ends, and removed
    if the block fails.

    Args:
        folder: path of the folder; nothing may exist there.
        num_clips: N, the number of clips that will be appended in all.
        glimpse: F_o, F_h and F_c, which are saved with the features.
        new_people: whether F_c knows none of the clips' people; their identities are then numbers after F_c's.

    Raises:
        ValueError: `folder` exists, or another process is writing it, there is no room on the disk, batches do not
            fit each other or the glimpse network, a feature is NaN or infinite, or the number of clips appended is
            not `num_clips`.
    """

    def __init__(self, folder: Path | str, num_clips: int, glimpse: GlimpseNetwork, *, new_people: bool = False):
        if num_clips < 1:
            raise ValueError(f"a bank holds 1 clip or more, got num_clips = {num_clips}")
        self.folder = Path(folder)
        self.num_clips = num_clips
        self.glimpse = glimpse
        self.new_people = new_people
        self._meta: BankMeta | None = None
        self._files: dict[str, BinaryIO] = {}
        self._stack, self._place = ExitStack(), ExitStack()
        self._needed = 0

    def __enter__(self) -> "BankWriter":
        check_nothing_there(self.folder)
        self.partial = self._place.enter_context(temporary_folder(self.folder))
        return self

    def append(self, bank: FeatureBank, person: list[int] | None = None, camera: list[int] | None = None) -> None:
        """Append the clips of a bank, on any device, to the folder.

        Args:
            bank: the next clips.
            person: each clip's person id in the data set.
            camera: each clip's camera id in the data set.
        """
        rows = _rows(bank)
        meta = BankMeta(
            version=VERSION,
            grid=bank.grid,
            tracklet=list(bank.tracklet),
            num_channels=bank.num_channels,
            num_glimpses=self.glimpse.num_glimpses,
            num_identities=self.glimpse.num_identities,
            new_people=self.new_people,
            has_frames=bank.frames is not None,
            has_truth_boxes=bank.truth_boxes is not None,
            num_things=1 if bank.truth_boxes is None else bank.truth_boxes.shape[2],
            person=None if person is None else [int(number) for number in person],
            camera=None if camera is None else [int(number) for number in camera],
        )
        _check_rows(rows, meta, self.glimpse)
        if self._meta is None:
            self._begin(rows)
        self._meta = meta if self._meta is None else _joined(self._meta, meta)
        if len(self._meta.tracklet) > self.num_clips:
            raise ValueError(f"num_clips of {self.folder} is {self.num_clips}, and more clips were appended")
        with explain_disk_full(self.folder, self._needed):
            for name, array in rows.items():
                self._files[name].write(np.ascontiguousarray(array).data)

    def __exit__(self, error_type: Any, *_: object) -> None:
        try:
            with explain_disk_full(self.folder, self._needed):
                self._stack.close()
                if error_type is None:
                    self._finish()
        finally:
            self._place.close()

    def _begin(self, rows: dict[str, np.ndarray]) -> None:
        self._needed = sum(array[:1].nbytes for array in rows.values()) * self.num_clips
        if self._needed > (free := shutil.disk_usage(self.partial).free):
            raise ValueError(
                f"{self.folder} needs {self._needed / 2**30:.1f} GiB, its disk has {free / 2**30:.1f} free"
            )
        for name, array in rows.items():
            self._files[name] = file = self._stack.enter_context((self.partial / f"{name}.npy").open("wb"))
            shape = (self.num_clips, *array.shape[1:])
            header = {"descr": array.dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)

    def _finish(self) -> None:
        count = len(self._meta.tracklet) if self._meta else 0
        if self._meta is None or count != self.num_clips:
            raise ValueError(f"num_clips of {self.folder} is {self.num_clips}, and {count} clips were appended")
        sums = {name: checksum(self.partial / f"{name}.npy") for name in self._files}
        meta = dataclasses.replace(self._meta, checksums=sums)
        meta.checksums[META] = meta_checksum(meta)
        weights = {name: value.cpu() for name, value in self.glimpse.state_dict().items()}
        with deferred_error_file(self.partial / GLIMPSE) as file:
            torch.save(weights, file)
        (self.partial / META).write_text(json.dumps(dataclasses.asdict(meta)) + "\n", encoding="utf-8")
        for path in self.partial.iterdir():
            to_disk(path)
        to_disk(self.partial)
        check_nothing_there(self.folder)
        self.partial.rename(self.folder)
        to_disk(self.folder.parent)


def save_bank(folder: Path | str, bank: FeatureBank, glimpse: GlimpseNetwork) -> None:
    """Write a bank and its glimpse network into a new folder, atomically.

    Raises:
        ValueError: the folder exists or can't be written, or the bank is invalid (see `BankWriter`).
    """
    with BankWriter(folder, len(bank), glimpse) as writer:
        writer.append(bank)


def open_bank(folder: Path | str) -> tuple[FeatureBank, GlimpseNetwork]:
    """Open a bank's folder, on the CPU.

    Features and frames are mapped into memory: only the parts that are used are read from the disk. Writing to
    them changes no file. Files of up to 1 GiB are compared with their checksums. NaN is searched for in all
    features, or, in a larger bank, in clips spread over it.

    Returns:
        The bank and its glimpse network, frozen (no parameter requires a gradient).

    Raises:
        ValueError: a file is missing, damaged, of another shape or version, or holds NaN; the message names it.
    """
    folder = Path(folder)
    meta = read_meta(folder)
    arrays = {
        name: open_array(folder / f"{name}.npy", DTYPES[name], shape, meta.checksums.get(name))
        for name, shape in meta.shapes.items()
    }
    for name in ("bins", "global_feature"):
        check_finite(arrays[name], str(folder / f"{name}.npy"))
    check_identities(arrays["identity"], meta, str(folder / "identity.npy"))
    bank = FeatureBank(
        grid=meta.grid,
        bins=torch.from_numpy(arrays["bins"]),
        global_feature=torch.from_numpy(arrays["global_feature"]),
        identity=torch.from_numpy(arrays["identity"]),
        tracklet=meta.tracklet,
        frames=arrays.get("frames"),
        truth_boxes=arrays.get("truth_boxes"),
    )
    return bank, _open_glimpse(folder / GLIMPSE, meta)


def open_playable_bank(folder: Path | str) -> tuple[FeatureBank, GlimpseNetwork]:
    """Open a bank's folder for an environment, whose reward needs people that F_c was trained on.

    Raises:
        ValueError: F_c was not trained on the bank's people, or the folder can't be opened (see `open_bank`).
    """
    meta = read_meta(Path(folder))
    if meta.new_people:
        raise ValueError(
            f"{folder} shows people whom its F_c was not trained on, as a test half does: F_c can't identify "
            "them, and so there is no reward. Use a bank of the training half (a3d bank --split train)"
        )
    return open_bank(folder)


def check_nothing_there(folder: Path) -> None:
    """Check that a new folder can be made without overwriting anything.

    Raises:
        ValueError: a file or folder is at that path.
    """
    if folder.exists():
        raise ValueError(f"there is something at {folder} already: remove it, or write to another place")


def _rows(bank: FeatureBank) -> dict[str, np.ndarray]:
    """Return the bank's arrays by name, with the format's dtypes."""
    rows = {}
    for name, dtype in DTYPES.items():
        part = getattr(bank, name)
        if part is not None:
            rows[name] = np.asarray(part.detach().cpu().numpy() if isinstance(part, Tensor) else part, dtype)
    if bank.truth_boxes is not None and bank.truth_boxes.shape[2] == 1:
        rows["truth_boxes"] = rows["truth_boxes"][:, :, 0]
    return rows


def _check_rows(rows: dict[str, np.ndarray], meta: BankMeta, glimpse: GlimpseNetwork) -> None:
    if meta.num_channels != glimpse.num_channels:
        raise ValueError(
            f"the bank's features have {meta.num_channels} numbers, "
            f"the glimpse network takes {glimpse.num_channels}"
        )
    for name, numbers in (("person", meta.person), ("camera", meta.camera)):
        if numbers is not None and len(numbers) != len(meta.tracklet):
            raise ValueError(f"{len(meta.tracklet)} clips need as many numbers of {name}, got {len(numbers)}")
    for name in ("bins", "global_feature"):
        check_finite(rows[name], f"FeatureBank.{name}")
    check_identities(rows["identity"], meta, "FeatureBank.identity")


def _joined(before: BankMeta, after: BankMeta) -> BankMeta:
    """Return the meta of two sets of clips, one after the other."""
    lists: dict[str, Any] = {}
    for name in ("tracklet", "person", "camera"):
        parts = getattr(before, name), getattr(after, name)
        if (parts[0] is None) != (parts[1] is None):
            raise ValueError(f"some batches have {name} and some have not")
        lists[name] = None if parts[0] is None else parts[0] + parts[1]
    joined = dataclasses.replace(after, **lists)
    if dataclasses.replace(before, **lists) != joined:
        raise ValueError(f"a batch is unlike those before: it has {_short(after)}, those {_short(before)}")
    return joined


def _short(meta: BankMeta) -> str:
    return f"{meta.grid}, frames {meta.has_frames}, truth boxes {meta.has_truth_boxes} of {meta.num_things} things"


def _open_glimpse(path: Path, meta: BankMeta) -> GlimpseNetwork:
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    try:
        state = load_tensors(path)
        glimpse = GlimpseNetwork.of_weights(state, meta.num_channels, meta.num_glimpses, meta.num_identities)
    except Exception as error:  # torch raises many types for damaged files
        pass_on_lack_of_memory(error)
        is_text = isinstance(error, RuntimeError | UnknownTensor)
        reason = " ".join(str(error).split())[:300] if is_text else type(error).__name__
        raise ValueError(f"{path} does not hold the bank's glimpse network: {reason}") from error
    if broken := [name for name, value in state.items() if not bool(torch.isfinite(value).all())]:
        raise ValueError(f"{path} holds NaN or infinity, in {broken[0]}")
    return glimpse.requires_grad_(False).eval()
