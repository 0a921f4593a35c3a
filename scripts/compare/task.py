"""A run of `a3d compare` in a process of its own: `python -m scripts.compare.task TASK`, the task as JSON.

An agent is trained on a bank with one seed and scored on the clips held out. It leaves <out>/<agent>/<seed>.json,
all or nothing; where it fails, <seed>.error.txt with the traceback.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import dacite
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

import agents
from a3d_env.process import AttentionProcess, Episodes
from a3d_env.rewards import log_prob
from agents.control_algorithm import ControlAlgorithm
from agents.rollout import at_test, follow, hit_shares
from agents.runs.bank_policy import PolicyRunConfig, build_policy_run
from agents.runs.build import explaining_settings
from agents.runs.children import end_with_parent
from agents.runs.jobs import Job, do
from agents.settings import settings_used
from backbone.json_file import read_object

# Clips at most that a point of the learning curve is measured on; the final scores are of all that are held out.
CURVE_CLIPS = 256
LIBRARIES = ("torch", "gymnasium", "stable-baselines3", "sb3-contrib", "numpy")


@dataclass(frozen=True)
class CompareResult:
    """Entries of a run's result that the report needs: `train_and_score` says what they are."""

    agent: str
    seed: int
    digest: str
    curve: list[dict[str, float | int]]
    clips: dict[str, list]
    person: list
    bins: list[list]
    positions: list[int]
    steps: int
    updates: int
    seconds: float | int
    peak_mb: float | int | None
    settings: dict[str, Any]
    algorithm: dict[str, Any]
    versions: dict[str, str]


@dataclass(frozen=True)
class CompareTask(Job):
    """Task of one run: to train an agent on a bank, and to test it on the clips held out.

    Attributes:
        config: agent, its seed and all settings; `out` is the folder of the comparison.
        points: number of points of the learning curve.
    """

    config: PolicyRunConfig
    points: int = 10

    unit: ClassVar[str] = "step"
    threads: ClassVar[int | None] = 1

    @property
    def title(self) -> str:
        """Name of the run, as it is printed."""
        return f"{self.config.agent}/{self.config.seed}"

    @property
    def result_file(self) -> Path:
        """File of the result, which the report is made of."""
        return self.config.out / re.sub(r"[^\w.-]", "_", self.config.agent) / f"{self.config.seed}.json"

    @property
    def progress(self) -> Path:
        """File that says how many steps are taken."""
        return self.result_file.with_suffix(".progress")

    @property
    def error_file(self) -> Path:
        """File of the traceback, if the run failed."""
        return self.result_file.with_suffix(".error.txt")

    @property
    def process(self) -> tuple[str, str]:
        """Module that is run in a process of its own, this one, and the task."""
        return "scripts.compare.task", json.dumps(asdict(self), default=str)

    @property
    def num_steps(self) -> int:
        """Number of environment steps to train for."""
        is_control = agents.get_algorithm(self.config.agent).build is ControlAlgorithm
        return 0 if is_control else self.config.timesteps

    def steps_taken(self) -> int:
        """Return how many environment steps the run says that it has taken; 0 if it has only begun."""
        try:
            return min(int(self.progress.read_text(encoding="utf-8")), self.config.timesteps)
        except (OSError, ValueError):  # not begun, or just being written
            return 0

    @property
    def digest(self) -> str:
        """Text that differs between runs that can come out differently; the folders' names do not count."""
        values = {key: value for key, value in asdict(self.config).items() if key not in ("out", "bank", "device")}
        entry = agents.get_algorithm(self.config.agent)
        text = json.dumps([values, settings_of(entry), bank_digest(self.config.bank), self.points], default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def result(self) -> dict[str, Any] | None:
        """Return the run's result, or None if it is not finished."""
        if not self.result_file.is_file():
            return None
        result = read_object(self.result_file, CompareResult, "delete it, and it is run again")
        if result["digest"] != self.digest:
            raise ValueError(
                f"{self.result_file} is of a run with other settings or bank: take another folder (--out)"
            )
        return result

    def prepare(self) -> None:
        """Remove what an earlier process left, as the run begins anew."""
        super().prepare()
        self.progress.unlink(missing_ok=True)


def settings_of(entry: agents.Algorithm) -> dict[str, Any]:
    """Return what the registry says of an algorithm, as text and numbers."""
    values: dict[str, Any] = {"defaults": entry.defaults, "policy": entry.policy_kwargs}
    if entry.scoring is not None:
        values["scoring"] = [entry.scoring.__name__, entry.scoring_defaults]
    return json.loads(json.dumps(values, default=repr))


@functools.cache
def bank_digest(folder: Path) -> str:
    """Return a text that differs between banks; F_o to F_c and the global features stand for the bins'."""
    digest = hashlib.sha256()
    for name in ("meta.json", "glimpse.pt", "identity.npy", "global_feature.npy"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def run(task: CompareTask) -> int:
    """Do a task in this process, write its result, or the error's traceback, and return the exit status."""
    task.result_file.parent.mkdir(parents=True, exist_ok=True)
    try:
        return do(task, train_and_score, "compare", allow_nan=False)
    finally:
        task.progress.unlink(missing_ok=True)


def train_and_score(task: CompareTask) -> dict[str, Any]:
    """Train, and return the measurements: the curve, each held-out clip's scores, the bins looked at, the cost."""
    agent, process, held_out = build_policy_run(task.config)
    curve = Curve(task, process, held_out[:: -(-len(held_out) // CURVE_CLIPS)])
    started = time.monotonic()
    if not isinstance(agent, ControlAlgorithm):
        with explaining_settings(task.config.agent):
            agent.learn(task.config.timesteps, callback=curve)
    trained = time.monotonic() - started - curve.seconds
    episodes = follow(at_test(agent), process, held_out)
    scores = clip_scores(process, episodes)
    chosen = episodes.bins[:, 1:].numpy()
    return {
        "agent": task.config.agent,
        "seed": task.config.seed,
        "digest": task.digest,
        "curve": curve.points,
        "clips": {name: as_list(values) for name, values in scores.items()},
        "person": process.bank.identity[held_out].tolist(),
        # how often each bin is looked at, at each glimpse: (T - 1, num_bins)
        "bins": [np.bincount(step, minlength=process.bank.grid.num_bins).tolist() for step in chosen.T],
        "positions": list(process.bank.grid.positions),
        "steps": agent.num_timesteps,
        "updates": int(getattr(agent, "_n_updates", 0)),
        "seconds": round(trained, 1),
        "peak_mb": peak_memory_mb(),
        "settings": json.loads(json.dumps(asdict(task.config), default=str)),
        "algorithm": settings_used(agent),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def clip_scores(process: AttentionProcess, episodes: Episodes) -> dict[str, np.ndarray]:
    """Return each episode's reward, log_prob and, if the truth is known, hit_rate (NaN if the thing is unseen)."""
    verdict = process.verdict(episodes)
    scores = {"reward": process.reward(verdict).numpy(), "log_prob": log_prob(verdict).numpy()}
    if process.bank.hits is not None:
        scores["hit_rate"] = 100 * hit_shares(process.bank, episodes)
    return scores


def as_list(values: np.ndarray) -> list[float | None]:
    """Return numbers for JSON, which has no NaN, to 6 digits after the point."""
    return [None if np.isnan(value) else round(float(value), 6) for value in values]


class Curve(BaseCallback):
    """Scores the policy's mean on held-out clips in the course of the training, and says how far it is.

    Attributes:
        points: mean rewards, with the environment step.
        seconds: seconds that the scoring took.
    """

    def __init__(self, task: CompareTask, process: AttentionProcess, clip: torch.Tensor):
        super().__init__()
        self.task = task
        self.process = process
        self.clip = clip
        self.points: list[dict[str, float]] = []
        self.seconds = 0.0
        self._said = 0.0

    def _on_training_start(self) -> None:
        self.note(self.model)

    def _on_rollout_start(self) -> None:
        self._look()

    def _on_training_end(self) -> None:
        if self.points[-1]["step"] < self.num_timesteps:
            self.note(self.model)

    def _on_step(self) -> bool:
        if time.monotonic() - self._said > 1:
            self._said = time.monotonic()
            self.task.progress.write_text(str(self.num_timesteps), encoding="utf-8")
        return True

    def _look(self) -> None:
        due = len(self.points) * self.task.config.timesteps / self.task.points
        if self.num_timesteps >= due:
            self.note(self.model)

    def note(self, agent: BaseAlgorithm) -> None:
        """Add a point to the curve."""
        started, was_training = time.monotonic(), agent.policy.training
        scores = clip_scores(self.process, follow(at_test(agent), self.process, self.clip))
        agent.policy.set_training_mode(was_training)
        self.points.append({"step": agent.num_timesteps, "reward": float(scores["reward"].mean())})
        self.seconds += time.monotonic() - started


def peak_memory_mb() -> float | None:
    """Return the most memory that this process has had, in MB; None if the system does not tell."""
    if os.name != "posix":
        return None
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def main() -> int:
    """Do the task that is given as the argument."""
    end_with_parent()
    config = dacite.Config(cast=[Path, tuple], strict=True)
    return run(dacite.from_dict(CompareTask, json.loads(sys.argv[1]), config))


if __name__ == "__main__":
    raise SystemExit(main())
