"""Scores of a policy's episodes, beside agents that learned nothing and agents that know the truth."""

import dataclasses

import torch

from a3d_env.process import AttentionProcess, Episodes
from a3d_env.rewards import log_prob
from agents.oracles import best_bins, truth_bins
from agents.rollout import Agent, ProcessAgent, agent_choice, at_test, finish, hit_shares
from agents.runs.scoring import COLUMNS as RETRIEVAL
from agents.runs.scoring import controls
from agents.runs.table import Column, Table
from agents.statistics import Interval, mean_over_people
from backbone.progress import progress_bar

CLIPS_AT_ONCE = 32

# Columns of the scores of an episode.
COLUMNS = {
    column.name: dataclasses.replace(column, kind="interval", width=26)
    for column in (Column("reward", spec=".3f"), Column("log_prob", spec=".3f"), RETRIEVAL["hit_rate"])
}

# Means by agent and column, without bounds for clips of one person; None where nothing was measured.
PolicyScores = dict[str, dict[str, Interval | None]]


def score(process: AttentionProcess, agent: Agent, clip: torch.Tensor) -> PolicyScores:
    """Score the policy's mean on clips, beside agents that learned nothing and those that know the truth.

    Returns:
        Scores by agent: the reward, the true identity's log_prob, and hit_rate, the percentage of glimpses 2 to T
        that cover the thing, over clips in which it is seen; with intervals over the people in the clips.
    """
    follow = agent_choice(at_test(agent), process)
    choices = {"policy": follow} | {name: agent_choice(control, process) for name, control in controls().items()}
    if process.bank.hits is not None:
        choices["truth bins"] = truth_bins(process)
    finished = {name: finish(process, process.start(clip), choose) for name, choose in choices.items()}
    # An agent that searches the table itself is not asked how it would go on from every bin.
    rest = (lambda now: now.bins[:, -1]) if isinstance(agent, ProcessAgent) else follow
    # by far the longest: every bin is tried at every glimpse
    best = []
    with progress_bar(len(clip), "scoring", "clip", leave=False) as bar:
        for part in clip.split(CLIPS_AT_ONCE):
            best.append(best_bins(process, part, rest))
            bar.update(len(part))
    bins, hidden = (torch.cat(values) for values in zip(*((one.bins, one.hidden) for one in best), strict=True))
    finished["best bins"] = Episodes(clip, bins, hidden)
    return {name: _measure(process, episodes) for name, episodes in finished.items()}


def text_table(scores: PolicyScores) -> str:
    """Lay scores out, one row an agent, means with their intervals."""
    return Table.of(scores, COLUMNS.values()).text()


def _measure(process: AttentionProcess, episodes: Episodes) -> dict[str, Interval | None]:
    verdict = process.verdict(episodes)
    person = verdict.truth.numpy()
    values = {
        "reward": process.reward(verdict).numpy(),
        "log_prob": log_prob(verdict).numpy(),
        "hit_rate": 100 * hit_shares(process.bank, episodes),
    }
    return {name: mean_over_people(value, person) for name, value in values.items()}
