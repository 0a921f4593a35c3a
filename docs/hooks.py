"""Parts of the site that lie elsewhere: the pages of benchmarks/, and the options of the commands.

mkdocs calls these functions by their names (`hooks` in mkdocs.yml).
"""

import io
import os
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
WIDTH = "100"  # characters of a line of --help


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
    """Return the --help of each command, with headings."""
    sys.path.insert(0, str(ROOT))
    os.environ["COLUMNS"] = WIDTH
    from scripts.cli import COMMANDS, main

    parts = []
    for name in COMMANDS:
        subcommands = [[name, sub] for sub in ("cut", "check", "cache")] if name == "data" else []
        for words in [[name], *subcommands]:
            text = io.StringIO()
            try:
                with redirect_stdout(text):
                    main([*words, "--help"])
            except SystemExit:
                pass
            plain = re.sub(r"\x1b\[[0-9;]*m", "", text.getvalue())
            about, box, rest = plain.partition("╭")
            _, _, about = about.partition("\n\n")  # less the line of usage
            parts.append(f"## a3d {' '.join(words)}\n\n{about.strip()}\n\n```text\n{box}{rest.strip()}\n```\n")
    return "\n".join(parts)
