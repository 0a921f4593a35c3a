"""Page of a search: each query's frames and those that were found, with the bins that were looked at."""

import base64
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import cv2
import dacite
import numpy as np

from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid
from a3d_env.render import draw_glimpses
from backbone.data import DataConfig
from backbone.data.cache import FrameCache, default_cache
from backbone.data.clips import consecutive_clips
from backbone.data.source import read_source
from backbone.data.spec import check_trusted_data
from backbone.data.tracklet import Tracklet
from backbone.embeddings import Embeddings
from backbone.files import atomic_path
from backbone.progress import log_line

HEIGHT = 150  # pixels of a strip
JPEG_QUALITY = 85

STYLE = """
body { font: 14px/1.45 system-ui, "DejaVu Sans", sans-serif; margin: 0; color: #20242a; background: #f3f4f6; }
main { max-width: 1240px; margin: 0 auto; padding: 18px; }
h1 { font-size: 20px; margin: 0 0 8px; } h2 { font-size: 16px; margin: 0 0 8px; }
section { background: #fff; border: 1px solid #dfe2e7; border-radius: 8px; padding: 14px 16px; margin: 0 0 14px; }
p { margin: 2px 0 10px; color: #556; }
.found { display: flex; flex-wrap: wrap; gap: 10px; }
figure { margin: 0; border: 3px solid #c9ced6; border-radius: 5px; padding: 4px; max-width: 100%;
         box-sizing: border-box; width: fit-content; }
figure.match { border-color: #1a7f37; } figure.wrong { border-color: #e2a29a; }
figure.query { border-color: #20242a; }
figure img { display: block; max-width: 100%; border-radius: 2px; }
figcaption { font-size: 12px; max-width: 420px; overflow-wrap: anywhere; }
"""


class Strips:
    """Draws tracklets from the data that their descriptors are of: the frames of a clip, with its bins.

    Args:
        embeddings: descriptors of the tracklets.
        cache: folder of decoded frames; by default the user's.
    """

    def __init__(self, embeddings: Embeddings, cache: Path | None = None):
        self.embeddings = embeddings
        origin = embeddings.origin
        length, height, width = origin.clip_size
        self.num_frames = length
        self.grid = BinGrid(origin.feature_size, origin.bin_size, origin.clip_size)
        self.cache = FrameCache(cache or default_cache(), height, width, None, "skip")
        self.blank = FeatureBank.blank(self.grid, 1)

    def picture(self, row: int) -> np.ndarray | None:
        """Draw the clip in the middle of a tracklet, uint8 (height, width, 3), RGB; None if its data is gone."""
        source, bins = self.embeddings.source[row], self.embeddings.bins[row]
        if (tracklet := self._tracklets.get(source)) is None:
            if self._tracklets:
                log_line(f"there is no picture of {source}: it is no longer in the data")
            return None
        clips = consecutive_clips(len(tracklet), self.num_frames)
        number = int(self.embeddings.clip[row])
        try:
            if number >= len(clips) or (bins < 0).any() or (bins >= self.grid.num_bins).any():
                raise ValueError("it is not what was described: have frames been removed?")
            frames = np.asarray(self.cache.frames(tracklet))[clips[number]]
        except ValueError as error:
            log_line(f"there is no picture of {source}: {error}")
            return None
        drawn = draw_glimpses(replace(self.blank, frames=frames[None]), 0, bins.tolist())
        width = round(drawn.shape[1] * HEIGHT / drawn.shape[0])
        return cv2.resize(drawn, (width, HEIGHT), interpolation=cv2.INTER_AREA)

    @cached_property
    def _tracklets(self) -> dict[str, Tracklet]:
        origin = self.embeddings.origin
        log_line(f"pictures are read from {origin.data}")
        try:
            check_trusted_data(origin.data, "the file of descriptors")
            options = dacite.from_dict(DataConfig, origin.options, dacite.Config(cast=[tuple]))
            found = read_source(origin.data, origin.part, options, self.cache.folder)  # type: ignore[arg-type]
        except (ValueError, OSError, dacite.DaciteError) as error:
            log_line(f"{origin.data} can't be read any more, so there are no pictures of it: {error}")
            return {}
        return {tracklet.source: tracklet for tracklet in found}


def write_page(
    path: Path,
    results: Sequence[dict[str, Any]],
    rows: Sequence[Sequence[int]],
    of_query: Strips,
    of_gallery: Strips,
) -> None:
    """Write the page, all or nothing.

    Args:
        path: file to write.
        results: results of the first queries, as `scripts.search.as_json` has them.
        rows: numbers of the gallery rows that were found for each of them.
        of_query: strips that draw the queries.
        of_gallery: strips that draw what was found.
    """
    sections = []
    for number, (result, found) in enumerate(zip(results, rows, strict=False)):
        person = f" ({result['person']})" if result["person"] else ""
        title = escape(f"{result['query']}{person}")
        figures = [
            _figure(_caption(hit), _kind(hit["is_match"]), of_gallery.picture(row))
            for hit, row in zip(result["found"], found, strict=True)
        ]
        camera = f", camera {result['camera']}" if result["person"] else ""
        query = _figure(f"searched for{camera}", "query", of_query.picture(number))
        listed = "".join(figures) or "<p>Nothing is near enough.</p>"
        sections.append(f'<section><h2>{title}</h2>{query}<p></p><div class="found">{listed}</div></section>')
    note = (
        "Each strip is the clip in the middle of a tracklet, with the bins that the agent looked at: "
        "1 is the centre, the others were chosen. Under it rank and Euclidean distance, the nearest first. "
        "Green: the query's person; red: somebody else; "
        "grey: that is not known. A tracklet is not found by itself."
    )
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>search</title>'
        f"<style>{STYLE}</style></head>\n<body><main><h1>Search</h1><p>{note}</p>\n"
        + "\n".join(sections)
        + "\n</main></body></html>\n"
    )
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")


def _caption(hit: dict[str, Any]) -> str:
    person = f"{hit['person']}, camera {hit['camera']}, " if hit["person"] else ""
    return f"{hit['rank']}. distance {hit['distance']:.2f}: {person}{hit['tracklet']}"


def _kind(is_match: bool | None) -> str:
    return "" if is_match is None else "match" if is_match else "wrong"


def _figure(caption: str, kind: str, picture: np.ndarray | None) -> str:
    image = ""
    if picture is not None:
        _, code = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        data = base64.b64encode(code.tobytes()).decode()
        image = f'<img alt="{escape(caption)}" src="data:image/jpeg;base64,{data}">'
    return f'<figure class="{kind}">{image}<figcaption>{escape(caption)}</figcaption></figure>'
