"""Shares of a command's work, each in a process of its own, on this machine or on a cluster."""

import contextlib
import dataclasses
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import dacite

from agents.runs.children import end_with_parent
from agents.runs.jobs import FolderJob, do, run_jobs, tell
from agents.runs.settings import ShardsConfig
from backbone.files import LOCK, folder_lock
from backbone.own import trust, trusted
from backbone.progress import counted

Config = TypeVar("Config")

OWN = re.compile(rf"[0-9a-f]{{16}}|{re.escape(LOCK)}")  # what `run_shards` leaves in a folder OUT.shards


@dataclass(frozen=True, eq=False)
class Shard(FolderJob):
    """A share of a command's work.

    Attributes:
        module: module of the command, whose `main` calls `main_of_shard`.
        config: the command's configuration, a dataclass.
        number: number of the share, from 0.
        of: number of shares.
        folder: folder that the share's result goes to.
    """

    module: str
    config: Any
    number: int
    of: int
    folder: Path

    unit: ClassVar[str] = "shard"
    num_steps: ClassVar[int] = 1

    @property
    def title(self) -> str:
        """Name of the share, as it is printed."""
        return f"shard {self.number + 1} of {self.of}"

    @property
    def result_file(self) -> Path:
        """File that says that the share is done."""
        return self.folder / "result.json"

    @property
    def process(self) -> tuple[str, str]:
        """Module of the command, and what `main_of_shard` reads."""
        given = {
            "config": dataclasses.asdict(self.config), "number": self.number, "of": self.of,
            "folder": self.folder, "trusted": trusted(),
        }  # fmt: skip
        return self.module, json.dumps(given, default=str)

    def steps_taken(self) -> int:
        """Return 1 if the share is done."""
        return int(self.result_file.is_file())

    def result(self) -> dict[str, Any] | None:
        """Return what the share says about itself, or None if it is not done."""
        return json.loads(self.result_file.read_text(encoding="utf-8")) if self.result_file.is_file() else None

    def prepare(self) -> None:
        """Make the share's folder anew."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)


@contextlib.contextmanager
def run_shards(
    module: str, config: Any, out: Path, shards: ShardsConfig, most: int, state: str
) -> Iterator[list[Shard]]:
    """Run the shares of a command's work, and yield them when all are done; their folders are removed in the end.

    Args:
        module: module of the command.
        config: the command's configuration, a dataclass.
        out: what the command writes; the shares' folders lie in OUT.shards beside it.
        shards: number of shares, and the machines that they use, which is the field `shards` of `config`.
        most: largest number of shares that the work can be divided into.
        state: text that differs if the result would: shares that are done are kept only for the same one, by
            whatever number of processes.

    Raises:
        ValueError: a share failed (it was printed why), or OUT.shards holds something else.
    """
    of = min(shards.shards, most)
    folder = out.with_name(f"{out.name}.shards")
    text = json.dumps([{**dataclasses.asdict(config), "shards": of}, state], default=str, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    if folder.is_dir() and (others := [one for one in folder.iterdir() if not OWN.fullmatch(one.name)]):
        raise ValueError(
            f"{folder} is where shards go, and is removed in the end, but holds {others[0].name}: move it"
        )
    with folder_lock(folder):
        jobs = [Shard(module, config, number, of, folder / name / str(number)) for number in range(of)]
        if failures := run_jobs(jobs, shards):
            command = module.removeprefix("scripts.")
            tell(failures, command)
            raise ValueError(
                f"{counted(len(failures), 'shard')} of {of} failed: the same command runs what is missing"
            )
        yield jobs
        shutil.rmtree(folder)


def main_of_shard(kind: type[Config], work: Callable[[Config, Shard], dict[str, Any]], command: str) -> int:
    """Do the share that this process was started for, and return the exit status.

    Args:
        kind: class of the command's configuration.
        work: does a share, leaves its files in the share's folder, and returns what to tell of it.
        command: name of the command of `a3d`.
    """
    end_with_parent()
    given = json.loads(sys.argv[1])
    for name in given["trusted"]:  # which the user named for the command
        trust(name)
    config = dacite.from_dict(kind, given["config"], dacite.Config(cast=[Path]))
    shard = Shard(f"scripts.{command}", config, given["number"], given["of"], Path(given["folder"]))
    return do(shard, lambda _: work(config, shard), command)
