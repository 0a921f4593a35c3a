"""Batches of clips, loaded by workers ahead of the network."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from backbone.data.cache import Arrays, FrameCache
from backbone.data.clips import IdentitySampler, consecutive_clips
from backbone.data.tracklet import Tracklet
from backbone.data.transforms import AugmentConfig, augment
from backbone.distributed import own_rows, rank, world_size

# Memory for short tracklets already seen: opening a file for every clip costs more than reading it. A clip is a
# small part of a long tracklet, which is not kept.
KEPT_BYTES = 2**29
SHORT_BYTES = 2**21

LONGEST_WAIT = 600  # seconds for a batch
GONE = re.compile("timed out|killed by signal|exited unexpectedly")  # torch's words for workers that have ended


@dataclass
class ClipBatch:
    """B clips of one size.

    Attributes:
        clip: uint8 (B, L, H, W, 3), RGB.
        flow: float16 (B, L, H, W, 2), pixels per frame, or None.
        person: person ids, int64 (B,).
        tracklet: number of each clip's tracklet in the list that it was cut from, int64 (B,).
        source: the tracklets' names.
        truth_boxes: float32 (B, L, K, 4), x0, y0, x1, y1 in pixels of the clip, of K things; NaN where one
            is out of sight. None if unknown.
        num_different: number of different frames of each clip, int64 (B,): a tracklet's last clip repeats some.
        replaced: files of frames that could not be read and were replaced, by the name of their tracklet.
    """

    clip: Tensor
    flow: Tensor | None
    person: Tensor
    tracklet: Tensor
    source: list[str]
    truth_boxes: np.ndarray | None
    num_different: Tensor
    replaced: dict[str, tuple[Path, ...]] = field(default_factory=dict)

    def pin_memory(self) -> "ClipBatch":
        """Return the batch in memory that is copied to a GPU while the host goes on; `DataLoader` calls this."""
        flow = None if self.flow is None else self.flow.pin_memory()
        return replace(self, clip=self.clip.pin_memory(), flow=flow)


class _Batches(Dataset[ClipBatch], ABC):
    """Batches by number, each whole: a worker makes one at a time."""

    def __init__(self, tracklets: Sequence[Tracklet], cache: FrameCache):
        self.tracklets = tracklets
        self.cache = cache
        self._kept: dict[int, Arrays] = {}
        self._room = KEPT_BYTES

    @abstractmethod
    def clips(self, number: int) -> list[tuple[int, np.ndarray]]:
        """Return tracklet index and frame indices of each clip of a batch."""

    def augmentation(self, number: int) -> tuple[AugmentConfig, np.random.Generator] | None:
        """Return the augmentation of a batch's clips, or None."""
        return None

    def __getitem__(self, number: int) -> ClipBatch:
        augmentation = self.augmentation(number)
        rows = []
        clips = self.clips(number)
        for index, frame_indices in clips:
            tracklet = self.tracklets[index]
            clip, flow = self.cache.clip(tracklet, frame_indices, partial(self._arrays, index))
            boxes = None if tracklet.truth_boxes is None else tracklet.truth_boxes[frame_indices]
            if augmentation is not None:
                clip, flow, boxes = augment(clip, flow, boxes, *augmentation)
            rows.append((index, clip, flow, boxes))
        return self._collate(rows, torch.tensor([len(np.unique(frames)) for _, frames in clips]))

    def _arrays(self, index: int) -> Arrays:
        """Return a tracklet's frames and flow, from memory if there was room to keep them."""
        if index in self._kept:
            return self._kept[index]
        frames, flow = self.cache.arrays(self.tracklets[index])
        size = frames.nbytes + (0 if flow is None else flow.nbytes)
        if size > min(SHORT_BYTES, self._room):
            return frames, flow  # memory-mapped
        self._room -= size
        self._kept[index] = np.array(frames), None if flow is None else np.array(flow)
        return self._kept[index]

    def _collate(
        self, rows: list[tuple[int, np.ndarray, np.ndarray | None, np.ndarray | None]], num_different: Tensor
    ) -> ClipBatch:
        indices, clips, flows, boxes = zip(*rows, strict=True)
        sources = [self.tracklets[index].source for index in indices]
        scale = np.array([self.cache.width, self.cache.height] * 2, dtype=np.float32)
        return ClipBatch(
            clip=torch.from_numpy(np.stack(clips)),
            flow=None if flows[0] is None else torch.from_numpy(np.stack(flows)),
            person=torch.tensor([self.tracklets[index].person for index in indices]),
            tracklet=torch.tensor(indices),
            source=sources,
            truth_boxes=None if any(box is None for box in boxes) else np.stack(boxes) * scale,
            num_different=num_different,
            replaced={name: self.cache.replaced[name] for name in sources if name in self.cache.replaced},
        )


class TrainingBatches(_Batches):
    """Batch number `step` of training: P persons x K random clips, augmented. Of several ranks each has rows."""

    def __init__(
        self,
        tracklets: Sequence[Tracklet],
        cache: FrameCache,
        sampler: IdentitySampler,
        augment: AugmentConfig,
    ):
        super().__init__(tracklets, cache)
        self.sampler = sampler
        self.augment = augment
        self.place = rank(), world_size()  # a worker that makes batches is in no group

    def clips(self, number: int) -> list[tuple[int, np.ndarray]]:
        """Draw the clips of a batch, all of them, and return this rank's."""
        clips: list[tuple[int, np.ndarray]] = own_rows(self.sampler.batch(number), *self.place)
        return clips

    def augmentation(self, number: int) -> tuple[AugmentConfig, np.random.Generator]:
        """Return the settings and a generator of the batch's own, and of the rank's after the first."""
        ranks = self.place[:1] if self.place[0] else ()
        return self.augment, np.random.default_rng([self.sampler.seed, 2, number, *ranks])


class TestBatches(_Batches):
    """Test batches: the consecutive clips of all tracklets, in order, `clips_per_batch` at a time."""

    __test__ = False  # no test case of pytest's

    def __init__(self, tracklets: Sequence[Tracklet], cache: FrameCache, num_frames: int, clips_per_batch: int):
        super().__init__(tracklets, cache)
        self.all_clips = [
            (index, frame_indices)
            for index, tracklet in enumerate(tracklets)
            for frame_indices in consecutive_clips(len(tracklet), num_frames)
        ]
        self.clips_per_batch = clips_per_batch

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self.all_clips) // self.clips_per_batch)

    def clips(self, number: int) -> list[tuple[int, np.ndarray]]:
        """Return the next clips; the last batch may be smaller."""
        return self.all_clips[number * self.clips_per_batch : (number + 1) * self.clips_per_batch]


class _OrError(Dataset[ClipBatch | ValueError | OSError]):
    """Returns errors about data and disk: raised in a worker, their message would be a traceback."""

    def __init__(self, batches: Dataset[ClipBatch]):
        self.batches = batches

    def __getitem__(self, number: int) -> ClipBatch | ValueError | OSError:
        try:
            return self.batches[number]
        except (ValueError, OSError) as error:
            return error


def _one_thread(worker: int) -> None:
    """Let OpenCV work in the worker's own thread alone; there is a worker for each core.

    0 says so; 1 would wait for threads of the process that the worker is a copy of, for ever.
    """
    cv2.setNumThreads(0)


def load_ahead(batches: _Batches, numbers: range, workers: int) -> Iterator[ClipBatch]:
    """Yield the batches of these numbers, in order, made by worker processes ahead of use.

    A worker's `ValueError`, such as that of a damaged image, is raised here as it was there. Frames that it
    replaced are noted in this process's cache, too.

    Raises:
        OSError: a worker was killed, or has given nothing for ten minutes.
    """
    loader = DataLoader(
        _OrError(batches),
        batch_size=None,
        sampler=numbers,
        num_workers=min(workers, len(numbers)),
        prefetch_factor=4 if workers and len(numbers) else None,
        pin_memory=torch.cuda.is_available(),
        # For the workers' base seed, which nothing here uses: drawn from PyTorch's own generator, it would
        # part a resumed run from an uninterrupted one.
        generator=torch.Generator(),
        timeout=LONGEST_WAIT if workers and len(numbers) else 0,
        worker_init_fn=_one_thread,
    )
    loaded = iter(loader)
    while True:
        try:
            batch = next(loaded)
        except StopIteration:
            return
        except (RuntimeError, ConnectionError, EOFError) as error:
            reason = " ".join(str(error).split())
            if isinstance(error, RuntimeError) and not GONE.search(reason):
                raise
            raise OSError(
                f"a process that loads data ahead was killed, or gives nothing ({reason[:150]}). Is the memory "
                "full, or the shared memory (df -h /dev/shm; containers often have 64 MB)? --load.workers 0 needs "
                "neither. If it still computes flow, a3d data cache does that beforehand"
            ) from error
        if isinstance(batch, ValueError | OSError):
            raise batch
        for name, paths in batch.replaced.items():
            batches.cache.note_replaced(name, paths)
        yield batch
