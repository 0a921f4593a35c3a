"""Data sets named in one text: what is an option, and what is a folder's name."""

import dataclasses

import pytest

from agents.runs.arguments import read_arguments
from agents.runs.config import config_from_json, config_to_json
from agents.runs.presets import get_preset
from backbone.data import DataConfig, load_data
from backbone.data.spec import parse_data


@pytest.mark.parametrize(
    "text", ["folder:/a@b", "folder:/a@", "folder:x@seed", "folder:a=b@c=1@/d", "synthetic@" + 40 * "a=a" + "@"]
)
def test_an_at_sign_in_a_name_is_no_option(text):
    """The last would take years where the text is searched by trial and error."""
    assert parse_data(text, DataConfig()) == (text, DataConfig())


def test_an_at_sign_in_the_name_of_what_is_there_is_no_option(tmp_path):
    text = f"folder:{tmp_path}/people@split_seed=1"
    assert parse_data(text, DataConfig())[1].split_seed == 1
    (tmp_path / "people@split_seed=1").mkdir()
    assert parse_data(text, DataConfig()) == (text, DataConfig())
    spec, options = parse_data(f"{text}@split_seed=2", DataConfig())
    assert (spec, options.split_seed) == (text, 2)


def test_options_follow_the_last_at_sign():
    name, options = parse_data("folder:a@b@split_seed=3,test_fraction=0.9,", DataConfig())
    assert (name, options.split_seed, options.test_fraction) == ("folder:a@b", 3, 0.9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("folder:x@splitt=3", "'splitt' is no option .* options of folder are test_fraction, split_seed"),
        ("prid:x@test_fraction=0.3", "'test_fraction' is no option .* options of prid are split$"),
        ("synthetic@wardrobe=3", "'wardrobe' is no option .* num_train_people"),
        ("video:a,b@split=1", "options of video are bridge_gaps"),
        ("some/folder@split=1", "some/folder has none"),
        ("folder:x@split_seed=a", "split_seed must be a number, true or false, got 'a'"),
        ("folder:x@split_seed=0.5", "split_seed must be a int, got '0.5'"),
    ],
)
def test_what_is_no_option_is_named_and_what_is_one(text, message):
    with pytest.raises(ValueError, match=message):
        parse_data(text, DataConfig())


def test_options_are_understood_by_training_and_by_reading(tmp_path):
    config, _ = read_arguments(["--data", "folder:x@test_fraction=0.3", "--data-options.split-seed", "4"])
    assert (config.data, config.data_options.test_fraction, config.data_options.split_seed) == ("folder:x", 0.3, 4)
    small = "height=32,width=16,num_frames=2,num_train_people=3,num_test_people=2,tracklets_per_camera=1"
    assert load_data(f"synthetic@{small}", DataConfig(), tmp_path).train_people == [0, 1, 2]


def test_a_file_may_name_a_folder_with_an_at_that_is_not_there_any_more(tmp_path):
    text = config_to_json(dataclasses.replace(get_preset("tiny"), data=f"folder:{tmp_path}/street@fps=25"))
    assert config_from_json(text, tmp_path).data == f"folder:{tmp_path}/street@fps=25"
    with pytest.raises(ValueError, match="'fps' is no option"):
        read_arguments(["--preset", "tiny", "--data", f"folder:{tmp_path}/street@fps=25"])
