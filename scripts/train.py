"""Train the representation and an agent jointly: `a3d train`.

The run's folder gets checkpoint.pt, config.json (all settings), metrics.json (the printed table), tensorboard/,
history.jsonl, curves.png and bins.png (test clips with the bins that the agent chose); with --evaluate-every also
scores.jsonl (scores of the test people in the course of the training) and best.pt (the checkpoint of the highest
mAP).

On built-in data (`make train`), by an agent that sees the whole clip and takes the most promising bin: `a3d train`

The method as the paper has it: `a3d train --recipe paper --out runs/paper`

Another algorithm and seed: `a3d train --preset benchmark --agent ppo --seed 1 --out runs/ppo`

Any setting of that algorithm: `a3d train --agent ppo --agents.ppo.clip-range 0.1`, or a file of them,
`--agents agents.yaml`

Your own tracklets: `a3d train --preset street --data folder:my_tracklets`

After an interruption: `a3d train --resume --out runs/benchmark`

On four GPUs, each with --load.num-people people of a batch (docs/gpu_and_cluster.md):
`torchrun --nproc-per-node 4 --no-python a3d train --preset mars --data mars:/data/MARS`
"""

import dataclasses
import os
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from agents.runs.arguments import read_arguments
from agents.runs.config import CHECKPOINT, TrainConfig
from agents.runs.own import own_code
from backbone.data.spec import parse_spec
from backbone.files import folder_lock
from backbone.flags import saying_if_stopped
from backbone.progress import log_line, print_result


@contextmanager
def new_folder(config: TrainConfig) -> Iterator[Path]:
    """Keep the folder of a new run to oneself; the default one gets a number if it is taken, or being written to.

    Raises:
        ValueError: the folder that was asked for already holds a run, or another command is at work there.
    """
    default = Path("runs") / config.preset
    numbered = (Path(f"{default}-{number}") for number in range(2, 10_000))
    for folder in [config.out] if config.out else chain([default], numbered):
        with ExitStack() as stack:
            try:
                stack.enter_context(folder_lock(folder))
            except ValueError:
                if config.out:
                    raise
                continue
            if not (folder / CHECKPOINT).exists():
                yield folder
                return
    raise ValueError(f"{config.out} already holds a run: go on with it (--resume), or take another folder (--out)")


def read(argv: list[str]) -> tuple[TrainConfig, dict[str, Any] | None]:
    """Read the flags, and the checkpoint of a run that is resumed."""
    return read_arguments(argv, __doc__)


def run(config: TrainConfig, state: dict[str, Any] | None) -> None:
    """Train, score, and print the table; of the processes that torchrun started, the first writes and prints."""
    from agents.runs.training import train  # --help need not wait for torch
    from backbone.distributed import is_main, joined

    with joined(config.device):
        if is_main():
            run_in_own_folder(config, state)
        else:
            train(dataclasses.replace(config, resume=False), config.out or Path(), state)


def run_in_own_folder(config: TrainConfig, state: dict[str, Any] | None) -> None:
    """Train in a folder that no other command is at work in, and print the table."""
    from agents.runs.scoring import table
    from agents.runs.training import train

    folder = config.out if state else None
    if state:
        log_line(f"going on with {folder} at batch {state['shared']['step']} of {config.steps}")
        if state["shared"]["step"] == config.steps:
            log_line("its training is finished, so that it is only scored again; a larger --steps trains further")
    with (
        saying_if_stopped(lambda: how_to_go_on(config, folder)),
        folder_lock(folder) if folder else new_folder(config) as found,
    ):
        folder = folder or found
        assert folder is not None
        if state and (folder / CHECKPOINT).stat().st_mtime_ns != state["read_at"]:
            raise ValueError(f"another command has gone on with {folder} in the meantime: run this command again")
        metrics = train(dataclasses.replace(config, out=folder, resume=False), folder, state)
    rows = {"before training": metrics["before"], "after training": metrics["after"]}
    rows |= {f"after, {name}": row for name, row in metrics["controls"].items()}
    if "protocol" in metrics:
        print_result(f"\nprotocol {metrics['protocol']}")
    print_result(f"\n{table(rows)}\n")
    print_result(
        f"{metrics['steps']} batches in {metrics['seconds']:.0f} s; see {folder}/bins.png, {folder}/curves.png"
    )


def how_to_go_on(config: TrainConfig, folder: Path | None) -> str:
    """Return the command that goes on with a run that was stopped."""
    from backbone.distributed import world_size

    if folder is None or not (folder / CHECKPOINT).exists():
        return "before the first checkpoint: there is nothing to go on from"
    own = [name for _, name in own_code(dataclasses.asdict(config))]
    own += [data.name] if (data := parse_spec(config.data)).is_own else []
    number = os.environ.get("LOCAL_WORLD_SIZE", world_size())
    start = f"torchrun --nproc-per-node {number} --no-python " if world_size() > 1 else ""
    command = "".join([start, "a3d ", *(f"--trust {name} " for name in own), "train --resume"])
    flags = {"--out": folder, "--cache": config.cache, "--callbacks": config.callbacks or None}
    flags |= {"--track": config.track}
    command += "".join(f" {flag} {shlex.quote(str(value))}" for flag, value in flags.items() if value is not None)
    return f"to go on from the last checkpoint: {command}"
