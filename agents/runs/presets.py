"""Presets by name: data, network and budget, with the method as published."""

import dataclasses
from collections.abc import Callable

from a3d_env.attention_config import AttentionConfig
from agents.joint_config import JointConfig
from agents.runs.config import TrainConfig
from backbone.config import BackboneConfig
from backbone.data import DataConfig
from backbone.data.load_config import LoadConfig
from backbone.data.sets import synthetic_settings as synthetic
from backbone.data.sets.synthetic_settings import SyntheticConfig
from backbone.data.transforms import AugmentConfig


def benchmark() -> TrainConfig:
    """Return the benchmark on which looking matters, with the paper's method, in minutes on a CPU.

    What depends on the data and the network is not the paper's: the batch, the steps and the learning rate.
    """
    return TrainConfig(
        preset="benchmark",
        steps=900,
        data_options=DataConfig(synthetic=synthetic.benchmark()),
        load=LoadConfig(
            height=64, width=32, num_people=16, clips_per_person=2, augment=AugmentConfig(erase_probability=0.0)
        ),
        backbone=BackboneConfig(weights="synthetic"),
        joint=JointConfig(learning_rate=1e-3, halve_every=300, episodes_per_clip=1),
    )


def two_things() -> TrainConfig:
    """Return the benchmark in which only two things together name a person: looking twice at one is of no use."""
    data = DataConfig(synthetic=synthetic.two_things())
    return dataclasses.replace(benchmark(), preset="two_things", steps=600, data_options=data)


def planted() -> TrainConfig:
    """Return the benchmark of real people who carry drawn things, with the small network."""
    return dataclasses.replace(
        benchmark(),
        preset="planted",
        data="planted",
        steps=600,
        data_options=DataConfig(),
        load=dataclasses.replace(benchmark().load, sampling="spread"),
        backbone=BackboneConfig(weights="synthetic", flow=None),
    )


def walkers() -> TrainConfig:
    """Return what the small backbone's starting weights are made with: no clutter, and no attention."""
    return dataclasses.replace(
        benchmark(),
        preset="walkers",
        agent="centre",
        steps=1200,
        data_options=DataConfig(synthetic=synthetic.without_clutter(seed=1000)),
        backbone=BackboneConfig(weights=None),
        attention=AttentionConfig(num_glimpses=0),
        joint=JointConfig(learning_rate=2e-3, halve_every=300, episodes_per_clip=1, triplet_weight=0.0),
    )


def tiny() -> TrainConfig:
    """Return a run of seconds that learns nothing, to try an installation."""
    return dataclasses.replace(
        benchmark(),
        preset="tiny",
        steps=6,
        checkpoint_every=3,
        log_every=1,
        data_options=DataConfig(
            synthetic=SyntheticConfig(
                num_train_people=6, num_test_people=4, num_frames=8, height=64, width=32, tracklets_per_camera=1
            )
        ),
        load=LoadConfig(height=64, width=32, num_frames=3, num_people=2, clips_per_person=2, workers=0),
        attention=AttentionConfig(bin_size=(2, 3, 2)),
    )


def small() -> TrainConfig:
    """Return settings for one's own few hundred tracklets on a CPU: the benchmark's, with fewer people a batch."""
    return dataclasses.replace(
        benchmark(),
        preset="small",
        data="folder",
        steps=300,
        load=LoadConfig(height=64, width=32),
        joint=JointConfig(learning_rate=1e-3, halve_every=100, episodes_per_clip=1),
    )


def street() -> TrainConfig:
    """Return settings for one's own tracklets of real people on a CPU: a MobileNetV2 from ImageNet, at 128 x 64.

    The batch fits a CPU. There is no flow stream: it costs time, and means little where frames are far apart
    (--backbone.flow dis-fast adds it).
    """
    return TrainConfig(
        preset="street",
        data="folder",
        steps=600,
        load=LoadConfig(sampling="spread", augment=AugmentConfig(crop_padding=0.05)),
        backbone=BackboneConfig(name="timm:mobilenetv2_100", weights="imagenet", flow=None),
        attention=AttentionConfig(bin_size=(4, 3, 2)),
        joint=JointConfig(learning_rate=3.5e-4, halve_every=200, episodes_per_clip=1),
    )


def prid() -> TrainConfig:
    """Return the paper's settings for PRID-2011: ResNet50 from ImageNet, 500 epochs of 89 people by 4."""
    return _paper("prid", num_people=4, train_people=89, epochs=500)


def ilids() -> TrainConfig:
    """Return the paper's settings for iLIDS-VID: as PRID-2011, with 150 training people."""
    return _paper("ilids", num_people=4, train_people=150, epochs=500)


def mars() -> TrainConfig:
    """Return the paper's settings for MARS: 12 people x 4 clips, 800 epochs of 625 people."""
    return _paper("mars", num_people=12, train_people=625, epochs=800)


def _paper(name: str, *, num_people: int, train_people: int, epochs: int) -> TrainConfig:
    """Section III-D: 256 x 128, 6 frames, 4 clips a person, Adam at 2e-4 halved every 60 epochs."""
    batches_per_epoch = train_people // num_people
    return TrainConfig(
        preset=name,
        data=name,
        steps=epochs * batches_per_epoch,
        checkpoint_every=10 * batches_per_epoch,
        load=LoadConfig(height=256, width=128, num_people=num_people, workers=2),
        backbone=BackboneConfig(name="resnet50", weights="imagenet"),
        joint=JointConfig(halve_every=60 * batches_per_epoch, episodes_per_clip=1),
    )


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    preset.__name__: preset
    for preset in (benchmark, two_things, planted, walkers, tiny, small, street, prid, ilids, mars)
}


def get_preset(name: str) -> TrainConfig:
    """Return a preset's settings.

    Raises:
        ValueError: unknown name.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]()
