"""The pages of `a3d debug`: which episodes are shown, their recording, and the files of each."""

import sys
import time
from pathlib import Path

from tqdm import tqdm

from a3d_env.bank_file import check_nothing_there
from agents.controls import CONTROLS, ControlAgent
from agents.episodes.episode import Episode
from agents.episodes.export import write_gif, write_minari, write_rerun
from agents.episodes.gallery import Gallery
from agents.episodes.index import NAME, Entry, write_index
from agents.episodes.story import describe_change, describe_episode
from agents.runs.bank_policy import POLICY
from agents.runs.picks import Pick, Source, choose
from agents.runs.policy_episodes import PolicyEpisodes
from agents.runs.run_episodes import RunEpisodes
from backbone.files import check_writable
from backbone.progress import log_line, print_result
from scripts.debug import DebugConfig

RECORDING, DATASET = "episodes.rrd", "minari"


def debug(config: DebugConfig) -> list[Path]:
    """Record the episodes, write their files, and print what happened in each.

    Returns:
        The pages.

    Raises:
        ValueError: the checkpoint or the data can't be used, nothing is asked for, or there is no such episode.
    """
    changes = dict(read_change(text) for text in config.set_glimpse)
    check_writable(config.out, is_folder=True)
    if config.minari:
        check_nothing_there(config.out / DATASET)
    source = open_source(config)
    picks = pick_episodes(config, source)
    if config.minari and any(pick.side == "query" for pick in picks):
        raise ValueError("queries are not judged by F_c, as a Minari data set's environment does: take --train")
    suffix = "".join(f"-{number}at{'.'.join(map(str, corner))}" for number, corner in sorted(changes.items()))
    index = NAME if len(picks) > 1 else None
    entries: list[Entry] = []
    for pick in tqdm(picks, desc="episodes", unit="episode", leave=False, file=sys.stderr, disable=len(picks) < 2):
        episode, gallery = source.record(pick, deterministic=not config.sample, seed=config.seed)
        started = time.monotonic()
        if changes:
            episode = episode.replay(changes)
        page = episode.to_html(config.out / f"{pick.label}{suffix}.html", gallery, index)
        seconds = time.monotonic() - started
        episode.save(page.with_suffix(".npz"))
        if config.gif:
            write_gif(page.with_suffix(".gif"), episode)
        ranking = None if gallery is None else gallery.rank(episode.descriptor)
        entries.append(Entry(page, pick.label, pick.why, episode, ranking))
        with tqdm.external_write_mode(file=sys.stderr):
            print_result(report(pick, episode, gallery))
            print_result(f"{page}: {page.stat().st_size / 1e6:.2f} MB, made in {seconds:.1f} s\n")
    if isinstance(source, RunEpisodes) and (text := source.run.cache.describe_replaced()):
        log_line(text)
    if index:
        write_index(config.out / index, entries)
        print_result(f"all of them: {config.out / index}")
    episodes = [entry.episode for entry in entries]
    if config.rerun:
        write_rerun(config.out / RECORDING, episodes)
        print_result(f"to see the recording: rerun {config.out / RECORDING}")
    if config.minari:
        write_minari(config.out / DATASET, episodes)
        print_result(
            f"to see the data set: MINARI_DATASETS_PATH={config.out / DATASET} minari show a3d/episodes-v0"
        )
    return [entry.page for entry in entries]


def open_source(config: DebugConfig) -> Source:
    """Return the source of the episodes.

    Raises:
        ValueError: unknown agent, or a checkpoint or data that can't be used.
    """
    control = None if config.agent is None else ControlAgent(_known_control(config.agent), config.seed)
    if (config.checkpoint / POLICY).exists():
        if config.data is not None:
            raise ValueError("--data is for runs: a policy has a bank (--bank)")
        return PolicyEpisodes(config.checkpoint, config.bank, control, config.agent)
    if config.bank is not None:
        raise ValueError("--bank is for policies: a run has data (--data)")
    if len(config.clip) > 1:
        raise ValueError(f"a run shows one clip of each tracklet: give one number, got --clip {config.clip}")
    run = config.runtime.load_run(config.checkpoint, config.data)
    name = config.agent or run.config.agent
    return RunEpisodes(run, control or run.agent, name, config.clip[0] if config.clip else None)


def pick_episodes(config: DebugConfig, source: Source) -> list[Pick]:
    """Return the episodes that are asked for, each once.

    Raises:
        ValueError: no episode is asked for, or there is no such episode.
    """
    picks = [source.find("query", name) for name in config.query]
    picks += [source.find("train", name) for name in config.train]
    if isinstance(source, PolicyEpisodes):
        picks += [source.find("clip", str(number)) for number in config.clip]
    by_outcome = {name: getattr(config, name) for name in ("worst", "wrong", "random")}
    if any(by_outcome.values()):
        if config.sample:
            raise ValueError("episodes are chosen by how they end without exploring: --sample goes with --query")
        outcomes = source.outcomes()
        right = sum(outcome.is_right for outcome in outcomes)
        print_result(f"{len(outcomes)} episodes, {right} of them right\n")
        picks += choose(outcomes, **by_outcome, seed=config.seed)
    if not picks:
        raise ValueError(
            "no episode is chosen: give --query 12, --train 3, or --worst, --wrong or --random with a number; for "
            "a policy's bank --clip 7"
            if not any(by_outcome.values())
            else "no episode ended in that way: there is nothing to show"
        )
    return list(dict.fromkeys(picks))


def read_change(text: str) -> tuple[int, tuple[int, int, int]]:
    """Read `GLIMPSE=TIME,HEIGHT,WIDTH`.

    Raises:
        ValueError: the text has another form.
    """
    try:
        number, _, corner = text.partition("=")
        time_cell, height, width = (int(part) for part in corner.split(","))
        return int(number), (time_cell, height, width)
    except ValueError as error:
        raise ValueError(
            f"--set-glimpse is GLIMPSE=TIME,HEIGHT,WIDTH, whole numbers, as in 2=3,5,1; got {text!r}"
        ) from error


def report(pick: Pick, episode: Episode, gallery: Gallery | None) -> str:
    """Return a few lines that say what happened, and what a change led to."""
    first = episode.original or episode
    rankings = [None if gallery is None else gallery.rank(one.descriptor) for one in (first, episode)]
    lines = [*describe_episode(first, rankings[0]), *describe_change(episode, *rankings)]
    return "\n".join([f"{pick.label} ({episode.tracklet})", *(f"  {line}" for line in lines)])


def _known_control(name: str) -> str:
    if name not in CONTROLS:
        raise ValueError(
            f"unknown control {name!r}; known: {', '.join(CONTROLS)} (the trained agent is there without --agent)"
        )
    return name
