"""The parts of a joint training, built from its configuration."""

import copy
import dataclasses
import sys
from dataclasses import dataclass
from typing import Any

import torch

from agents.features import SharedFeatureCallback
from agents.ranks import learn_together
from agents.rollout import Agent
from agents.runs.build import build_cache
from agents.runs.checkpoint import random_state, set_random_state, weights_at_test
from agents.runs.checks import check_agent, check_batch, check_frozen, check_same_data
from agents.runs.config import TrainConfig
from agents.runs.describe import fit_comparison
from agents.runs.scoring import Scores, controls, evaluate
from agents.runs.trained import TrainedModel, build_batches, build_model, build_shared
from backbone.data import ReidData, load_data
from backbone.data.loader import load_ahead
from backbone.distributed import copy_from_main, one_first, synchronize_batch_norm
from backbone.metrics import RetrievalScores
from backbone.progress import counted, log_line

ENDLESS = sys.maxsize


@dataclass(frozen=True)
class Training:
    """Parts that are trained together.

    Attributes:
        model: networks, and the agent that chooses bins.
        data: people to train on and people to test on.
        shared: callback that gives the environment its features, and trains the representation.
        first_step: number of batches that a resumed run has behind it; 0 for a new one.
    """

    model: TrainedModel
    data: ReidData
    shared: SharedFeatureCallback
    first_step: int

    @property
    def num_steps(self) -> int:
        """Number of the environment's steps until the last batch."""
        return (self.model.config.steps - self.first_step) * self.model.steps_per_batch

    def fit_comparison(self) -> str:
        """Fit the comparison to the training people, and return a line that says what was fitted."""
        return fit_comparison(self.model, self.data.train)

    def score(
        self, *, with_controls: bool = False, retrievals: dict[str, RetrievalScores] | None = None
    ) -> dict[str, Scores]:
        """Score the agent, and agents without learning on the same representation if asked for.

        `retrievals` gets what each one's queries found.
        """
        candidates: dict[str, Agent] = {"agent": self.model.agent, **(controls() if with_controls else {})}
        return evaluate(self.model, candidates, self.data, retrievals=retrievals)

    def score_so_far(self) -> tuple[TrainedModel, Scores]:
        """Score the agent on a copy of the representation, as it would be tested after this batch.

        Call it between two batches; what is trained, and what it draws, stays as it is.
        """
        drawn = random_state()
        tested = dataclasses.replace(self.model, representation=copy.deepcopy(self.model.representation))
        tested.representation.load_state_dict(weights_at_test({"shared": self.shared.state_dict()}))
        fit_comparison(tested, self.data.train)
        scores = evaluate(tested, {"agent": tested.agent}, self.data)
        set_random_state(drawn)
        return tested, scores["agent"]

    def score_untrained(self) -> dict[str, Scores]:
        """Score the agent before training, by a metric fitted as the one after training is."""
        self.fit_comparison()
        scores = self.score()
        self.model.representation.comparison.reset()
        return scores


def build_training(config: TrainConfig, state: dict[str, Any] | None) -> Training:
    """Build what a configuration describes.

    Args:
        config: settings of the run.
        state: state of a checkpoint that will be restored into the parts (`agents.runs.checkpoint.restore`); None
            for a run that begins.

    Raises:
        ValueError: settings or data that can't be trained with.
    """
    cache = build_cache(config)
    data = one_first(lambda: load_data(config.data, config.data_options, cache.folder))
    if state:
        check_same_data(config, data, state)
    check_agent(config, data)
    check_batch(config)
    people = data.train_people
    batches = build_batches(config, data, cache)
    log_line(
        f"{data.name}: {counted(len(people), 'person')} and {counted(len(data.train), 'tracklet')} to train on, "
        f"{counted(len(data.query), 'query')} and {counted(len(data.gallery), 'gallery tracklet')} "
        "of other people to test"
    )
    # a run that goes on has its weights in the checkpoint
    weights = None if state else config.backbone.weights
    starting = dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, weights=weights))
    model = dataclasses.replace(build_model(starting, people, cache), config=config)
    # Batches are all of one size: it pays to try the ways to compute a convolution.
    torch.backends.cudnn.benchmark = model.representation.device.type == "cuda"
    if report := model.representation.backbone.weights_report:
        log_line(report)
    if not state:
        check_frozen(model.representation, config)
    copy_from_main(model.representation)
    if config.joint.sync_batch_norm:
        synchronize_batch_norm(model.representation, model.representation.device)
    first_step = state["shared"]["step"] if state else 0
    shared = build_shared(model, load_ahead(batches, range(first_step, ENDLESS), config.load.workers), data.train)
    if shared.judges is not None:
        copy_from_main(shared.judges)
    learn_together(model.agent, config.seed)
    return Training(model, data, shared, first_step)
