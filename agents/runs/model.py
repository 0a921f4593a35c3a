"""A finished run, rebuilt from its checkpoint: its networks alone, or with the data to use them on."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from agents.runs.build import for_its_weights
from agents.runs.checkpoint import explaining_misfits, fingerprint, read_checkpoint, weights_at_test
from agents.runs.config import TrainConfig
from agents.runs.trained import TrainedModel, build_model
from backbone.data import ReidData, TestPart, load_data
from backbone.data.bad_frames import OnBadFrame
from backbone.data.spec import check_trusted_data, parse_data
from backbone.data.tracklet import place_of
from backbone.progress import log_line


@dataclass(frozen=True, kw_only=True)
class Run(TrainedModel):
    """A run's networks, and the data to use them on.

    Attributes:
        data: tracklets of the training, or of other data.
        knows_training_half: whether `data.train` is the data that the run was trained on.
    """

    data: ReidData
    knows_training_half: bool


def load_model(
    checkpoint: Path,
    *,
    device: str = "auto",
    cache: Path | None = None,
    on_bad_frame: OnBadFrame | None = None,
) -> TrainedModel:
    """Rebuild the networks that a checkpoint holds; the data of its training need not be there.

    Args:
        checkpoint: a run's folder, or its checkpoint.pt.
        device: cpu, cuda, ...; auto takes a GPU if there is one.
        cache: folder of decoded frames and flow; by default $A3D_CACHE or the user's cache folder.
        on_bad_frame: treatment of an image that can't be read; by default as in training.

    Raises:
        ValueError: the checkpoint can't be used.
    """
    state = read_checkpoint(checkpoint)
    trained: TrainConfig = state["config"]
    config = dataclasses.replace(
        trained,
        device=device,
        cache=cache,  # a folder that a file of somebody's names is not written to
        on_bad_frame=on_bad_frame or trained.on_bad_frame,
        load=dataclasses.replace(trained.load, workers=min(trained.load.workers, os.cpu_count() or 1)),
        # what the file holds is not fetched again
        backbone=dataclasses.replace(trained.backbone, weights=None),
    )
    settings = for_its_weights(config.agent_settings)
    model = build_model(dataclasses.replace(config, agent_settings=settings), state["people"])
    if model.representation.comparison.is_fitted_to_data and state.get("tested") is None:
        log_line(f"{checkpoint} is of an unfinished run: its metric is not fitted yet, and f_g alone is compared")
    with explaining_misfits(checkpoint):
        model.representation.load_state_dict(weights_at_test(state))
        model.agent.set_parameters(state["agent"])
    model.representation.eval()
    return dataclasses.replace(
        model,
        config=config,
        training_data=state.get("training_data", ""),
        training_places=frozenset(state.get("training_places", ())),
    )


def load_run(
    checkpoint: Path,
    *,
    data: str | None = None,
    part: TestPart = "test",
    device: str = "auto",
    cache: Path | None = None,
    on_bad_frame: OnBadFrame | None = None,
) -> Run:
    """Rebuild what a checkpoint holds, and read the data to use it on.

    Args:
        checkpoint: a run's folder, or its checkpoint.pt.
        data: `NAME[:DIRECTORY][@OPTION=VALUE,...]` (`backbone.data.spec`); by default the data that the run was
            trained on.
        part: people to search for: the test half, or all, people of the training, too (`backbone.data.load_data`).
        device: cpu, cuda, ...; auto takes a GPU if there is one.
        cache: folder of decoded frames and flow; by default $A3D_CACHE or the user's cache folder.
        on_bad_frame: treatment of an image that can't be read; by default as in training.

    Raises:
        ValueError: the checkpoint or the data can't be used, or the data of the training is no longer what it was.
    """
    model = load_model(checkpoint, device=device, cache=cache, on_bad_frame=on_bad_frame)
    trained_on = model.config.data
    if data is None:
        check_trusted_data(trained_on, checkpoint)
    options = model.config.data_options
    spec, options = (trained_on, options) if data is None else parse_data(data, options)
    config = dataclasses.replace(model.config, data=spec, data_options=options)
    tracklets = load_data(config.data, config.data_options, model.cache.folder, part)
    is_asked_for = part == "test" and (spec, options) == (trained_on, model.config.data_options)
    is_same = is_asked_for if model.training_data == "" else model.training_data == fingerprint(tracklets.train)
    if is_asked_for and not is_same:
        raise ValueError(
            f"{config.data} holds other tracklets than when {checkpoint} was trained on it, so people "
            "of its training may now be in the test half: use the data as it was, or other people's"
        )
    tell_of_people_trained_on(model, tracklets, spec)
    parts = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    return Run(**{**parts, "config": config}, data=tracklets, knows_training_half=is_same)


def people_trained_on(model: TrainedModel, data: ReidData) -> set[int]:
    """Return the people among the queries that the model was trained on a tracklet of, in this or other data."""
    known = {one.person for one in data.tracklets if place_of(one.frames) in model.training_places}
    return known & {one.person for one in data.query}


def tell_of_people_trained_on(model: TrainedModel, data: ReidData, spec: str) -> None:
    """Print how many of the people searched for the model was trained on, if there are any."""
    if known := people_trained_on(model, data):
        searched = len({one.person for one in data.query})
        log_line(
            f"{len(known)} of the {searched} people searched for in {spec} were trained on: "
            "these scores are not those on strangers"
        )
