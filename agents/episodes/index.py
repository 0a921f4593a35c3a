"""The page that leads to the pages of several episodes: what each is, how it ended, and why it is there."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np

from a3d_env.render import draw_frame
from agents.episodes.episode import Episode
from agents.episodes.gallery import Ranking
from agents.episodes.page import data_url
from agents.episodes.story import percent
from backbone.files import atomic_path

NAME = "index.html"
HEIGHT = 144  # pixels of a thumbnail
STYLE = """
body { font: 14px/1.45 system-ui, "DejaVu Sans", sans-serif; margin: 0; color: #20242a; background: #f3f4f6; }
main { max-width: 1240px; margin: 0 auto; padding: 18px; }
h1 { font-size: 20px; margin: 0 0 8px; } p { color: #556; margin: 2px 0 10px; }
.all { display: flex; flex-wrap: wrap; gap: 12px; }
a { display: flex; gap: 12px; width: 380px; box-sizing: border-box; background: #fff; color: inherit;
    padding: 10px; text-decoration: none; border: 1px solid #dfe2e7; border-left-width: 6px; border-radius: 8px; }
a.right { border-left-color: #1a7f37; } a.wrong { border-left-color: #c4301c; } a:hover { background: #f8fafc; }
b.right { color: #1a7f37; } b.wrong { color: #c4301c; }
span { display: block; overflow-wrap: anywhere; } span.why { color: #556; font-size: 13px; margin-top: 4px; }
"""


@dataclass(frozen=True)
class Entry:
    """An episode in the index.

    Attributes:
        page: the episode's page, beside the index.
        label: what was asked for, as in `query-12`.
        why: the reason why the episode is there.
        episode: the episode.
        ranking: the gallery, ranked by the episode's descriptor, if it was searched.
    """

    page: Path
    label: str
    why: str
    episode: Episode
    ranking: Ranking | None


def write_index(path: Path, entries: Sequence[Entry]) -> None:
    """Write the page, beside those that it leads to, all or nothing."""
    right = sum(entry.episode.is_right for entry in entries)
    judges = " and ".join(dict.fromkeys(entry.episode.judge for entry in entries))
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>episodes</title>'
        f"<style>{STYLE}</style></head>\n<body><main><h1>{len(entries)} episodes, {right} of them right</h1>"
        f"<p>Right: {html.escape(judges)} names the true person. Each picture is the frame that most bins cover: "
        "1 is the centre, the others were chosen. A click opens the episode.</p>"
        f'<div class="all">{"".join(map(_card, entries))}</div></main></body></html>\n'
    )
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")


def _card(entry: Entry) -> str:
    episode = entry.episode
    outcome = "right" if episode.is_right else "wrong"
    names = episode.identity_names
    named, true = names[episode.identity], names[episode.true_identity]
    said = f"says {named} ({percent(float(episode.probabilities.max()))})"
    lines = [said if episode.is_right else f"{said}, but it is {true} ({percent(episode.probability)})"]
    if entry.ranking is not None and (match := entry.ranking.true_match) is not None:
        lines.append(f"in the gallery the true match ranks {match.rank}")
    shown = "".join(f"<span>{html.escape(line)}</span>" for line in lines)
    return (
        f'<a class="{outcome}" href="{quote(entry.page.name)}">'
        f'<img height="{HEIGHT}" alt="" src="{_thumbnail(episode)}"><div>'
        f'<b class="{outcome}">{outcome.upper()}</b> <b>{html.escape(entry.label)}</b>'
        f"<span>{html.escape(episode.tracklet)}</span>{shown}"
        f'<span class="why">here because: {html.escape(entry.why)}</span></div></a>'
    )


def _thumbnail(episode: Episode) -> str:
    """Return the frame that most bins cover, as a data URL."""
    bank, bins = episode.process.bank, episode.bins.tolist()
    ranges = bank.grid.frame_ranges[bins]
    counts = [((ranges[:, 0] <= frame) & (frame < ranges[:, 1])).sum() for frame in range(bank.grid.clip_size[0])]
    drawn = draw_frame(bank, 0, int(np.argmax(counts)), bins)
    width = max(1, round(drawn.shape[1] * HEIGHT / drawn.shape[0]))
    return data_url(cv2.resize(drawn, (width, HEIGHT), interpolation=cv2.INTER_AREA))
