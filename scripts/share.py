"""Share a trained model with a model card: `a3d share`, as a .zip, a folder, or on the Hugging Face hub.

It writes checkpoint.pt, config.json, metrics.json and the card README.md. No picture of a person is shared, nor a
path of this machine. On the hub the repository is private unless --public is given.

As one file: `a3d share runs/mine --to mine.zip`

To the hub, after `hf auth login`: `a3d share runs/mine --to hf:me/mine`

Used by others: `a3d evaluate --checkpoint hf:me/mine --data folder:street`, or `--checkpoint mine.zip`
"""

import dataclasses
import json
import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from agents.runs.config import CHECKPOINT
from agents.runs.hub import HUB, is_on_hub, library, read_name
from backbone.data.spec import parse_spec
from backbone.files import atomic_path, check_writable, write_text
from backbone.flags import saying_if_stopped
from backbone.json_file import read_object
from backbone.progress import print_result

CARD, CONFIG, METRICS = "README.md", "config.json", "metrics.json"
SHOWN = ("R1", "R5", "R10", "mAP", "hit_rate")


@dataclass(frozen=True)
class ShareConfig:
    """Run to share, and the place that it goes to."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run of a3d train."""
    to: str
    """Place to write to: hf:OWNER/NAME, a repository on the hub (pip install 'a3d[share]'); FILE.zip; or a new
    folder."""
    public: bool = False
    """Let everybody see a new repository on the hub; by default its owner alone does."""

    def __post_init__(self) -> None:
        if is_on_hub(self.to) and read_name(self.to)[1]:
            raise ValueError(f"--to {self.to} names a revision: a3d share adds a new one, so leave the @... out")
        if self.public and not is_on_hub(self.to):
            raise ValueError(
                "--public goes with --to hf:OWNER/NAME: a file on this machine is seen by whom you give it"
            )


@dataclass(frozen=True)
class Metrics:
    """Entries of a run's metrics.json that the card shows: scores by name."""

    before: dict[str, Any]
    after: dict[str, Any]
    controls: dict[str, dict[str, Any]]


def run(config: ShareConfig) -> None:
    """Write the files, and take them where they go."""
    to = Path(config.to)
    if is_on_hub(config.to):
        library()  # or an error before anything is read
    else:
        check_writable(to, is_folder=to.suffix != ".zip")
        if to.suffix != ".zip" and to.is_dir() and any(to.iterdir()):
            raise ValueError(f"{to} is a folder with something in it: name a new one")
    with tempfile.TemporaryDirectory() as folder:
        write_files(config.run, Path(folder), config.to)
        if is_on_hub(config.to):
            print_result(upload(Path(folder), config))
        elif to.suffix == ".zip":
            with atomic_path(to) as partial, zipfile.ZipFile(partial, "w") as archive:  # stored as they are
                for path in sorted(Path(folder).iterdir()):
                    archive.write(path, path.name)
        else:
            shutil.copytree(folder, to, dirs_exist_ok=True)
    print_result(f"to use it: a3d evaluate --checkpoint {config.to}, or any other command with --checkpoint")


def write_files(run: Path, folder: Path, name: str) -> None:
    """Write what is shared of a run: its checkpoint without this machine's paths, settings, scores and the card.

    Raises:
        ValueError: there is no finished run in the folder, or its files can't be read.
    """
    from agents.runs.checkpoint import read_checkpoint  # --help need not wait for torch
    from backbone.tensor_file import load_tensors, save_tensors

    if read_checkpoint(run / CHECKPOINT)["tested"] is None or not (run / METRICS).is_file():
        raise ValueError(f"the run in {run} is not finished: go on with it first (a3d train --resume --out {run})")
    state = load_tensors(run / CHECKPOINT)
    settings = without_places(json.loads(state["config"]))
    save_tensors(folder / CHECKPOINT, {**state, "config": json.dumps(settings)})
    write_text(folder / CONFIG, json.dumps(settings, indent=2) + "\n")
    shutil.copy(run / METRICS, folder / METRICS)
    metrics = read_object(run / METRICS, Metrics, "score the run again (a3d train --resume)")
    write_text(folder / CARD, card(name, settings, metrics, len(state["people"])))


def without_places(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings without places of this machine, tracker and callbacks; data keeps its folder's name."""
    spec = parse_spec(settings["data"])
    weights = settings["backbone"]["weights"]
    return {
        **settings,
        **{"out": None, "cache": None, "callbacks": "", "track": None},
        "data": str(dataclasses.replace(spec, place=Path(spec.place).name)),
        "backbone": {**settings["backbone"], "weights": weights and os.path.basename(weights)},
    }


def card(name: str, settings: dict[str, Any], metrics: dict[str, Any], num_people: int) -> str:
    """Return the model card: data, recipe, scores and how they were computed, use and limits, how to load it."""
    rows = {"before training": metrics["before"], "after training": metrics["after"]}
    rows |= {f"after, {control}": row for control, row in metrics["controls"].items()}
    lines = [
        f"| {title} | {' | '.join('-' if row.get(one) is None else f'{row[one]:.1f}' for one in SHOWN)} |"
        for title, row in rows.items()
    ]
    table = "\n".join([f"| | {' | '.join(SHOWN)} |", f"|---{'|---' * len(SHOWN)}|", *lines])
    load, backbone, glimpses = settings["load"], settings["backbone"], settings["attention"]["num_glimpses"]
    steps, seed = settings["steps"], settings["seed"]
    return f"""---
library_name: a3d
tags:
- person-re-identification
- video
- reinforcement-learning
---

# {name.removeprefix(HUB)}

A model that finds a person again in the videos of other cameras: recurrent 3D attention (A3D). It describes a
tracklet by its features and by {glimpses} bins of them, which an agent chooses.

## Data and recipe

- trained on `{settings["data"]}`: {num_people} people; clips of {load["num_frames"]} frames of {load["height"]}
  x {load["width"]}
- backbone `{backbone["name"]}`, which began with the weights `{backbone["weights"]}`, optical flow
  `{backbone["flow"]}`
- preset `{settings["preset"]}`, recipe `{settings["recipe"]}`, agent `{settings["agent"]}`
- {steps} batches, seed {seed}
- all settings: `config.json`

## Scores

Percentages on the test people of that data, none of whom was trained on, by the last checkpoint of one run.
Each query tracklet is searched for in the gallery, the same person by the same camera left out. R1, R5, R10:
share of queries with a right tracklet among the first 1, 5, 10; mAP: mean average precision; hit_rate: share of
chosen bins on the thing that tells the person apart, where that is known. Random and centre bins look elsewhere
by the same networks.

{table}

One run is one seed: another one comes out differently. On other cameras and other people expect lower scores.

## Intended use and limits

For research on person re-identification, and for search in videos that you may search. It compares clothes and
things carried, not identities: it is often wrong, worst between people dressed alike and from cameras unlike
those above, and a match is no proof of who someone is. Its errors have not been measured by group of people. Do
not use it to watch people who have not agreed to it, or where law or a data set's licence forbids it. The
checkpoint holds weights learned from the people above and their numbers, no pictures and no names; whether
weights learned from people may be passed on is for whoever shares them to settle.

## How to load it

```bash
a3d evaluate --checkpoint {name} --data folder:street
a3d embed --checkpoint {name} --data folder:street --out street.npz
```

```python
from pathlib import Path

from agents.runs import load_model

model = load_model(Path("{name}"))
```

`checkpoint.pt` holds tensors, numbers and texts, and is read without running code (`torch.load(...,
weights_only=True)`).
"""


def upload(folder: Path, config: ShareConfig) -> str:
    """Upload a folder to the hub, and return where it is.

    Raises:
        ValueError: the hub refuses it.
    """
    name, _ = read_name(config.to)
    api = library().HfApi()
    with saying_if_stopped(lambda: "perhaps a part was uploaded; the same command goes on"):
        try:
            api.create_repo(name, private=not config.public, exist_ok=True)
            done = api.upload_folder(repo_id=name, folder_path=folder, commit_message="a3d share")
        except Exception as error:  # of many types, of other libraries, too: no log-in, no rights, no network
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"{config.to} can't be written ({type(error).__name__}): {reason}") from error
    return f"uploaded: {done}"
