"""Find a person again: `a3d search`.

Queries and gallery are files of `a3d embed`, or tracklets, which --checkpoint's model then describes first. The
nearest tracklets are printed, and written as JSON or as an HTML page that shows each one's frames with the bins
that were looked at.

In a file of descriptors: `a3d search --query lost.npz --gallery street.npz --top 5`

Straight from frames, into a page:
`a3d search --query lost_child/ --gallery folder:street --checkpoint runs/small --page found.html`

A large gallery, by an index of it that is built once: `a3d search --build city.index --gallery city.npz`, then
`a3d search --query lost.npz --gallery city.index`; the first command with another file adds its tracklets

People near enough, by another camera (a3d evaluate --false-accept-rates prints such a distance):
`a3d search --query mars.npz --gallery mars.npz --other-cameras --below 11.3 --json found.json`
"""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backbone.embeddings import ENDINGS, Embeddings, load_embeddings
from backbone.files import check_writable, write_json
from backbone.gallery_index import (
    ASKED,
    ENDING,
    FOUND,
    GalleryIndex,
    add_to_index,
    build_index,
    open_index,
)
from backbone.progress import counted, log_line, print_result
from backbone.search import IndexName
from scripts.options import Runtime, RuntimeOptions
from scripts.search.matching import Hit, is_of_same_data, known_people, search


@dataclass(frozen=True)
class SearchConfig:
    """Queries and gallery of a search, and the files to write."""

    gallery: str
    """Tracklets to search: a file of a3d embed (.npz, .safetensors), an index of --build (.index), or any form of
    a3d embed's --data; of a data set its gallery."""
    query: str | None = None
    """Tracklets to search for: a file of a3d embed, or any form of its --data; of a data set its queries."""
    build: Path | None = None
    """Index to write, a folder NAME.index, in the place of a search: 64 bytes a tracklet in memory and float16
    descriptors on the disk, for galleries of 100,000 and more. To an index that is there, the gallery's tracklets
    are added that it lacks; all have to be of the same data and model."""
    checkpoint: Path | None = None
    """Run whose model describes tracklets that are given as frames, not as a file of descriptors."""
    top: int = 10
    """Number of tracklets to find for each query."""
    below: float | None = None
    """Largest distance: only tracklets nearer than this are found."""
    other_cameras: bool = False
    """Leave out the tracklets of the query's own camera; both have to be of the same data."""
    index: IndexName = "exact"
    """Index of the gallery. exact: compare with every tracklet; hnsw: compare with few, by a graph, for large
    galleries, which may miss some."""
    shown: int = 10
    """Number of queries that are printed and drawn; the JSON has all."""
    json: Path | None = None
    """Write what was found to this file."""
    page: Path | None = None
    """Write an HTML page with pictures to this file."""
    runtime: Runtime = field(default_factory=RuntimeOptions)

    def __post_init__(self) -> None:
        for name in ("top", "shown"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if (self.query is None) == (self.build is None):
            raise ValueError(
                "give --query to search for, or --build to write an index of the gallery: one of the two"
            )
        if self.build is not None and self.build.suffix != ENDING:
            raise ValueError(f"--build {self.build} has to end in {ENDING}")
        if self.query is not None and is_index(self.query):
            raise ValueError(f"--query {self.query} is an index, which is searched in: name what it was built of")
        if self.build is not None and (unused := [name for name in ("json", "page") if getattr(self, name)]):
            raise ValueError(
                f"--build searches nothing: leave out --{unused[0]}, or search when the index is built"
            )
        if is_index(self.gallery) and (self.build is not None or self.index != "exact"):
            flag = "--build" if self.build is not None else f"--index {self.index}"
            raise ValueError(f"{self.gallery} is an index already: leave out {flag}, or name what it was built of")
        if self.below is not None and not self.below > 0:
            raise ValueError(f"below must be a distance above 0, got {self.below}")


def is_index(spec: str) -> bool:
    """Tell whether tracklets are given as an index, whose folder may be written with a / at its end."""
    return Path(spec).suffix == ENDING


def load_or_embed(arguments: SearchConfig) -> tuple[list[Embeddings], IndexName | GalleryIndex]:
    """Return the gallery, after the queries if there are any, all described by one model, and the index.

    Raises:
        ValueError: files that can't be read, no model is named to describe tracklets, or descriptors of different
            models.
    """
    index: IndexName | GalleryIndex = arguments.index
    specs = {"gallery": arguments.gallery}
    if arguments.query is not None:
        specs = {"query": arguments.query, **specs}
    known: dict[str, Embeddings] = {}
    for part, spec in specs.items():
        if spec.endswith(ENDINGS):
            known[part] = load_embeddings(Path(spec), is_mapped=True)
        elif is_index(spec):
            index = open_index(Path(spec))
            known[part] = index.gallery
    if len(known) < len(specs):
        if arguments.checkpoint is None:
            raw = next(spec for part, spec in specs.items() if part not in known)
            raise ValueError(f"{raw} is no file of a3d embed: name the run that describes it (--checkpoint)")
        from agents.runs.embedding import embed  # torch takes seconds to import, and files need none

        model = arguments.runtime.load_model(arguments.checkpoint)
        for part, embeddings in known.items():
            if embeddings.origin.model != model.digest:
                raise ValueError(f"{specs[part]} was described by another model than {arguments.checkpoint}")
        if "query" in specs and "query" not in known:
            known["query"] = embed(model, specs["query"], "query")
        if "gallery" not in known:
            known["gallery"] = embed(model, specs["gallery"], "gallery")
    found = [known[part] for part in specs]
    if found[0].origin.model != found[-1].origin.model:
        raise ValueError(
            f"{arguments.query} and {arguments.gallery} were described by different models "
            f"({found[0].origin.model}, {found[-1].origin.model}), whose descriptors can't be compared"
        )
    return found, index


def as_json(query: Embeddings, gallery: Embeddings, results: list[list[Hit]]) -> list[dict[str, Any]]:
    """Return what was found as JSON has it."""
    return [
        {
            "query": query.source[number],
            "person": query.name[number] or None,
            "camera": int(query.camera[number]),
            "found": [
                {
                    "rank": hit.rank,
                    "tracklet": gallery.source[hit.row],
                    "person": gallery.name[hit.row] or None,
                    "camera": int(gallery.camera[hit.row]),
                    "distance": hit.distance,
                    "is_match": hit.is_match,
                }
                for hit in hits
            ],
        }
        for number, hits in enumerate(results)
    ]


def table(query: Embeddings, gallery: Embeddings, results: list[list[Hit]]) -> str:
    """Lay out what was found as text; * marks the query's person."""
    lines = []
    for number, hits in enumerate(results):
        lines.append(f"{query.source[number]}{f' ({name})' if (name := query.name[number]) else ''}")
        if not hits:
            lines.append("  nothing is near enough")
        width = max((len(gallery.name[hit.row]) for hit in hits), default=0)
        lines += [
            f"  {hit.rank:>3} {'*' if hit.is_match else ' '} {hit.distance:>9.3f}  "
            f"{gallery.name[hit.row]:<{width}}  camera {gallery.camera[hit.row]}  {gallery.source[hit.row]}"
            for hit in hits
        ]
    return "\n".join(lines)


def summary(
    query: Embeddings, gallery: Embeddings, results: list[list[Hit]], *, other_cameras: bool = False
) -> str:
    """Return a line that says how often, of the queries who are in the gallery, the first found is right."""
    people, others = (known_people(one, query, gallery) for one in (query, gallery))
    tracklets: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for person, source, camera in zip(others, gallery.source, gallery.camera.tolist(), strict=True):
        tracklets[person].append((source, camera))
    is_same = is_of_same_data(query, gallery)
    there = []
    for number, hits in enumerate(results):
        source, camera = query.source[number], int(query.camera[number])
        if people[number] and any(
            not (is_same and other == source) and not (other_cameras and other_camera == camera)
            for other, other_camera in tracklets[people[number]]
        ):
            there.append(hits)
    text = f"{counted(len(results), 'query')} in {counted(len(gallery), 'tracklet')}"
    if there:
        right = sum(bool(hits and hits[0].is_match) for hits in there)
        text += f"; the nearest is right for {right:,} of {len(there):,} whose names are there"
    if nothing := sum(not hits for hits in results):
        text += f"; for {nothing:,} nothing was near enough"
    return text


def write_index(folder: Path, gallery: Embeddings) -> None:
    """Build an index of a gallery, or add to the one that is there, and print what it holds."""
    index = add_to_index(folder, gallery) if folder.exists() else build_index(folder, gallery)
    contents = index.contents
    print_result(
        f"{folder}: {counted(len(index.gallery), 'tracklet')}, {contents.size:,} numbers each; of the {FOUND} "
        f"nearest to {min(ASKED, len(index.gallery))} of them it finds {100 * contents.recall:.1f}%, by comparing "
        f"{contents.candidates:,} candidates exactly"
    )
    if contents.recall < 0.99:
        log_line(
            "that is little: search the file of descriptors itself, which is exact; where the index was begun "
            "with few tracklets, or others than now, one built anew finds more"
        )


def run(config: SearchConfig) -> None:
    """Search, print what was found, and write the files that are asked for; or write an index."""
    for path in (config.json, config.page):
        if path is not None:
            check_writable(path)
    if config.build is not None:
        check_writable(config.build, is_folder=True)
        (gallery,), _ = load_or_embed(config)
        write_index(config.build, gallery)
        return
    (query, gallery), index = load_or_embed(config)
    results = search(
        query,
        gallery,
        top=config.top,
        below=config.below,
        other_cameras=config.other_cameras,
        index=index,
    )
    print_result(table(query, gallery, results[: config.shown]))
    if len(results) > config.shown:
        print_result(f"... and {counted(len(results) - config.shown, 'more query')} (--shown, or --json for all)")
    print_result(summary(query, gallery, results, other_cameras=config.other_cameras))
    if config.json is not None:
        write_json(config.json, as_json(query, gallery, results))
    if config.page is not None:
        from scripts.search.page import Strips, write_page

        strips = (Strips(query, config.runtime.cache), Strips(gallery, config.runtime.cache))
        shown = as_json(query, gallery, results)[: config.shown]
        rows = [[hit.row for hit in hits] for hits in results]
        write_page(config.page, shown, rows, *strips)
        print_result(f"see {config.page}")
