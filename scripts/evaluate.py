"""Score a checkpoint on a data set: `a3d evaluate`.

Every tracklet is cut into consecutive clips, each described by [f_g, h_1..h_T] at the bins that the agent
chooses, averaged over clips, and compared by Euclidean distance (section III-D).

On the data of its training, beside random and centre bins: `a3d evaluate --checkpoint runs/benchmark --controls`

The distance to say "the same person" at:
`a3d evaluate --checkpoint runs/benchmark --false-accept-rates 0.01 0.001`

On other data: `a3d evaluate --checkpoint runs/benchmark --data folder:my_tracklets --json scores.json`
"""

import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from tqdm import tqdm

from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid
from a3d_env.process import AttentionProcess
from agents.controls import centre_agent, random_agent
from agents.rollout import Agent, at_test, follow, hit_shares
from backbone.data import ReidData
from backbone.data.cache import FrameCache
from backbone.data.loader import ClipBatch, LoadConfig, TestBatches, load_ahead
from backbone.data.mars import DISTRACTOR
from backbone.data.tracklet import Tracklet
from backbone.metrics import JUNK, RetrievalScores, evaluate_retrieval, get_scoring
from backbone.replacing import replacing
from backbone.representation import Representation
from backbone.verification import verify
from scripts.run import load_run

COLUMNS = ("R1", "R5", "R10", "R20", "mAP", "mINP", "hit_rate")

Scores = dict[str, float | None]


@torch.no_grad()
def evaluate(
    representation: Representation,
    agents: Mapping[str, Agent],
    data: ReidData,
    cache: FrameCache,
    load: LoadConfig,
    grid: BinGrid,
    *,
    clips_per_batch: int = 32,
    scoring: str = "standard",
    rerank: bool = False,
    false_accept_rates: Sequence[float] = (),
) -> dict[str, Scores]:
    """Score agents on the same representation, which runs once for all of them.

    Only one batch of clips and each tracklet's descriptor are in memory at a time.

    Args:
        representation: backbone, F_o, F_h and F_c.
        agents: who looks.
        data: queries and gallery.
        cache: of their frames and flow.
        load: how clips are cut.
        grid: the bins.
        clips_per_batch: clips in memory.
        scoring: a name of `backbone.metrics.SCORINGS`.
        rerank: re-rank by k-reciprocal neighbours; thresholds are of the plain distances all the same.
        false_accept_rates: shares in [0, 1) at which thresholds are wanted (`verification_scores`).

    Returns:
        For each agent's name: R1, R5, R10, R20, mAP, mINP and hit_rate, percentages. hit_rate is the share of
        chosen bins, glimpses 2 to T, that cover the thing, over clips in which it is seen; None where the truth is
        unknown, or nothing is chosen (T of 0 or 1).
    """
    representation.eval()
    agents = {name: at_test(agent) for name, agent in agents.items()}
    tracklets = searched_tracklets(data)
    descriptors = {name: TrackletMeans(len(tracklets)) for name in agents}
    hits: dict[str, list[np.ndarray]] = {name: [] for name in agents}
    batches = clip_batches(tracklets, cache, load, clips_per_batch=clips_per_batch)
    for batch, bank in clip_banks(representation, batches, grid, load.workers, "evaluating"):
        process = AttentionProcess(bank, representation.glimpse)
        for name, agent in agents.items():
            episodes = follow(agent, process, torch.arange(len(bank), device=bank.device))
            descriptors[name].add(batch.tracklet, process.descriptor(episodes))
            hits[name].append(hit_shares(bank, episodes))

    scores: dict[str, Scores] = {}
    for name, means in descriptors.items():
        shares = np.concatenate(hits[name])
        hit_rate = None if np.isnan(shares).all() else 100 * float(np.nanmean(shares))
        scores[name] = {
            **retrieve(data, means.values(), scoring=scoring, rerank=rerank).as_dict(),
            "hit_rate": hit_rate,
        }
        if false_accept_rates:
            scores[name] |= verification_scores(data, means.values(), scoring, false_accept_rates)
    return scores


def searched_tracklets(data: ReidData) -> list[Tracklet]:
    """Return the queries and the gallery, each tracklet once."""
    return list({id(tracklet): tracklet for tracklet in [*data.query, *data.gallery]}.values())


def retrieve(
    data: ReidData,
    descriptors: torch.Tensor,
    of_gallery: torch.Tensor | None = None,
    *,
    scoring: str = "standard",
    rerank: bool = False,
) -> RetrievalScores:
    """Search the gallery for each query.

    Args:
        data: queries and gallery.
        descriptors: of `searched_tracklets(data)`, float32 (num_tracklets, D).
        of_gallery: the gallery's, like them, where they differ from the queries'.
        scoring: a name of `backbone.metrics.SCORINGS`.
        rerank: re-rank by k-reciprocal neighbours.

    Raises:
        ValueError: as `evaluate_retrieval`, or unknown scoring.
    """
    parts = search_parts(data, descriptors, of_gallery, scoring)
    return evaluate_retrieval(*parts, average_precision=get_scoring(scoring).average_precision, rerank=rerank)


def search_parts(
    data: ReidData, descriptors: torch.Tensor, of_gallery: torch.Tensor | None, scoring: str
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return what `evaluate_retrieval` and `verify` take: descriptors, people, cameras, each twice."""
    parts = (data.query, searched_gallery(data, scoring))
    position = {id(tracklet): row for row, tracklet in enumerate(searched_tracklets(data))}
    query, gallery = ([position[id(tracklet)] for tracklet in part] for part in parts)
    people, other_people = (np.array([tracklet.person for tracklet in part]) for part in parts)
    cameras, other_cameras = (np.array([tracklet.camera for tracklet in part]) for part in parts)
    others = descriptors if of_gallery is None else of_gallery
    return descriptors[query], others[gallery], people, other_people, cameras, other_cameras


def verification_scores(
    data: ReidData, descriptors: torch.Tensor, scoring: str, false_accept_rates: Sequence[float]
) -> Scores:
    """Return at which distance to say that two tracklets are of one person, and how often that is wrong.

    Returns:
        `EER`, the equal error rate in percent, and `EER_distance`; for each wanted rate f `FAR=f_distance`, below
        which to say yes, `FAR=f_reached`, the percentage of pairs of two people that this accepts, at most f, and
        `FAR=f_TAR`, that of pairs of one person.
    """
    verification = verify(*search_parts(data, descriptors, None, scoring))
    scores: Scores = {
        "EER": 100 * verification.equal_error_rate,
        "EER_distance": verification.equal_error.distance,
    }
    for rate in false_accept_rates:
        threshold = verification.at_false_accept_rate(rate)
        scores |= {
            f"FAR={rate}_distance": threshold.distance,
            f"FAR={rate}_reached": 100 * threshold.false_accept_rate,
            f"FAR={rate}_TAR": 100 * threshold.true_accept_rate,
        }
    return scores


def threshold_lines(scores: Mapping[str, Scores], false_accept_rates: Sequence[float]) -> list[str]:
    """Say which thresholds were found, for people."""
    lines = []
    for name, row in scores.items():
        lines.append(f"{name}: equal error rate {row['EER']:.1f}% at the distance {row['EER_distance']:.4g}")
        lines += [
            f"  below {row[f'FAR={rate}_distance']:.4g}: {row[f'FAR={rate}_reached']:.3g}% of pairs of two people "
            f"are accepted (at most {100 * rate:g}%), and {row[f'FAR={rate}_TAR']:.1f}% of pairs of one"
            for rate in false_accept_rates
        ]
    return lines


def searched_gallery(data: ReidData, scoring: str) -> list[Tracklet]:
    """Return the gallery that a scoring searches: with the tracklets that are queries, too, or without."""
    if get_scoring(scoring).queries_in_gallery:
        return data.gallery
    queries = {id(tracklet) for tracklet in data.query}
    return [tracklet for tracklet in data.gallery if id(tracklet) not in queries]


def describe_search(data: ReidData, scoring: str) -> str:
    """Say in a line what is searched for in what, by which scoring."""
    people = [tracklet.person for tracklet in searched_gallery(data, scoring)]
    counted = [person for person in people if person != JUNK]
    searchable = {(one.person, one.camera) for one in searched_gallery(data, scoring)}
    cameras: dict[int, set[int]] = {}
    for person, camera in searchable:
        cameras.setdefault(person, set()).add(camera)
    matchless = sum(not cameras.get(query.person, set()) - {query.camera} for query in data.query)
    asked = {tracklet.person for tracklet in data.query}
    # person 0 of MARS is nobody: what its detector took for people
    distractors = counted.count(DISTRACTOR) if data.name == "mars" else 0
    people_count = len(set(counted)) - bool(distractors)
    parts = [
        f"{data.name}, scoring {scoring}: {len(data.query):,} queries"
        + (f" ({matchless:,} without a match, left out)" if matchless else ""),
        f"gallery {len(counted):,} tracklets of {people_count:,} people",
    ]
    if junk := len(people) - len(counted):
        parts.append(f"{junk:,} junk tracklets left out")
    if distractors:
        parts.append(f"{distractors:,} distractors in it")
    if others := sum(person not in asked for person in counted) - distractors:
        parts.append(f"{others:,} tracklets of people whom nobody asks for")
    return ", ".join(parts)


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
        global_feature=representation.pool(feature_map),
    )


def controls() -> dict[str, Agent]:
    """Return agents that have learned nothing, to compare with."""
    return {"random bins": random_agent(), "centre bins": centre_agent()}


def table(scores: Mapping[str, Scores], columns: tuple[str, ...]) -> str:
    """Lay scores out as a text table, one row a name, percentages to one digit."""
    width = max(map(len, scores))
    lines = [" " * width + "".join(f"{column:>10}" for column in columns)]
    for name, row in scores.items():
        values = ("-" if row[column] is None else f"{row[column]:.1f}" for column in columns)
        lines.append(f"{name:<{width}}" + "".join(f"{value:>10}" for value in values))
    return "\n".join(lines)


class TrackletMeans:
    """Each tracklet's mean descriptor, summed up batch by batch.

    Args:
        num_tracklets: how many there are.
    """

    def __init__(self, num_tracklets: int):
        self.total: torch.Tensor | None = None
        self.clips = torch.zeros(num_tracklets, 1)

    def add(self, tracklet: torch.Tensor, descriptors: torch.Tensor) -> None:
        """Add clips: their tracklets' numbers, int64 (N,), and their descriptors (N, D), on any device."""
        if self.total is None:
            self.total = torch.zeros(len(self.clips), descriptors.shape[1])
        self.total.index_add_(0, tracklet, descriptors.cpu())
        self.clips.index_add_(0, tracklet, torch.ones(len(tracklet), 1))

    def values(self) -> torch.Tensor:
        """Return the means, float32 (num_tracklets, D)."""
        assert self.total is not None
        return self.total / self.clips


@dataclass(frozen=True)
class EvaluateConfig:
    """What to score."""

    checkpoint: Path
    """A run's folder, or its checkpoint.pt."""
    data: str | None = None
    """NAME[:DIRECTORY]; by default the data that the run was trained on."""
    scoring: Literal["standard", "official", "torchreid"] = "standard"
    """Three ways in use for MARS, which differ by points: standard, that of most recent papers; official, that of
    its own code (another average precision); torchreid, without the queries in the gallery."""
    rerank: bool = False
    """Re-rank the gallery by k-reciprocal neighbours (Zhong et al., 2017) before scoring."""
    false_accept_rates: tuple[float, ...] = ()
    """Which distance says that two tracklets are of one person? The ones at which these shares of pairs of two
    people are accepted, as in 0.01 0.001, and the one of equal error rates."""
    controls: bool = False
    """Score random and centre bins on the same representation, too."""
    json: Path | None = None
    """Write the table to this file as JSON, too."""
    device: str = "auto"
    """cpu, cuda, ...; auto takes a GPU if there is one."""
    cache: Path | None = None
    """Where decoded frames and flow are kept; by default as in training."""

    def __post_init__(self) -> None:
        if any(not 0 <= rate < 1 for rate in self.false_accept_rates):
            raise ValueError(f"false_accept_rates are 0 or more and below 1, got {self.false_accept_rates}")


def score_checkpoint(arguments: EvaluateConfig) -> tuple[dict[str, Scores], str]:
    """Rebuild what a checkpoint holds and score it; return the scores, and what was searched in what.

    Raises:
        ValueError: the checkpoint or the data can't be used, or the data of the training is no longer what it was.
    """
    run = load_run(arguments.checkpoint, data=arguments.data, device=arguments.device, cache=arguments.cache)
    protocol = describe_search(run.data, arguments.scoring) + (", re-ranked" if arguments.rerank else "")
    print(protocol)
    candidates: dict[str, Agent] = {run.config.agent: run.agent, **(controls() if arguments.controls else {})}
    scores = evaluate(
        run.representation,
        candidates,
        run.data,
        run.cache,
        run.config.load,
        run.grid,
        scoring=arguments.scoring,
        rerank=arguments.rerank,
        false_accept_rates=arguments.false_accept_rates,
    )
    return scores, protocol


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = tyro.cli(
        EvaluateConfig,
        args=argv,
        prog="a3d evaluate",
        description=__doc__,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    try:
        scores, protocol = score_checkpoint(arguments)
        print(table(scores, COLUMNS))
        if arguments.false_accept_rates:
            print("\n".join(threshold_lines(scores, arguments.false_accept_rates)))
        if arguments.json is not None:
            with replacing(arguments.json) as partial:
                partial.write_text(json.dumps({**scores, "protocol": protocol}, indent=2) + "\n")
    except (ValueError, OSError) as error:
        print(f"a3d evaluate: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\na3d evaluate: stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
