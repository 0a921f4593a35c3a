"""Descriptors of some data's tracklets, with ids and names."""

import dataclasses
import json
from collections.abc import Callable

import numpy as np

from agents.runs.describe import Described, describe_tracklets
from agents.runs.trained import TrainedModel
from backbone.data import DataConfig
from backbone.data.fill import fill_from_videos
from backbone.data.source import Part, read_source
from backbone.data.spec import check_trusted_data, parse_data, parse_spec
from backbone.data.tracklet import Tracklet, file_key
from backbone.embeddings import Embeddings, Origin
from backbone.progress import log_line, progress_bars


def tracklets_of(model: TrainedModel, data: str | None, part: Part) -> tuple[list[Tracklet], str, DataConfig]:
    """Read tracklets, and return them with the data's name and settings; arguments as of `embed`."""
    spec, options = model.config.data, model.config.data_options
    if data is not None:
        spec, options = parse_data(data, options)
    else:
        check_trusted_data(spec, "the checkpoint")
    with progress_bars() as progress:
        tracklets = read_source(spec, part, options, model.cache.folder, progress=progress, log_line=log_line)
        fill_from_videos(model.cache, tracklets, progress)
    return tracklets, spec, options


def embed(
    model: TrainedModel,
    data: str | None,
    part: Part,
    describe: Callable[[TrainedModel, list[Tracklet]], Described] = describe_tracklets,
) -> Embeddings:
    """Describe the tracklets of some data.

    Args:
        model: networks.
        data: data in a form of `backbone.data.source.read_source`, or with other settings of a data set
            (`backbone.data.spec`); None: the data that the model was trained on.
        part: part of a data set.
        describe: function that describes tracklets; by default here and now.

    Raises:
        ValueError: the data can't be read.
    """
    tracklets, spec, options = tracklets_of(model, data, part)
    as_saved = json.loads(json.dumps(dataclasses.asdict(options)))
    described = describe(model, tracklets)
    if text := model.cache.describe_replaced():
        log_line(text)
    return Embeddings(
        descriptors=described.descriptors.numpy(),
        person=np.array([one.person for one in tracklets], dtype=np.int64),
        camera=np.array([one.camera for one in tracklets], dtype=np.int64),
        name=[one.person_name for one in tracklets],
        source=[one.source for one in tracklets],
        key=[file_key(one.frames) for one in tracklets],
        bins=described.bins.numpy(),
        clip=described.clip.numpy(),
        origin=Origin(
            data=parse_spec(spec).absolute(),
            part=part,
            # as a file has them: lists for tuples; whom a training leaves out changes no name and no camera
            options={name: one for name, one in as_saved.items() if name != "held_out"},
            model=model.digest,
            agent=model.config.agent,
            clip_size=model.grid.clip_size,
            feature_size=model.grid.feature_size,
            bin_size=model.grid.bin_size,
        ),
    )
