"""A finished run, rebuilt from its checkpoint: what `a3d evaluate` scores and `a3d bank` runs over clips."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm

from a3d_env.bins import BinGrid
from backbone.data import ReidData, load_data
from backbone.data.cache import FrameCache
from backbone.representation import Representation
from scripts.build import build_agent, build_cache, build_environment, build_grid, build_representation
from scripts.checkpoint import explaining_misfits, fingerprint, read_checkpoint
from scripts.config import TrainConfig


@dataclass(frozen=True)
class Run:
    """The parts of a run with their trained weights, and the data to use them on.

    Attributes:
        config: the run's, with what was asked for in its place.
        representation: backbone, F_o, F_h and F_c.
        grid: the bins of its feature maps.
        agent: who decides.
        data: the tracklets of the training, or of other data.
        cache: their frames and flow.
        people: the person id behind each of F_c's outputs.
        knows_training_half: whether `data.train` is what the run was trained on.
    """

    config: TrainConfig
    representation: Representation
    grid: BinGrid
    agent: BaseAlgorithm
    data: ReidData
    cache: FrameCache
    people: list[int]
    knows_training_half: bool


def load_run(checkpoint: Path, *, data: str | None = None, device: str = "auto", cache: Path | None = None) -> Run:
    """Rebuild what a checkpoint holds.

    Args:
        checkpoint: a run's folder, or its checkpoint.pt.
        data: NAME[:DIRECTORY]; by default the data that the run was trained on.
        device: cpu, cuda, ...; auto takes a GPU if there is one.
        cache: where decoded frames and flow are kept; by default as in training.

    Raises:
        ValueError: the checkpoint or the data can't be used, or the data of the training is no longer what it was.
    """
    state = read_checkpoint(checkpoint)
    trained: TrainConfig = state["config"]
    config = dataclasses.replace(
        trained,
        device=device,
        cache=cache or trained.cache,
        data=data or trained.data,
        # what the file holds is not fetched again
        backbone=dataclasses.replace(trained.backbone, weights=None),
    )
    frame_cache = build_cache(config)
    tracklets = load_data(config.data, config.data_options, frame_cache.folder)
    trained_on = state.get("training_data", "")
    is_same = config.data == trained.data if trained_on == "" else trained_on == fingerprint(tracklets)
    if config.data == trained.data and not is_same:
        raise ValueError(
            f"{config.data} holds other tracklets than when {checkpoint} was trained on it, so people "
            "of its training may now be in the test half: use the data as it was, or other people's"
        )
    representation = build_representation(config, len(state["people"]))
    grid = build_grid(config, representation)
    agent = build_agent(config, build_environment(config, representation, grid))
    with explaining_misfits(checkpoint):
        representation.load_state_dict(state["shared"]["representation"])
        agent.set_parameters(state["agent"])
    return Run(config, representation, grid, agent, tracklets, frame_cache, state["people"], is_same)
