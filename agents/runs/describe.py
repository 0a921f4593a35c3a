"""Descriptors of tracklets: clips, their banks, and one descriptor a tracklet out of these (section III-D)."""

import dataclasses
import itertools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from tqdm import tqdm

from a3d_env.bank import FeatureBank
from a3d_env.process import AttentionProcess, Episodes
from agents.probes import EpisodeRule, following
from agents.rollout import Agent
from agents.runs.trained import TrainedModel
from backbone.data.loader import ClipBatch, TestBatches, load_ahead
from backbone.data.tracklet import Tracklet
from backbone.descriptor import Comparison
from backbone.distributed import copy_from_main, in_turns, is_main, rank, to_main, world_size
from backbone.representation import Representation

# Number of clips that are enough to fit a metric to large data, about; at least one of each tracklet is taken.
FITTED_CLIPS = 20_000


def clip_batches(
    model: TrainedModel,
    tracklets: list[Tracklet],
    *,
    clips_per_batch: int = 32,
    clips_per_tracklet: int | None = None,
) -> TestBatches:
    """Return the batches of all consecutive clips, or of a few of each tracklet, spread evenly over it."""
    batches = TestBatches(tracklets, model.cache, model.config.load.num_frames, clips_per_batch)
    if clips_per_tracklet is not None:
        kept = []
        for _, group in itertools.groupby(batches.all_clips, key=lambda clip: clip[0]):
            clips = list(group)
            number = min(clips_per_tracklet, len(clips))
            kept += [clips[int((place + 0.5) * len(clips) / number)] for place in range(number)]
        batches.all_clips = kept
    return batches


@torch.no_grad()
def looks(
    model: TrainedModel,
    batches: TestBatches,
    watches: Mapping[str, EpisodeRule],
    what: str,
    labels: Mapping[int, int] | None = None,
    *,
    numbers: range | None = None,
) -> Iterator[tuple[ClipBatch, AttentionProcess, dict[str, Episodes]]]:
    """Let agents look at the clips of tracklets; the backbone runs once for all of them.

    Args:
        model: networks.
        batches: batches of clips (`clip_batches`).
        watches: functions that choose the bins, by name (`agents.probes.following` of an agent).
        what: text shown with the progress, on the standard error output.
        labels: number of each person, an argument of `clip_bank`.
        numbers: numbers of the batches; by default all of them, or of several ranks those of this one's turn.

    Yields:
        Batch, the decision process over its clips, and by name the finished episodes, one on each clip.
    """
    if numbers is None:
        numbers = range(rank(), len(batches), world_size())  # which `backbone.distributed.in_turns` puts in order
    banks = clip_banks(model, batches, what, labels, numbers=numbers)
    for number, (batch, bank) in zip(numbers, banks, strict=True):
        first = number * batches.clips_per_batch
        process, clips = model.process(bank), torch.arange(first, first + len(bank))
        yield batch, process, {name: watch(process, clips) for name, watch in watches.items()}


def clip_banks(
    model: TrainedModel,
    batches: TestBatches,
    what: str,
    labels: Mapping[int, int] | None = None,
    *,
    numbers: range,
    with_frames: bool = False,
) -> Iterator[tuple[ClipBatch, FeatureBank]]:
    """Run the backbone on the batches of these numbers, with progress on the standard error output."""
    loaded = load_ahead(batches, numbers, model.config.load.workers)
    for batch in tqdm(loaded, total=len(numbers), desc=what, unit="batch", leave=False, file=sys.stderr):
        yield batch, clip_bank(model, batch, labels, with_frames=with_frames)


@torch.no_grad()
def clip_bank(
    model: TrainedModel, batch: ClipBatch, labels: Mapping[int, int] | None = None, *, with_frames: bool = False
) -> FeatureBank:
    """Run the backbone on test clips.

    Args:
        model: networks.
        batch: batch of clips.
        labels: the number of each person; by default all are numbered 0, as F_c does not know people of a test.
        with_frames: whether to keep the clips' frames, to be drawn.
    """
    representation = model.representation.eval()
    feature_map = representation.feature_map(batch.clip, batch.flow)
    identity = [0 if labels is None else labels[person] for person in batch.person.tolist()]
    bank = FeatureBank.from_feature_map(
        feature_map,
        model.grid,
        torch.tensor(identity, device=representation.device),
        batch.source,
        truth_boxes=batch.truth_boxes,
        global_feature=representation.global_feature(feature_map),
    )
    return dataclasses.replace(bank, frames=batch.clip.numpy()) if with_frames else bank


def tracklet_bank(model: TrainedModel, tracklet: Tracklet, clip: int | None = None) -> FeatureBank:
    """Run the backbone on one clip of a tracklet, with its frames, to be drawn.

    Args:
        model: networks.
        tracklet: tracklet of the clip.
        clip: the number of the clip among the tracklet's consecutive ones, from 0; None for the middle one.

    Raises:
        ValueError: there is no such clip.
    """
    clips = clip_batches(model, [tracklet], clips_per_batch=1)
    number = len(clips) // 2 if clip is None else clip
    if number >= len(clips):
        raise ValueError(f"{tracklet.source} has {len(clips)} clips, numbered from 0: there is no clip {clip}")
    return clip_bank(model, clips[number], with_frames=True)


class TrackletMeans:
    """Each tracklet's descriptor: the weighted mean of its clips', summed up batch by batch.

    Args:
        num_tracklets: number of tracklets.
        representation: representation, which says how much a clip counts.
        comparison: comparison, which says what of a clip is compared; by default the representation's own.
    """

    def __init__(self, num_tracklets: int, representation: Representation, comparison: Comparison | None = None):
        self.representation = representation
        self.comparison = comparison or representation.comparison
        self.total: torch.Tensor | None = None
        self.weight = torch.zeros(num_tracklets, 1)

    def add(self, batch: ClipBatch, read_by_classifier: torch.Tensor) -> None:
        """Add a batch of clips.

        Args:
            batch: batch of clips; the padding at the end of a tracklet does not count if clips are weighted.
            read_by_classifier: [f_g, h_1..h_T], float32 (N, D), on any device.
        """
        compared, weight = (
            part.cpu() for part in self.representation.compare(read_by_classifier, self.comparison)
        )
        if self.comparison.is_cosine:
            weight = weight * batch.num_different
        if self.total is None:
            self.total = torch.zeros(len(self.weight), compared.shape[1])
        self.total.index_add_(0, batch.tracklet, weight[:, None] * compared)
        self.weight.index_add_(0, batch.tracklet, weight[:, None])

    def collect(self) -> None:
        """Add on rank 0 what all ranks summed up."""
        parts = to_main((self.total, self.weight))
        if len(parts) > 1:
            self.total = torch.stack([total for total, _ in parts if total is not None]).sum(0)
            self.weight = torch.stack([weight for _, weight in parts]).sum(0)

    def means(self) -> torch.Tensor:
        """Return the weighted means, float32 (num_tracklets, K); of several ranks the first, after `collect`."""
        assert self.total is not None
        return self.total / self.weight

    def values(self) -> torch.Tensor:
        """Return the descriptors, float32 (num_tracklets, K)."""
        return self.comparison.finish(self.means())


@torch.no_grad()
def fit_comparison(model: TrainedModel, tracklets: list[Tracklet]) -> str:
    """Fit what is compared to the training tracklets, as the trained model sees them.

    Returns:
        A line that says what was fitted; empty if nothing is to be fitted.
    """
    comparison = model.representation.comparison
    if not comparison.is_fitted_to_data:
        return ""
    parts, rows = [], []
    batches = clip_batches(model, tracklets, clips_per_tracklet=max(FITTED_CLIPS // len(tracklets), 1))
    for batch, process, episodes in looks(model, batches, {"agent": following(model.agent)}, "fitting the metric"):
        parts.append(process.descriptor(episodes["agent"]).cpu())
        rows.append(batch.tracklet)
    parts, rows, text = in_turns(parts), in_turns(rows), ""
    if is_main():
        tracklet = torch.cat(rows).tolist()
        person, camera = (
            torch.tensor([getattr(tracklets[row], name) for row in tracklet]) for name in ("person", "camera")
        )
        text = comparison.fit(torch.cat(parts), person, camera)
    copy_from_main(comparison)
    return text


@dataclass(frozen=True)
class Described:
    """Descriptions of N tracklets by a model.

    Attributes:
        means: features that are compared, averaged over a tracklet's clips, before `Comparison.finish`, float32
            (N, K), on the CPU.
        descriptors: these features finished, float32 (N, K).
        clip: the number of one clip of each among the consecutive ones, int64 (N,).
        bins: the bins of that clip, int64 (N, T).
        read: [f_g, h_1..h_T] of that clip, float32 (N, D), on the CPU.
    """

    means: torch.Tensor
    descriptors: torch.Tensor
    clip: torch.Tensor
    bins: torch.Tensor
    read: torch.Tensor


@torch.no_grad()
def describe_tracklets(
    model: TrainedModel,
    tracklets: list[Tracklet],
    what: str = "describing",
    *,
    agent: Agent | None = None,
    clip: int | None = None,
    share: tuple[int, int] | None = None,
) -> Described:
    """Let a trained model look at tracklets, in the same way as a test does.

    Args:
        model: networks.
        tracklets: tracklets, one or more.
        what: text shown with the progress, on the standard error output.
        agent: agent that chooses the bins; by default the model's.
        clip: the number of the clip to show of each tracklet, or its last one where it has fewer; by default the
            one in the middle.
        share: number of a share, from 0, and the number of shares: only that share of the tracklets is described,
            in the same batches as if all were, so that the shares put together are the same bytes.

    Raises:
        ValueError: a frame can't be read (the message names it), or the agent needs to know more than frames.
    """
    batches = clip_batches(model, tracklets)
    means = TrackletMeans(len(tracklets), model.representation)
    owner = torch.tensor([index for index, _ in batches.all_clips])
    rows, numbers = share_of(owner, batches.clips_per_batch, *(share or (0, 1)))
    is_wanted = torch.zeros(len(tracklets), dtype=torch.bool)
    is_wanted[rows] = True
    counts = owner.bincount(minlength=len(tracklets))
    shown = counts // 2 if clip is None else (counts - 1).clamp(max=clip)
    number = torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]
    bins, read = [], []
    seen = looks(model, batches, {"agent": following(agent or model.agent)}, what, numbers=numbers)
    is_shown = ((number == shown[owner]) & is_wanted[owner]).split(batches.clips_per_batch)
    for (batch, process, episodes), picked in zip(seen, is_shown[numbers.start : numbers.stop], strict=True):
        descriptors = process.descriptor(episodes["agent"])
        means.add(batch, descriptors)
        bins.append(episodes["agent"].bins.cpu()[picked])
        read.append(descriptors.cpu()[picked])
    found = means.means()[rows]
    finished = means.comparison.finish(found)
    return Described(found, finished, shown[rows], torch.cat(bins), torch.cat(read))


def share_of(owner: torch.Tensor, clips_per_batch: int, number: int, of: int) -> tuple[slice, range]:
    """Return the tracklets of a share and the batches that hold their clips.

    Args:
        owner: number of each clip's tracklet, in order, int64 (clips,).
        clips_per_batch: number of clips in a batch.
        number: number of the share, from 0.
        of: number of shares, of about as many clips each, cut between tracklets; at most as many as tracklets.
    """
    count = int(owner[-1]) + 1
    cuts = [0]
    for one in range(1, of):
        cuts.append(min(max(int(owner[len(owner) * one // of]), cuts[-1] + 1), count - of + one))
    cuts.append(count)
    clips = torch.searchsorted(owner, torch.tensor(cuts[number : number + 2])).tolist()
    return slice(*cuts[number : number + 2]), range(clips[0] // clips_per_batch, -(-clips[1] // clips_per_batch))
