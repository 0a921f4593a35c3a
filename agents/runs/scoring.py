"""Scores of agents on data: retrieval, hit rate, thresholds, and a line that says by which protocol."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from agents.controls import centre_agent, random_agent
from agents.probes import following
from agents.rollout import Agent, found_shares, hit_shares, overlap_shares
from agents.runs.describe import TrackletMeans, clip_batches, looks
from agents.runs.settings import ScoringConfig
from agents.runs.table import Column, Table
from agents.runs.trained import TrainedModel
from backbone.config import Compared
from backbone.data import ReidData
from backbone.data.tracklet import JUNK, Tracklet
from backbone.distributed import from_main, in_turns, is_main
from backbone.metrics import RetrievalScores, Search, evaluate_retrieval, get_scoring
from backbone.progress import counted, log_line
from backbone.protocol import OTHER_CAMERA, Labels
from backbone.verification import verify

# The scores that tables have room for, percentages, by name.
COLUMNS = {
    name: Column(name, spec=".1f", width=8)
    for name in ("R1", "R5", "R10", "R20", "mAP", "mINP", "hit_rate", "found", "overlap")
}

Scores = dict[str, float | None]

# Shares that describe where an agent looked, by column.
LOOKS = {"hit_rate": hit_shares, "found": found_shares, "overlap": overlap_shares}
# Features that are compared without a learned metric (`backbone.descriptor.DescriptorConfig.compared`).
RAW: tuple[Compared, ...] = ("concatenation", "global")


@torch.no_grad()
def evaluate(
    model: TrainedModel,
    agents: Mapping[str, Agent],
    data: ReidData,
    config: ScoringConfig | None = None,
    *,
    clips_per_batch: int = 32,
    retrievals: dict[str, RetrievalScores] | None = None,
) -> dict[str, Scores]:
    """Score agents on a model's representation, which runs once for all of them.

    Only one batch of clips and each tracklet's descriptor are in memory at a time. Of several ranks
    (`backbone.distributed`) each describes its share of the clips, and the first scores.

    Args:
        model: the networks.
        agents: agents that choose the bins, by name.
        data: queries and gallery.
        config: settings of the scoring; thresholds are of the plain distances, re-ranked or not.
        clips_per_batch: clips in memory.
        retrievals: a dictionary that gets what each agent's queries found, by the names of what is returned; of
            several ranks, only the first's.

    Returns:
        Scores by agent, and with `also_raw` by "NAME, by COMPARED": R1, R5, R10, R20, mAP, mINP and hit_rate,
        percentages. hit_rate is the share of chosen bins, glimpses 2 to T, that cover the thing, over clips in
        which it is seen; found, that of visible things that a chosen bin covers; overlap, that of a chosen bin
        that another one covers, over all pairs. None if the truth is unknown, or nothing is chosen (T of 0 or 1);
        the overlap needs two choices, and no truth. The thresholds of `verification_scores`, too, if
        false-accept rates are given.
    """
    config = config or ScoringConfig()
    representation, tracklets = model.representation, searched_tracklets(data)
    comparisons = {"": representation.comparison}
    if config.also_raw:
        comparisons |= {f", by {raw}": representation.comparison.by(raw) for raw in RAW}
    descriptors = {
        name + ending: TrackletMeans(len(tracklets), representation, comparison)
        for name in agents
        for ending, comparison in comparisons.items()
    }
    looked: dict[str, dict[str, list[np.ndarray]]] = {name: {column: [] for column in LOOKS} for name in agents}
    batches = clip_batches(model, tracklets, clips_per_batch=clips_per_batch)
    watches = {name: following(agent) for name, agent in agents.items()}
    for batch, process, seen in looks(model, batches, watches, "evaluating"):
        for name, episodes in seen.items():
            read = process.descriptor(episodes)
            for ending in comparisons:
                descriptors[name + ending].add(batch, read)
            for column, share in LOOKS.items():
                looked[name][column].append(share(process.bank, episodes))

    for means in descriptors.values():
        means.collect()
    looked = {name: {column: in_turns(parts) for column, parts in of.items()} for name, of in looked.items()}
    scores: dict[str, Scores] = {}
    for name, means in descriptors.items() if is_main() else ():
        looks_of = {column: np.concatenate(parts) for column, parts in looked[name.partition(", by ")[0]].items()}
        found = retrieve(data, means.values(), scoring=config.scoring, rerank=config.rerank)
        scores[name] = dict(found.as_dict())
        for column, shares in looks_of.items():
            scores[name][column] = None if np.isnan(shares).all() else 100 * float(np.nanmean(shares))
        if retrievals is not None:
            retrievals[name] = found
        if config.false_accept_rates:
            scores[name] |= verification_scores(data, means.values(), config.scoring, config.false_accept_rates)
    return from_main(scores)


def score_model(model: TrainedModel, data: ReidData, config: ScoringConfig) -> tuple[dict[str, Scores], str]:
    """Score a trained model, and controls if asked for; return the scores, and what was searched in what.

    Raises:
        ValueError: the data can't be read, or not be scored like this.
    """
    protocol = describe_search(data, config.scoring) + (", re-ranked" if config.rerank else "")
    candidates: dict[str, Agent] = {model.config.agent: model.agent, **(controls() if config.controls else {})}
    scores = evaluate(model, candidates, data, config)
    if text := model.cache.describe_replaced():
        log_line(text)
    return scores, protocol


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
        descriptors: descriptors of `searched_tracklets(data)`, float32 (num_tracklets, D).
        of_gallery: descriptors to use for the gallery, if another agent described it than the queries; by default
            `descriptors`.
        scoring: a name of `backbone.metrics.SCORINGS`.
        rerank: re-rank by k-reciprocal neighbours.

    Raises:
        ValueError: unknown scoring, or an error of `evaluate_retrieval`.
    """
    search = search_of(data, descriptors, of_gallery, scoring)
    return evaluate_retrieval(search, average_precision=get_scoring(scoring).average_precision, rerank=rerank)


def search_of(data: ReidData, descriptors: torch.Tensor, of_gallery: torch.Tensor | None, scoring: str) -> Search:
    """Return the queries and the gallery that a scoring searches; arguments as in `retrieve`."""
    parts = (data.query, searched_gallery(data, scoring))
    position = {id(tracklet): row for row, tracklet in enumerate(searched_tracklets(data))}
    query, gallery = ([position[id(tracklet)] for tracklet in part] for part in parts)
    asked, searched = labels(*parts)
    people, cameras = (asked.people, searched.people), (asked.cameras, searched.cameras)
    others = descriptors if of_gallery is None else of_gallery
    clothes = (asked.clothes, searched.clothes)
    return Search(descriptors[query], others[gallery], *people, *cameras, *clothes, data.protocol)


def labels(query: Sequence[Tracklet], gallery: Sequence[Tracklet]) -> tuple[Labels, Labels]:
    """Return the labels of queries and of a gallery; clothes are unknown if those of one of the tracklets are."""
    names = [one.clothes for one in (*query, *gallery)]
    numbers = np.unique(names, return_inverse=True)[1] if all(names) else None
    both = Labels(
        np.array([one.person for one in (*query, *gallery)]),
        np.array([one.camera for one in (*query, *gallery)]),
        numbers,
    )
    return both.part(slice(len(query))), both.part(slice(len(query), None))


def verification_scores(
    data: ReidData, descriptors: torch.Tensor, scoring: str, false_accept_rates: Sequence[float]
) -> Scores:
    """Return at which distance to say that two tracklets are of one person, and how often that is wrong.

    Returns:
        `EER`, the equal error rate in percent, and `EER_distance`; for each wanted rate f `FAR=f_distance`, below
        which to say yes, `FAR=f_reached`, the percentage of pairs of two people that this accepts, at most f, and
        `FAR=f_TAR`, that of pairs of one person.
    """
    verification = verify(search_of(data, descriptors, None, scoring))
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


def searched_gallery(data: ReidData, scoring: str) -> list[Tracklet]:
    """Return the gallery that a scoring searches: with the tracklets that are queries, too, or without."""
    if get_scoring(scoring).queries_in_gallery:
        return data.gallery
    queries = {id(tracklet) for tracklet in data.query}
    return [tracklet for tracklet in data.gallery if id(tracklet) not in queries]


def describe_search(data: ReidData, scoring: str) -> str:
    """Say in a line what is searched for in what, by which scoring."""
    gallery, protocol = searched_gallery(data, scoring), data.protocol
    people = [tracklet.person for tracklet in gallery]
    scored = [person for person in people if person != JUNK]
    matchless = protocol.without_match(*labels(data.query, gallery))
    asked = {tracklet.person for tracklet in data.query}
    distractors = sum(person in data.distractors for person in scored)
    people_count = len(set(scored) - data.distractors)
    said = f", protocol {protocol.name} (found is {protocol.match})" if noted_protocol(data) else ""
    parts = [
        f"{data.name}, scoring {scoring}{said}: {counted(len(data.query), 'query')}"
        + (f" ({matchless:,} without a match, left out)" if matchless else ""),
        f"gallery {counted(len(scored), 'tracklet')} of {counted(people_count, 'person')}",
    ]
    if junk := len(people) - len(scored):
        parts.append(f"{counted(junk, 'junk tracklet')} left out")
    if distractors:
        parts.append(f"{counted(distractors, 'distractor')} in it")
    if others := sum(person not in asked for person in scored) - distractors:
        parts.append(f"{counted(others, 'tracklet')} of people whom nobody asks for")
    return ", ".join(parts)


def noted_protocol(data: ReidData) -> dict[str, str]:
    """Return what is noted beside scores of the protocol of their search: its name, unless it is the usual one."""
    return {} if data.protocol == OTHER_CAMERA else {"protocol": data.protocol.name}


def controls() -> dict[str, Agent]:
    """Return agents that have learned nothing, to compare with."""
    return {"random bins": random_agent(), "centre bins": centre_agent()}


def table(scores: Mapping[str, Scores]) -> str:
    """Lay scores out as text, one row a name, in those of `COLUMNS` that they have."""
    found = next(iter(scores.values()))
    return Table.of(scores, [column for name, column in COLUMNS.items() if name in found]).text()
