"""From tracklets to clips, from clips to banks, and back to one descriptor a tracklet (section III-D)."""

import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from tqdm import tqdm

from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid
from a3d_env.process import AttentionProcess
from agents.rollout import Agent, at_test, follow
from agents.runs.model import TrainedModel
from backbone.data.cache import FrameCache
from backbone.data.fill import fill_from_videos
from backbone.data.loader import ClipBatch, LoadConfig, TestBatches, load_ahead
from backbone.data.source import Part, absolute, person_name, read_source
from backbone.data.spec import parse_data
from backbone.data.tracklet import Tracklet, file_key
from backbone.descriptor import Comparison
from backbone.embeddings import Embeddings, Origin
from backbone.progress import progress_bars, say
from backbone.representation import Representation

# Of large data about so many clips, but one of each tracklet at least, are enough to fit a metric to.
FITTED_CLIPS = 20_000


def clip_batches(
    tracklets: list[Tracklet],
    cache: FrameCache,
    load: LoadConfig,
    *,
    clips_per_batch: int = 32,
    clips_per_tracklet: int | None = None,
) -> TestBatches:
    """Return the batches of all consecutive clips, or of a few of each tracklet, spread evenly over it."""
    batches = TestBatches(tracklets, cache, load.num_frames, clips_per_batch)
    if clips_per_tracklet is not None:
        kept = []
        for _, group in itertools.groupby(batches.all_clips, key=lambda clip: clip[0]):
            clips = list(group)
            number = min(clips_per_tracklet, len(clips))
            kept += [clips[int((place + 0.5) * len(clips) / number)] for place in range(number)]
        batches.all_clips = kept
    return batches


def clip_banks(
    representation: Representation, batches: TestBatches, grid: BinGrid, workers: int, what: str
) -> Iterator[tuple[ClipBatch, FeatureBank]]:
    """Run the backbone on one batch after another, with progress on the standard error output."""
    loaded = load_ahead(batches, range(len(batches)), workers)
    for batch in tqdm(loaded, total=len(batches), desc=what, unit="batch", leave=False, file=sys.stderr):
        yield batch, clip_bank(representation, batch, grid)


def clip_bank(
    representation: Representation, batch: ClipBatch, grid: BinGrid, *, with_frames: bool = False
) -> FeatureBank:
    """Run the backbone on test clips. Their identities are not F_c's, so all are numbered 0."""
    feature_map = representation.feature_map(batch.clip, batch.flow)
    return FeatureBank.from_feature_map(
        feature_map,
        grid,
        torch.zeros(len(batch.clip), dtype=torch.long, device=representation.device),
        batch.source,
        frames=batch.clip.numpy() if with_frames else None,
        truth_boxes=batch.truth_boxes,
        global_feature=representation.global_feature(feature_map),
    )


class TrackletMeans:
    """Each tracklet's descriptor: the weighted mean of its clips', summed up batch by batch.

    Args:
        num_tracklets: how many there are.
        representation: says how much a clip counts.
        comparison: says what of it is compared; by default the representation's own.
    """

    def __init__(self, num_tracklets: int, representation: Representation, comparison: Comparison | None = None):
        self.representation = representation
        self.comparison = comparison or representation.comparison
        self.total: torch.Tensor | None = None
        self.weight = torch.zeros(num_tracklets, 1)

    def add(self, batch: ClipBatch, read_by_classifier: torch.Tensor) -> None:
        """Add clips.

        Args:
            batch: the clips; of the padding at the end of a tracklet nothing counts where clips are weighted.
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

    def values(self) -> torch.Tensor:
        """Return the descriptors, float32 (num_tracklets, K)."""
        assert self.total is not None
        return self.comparison.finish(self.total / self.weight)


@torch.no_grad()
def fit_comparison(
    representation: Representation,
    agent: Agent,
    tracklets: list[Tracklet],
    cache: FrameCache,
    load: LoadConfig,
    grid: BinGrid,
) -> str:
    """Fit what is compared to the training tracklets, as the trained model sees them.

    Returns:
        What was fitted, in a line; empty where nothing is to be fitted.
    """
    if not representation.comparison.is_fitted_to_data:
        return ""
    representation.eval()
    agent, parts, rows = at_test(agent), [], []
    batches = clip_batches(tracklets, cache, load, clips_per_tracklet=max(FITTED_CLIPS // len(tracklets), 1))
    for batch, bank in clip_banks(representation, batches, grid, load.workers, "fitting the metric"):
        process = AttentionProcess(bank, representation.glimpse)
        episodes = follow(agent, process, torch.arange(len(bank), device=bank.device))
        parts.append(process.descriptor(episodes).cpu())
        rows.append(batch.tracklet)
    tracklet = torch.cat(rows).tolist()
    person, camera = (
        torch.tensor([getattr(tracklets[row], name) for row in tracklet]) for name in ("person", "camera")
    )
    return representation.comparison.fit(torch.cat(parts), person, camera)


@dataclass(frozen=True)
class Described:
    """N tracklets as a model sees them.

    Attributes:
        descriptors: what is compared, averaged over a tracklet's clips, float32 (N, K), on the CPU.
        bins: those of the clip in the middle, int64 (N, T).
        clip: that clip's number among the consecutive ones, int64 (N,).
    """

    descriptors: torch.Tensor
    bins: torch.Tensor
    clip: torch.Tensor


@torch.no_grad()
def describe_tracklets(model: TrainedModel, tracklets: list[Tracklet], what: str = "describing") -> Described:
    """Let a trained model look at tracklets, as a test does.

    Args:
        model: the networks.
        tracklets: one or more.
        what: said with the progress, on the standard error output.

    Raises:
        ValueError: a frame can't be read (the message names it), or the agent needs to know more than frames.
    """
    load, agent = model.config.load, at_test(model.agent)
    batches = clip_batches(tracklets, model.cache, load)
    means = TrackletMeans(len(tracklets), model.representation)
    middle = torch.bincount(torch.tensor([index for index, _ in batches.all_clips])) // 2
    clips = iter(batches.all_clips)
    bins = torch.zeros(len(tracklets), model.representation.glimpse.num_glimpses, dtype=torch.long)
    for batch, bank in clip_banks(model.representation, batches, model.grid, load.workers, what):
        process = AttentionProcess(bank, model.representation.glimpse)
        episodes = follow(agent, process, torch.arange(len(bank), device=bank.device))
        means.add(batch, process.descriptor(episodes))
        numbers = torch.tensor([int(frames[0]) // load.num_frames for _, frames in islice(clips, len(bank))])
        shown = numbers == middle[batch.tracklet]
        bins[batch.tracklet[shown]] = episodes.bins.cpu()[shown]
    return Described(means.values(), bins, middle)


def embed(model: TrainedModel, data: str | None, part: Part) -> Embeddings:
    """Describe the tracklets of some data.

    Args:
        model: the networks.
        data: as in `backbone.data.source.read_source`, or with other settings of a data set
            (`backbone.data.spec`); None: what the model was trained on.
        part: of a data set.

    Raises:
        ValueError: they can't be read.
    """
    spec, options = model.config.data, model.config.data_options
    if data is not None:
        spec, options = parse_data(data, options)
    with progress_bars() as progress:
        tracklets = read_source(spec, part, options, model.cache.folder, progress=progress, say=say)
        fill_from_videos(model.cache, tracklets, progress)
    described = describe_tracklets(model, tracklets)
    if text := model.cache.describe_replaced():
        say(text)
    return Embeddings(
        descriptors=described.descriptors.numpy(),
        person=np.array([one.person for one in tracklets], dtype=np.int64),
        camera=np.array([one.camera for one in tracklets], dtype=np.int64),
        name=[person_name(one, spec) for one in tracklets],
        source=[one.source for one in tracklets],
        key=[file_key(one.frames) for one in tracklets],
        bins=described.bins.numpy(),
        clip=described.clip.numpy(),
        origin=Origin(
            data=absolute(spec),
            part=part,
            # as a file has them: lists for tuples
            options=json.loads(json.dumps(dataclasses.asdict(options))),
            model=model.digest,
            agent=model.config.agent,
            clip_size=model.grid.clip_size,
            feature_size=model.grid.feature_size,
            bin_size=model.grid.bin_size,
        ),
    )
