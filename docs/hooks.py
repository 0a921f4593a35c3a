"""Parts of the site that lie elsewhere: the pages of benchmarks/, and the options of the commands.

mkdocs calls these functions by their names (`hooks` in mkdocs.yml).
"""

import io
import os
import re
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
WIDTH = "84"  # characters of a line of --help


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures of benchmarks/, as benchmarks/... of the site."""
    for path in sorted((ROOT / "benchmarks").iterdir()):
        files.append(File.generated(config, f"benchmarks/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links between docs/ and benchmarks/ at their places in the site; fill in the commands' options."""
    if page.file.src_uri == "commands.md":
        return markdown.replace("<!-- options -->", options())
    return markdown.replace("](../benchmarks/", "](benchmarks/").replace("](../docs/", "](../")


def options() -> str:
    """Return the --help of each command: its text, then its options, group by group."""
    sys.path.insert(0, str(ROOT))
    os.environ["COLUMNS"] = WIDTH
    from scripts.cli import COMMANDS

    subcommands = {"data": ["cut", "check", "cache"]}
    parts = []
    for name in COMMANDS:
        for words in [[name], *([name, sub] for sub in subcommands.get(name, []))]:
            about, *groups = re.split(r"^╭─+ (.*?) ─+╮$", help_of(words), flags=re.MULTILINE)
            _, _, about = about.partition("\n\n")  # less the line of usage
            parts.append(f"## a3d {' '.join(words)}\n\n{about.strip()}")
            for title, box in zip(groups[::2], groups[1::2], strict=True):
                lines = [line.strip("│").removeprefix(" ").rstrip() for line in box.splitlines() if "│" in line]
                parts.append(f"**{title}**\n\n```text\n" + "\n".join(lines) + "\n```")
    return "\n\n".join(parts)


def help_of(words: list[str]) -> str:
    """Return what `a3d WORDS --help` prints, without colours."""
    from scripts.cli import main

    # an encoding that has the characters of the boxes
    with io.TextIOWrapper(io.BytesIO(), encoding="utf-8") as text, redirect_stdout(text):
        with suppress(SystemExit):
            main([*words, "--help"])
        text.seek(0)
        return re.sub(r"\x1b\[[0-9;]*m", "", text.read())
