"""Data sets named in one text: what is an option, and what is a folder's name."""

import pytest

from backbone.data import DataConfig
from backbone.data.spec import parse_data


@pytest.mark.parametrize(
    "text", ["folder:/a@b", "folder:/a@", "folder:x@seed", "folder:a=b@c=1@/d", "synthetic@" + 40 * "a=a" + "@"]
)
def test_an_at_sign_in_a_name_is_no_option(text):
    """The last would take years where the text is searched by trial and error."""
    assert parse_data(text, DataConfig()) == (text, DataConfig())


def test_options_follow_the_last_at_sign():
    name, options = parse_data("folder:a@b@split_seed=3,test_fraction=0.9,", DataConfig())
    assert (name, options.split_seed, options.test_fraction) == ("folder:a@b", 3, 0.9)
