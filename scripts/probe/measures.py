"""Measurements of each row of `a3d probe`, clip by clip and query by query."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from agents.controls import centre_agent, random_agent, swap_partners, truth_agent
from agents.probes import EpisodeRule, RecordingRule, following, looking_at, mean_locations
from agents.rollout import Agent, check_that_it_decides
from agents.runs.model import Run
from agents.runs.scoring import LOOKS, retrieve, searched_tracklets
from agents.statistics import Interval, mean_over_people
from backbone.progress import counted
from scripts.probe.clip_set import ClipSet
from scripts.probe.next_look import NextLooks
from scripts.probe.query_oracle import QueryOracle

POLICY, SAMPLED, RANDOM, CENTRE = "policy mean", "policy sampled", "random", "centre"
# the policy's places without regard to the clip: their average at each step, and those on another person's clip
AVERAGE_PLACE, OTHER_CLIP = "policy, average place", "policy, another clip"
TRUTH, BEST = "truth", "best bin"
ROWS = (POLICY, SAMPLED, RANDOM, CENTRE, AVERAGE_PLACE, OTHER_CLIP, TRUTH, BEST)


@dataclass
class Measured:
    """Measured values of the rows.

    Attributes:
        values: numbers by row and column, one for each clip or query; NaN if it was not measured.
        person: persons by column, one for each clip or query.
        notes: lines that say which values are missing, and why.
        places: values by name and place, float (time, height, width).
        agreement: by half of the data, the mean over clips of the correlation, over bins, of the reward with what
            retrieval gains (`NextLooks`); None if no clip has one.
    """

    values: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    person: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    places: dict[str, np.ndarray] = field(default_factory=dict)
    agreement: dict[str, Interval | None] = field(default_factory=dict)

    def add_next_looks(self, half: str, reward: str, tried: NextLooks, person: np.ndarray) -> None:
        """Add the maps and the correlation of every bin as the next look, on one half of the data."""
        paid, gained = tried.maps()
        found = {f"{reward}, {half}": paid, f"gain of retrieval, {half}": gained}
        self.places |= {name: one for name, one in found.items() if np.isfinite(one).all()}
        self.agreement[half] = mean_over_people(tried.correlation, person)
        count = int((~np.isnan(tried.correlation)).sum())
        self.notes.append(
            f"reward and retrieval, {half}: {counted(count, 'clip')}, those in which bins differ in what they pay "
            "and in the rank at which they find the person"
        )


@torch.no_grad()
def measure(run: Run, *, max_clips: int | None = None, clips_per_batch: int = 32, seed: int = 0) -> Measured:
    """Measure reward and log_prob on people whom F_c was fitted on, and the other columns on the others.

    The backbone runs over all clips twice: where the policy looks on all of them has to be known first.

    Args:
        run: networks, agent and data.
        max_clips: most clips of each tracklet, spread evenly over it; None for all.
        clips_per_batch: number of clips in memory at once.
        seed: seed of all random choices.

    Raises:
        ValueError: nothing is chosen (T of 0 or 1), or the data has no test half.
    """
    check_that_it_decides("the run has", run.representation.glimpse.num_glimpses)
    if not run.data.query or not run.data.gallery:
        raise ValueError(f"{run.data.name} has no tracklets in its test half")
    torch.manual_seed(seed)  # what the policy samples
    measured = Measured()
    if run.knows_training_half:
        known = ClipSet(
            run, run.data.train, max_clips=max_clips, clips_per_batch=clips_per_batch, of_training=True
        )
        _measure_known(run.agent, known, measured, seed)
    else:
        measured.notes.append(
            "reward, log_prob: F_c was not fitted on people of these data, so that it can't judge"
        )
    strangers = ClipSet(run, searched_tracklets(run.data), max_clips=max_clips, clips_per_batch=clips_per_batch)
    _measure_strangers(run, strangers, measured, seed)
    return measured


def _measure_known(agent: Agent, clips: ClipSet, measured: Measured, seed: int) -> None:
    recording = RecordingRule(agent)
    seen = clips.watch({POLICY: recording}, "training people, policy")
    locations = recording.locations()
    tried = NextLooks(clips, clips.tracklets, seen[POLICY].descriptors.values(), locations)
    rows = _rows(agent, clips, locations, seed, measured.notes, "training")
    rows |= {BEST: tried.following(agent)}
    seen |= clips.watch(rows, "training people, all rows", describe=False)
    measured.add_next_looks("training people", "reward", tried, clips.person)
    measured.person |= {"reward": clips.person, "log_prob": clips.person}
    for name, values in seen.items():
        measured.values.setdefault(name, {}).update(values.columns())


def _measure_strangers(run: Run, clips: ClipSet, measured: Measured, seed: int) -> None:
    recording = RecordingRule(run.agent)
    seen = clips.watch({POLICY: recording}, "test people, policy")
    locations, of_policy = recording.locations(), seen[POLICY].descriptors.values()
    rows = _rows(run.agent, clips, locations, seed, measured.notes, "test")
    oracle = QueryOracle(run.agent, clips, run.data, run.representation, of_policy, locations)
    rows |= {POLICY: looking_at(locations), BEST: oracle}
    seen = clips.watch(rows, "test people, all rows", oracle.log_prob)
    measured.add_next_looks("test people", "gallery_log_prob", oracle.next_looks, clips.person)
    looked = run.grid.nearest(locations).flatten().bincount(minlength=run.grid.num_bins)
    measured.places["looks of the policy, test people, %"] = (
        (100 * looked / looked.sum()).view(run.grid.positions).numpy()
    )
    measured.notes.append(
        "gallery_log_prob: of the clips of queries, by distances to the gallery's people as the policy mean "
        "describes them"
    )
    measured.notes.append(
        "best bin on test people: chosen for the queries, knowing who they are, by that gallery_log_prob; its "
        f"{', '.join(LOOKS)} are of queries alone"
    )
    for name, values in seen.items():
        # The oracle chooses bins for queries only: who is searched for can't be known in the gallery.
        found = retrieve(run.data, values.descriptors.values(), of_policy if name == BEST else None)
        columns = values.columns()
        if name == BEST:
            columns |= {column: np.where(oracle.judged, columns[column], np.nan) for column in LOOKS}
        columns |= {"R1": 100.0 * (found.first_ranks == 1), "mAP": 100 * found.average_precisions}
        measured.values.setdefault(name, {}).update(columns)
    asked = np.array([run.data.query[number].person for number in found.queries])
    measured.person |= {column: clips.person for column in ("gallery_log_prob", *LOOKS)} | {
        "R1": asked,
        "mAP": asked,
    }


def _rows(
    agent: Agent, clips: ClipSet, locations: Tensor, seed: int, notes: list[str], half: str
) -> dict[str, EpisodeRule]:
    """Return the rows that can be had, except the policy's mean and the best bins."""
    rows = {
        SAMPLED: following(agent, deterministic=False),
        RANDOM: following(random_agent(seed)),
        CENTRE: following(centre_agent()),
        AVERAGE_PLACE: looking_at(mean_locations(locations)),
    }
    try:
        rows[OTHER_CLIP] = looking_at(locations[swap_partners(clips.person, seed)])
    except ValueError as error:
        notes.append(f'"{OTHER_CLIP}" is left out on the {half} people: {error}')
    if clips.knows_truth:
        rows[TRUTH] = following(truth_agent())
    else:
        notes.append(f"{TRUTH} is left out on the {half} people: the data does not say where to look")
    return rows
