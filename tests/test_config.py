from pathlib import Path

import pytest

from agents.runs.config import TrainConfig, config_from_json, config_to_json
from agents.runs.presets import PRESETS, get_preset


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_its_file(name):
    config = get_preset(name)
    assert config.preset == name
    assert config_from_json(config_to_json(config), Path("config.json")) == config


def test_the_papers_settings():
    config = get_preset("mars")
    batches_per_epoch = 625 // 12
    assert (config.load.num_people, config.load.clips_per_person, config.load.num_frames) == (12, 4, 6)
    assert (config.load.height, config.load.width) == (256, 128)
    assert config.steps == 800 * batches_per_epoch
    assert config.joint.halve_every == 60 * batches_per_epoch
    assert config.joint.learning_rate == config.policy.learning_rate == 2e-4
    assert config.policy.variance == 0.03
    assert config.joint.margin == 0.3
    assert (config.attention.bin_size, config.attention.num_glimpses) == ((4, 6, 3), 4)
    assert config.attention.reward == "identity"
    assert (config.backbone.name, config.backbone.weights) == ("resnet50", "imagenet")
    assert get_preset("prid").steps == 500 * (89 // 4)
    assert get_preset("ilids").load.num_people == 4


def test_unknown_presets_list_the_known_ones():
    with pytest.raises(
        ValueError,
        match="unknown preset 'demo'; known: benchmark, two_things, planted, walkers, tiny, small, street, prid,",
    ):
        get_preset("demo")


@pytest.mark.parametrize("text", ["{", "[]", '{"steps": "many"}', '{"no_such_setting": 1}'])
def test_a_damaged_file_is_named(text):
    with pytest.raises(ValueError, match=r"runs/x/config.json holds no configuration"):
        config_from_json(text, Path("runs/x/config.json"))


@pytest.mark.parametrize("name", ["steps", "checkpoint_every", "log_every"])
def test_counts_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be 1 or more, got 0"):
        TrainConfig(**{name: 0})
