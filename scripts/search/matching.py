"""What a search finds: tracklets of the gallery near to each query, and whether they show the query's person."""

from collections import Counter
from dataclasses import dataclass

from backbone.data.tracklet import JUNK
from backbone.embeddings import Embeddings
from backbone.gallery_index import GalleryIndex
from backbone.search import IndexName, nearest


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


def search(
    query: Embeddings,
    gallery: Embeddings,
    *,
    top: int = 10,
    below: float | None = None,
    other_cameras: bool = False,
    index: IndexName | GalleryIndex = "exact",
) -> list[list[Hit]]:
    """Return what is found for each query, the nearest first.

    A tracklet never finds itself, by whatever name its folder is read, and junk (person -1) is not found.

    Args:
        query: descriptors of the tracklets that are searched for.
        gallery: descriptors of the tracklets that are searched in, by the same model.
        top: most tracklets found for each query.
        below: distance that all tracklets found are nearer than; None: any.
        other_cameras: leave out the query's own camera.
        index: a name that `backbone.search.nearest` takes, or an index of that gallery.

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
    count = top + own + is_same
    allowed = (lambda camera: is_kept & (gallery.camera != camera)) if other_cameras else lambda _: is_kept
    groups = query.camera if other_cameras else None
    if isinstance(index, GalleryIndex):
        found = index.nearest(query.descriptors, count, allowed=allowed, groups=groups)
    else:
        found = nearest(query.descriptors, gallery.descriptors, count, allowed=allowed, groups=groups, index=index)

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
