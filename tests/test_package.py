"""What a wheel holds, by setuptools' own list: nothing is built."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from setuptools import Distribution
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parents[1]
ROOMS = ("a3d_env", "agents", "backbone", "scripts")


@pytest.fixture
def distribution(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = Distribution({"script_name": "setup.py"})
    found.parse_config_files()
    return found


def test_a_wheel_holds_every_module_the_data_and_the_mark_of_typed_packages(distribution):
    command = build_py(distribution)
    command.finalize_options()
    modules = {file for _, _, file in command.find_all_modules()}
    data = {f"{source}/{name}" for _, source, _, names in command.data_files for name in names}
    files = {path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file()}
    expected = {str(path) for path in files if "__pycache__" not in path.parts}
    assert modules | data == expected
    assert {f"{room}/py.typed" for room in ROOMS} <= data
    assert {"agents/episodes/page.html", "backbone/pretrained/small.pt", "backbone/data/splits/prid.json"} <= data


def test_the_package_says_who_made_it_and_what_for(distribution):
    metadata = distribution.metadata
    assert metadata.get_author() == "The A3D authors"
    assert "person re-identification" in metadata.get_keywords()
    assert "Typing :: Typed" in metadata.get_classifiers()
    assert metadata.get_long_description().startswith("# A3D")


def test_the_command_of_a_wheel_is_there(distribution):
    name, _, function = distribution.entry_points["console_scripts"][0].partition(" = ")[2].partition(":")
    assert callable(getattr(import_module(name), function))


def test_extras_that_texts_name_exist(distribution):
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    modules = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    named = {
        path: re.findall(r"(a3d|\.)\[(\w+)\]'", path.read_text(encoding="utf-8")) for path in [*pages, *modules]
    }
    assert {extra for found in named.values() for _, extra in found} <= set(distribution.extras_require)
    # a wheel's user has no source folder, which `.` would be
    assert not [path for path in modules if any(package == "." for package, _ in named[path])]
