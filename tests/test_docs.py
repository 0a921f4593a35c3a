"""README and the site: links resolve, nav and files agree, code runs, commands have the flags that pages name."""

import importlib
import re
import shlex
import shutil
from itertools import chain
from pathlib import Path

import pytest
import torch
import yaml

from scripts import cli

ROOT = Path(__file__).parents[1]
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
PAGES = sorted((ROOT / "docs").rglob("*.md"))
LINKED = sorted((ROOT / "benchmarks").glob("*.md"))  # docs/hooks.py makes them part of the site
# The page on code of the user's own has tests of its own, and a3d.onnx is in those of the export.
WITH_CODE = [ROOT / "README.md", *(page for page in PAGES if page.name not in ("your_own.md", "trained_model.md"))]
# Smaller sizes than the pages', and what is in the test's run.
SMALL = {"20_000": "192", "200_000": "768", '"81"': '"1"', "(1, 10, 5)": "(0, 0, 0)", "clip=12": "clip=0"}

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.py"))
# Sizes at which a notebook takes a second or few, and files that it leaves.
TINY = {
    "environment_and_ppo": {"ITERATIONS": 2, "NUM_ENVS": 8},
    "swap_and_compare": {"SEEDS": 1, "TIMESTEPS": 192, "EPISODES": 4},
    "debug_an_episode": {"TIMESTEPS": 192},
    "own_video_to_search": {"STEPS": '"1"'},
}
LEFT = {
    "debug_an_episode": {"episode.png", "episode.html", "episode.npz"},
    "own_video_to_search": {"street.npz", "found.html", "found.json"},
}


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What headings are called in links, as mkdocs names them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)


def files_in(nav) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return list(chain.from_iterable(map(files_in, nav.values() if isinstance(nav, dict) else nav)))


def commands(page: Path) -> list[list[str]]:
    """The page's commands as lists of words."""
    lines = chain.from_iterable(block.replace("\\\n", " ").splitlines() for block in blocks(page, "bash"))
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("a3d ")]


def test_the_readme_is_short_and_needs_no_neighbouring_files():
    readme = text_of(ROOT / "README.md")
    assert len(readme) <= 8000
    targets = re.findall(r"(!?)\[[^]]*\]\(([^)]+)\)", prose(ROOT / "README.md"))
    relative = [target for _, target in targets if not target.startswith("https://")]
    # a package index shows no files of the repository: what is said does not need the one picture
    assert relative == ["benchmarks/bins.jpg"]
    for path in re.findall(r"`((?:docs|benchmarks|agents|backbone|a3d_env|scripts)/[\w./]*)`", readme):
        assert (ROOT / path).exists(), path


def test_the_navigation_names_each_page_once():
    named = files_in(SITE["nav"])
    found = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES]
    assert sorted(named) == sorted(found + [page.relative_to(ROOT).as_posix() for page in LINKED])


@pytest.mark.parametrize("page", [*PAGES, *LINKED], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT / "docs") or file.parent == ROOT / "benchmarks", (
            f"{target}: not in the site"
        )
        assert not anchor or anchor in anchors(file), target


def test_the_reference_names_packages():
    for page in PAGES:
        for name in re.findall(r"^::: (\S+)$", text_of(page), re.MULTILINE):
            assert (ROOT / name / "__init__.py").exists(), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in WITH_CODE if blocks(page, "python")], ids=lambda page: page.stem
)
def test_python_runs(page, trained_once, tmp_path, monkeypatch):
    shutil.copytree(trained_once, tmp_path / "runs" / "benchmark")
    monkeypatch.chdir(tmp_path)
    for block in blocks(page, "python"):
        for said, small in SMALL.items():
            block = block.replace(said, small)
        exec(block, {"__name__": "page"})


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_notebooks_run(notebook, tmp_path, monkeypatch):
    assert notebook.relative_to(ROOT).as_posix() in text_of(ROOT / "docs" / "notebooks.md")
    monkeypatch.chdir(tmp_path)
    source = text_of(notebook)
    assert source.startswith("# %% [markdown]\n# # ")
    for name, value in TINY[notebook.stem].items():
        source, count = re.subn(rf"^{name} = [^ \n]+", f"{name} = {value}", source, flags=re.MULTILINE)
        assert count == 1, name
    exec(compile(source, str(notebook), "exec"), {"__name__": "notebook"})
    assert {path.name for path in tmp_path.iterdir()} >= LEFT.get(notebook.stem, set())


def test_the_loop_of_ppo_is_short():
    assert len(text_of(ROOT / "docs" / "notebooks" / "environment_and_ppo.py").splitlines()) <= 100


@pytest.mark.parametrize(
    "page", [page for page in [*WITH_CODE, *LINKED] if commands(page)], ids=lambda page: page.stem
)
def test_commands_have_the_flags_that_pages_name(page, tmp_path, monkeypatch):
    """Each command line is read, and nothing is run."""
    monkeypatch.chdir(tmp_path)
    for name, *flags in commands(page):
        cli.read(
            importlib.import_module(f"scripts.{name}"), name, [re.sub(r"<\w+>", "dir", flag) for flag in flags]
        )


def test_ppo_in_a_plain_loop_learns(capsys):
    source = text_of(ROOT / "docs" / "notebooks" / "environment_and_ppo.py")
    assert source.count("\n") <= 100
    small = source.replace("ITERATIONS = 40", "ITERATIONS = 20").replace("NUM_ENVS = 256", "NUM_ENVS = 64")
    notebook = {"__name__": "notebook"}
    exec(compile(small, "environment_and_ppo.py", "exec"), notebook)
    history = torch.stack(notebook["history"])
    assert history[-5:].mean() > history[:5].mean() + 0.2, capsys.readouterr().out
