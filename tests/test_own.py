import pytest

from backbone import own


def test_what_is_named_is_loaded():
    assert own.load_own("backbone.own:trust", "thing") is own.trust
    for name, message in {
        "trust": "names no thing of your own: write module:name",
        "folder:a/b": "names no thing of your own",
        "backbone.own:nothing": "the thing 'backbone.own:nothing' can't be imported",
        "no_such_module:x": "can't be imported: No module",
    }.items():
        with pytest.raises(ValueError, match=message):
            own.load_own(name, "thing")


def test_a_file_names_only_what_is_trusted(monkeypatch):
    monkeypatch.setattr(own, "_TRUSTED", set())
    message = r"c\.pt names a thing that is no part of this library, mine:x: .* --trust mine:x"
    with pytest.raises(ValueError, match=message):
        own.check_trusted("mine:x", "c.pt", "a thing")
    own.trust("mine:x")
    own.check_trusted("mine:x", "c.pt", "a thing")
