"""The console command `a3d`: its subcommands are the scripts of this folder."""

import importlib
import io
import os
import sys

from backbone.own import trust
from backbone.progress import say, show

COMMANDS = {
    "train": ("scripts.train", "train the representation and an agent jointly"),
    "pretrain": ("scripts.pretrain", "make the small backbone's starting weights"),
    "evaluate": ("scripts.evaluate", "score a checkpoint: R1, R5, R10, R20, mAP, hit rate"),
    "embed": ("scripts.embed", "describe tracklets by a trained model, into a file"),
    "search": ("scripts.search", "find a person's tracklets again, by their descriptors"),
    "export": ("scripts.export", "the whole trained model as ONNX, or for torch.export"),
    "probe": ("scripts.probe", "tell whether the agent looks at the right place in each clip"),
    "ablate": ("scripts.ablate", "run the paper's ablations over seeds, and report them"),
    "bank": ("scripts.bank", "run a trained representation over all clips, into a bank's folder"),
    "policy": ("scripts.policy", "train an agent alone, on a bank"),
    "compare": ("scripts.compare", "compare agents on a bank, with statistics over seeds"),
    "debug": ("scripts.debug", "see single episodes: why there, and what if elsewhere"),
    "data": ("scripts.data", "make tracklets of your own data"),
    "benchmark": ("scripts.benchmark", "measure what the fast paths gain"),
}

USAGE = """usage: a3d [--trust MODULE:CLASS] COMMAND [options]

Recurrent 3D attention (A3D) for video person re-identification.

commands:
{commands}

`a3d COMMAND --help` shows a command's options and examples.

A checkpoint that names an agent of somebody's own, MODULE:CLASS, runs that code only where you name it, too:
`a3d --trust MODULE:CLASS COMMAND ...`, or the command's own --agent.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the subcommand that the first argument names, and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        # names that are no text, or that a narrow console can't show, are shown escaped: no work is lost over them
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    trusted = []
    while arguments[:1] == ["--trust"] and len(arguments) > 1:
        trusted.append(arguments[1])
        arguments = arguments[2:]
    usage = USAGE.format(commands="\n".join(f"  {name:<10} {what}" for name, (_, what) in COMMANDS.items()))
    if not arguments or arguments[0] in ("-h", "--help"):
        show(usage)
        return 0 if arguments else 2
    if arguments[0] not in COMMANDS:
        say(f"a3d: unknown command {arguments[0]!r}\n\n{usage}")
        return 2
    # A module of the user's own can be an agent's; last, so that nothing here can take a library's place.
    sys.path.append(os.getcwd())
    # Imported when asked for: `a3d --help` need not wait for torch.
    try:
        for name in trusted + own_agents(arguments):
            trust(name)
        return importlib.import_module(COMMANDS[arguments[0]][0]).main(arguments[1:])
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from agents.runs.memory import out_of_memory  # it needs torch, for which --help need not wait

        if not (text := out_of_memory(error, arguments[0])):
            raise
        say(f"a3d {arguments[0]}: error: {text}")
        return 2


def own_agents(arguments: list[str]) -> list[str]:
    """Return the agents MODULE:CLASS that a command line names by --agent or --agents."""
    named = ""
    for place, argument in enumerate(arguments):
        flag, _, value = argument.partition("=")
        if flag in ("--agent", "--agents"):
            named += "," + (value or "".join(arguments[place + 1 : place + 2]))
    return [name for name in named.split(",") if ":" in name]


if __name__ == "__main__":
    raise SystemExit(main())
