"""The parts of a joint training, built from its configuration."""

import copy
import dataclasses
import sys
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecMonitor

from a3d_env.bins import BinGrid
from agents.features import SharedFeatureCallback
from agents.rollout import Agent
from agents.runs.build import build_agent, build_cache, build_environment, build_grid, build_representation
from agents.runs.checkpoint import random_state, set_random_state, weights_at_test
from agents.runs.checks import check_agent, check_batch, check_frozen, check_same_data
from agents.runs.config import TrainConfig
from agents.runs.describe import fit_comparison
from agents.runs.scoring import Scores, controls, evaluate
from backbone.data import ReidData, load_data
from backbone.data.cache import FrameCache
from backbone.data.clips import IdentitySampler
from backbone.data.loader import TrainingBatches, load_ahead
from backbone.progress import say
from backbone.representation import Representation

ENDLESS = sys.maxsize


@dataclass(frozen=True)
class Training:
    """What trains together.

    Attributes:
        config: all settings.
        data: the people to train on and the people to test on.
        cache: their frames and flow.
        representation: the network that is trained.
        grid: the bins of its feature maps.
        env: the environment, on the clips of a batch.
        agent: who chooses bins in it.
        shared: gives the environment its features, and trains the representation.
        first_step: the batches that a run which goes on has behind it; 0 for a new one.
    """

    config: TrainConfig
    data: ReidData
    cache: FrameCache
    representation: Representation
    grid: BinGrid
    env: VecMonitor
    agent: BaseAlgorithm
    shared: SharedFeatureCallback
    first_step: int

    @property
    def num_steps(self) -> int:
        """The environment's steps until the last batch."""
        per_batch: int = self.env.num_envs * self.env.get_attr("num_decisions")[0]
        return (self.config.steps - self.first_step) * per_batch

    def fit_comparison(self) -> str:
        """Fit what is compared to the training people, and return what was fitted, in a line."""
        return fit_comparison(
            self.representation, self.agent, self.data.train, self.cache, self.config.load, self.grid
        )

    def score(self, *, with_controls: bool = False) -> dict[str, Scores]:
        """Score the agent, and agents without learning on the same representation if asked for."""
        candidates: dict[str, Agent] = {"agent": self.agent, **(controls() if with_controls else {})}
        return evaluate(self.representation, candidates, self.data, self.cache, self.config.load, self.grid)

    def score_so_far(self) -> tuple[Representation, Scores]:
        """Score the agent on a copy of the representation, as it would be tested after this batch.

        Call it between two batches; what is trained, and what it draws, stays as it is.
        """
        drawn = random_state()
        tested = copy.deepcopy(self.representation)
        tested.load_state_dict(weights_at_test({"shared": self.shared.state_dict()}))
        fit_comparison(tested, self.agent, self.data.train, self.cache, self.config.load, self.grid)
        scores = evaluate(tested, {"agent": self.agent}, self.data, self.cache, self.config.load, self.grid)
        set_random_state(drawn)
        return tested, scores["agent"]

    def score_untrained(self) -> dict[str, Scores]:
        """Score the agent before training, by a metric fitted as the one after training is."""
        self.fit_comparison()
        scores = self.score()
        self.representation.comparison.reset()
        return scores


def build_training(config: TrainConfig, state: dict[str, Any] | None) -> Training:
    """Build what a configuration describes.

    Args:
        config: all settings.
        state: of a checkpoint that will be restored into the parts (`agents.runs.checkpoint.restore`); None for a
            run that begins.

    Raises:
        ValueError: settings or data that can't be trained with.
    """
    cache = build_cache(config)
    data = load_data(config.data, config.data_options, cache.folder)
    if state:
        check_same_data(config, data, state)
    check_agent(config, data)
    check_batch(config)
    people = data.train_people
    sampler = IdentitySampler(
        data.train,
        config.load.num_people,
        config.load.clips_per_person,
        config.load.num_frames,
        config.seed,
        config.load.sampling,
    )
    batches = TrainingBatches(data.train, cache, sampler, config.load.augment)
    say(
        f"{data.name}: {len(people)} people and {len(data.train)} tracklets to train on, "
        f"{len(data.query)} queries and {len(data.gallery)} gallery tracklets of other people to test"
    )
    # a run that goes on has its weights in the checkpoint
    weights = None if state else config.backbone.weights
    starting = dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, weights=weights))
    representation = build_representation(starting, len(people))
    if report := representation.backbone.weights_report:
        say(report)
    if not state:
        check_frozen(representation, config)
    grid = build_grid(config, representation)
    env = build_environment(config, representation, grid)
    agent = build_agent(config, env)
    first_step = state["shared"]["step"] if state else 0
    shared = SharedFeatureCallback(
        representation,
        load_ahead(batches, range(first_step, ENDLESS), config.load.workers),
        {person: number for number, person in enumerate(people)},
        grid,
        config.joint,
        config.steps,
    )
    return Training(config, data, cache, representation, grid, env, agent, shared, first_step)
