"""Flags of a command, read into its configuration, and settings of several commands with their help texts."""

import dataclasses
import io
import os
import re
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Annotated, Any

import tyro
from docstring_parser import parse_from_object

from backbone.data.bad_frames import OnBadFrame


def read_flags(kind: Any, argv: list[str], command: str, description: str | None, **settings: Any) -> Any:
    """Read a command's flags, by the types and help texts of its configuration; all commands read them alike.

    Args:
        kind: a dataclass, or a union of those of subcommands.
        argv: the flags.
        command: the command's name, after `a3d`.
        description: text that --help begins with.
        settings: further arguments of `tyro.cli`, such as `default` and `return_unknown_args`.

    Returns:
        An instance of `kind`, the result of `tyro.cli`.

    Raises:
        ValueError: unknown flags, values that can't be used, or flags that are missing.
    """
    settings |= {"args": argv, "prog": f"a3d {command}", "config": (tyro.conf.FlagCreatePairsOff,)}
    if {"-h", "--help"} & {*argv}:
        write_help_texts(kind, settings.get("default"))
        # but not before an example, or in an indented list of them
        description = re.sub(r"(?<!\n)\n(?=[^\s`]|`-)", " ", description or "")
        return tyro.cli(kind, description=description, **settings)
    said = io.StringIO()
    try:
        with redirect_stderr(said), environment(COLUMNS="100000"):  # a line has room for any text
            return tyro.cli(kind, **settings)
    except SystemExit as stop:
        if not said.getvalue():
            raise
        # the lines in the box that tyro draws, without the name of the class whose check failed
        lines = [line[2:-2].rstrip() for line in said.getvalue().splitlines()[1:-1]]
        text = "\n".join(line for line in lines if line.strip(" ─-="))
        raise ValueError(text.replace(f"Error parsing {getattr(kind, '__name__', '')}: ", "")) from stop


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set variables of the process's environment while the context lasts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            os.environ.update({} if value is None else {name: value})


def write_help_texts(kind: Any, default: Any = None) -> None:
    """Put each help text of a configuration on one line, and let that of a flag --no-... say what the flag does.

    tyro wraps lines, but keeps breaks before indented ones. It shows a setting that is True by default as its
    inverse, --no-normalize beside "Normalize ...".

    Args:
        kind: a dataclass, or the type of a setting.
        default: an instance of the dataclass, whose values are shown as defaults; None: the dataclass's own.
    """
    for inner in typing.get_args(kind):
        write_help_texts(inner)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return
    owners = filter(dataclasses.is_dataclass, reversed(kind.__mro__))
    texts = {one.arg_name: one.description for owner in owners for one in parse_from_object(owner).params}
    for field in dataclasses.fields(kind):
        value = getattr(default, field.name, field.default)
        if value is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        if text := " ".join((texts.get(field.name) or "").split()):
            if isinstance(value, bool):
                hinted = tyro.conf.arg(help_behavior_hint="" if value else "(default: False)")
                kind.__annotations__[field.name] = Annotated[bool, hinted]
            if value is True:
                text = f"Turn off what is on by default: {text[0].lower()}{text[1:]}"
            field.metadata = types.MappingProxyType({**field.metadata, "help": text})
        write_help_texts(field.type, value)


@contextmanager
def saying_if_stopped(what: Callable[[], str]) -> Iterator[None]:
    """Give Ctrl-C the text that `scripts.cli` prints after "stopped": what is left, or how to go on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(what()) from stop


Device = Annotated[str, tyro.conf.arg(help="Device: cpu, cuda, ...; auto takes a GPU if there is one.")]

CacheFolder = Annotated[
    Path | None,
    tyro.conf.arg(
        help="Folder where decoded frames and flow are kept; by default $A3D_CACHE or the user's cache folder. "
        "A checkpoint does not name the folder that its training used: give it again (with --resume, too)."
    ),
]

BAD_FRAME = (
    "Treatment of an image file that is missing or can't be read. error: stop, and name the file; skip: put its "
    "nearest readable neighbour in its place, and say in the end how many files that were, and which."
)

BadFrame = Annotated[OnBadFrame, tyro.conf.arg(help=BAD_FRAME)]
