"""Objects are read as they were written."""

from dataclasses import dataclass
from pathlib import Path

from backbone.json_file import CHECKSUM, read_object, write_object


@dataclass
class Shape:
    where: str


def test_what_json_does_not_know_is_written_by_the_options_and_its_checksum_is_right(tmp_path):
    path = tmp_path / "a.json"
    write_object(path, {"where": Path("here"), "name": "\udce9", "pairs": {1: (2, 3)}}, default=str, indent=1)
    assert f'"{CHECKSUM}": ' in path.read_text()
    assert read_object(path, Shape, "") == {"where": "here", "name": "\udce9", "pairs": {"1": [2, 3]}}
