"""The console command `a3d`: its subcommands are the other modules of this folder.

A command's module has a docstring, which --help shows, and `run(config)`, which returns its status or None (0).
The annotation of `config` is the dataclass that the flags are read into. A command that reads them in its own way
has `read(argv)`, which returns a tuple: what `run` takes. Errors and Ctrl-C are told here, once for all commands.
"""

import importlib
import importlib.metadata
import io
import os
import sys
import typing
from pathlib import Path
from types import ModuleType

from backbone.own import trust
from backbone.progress import log_line, print_result

NOTHING = "nothing was written"
# name -> its help text, and what is left after Ctrl-C, unless the command itself knows more (`saying_if_stopped`)
COMMANDS = {
    "train": ("train the representation and an agent jointly", NOTHING),
    "tune": ("search for better settings of a training", "the same command goes on from there"),
    "pretrain": (
        "make the small backbone's starting weights",
        "the same command goes on from the last checkpoint",
    ),
    "evaluate": (
        "score a checkpoint: R1, R5, R10, R20, mAP, hit rate",
        "the same command goes on where runs were begun",
    ),
    "embed": ("describe tracklets by a trained model, into a file", NOTHING),
    "search": ("find a person's tracklets again, by their descriptors", ""),
    "export": ("write the trained model as ONNX, or for torch.export", NOTHING),
    "share": ("share a trained model with a model card: a file, or on the hub", NOTHING),
    "probe": ("measure whether the agent looks at the right place in each clip", NOTHING),
    "ablate": (
        "run the paper's ablations over seeds, and report them",
        "the same command goes on from there",
    ),
    "bank": ("run a trained representation over all clips, into a bank's folder", NOTHING),
    "policy": ("train an agent alone, on a bank", NOTHING),
    "compare": ("compare agents on a bank, with statistics over seeds", "the same command runs what is missing"),
    "debug": ("show why the agent looked there, and what if elsewhere", "finished pages are kept"),
    "data": ("cut videos into tracklets, check data, fill the cache", "nothing half-written was left"),
    "benchmark": ("measure how much faster the fast paths are", ""),
}

USAGE = """usage: a3d [--trust MODULE:NAME] COMMAND [options]
       a3d --version

Recurrent 3D attention (A3D) for video person re-identification.

commands:
{commands}

`a3d COMMAND --help` shows a command's options and examples.

A checkpoint can name an agent, a backbone, a reward, a locator or a data set that is not part of this library,
MODULE:NAME. That code runs only if you name it, too: `a3d --trust MODULE:NAME,... COMMAND ...`, or by a flag of
the command, such as --agent.
"""

# The flags that take code of the user's own, MODULE:NAME, and those that take data, which can be a data set of the
# user's own, MODULE:FUNCTION.
OWN = (
    "--agent", "--agents", "--backbone.name", "--attention.reward", "--reward", "--policy.locator", "--locator",
    "--callbacks",
)  # fmt: skip
DATA_FLAGS = ("--data", "--train", "--test", "--test-data", "--test_data", "--query", "--gallery")


def main(argv: list[str] | None = None) -> int:
    """Run the command that the first argument names, and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        # names that are no text, or that a narrow console can't show, are shown escaped: no work is lost over them
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    trusted = []
    while arguments[:1] == ["--trust"] and len(arguments) > 1:
        trusted.append(arguments[1])
        arguments = arguments[2:]
    usage = USAGE.format(commands="\n".join(f"  {name:<10} {what}" for name, (what, _) in COMMANDS.items()))
    if not arguments or arguments[0] in ("-h", "--help"):
        print_result(usage)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print_result(version())
        return 0
    name, *flags = arguments
    if name not in COMMANDS:
        log_line(f"a3d: unknown command {name!r}\n\n{usage}")
        return 2
    title = f"a3d {name}"
    if name != "train" and os.environ.get("WORLD_SIZE", "1") != "1" and "LOCAL_RANK" in os.environ:
        log_line(
            f"{title}: error: torchrun starts a3d train alone, and each of its processes would do all of this"
        )
        return 2
    if name == "data" and flags and not flags[0].startswith("-"):
        title += f" {flags[0]}"
    # A module of the user's own can be an agent's; last, so that nothing here can take a library's place.
    sys.path.append(os.getcwd())
    # Imported when asked for: `a3d --help` need not wait for torch.
    try:
        for own in trusted + named_code(flags):
            trust(own)
        if named := [value for value in values_of(flags, *DATA_FLAGS) if ":" in value]:
            from backbone.data.spec import trust_data

            for text in named:
                trust_data(text)
        command = importlib.import_module(f"scripts.{name}")
        return command.run(*read(command, name, flags)) or 0
    except KeyboardInterrupt as stop:
        left = str(stop) or COMMANDS[name][1]
        log_line(f"\n{title}: stopped" + (f"; {left}" if left else ""))
        return 130
    except (ValueError, OSError) as error:
        log_line(f"{title}: error: {error}")
        return 2
    except Exception as error:
        from agents.runs.memory import out_of_memory  # it needs torch, for which --help need not wait

        if not (text := out_of_memory(error, name)):
            raise
        log_line(f"{title}: error: {text}")
        return 2


def read(command: ModuleType, name: str, flags: list[str]) -> tuple:
    """Return the arguments of a command's `run`: its configuration, or the result of the command's own `read`."""
    if hasattr(command, "read"):
        return command.read(flags)
    from backbone.flags import read_flags

    kind = typing.get_type_hints(command.run, include_extras=True)["config"]
    return (read_flags(kind, flags, name, command.__doc__),)


def version() -> str:
    """Return a line that says which version is installed."""
    try:
        return f"a3d {importlib.metadata.version('a3d')}"
    except importlib.metadata.PackageNotFoundError:
        return f"a3d is not installed, and has no version: it runs from {Path(__file__).parent.parent}"


def named_code(arguments: list[str]) -> list[str]:
    """Return the code that a command line names, MODULE:NAME, by the flags that take it (`OWN`)."""
    named = ",".join(values_of(arguments, *OWN))
    return [name for name in named.split(",") if ":" in name]


def values_of(arguments: list[str], *flags: str) -> list[str]:
    """Return the values that a command line gives to some flags."""
    values = []
    for place, argument in enumerate(arguments):
        flag, _, value = argument.partition("=")
        if flag in flags:
            values.append(value or "".join(arguments[place + 1 : place + 2]))
    return values


if __name__ == "__main__":
    raise SystemExit(main())
