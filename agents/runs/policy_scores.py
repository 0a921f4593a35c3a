"""What a policy's episodes earn, beside agents that learned nothing and agents that know the truth."""

import sys

import numpy as np
import torch
from tqdm import tqdm

from a3d_env.process import AttentionProcess, Episodes
from a3d_env.rewards import log_prob
from agents.oracles import best_bins, truth_bins
from agents.rollout import Agent, Choosing, agent_choice, at_test, finish, hit_shares
from agents.runs.scoring import controls
from agents.statistics import mean_interval

CLIPS_AT_ONCE = 32
COLUMNS = {"reward": 3, "log_prob": 3, "hit_rate": 1}  # and the digits shown

# A mean and its 95% interval, which one person's clips don't have.
Measure = tuple[float, float | None, float | None]
# For each agent and column; None where the truth is unknown.
Table = dict[str, dict[str, Measure | None]]


def score(process: AttentionProcess, agent: Agent, clip: torch.Tensor) -> Table:
    """Score the policy's mean on clips, beside agents that learned nothing and those that know the truth.

    Returns:
        Of each the reward, the true identity's log_prob, and hit_rate, the percentage of glimpses 2 to T that
        cover the thing, over clips in which it is seen; with intervals over the people in the clips.
    """
    follow = agent_choice(at_test(agent), process)
    choices = {"policy": follow} | {name: agent_choice(control, process) for name, control in controls().items()}
    if process.bank.hits is not None:
        choices["truth bins"] = truth_bins(process)
    finished = {name: finish(process, process.start(clip), choose) for name, choose in choices.items()}
    # An agent that searches the table itself is not asked how it would go on from every bin.
    rest = (lambda now: now.bins[:, -1]) if isinstance(agent, Choosing) else follow
    # by far the longest: every bin is tried at every glimpse
    best = []
    interval = 0.2 if sys.stderr.isatty() else 15
    with tqdm(desc="scoring", total=len(clip), unit="clip", leave=False, mininterval=interval) as bar:
        for part in clip.split(CLIPS_AT_ONCE):
            best.append(best_bins(process, part, rest))
            bar.update(len(part))
    bins, hidden = (torch.cat(values) for values in zip(*((one.bins, one.hidden) for one in best), strict=True))
    finished["best bins"] = Episodes(clip, bins, hidden)
    return {name: _measure(process, episodes) for name, episodes in finished.items()}


def text_table(table: Table) -> str:
    """Lay scores out, one row an agent, means with their intervals."""
    width = max(map(len, table))
    lines = [" " * width + "".join(f"{name:>28}" for name in COLUMNS)]
    for name, row in table.items():
        lines.append(f"{name:<{width}}" + "".join(f"{_shown(row[key], COLUMNS[key]):>28}" for key in COLUMNS))
    return "\n".join(lines)


def _shown(measure: Measure | None, digits: int) -> str:
    if measure is None:
        return "-"
    value, low, high = measure
    mean = f"{value:.{digits}f}"
    return mean if low is None else f"{mean} [{low:.{digits}f}, {high:.{digits}f}]"


def _measure(process: AttentionProcess, episodes: Episodes) -> dict[str, Measure | None]:
    verdict = process.verdict(episodes)
    person = verdict.truth.numpy()
    values = {
        "reward": process.reward(verdict).numpy(),
        "log_prob": log_prob(verdict).numpy(),
        "hit_rate": 100 * hit_shares(process.bank, episodes),
    }
    return {name: _interval(value, person) for name, value in values.items()}


def _interval(values: np.ndarray, person: np.ndarray) -> Measure | None:
    """Return the mean of what was measured, which NaN was not, with its interval over people."""
    people = len(np.unique(person[~np.isnan(values)]))
    if people < 2:
        return (float(np.nanmean(values)), None, None) if people else None
    interval = mean_interval(values, person)
    return interval.value, interval.low, interval.high
