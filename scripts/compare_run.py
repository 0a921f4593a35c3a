"""One run of `a3d compare`: an agent trained on a bank with one seed, scored on the clips held out.

It leaves <out>/<agent>/<seed>.json, all or nothing; where it fails, <seed>.error.txt with the traceback.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import resource
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from a3d_env.process import AttentionProcess, Episodes
from a3d_env.rewards import log_prob
from agents.control_algorithm import ControlAlgorithm
from agents.rollout import at_test, follow, hit_shares
from scripts.train_joint import write_text
from scripts.train_policy import PolicyRunConfig, build_policy_run

# Clips that a point of the learning curve is measured on; the final scores are of all that are held out.
CURVE_CLIPS = 256
LIBRARIES = ("torch", "gymnasium", "stable-baselines3", "sb3-contrib", "numpy")


@dataclass(frozen=True)
class CompareTask:
    """What one run is to do.

    Attributes:
        config: the agent, its seed and all settings; `out` is the folder of the comparison.
        points: of the learning curve.
    """

    config: PolicyRunConfig
    points: int = 10

    @property
    def title(self) -> str:
        """The run's name for people."""
        return f"{self.config.agent}/{self.config.seed}"

    @property
    def path(self) -> Path:
        """The result's file."""
        return self.config.out / re.sub(r"[^\w.-]", "_", self.config.agent) / f"{self.config.seed}.json"

    @property
    def progress(self) -> Path:
        """The file that says how many steps are taken."""
        return self.path.with_suffix(".progress")

    @property
    def error(self) -> Path:
        """The traceback of a run that failed."""
        return self.path.with_suffix(".error.txt")

    @property
    def digest(self) -> str:
        """A text that differs between runs that can come out differently; the folders' names do not count."""
        values = {key: value for key, value in asdict(self.config).items() if key not in ("out", "bank", "device")}
        bank = [[path.name, path.stat().st_size] for path in sorted(self.config.bank.iterdir())]
        text = json.dumps([values, bank, self.points], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def result(self) -> dict[str, Any] | None:
        """Return the run's result, or None if it is not finished.

        Raises:
            ValueError: the file is damaged, or of a run with other settings.
        """
        if not self.path.is_file():
            return None
        try:
            result = json.loads(self.path.read_text())
            digest = result["digest"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path} is damaged ({error}): delete it, and it is run again") from error
        if digest != self.digest:
            raise ValueError(f"{self.path} is of a run with other settings or bank: take another folder (--out)")
        return result


def run(task: CompareTask) -> str | None:
    """Run a task and write its result.

    Returns:
        None, or why it failed, in a line; the traceback is in the error's file.
    """
    task.path.parent.mkdir(parents=True, exist_ok=True)
    task.error.unlink(missing_ok=True)
    try:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        write_text(task.path, json.dumps(train_and_score(task)) + "\n")
    except Exception as error:
        write_text(task.error, traceback.format_exc())
        return f"{type(error).__name__}: {error}"
    finally:
        task.progress.unlink(missing_ok=True)
    return None


def train_and_score(task: CompareTask) -> dict[str, Any]:
    """Train, and return what is measured: the curve, each held-out clip's scores, the bins looked at, the cost."""
    started = time.monotonic()
    reset_peak_memory()
    agent, process, held_out = build_policy_run(task.config)
    curve = Curve(task, process, held_out[:: max(1, len(held_out) // CURVE_CLIPS)])
    if isinstance(agent, ControlAlgorithm):
        curve.note(agent)
    else:
        agent.learn(task.config.timesteps, callback=curve)
    trained = time.monotonic() - started
    episodes = follow(at_test(agent), process, held_out)
    scores = clip_scores(process, episodes)
    chosen = episodes.bins[:, 1:].numpy()
    return {
        "agent": task.config.agent,
        "seed": task.config.seed,
        "digest": task.digest,
        "curve": curve.points,
        "clips": {name: np.round(values, 6).tolist() for name, values in scores.items()},
        "person": process.bank.identity[held_out].tolist(),
        # how often each bin is looked at, at each glimpse: (T - 1, num_bins)
        "bins": [np.bincount(step, minlength=process.bank.grid.num_bins).tolist() for step in chosen.T],
        "positions": list(process.bank.grid.positions),
        "steps": agent.num_timesteps,
        "updates": int(getattr(agent, "_n_updates", 0)),
        "seconds": round(trained, 1),
        "peak_mb": round(peak_memory_mb(), 1),
        "settings": json.loads(json.dumps(asdict(task.config), default=str)),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def clip_scores(process: AttentionProcess, episodes: Episodes) -> dict[str, np.ndarray]:
    """Return each episode's reward, log_prob and, where the truth is known, hit_rate (NaN where it is unseen)."""
    verdict = process.verdict(episodes)
    scores = {"reward": process.reward(verdict).numpy(), "log_prob": log_prob(verdict).numpy()}
    if process.bank.hits is not None:
        scores["hit_rate"] = 100 * hit_shares(process.bank, episodes)
    return scores


class Curve(BaseCallback):
    """Scores the policy's mean on held-out clips in the course of the training, and says how far it is.

    Attributes:
        points: mean scores by name, with the environment step.
    """

    def __init__(self, task: CompareTask, process: AttentionProcess, clip: torch.Tensor):
        super().__init__()
        self.task = task
        self.process = process
        self.clip = clip
        self.points: list[dict[str, float]] = []
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
            self.task.progress.write_text(str(self.num_timesteps))
        return True

    def _look(self) -> None:
        due = len(self.points) * self.task.config.timesteps / self.task.points
        if self.num_timesteps >= due:
            self.note(self.model)

    def note(self, agent: BaseAlgorithm) -> None:
        """Add a point to the curve."""
        was_training = agent.policy.training
        scores = clip_scores(self.process, follow(at_test(agent), self.process, self.clip))
        agent.policy.set_training_mode(was_training)
        means = {name: float(np.nanmean(values)) for name, values in scores.items()}
        self.points.append({"step": agent.num_timesteps, **means})


def reset_peak_memory() -> None:
    """Forget the largest memory so far, where the system can: a worker process has runs one after another."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """Return the most memory that the process has had, in MB, since `reset_peak_memory` where the system can."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]
    except (OSError, TypeError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
