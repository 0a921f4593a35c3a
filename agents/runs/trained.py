"""A model: networks, agent and cache of a run, built by training and evaluation alike, handed on whole."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from stable_baselines3.common.base_class import BaseAlgorithm

from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid
from a3d_env.process import AttentionProcess
from a3d_env.sb3 import process_of
from agents.features import SharedFeatureCallback
from agents.judges import fold_of_each
from agents.runs.build import build_agent, build_cache, build_environment, build_grid, build_representation
from agents.runs.config import TrainConfig
from backbone.data import ReidData
from backbone.data.cache import FrameCache
from backbone.data.clips import IdentitySampler
from backbone.data.loader import ClipBatch, TrainingBatches
from backbone.data.tracklet import Tracklet
from backbone.distributed import world_size
from backbone.representation import Representation


@dataclass(frozen=True)
class TrainedModel:
    """The networks of a run, trained or in training, ready for any data.

    Attributes:
        config: configuration of the run, with what was asked for in its place.
        representation: backbone, F_o, F_h and F_c.
        grid: the bins of its feature maps.
        agent: agent that chooses the bins.
        cache: cache of frames at the run's size, and of their flow.
        people: the person id behind each of F_c's outputs.
        training_data: the fingerprint of the tracklets that it was trained on; empty while it trains.
        training_places: digests of the folders of the training's frames (`backbone.data.tracklet.place_of`); none
            while it trains.
    """

    config: TrainConfig
    representation: Representation
    grid: BinGrid
    agent: BaseAlgorithm
    cache: FrameCache
    people: list[int]
    training_data: str = ""
    training_places: frozenset[str] = frozenset()

    @cached_property
    def digest(self) -> str:
        """A text that differs between models whose descriptors can't be compared."""
        states = {"representation": self.representation.state_dict(), **self.agent.get_parameters()}
        found = hashlib.sha256(self.config.agent.encode())
        for part in ("representation", "policy"):
            for name, value in sorted(states[part].items()):
                found.update(name.encode())
                found.update(value.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:16]

    @property
    def labels(self) -> dict[int, int]:
        """Each person's number among F_c's outputs."""
        return {person: number for number, person in enumerate(self.people)}

    @property
    def steps_per_batch(self) -> int:
        """The environment's steps in a batch of the training: those of all its episodes."""
        env = self.agent.get_env()
        assert env is not None
        return env.num_envs * process_of(env).num_decisions

    def process(self, bank: FeatureBank) -> AttentionProcess:
        """Return the decision process over a bank's clips, which pays the run's reward."""
        return AttentionProcess(bank, self.representation.glimpse, self.config.attention.reward)


def build_model(config: TrainConfig, people: list[int], cache: FrameCache | None = None) -> TrainedModel:
    """Build a run's networks and agent, with the weights that a training begins with.

    Args:
        config: settings of the run.
        people: the person id behind each of F_c's outputs.
        cache: cache of frames and flow; by default a new one.
    """
    representation = build_representation(config, len(people))
    grid = build_grid(config, representation)
    agent = build_agent(config, build_environment(config, representation, grid))
    return TrainedModel(config, representation, grid, agent, cache or build_cache(config), people)


def build_batches(config: TrainConfig, data: ReidData, cache: FrameCache) -> TrainingBatches:
    """Return the batches of a training, by number; each rank brings the configuration's number of people."""
    load, num_people = config.load, config.load.num_people * world_size()
    if world_size() > 1 and (known := len(data.train_people)) < num_people:
        raise ValueError(
            f"{world_size()} ranks with {load.num_people} people each need {num_people} to train on, got {known}: "
            "let each bring fewer (--load.num-people), start fewer ranks, or give more people"
        )
    sampler = IdentitySampler(
        data.train, num_people, load.clips_per_person, load.num_frames, config.seed, load.sampling
    )
    return TrainingBatches(data.train, cache, sampler, load.augment)


def build_shared(
    model: TrainedModel, batches: Iterator[ClipBatch], tracklets: Sequence[Tracklet]
) -> SharedFeatureCallback:
    """Return what gives a model's environment the features of batches, and trains its representation.

    Args:
        model: networks.
        batches: endless iterator over batches.
        tracklets: the training tracklets, which the batches are cut from.
    """
    config = model.config
    return SharedFeatureCallback(
        model.representation,
        batches,
        model.labels,
        model.grid,
        config.joint,
        config.steps,
        log_every=config.log_every,
        fold=fold_of_each(tracklets, config.joint.paid_by),
    )
