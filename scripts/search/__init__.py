"""Find a person again: `a3d search`.

Queries and gallery are files of `a3d embed`, or tracklets, which --checkpoint's model then describes first. The
nearest tracklets are printed, and written as JSON or as an HTML page that shows each one's frames with the bins
that were looked at.

In a file of descriptors: `a3d search --query lost.npz --gallery street.npz --top 5`

Straight from frames, into a page:
`a3d search --query lost_child/ --gallery folder:street --checkpoint runs/small --page found.html`

People near enough, by another camera (a3d evaluate --false-accept-rates prints such a distance):
`a3d search --query mars.npz --gallery mars.npz --other-cameras --below 11.3 --json found.json`
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backbone.data.tracklet import JUNK
from backbone.embeddings import ENDINGS, Embeddings, load_embeddings
from backbone.files import check_writable, write_json
from backbone.progress import counted, print_result
from backbone.search import IndexName, nearest
from scripts.options import Runtime, RuntimeOptions


@dataclass(frozen=True)
class SearchConfig:
    """Queries and gallery of a search, and the files to write."""

    query: str
    """Tracklets to search for: a file of a3d embed (.npz, .safetensors), or any form of a3d embed's --data; of a
    data set its queries."""
    gallery: str
    """Tracklets to search, in the forms of --query; of a data set its gallery."""
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
        if self.below is not None and not self.below > 0:
            raise ValueError(f"below must be a distance above 0, got {self.below}")


@dataclass(frozen=True)
class Hit:
    """A gallery tracklet that was found.

    Attributes:
        row: number of the tracklet in the gallery.
        rank: rank among the tracklets found, from 1.
        distance: Euclidean distance to the query.
        is_match: whether the tracklet shows the query's person; None if that is not known (`known_people`).
    """

    row: int
    rank: int
    distance: float
    is_match: bool | None


def load_or_embed(arguments: SearchConfig) -> tuple[Embeddings, Embeddings]:
    """Return queries and gallery, described by the same model.

    Raises:
        ValueError: files that can't be read, no model is named to describe tracklets, or descriptors of different
            models.
    """
    specs = {"query": arguments.query, "gallery": arguments.gallery}
    known = {
        part: load_embeddings(Path(spec), is_mapped=True) for part, spec in specs.items() if spec.endswith(ENDINGS)
    }
    if len(known) < 2:
        if arguments.checkpoint is None:
            raw = next(spec for part, spec in specs.items() if part not in known)
            raise ValueError(f"{raw} is no file of a3d embed: name the run that describes it (--checkpoint)")
        from agents.runs.describe import embed  # torch takes seconds to import, and files need none

        model = arguments.runtime.load_model(arguments.checkpoint)
        for part, embeddings in known.items():
            if embeddings.origin.model != model.digest:
                raise ValueError(f"{specs[part]} was described by another model than {arguments.checkpoint}")
        if "query" not in known:
            known["query"] = embed(model, arguments.query, "query")
        if "gallery" not in known:
            known["gallery"] = embed(model, arguments.gallery, "gallery")
    query, gallery = known["query"], known["gallery"]
    if query.origin.model != gallery.origin.model:
        raise ValueError(
            f"{arguments.query} and {arguments.gallery} were described by different models "
            f"({query.origin.model}, {gallery.origin.model}), whose descriptors can't be compared"
        )
    return query, gallery


def search(
    query: Embeddings,
    gallery: Embeddings,
    *,
    top: int = 10,
    below: float | None = None,
    other_cameras: bool = False,
    index: IndexName = "exact",
) -> list[list[Hit]]:
    """Return what is found for each query, the nearest first.

    A tracklet never finds itself, by whatever name its folder is read, and junk (person -1) is not found.

    Args:
        query: descriptors of the tracklets that are searched for.
        gallery: descriptors of the tracklets that are searched in, by the same model.
        top: most tracklets found for each query.
        below: distance that all tracklets found are nearer than; None: any.
        other_cameras: leave out the query's own camera.
        index: index, a name that `backbone.search.nearest` takes.

    Raises:
        ValueError: cameras of different data, which can't be compared.
    """
    is_same = is_of_same_data(query, gallery)
    if other_cameras and not is_same:
        raise ValueError(
            f"cameras are numbered by the data, and {query.origin.data} is not {gallery.origin.data}: search "
            "without --other-cameras"
        )
    is_kept, asked = gallery.person != JUNK, set(query.key)
    own = max(Counter(key for key in gallery.key if key in asked).values(), default=0)  # most often in there
    found = nearest(
        query.descriptors,
        gallery.descriptors,
        top + own + is_same,
        allowed=(lambda camera: is_kept & (gallery.camera != camera)) if other_cameras else lambda _: is_kept,
        groups=query.camera if other_cameras else None,
        index=index,
    )

    def is_itself(number: int, row: int) -> bool:
        """Tell whether both are one tracklet, by its files, or by its name in data drawn, or copied, anew."""
        return gallery.key[row] == query.key[number] or (is_same and gallery.source[row] == query.source[number])

    people, others = (known_people(one, query, gallery) for one in (query, gallery))
    results = []
    for number, (rows, distances) in enumerate(zip(found.rows, found.distances, strict=True)):
        near = [
            (int(row), float(distance))
            for row, distance in zip(rows, distances, strict=True)
            if row >= 0 and (below is None or distance < below) and not is_itself(number, int(row))
        ]
        person = people[number]
        results.append(
            [
                Hit(row, rank, distance, others[row] == person if person and others[row] else None)
                for rank, (row, distance) in enumerate(near[:top], 1)
            ]
        )
    return results


def is_of_same_data(query: Embeddings, gallery: Embeddings) -> bool:
    """Tell whether both are of one data set, so that names and cameras mean the same in both."""
    return (query.origin.data, query.origin.options) == (gallery.origin.data, gallery.origin.options)


def known_people(of: Embeddings, query: Embeddings, gallery: Embeddings) -> list[str]:
    """Return names by which queries and gallery can be compared, empty if there is none.

    Junk has no name. The names of folders mean the same people in different data; ids do not.
    """
    folders = all(one.origin.data.startswith("folder:") for one in (query, gallery))
    if not (folders or is_of_same_data(query, gallery)):
        return [""] * len(of)
    return ["" if person == JUNK else name for name, person in zip(of.name, of.person.tolist(), strict=True)]


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


def run(config: SearchConfig) -> None:
    """Search, print what was found, and write the files that are asked for."""
    for path in (config.json, config.page):
        if path is not None:
            check_writable(path)
    query, gallery = load_or_embed(config)
    results = search(
        query,
        gallery,
        top=config.top,
        below=config.below,
        other_cameras=config.other_cameras,
        index=config.index,
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
