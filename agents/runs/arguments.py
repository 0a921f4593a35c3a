"""Command lines: flags from a command's configuration; for a training a preset's settings and a recipe's first."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from agents.runs.agent_flags import take_agent_settings
from agents.runs.config import CHECKPOINT, TrainConfig, with_data_options
from agents.runs.presets import get_preset
from agents.runs.recipes import DEFAULT, OF_PRESET, get_recipe
from backbone.data.spec import check_trusted_data
from backbone.flags import read_flags
from backbone.progress import log_line


def read_arguments(argv: list[str], description: str = "") -> tuple[TrainConfig, dict[str, Any] | None]:
    """Make the configuration of a command line: a preset's settings, a recipe's, then the flags.

    Of a run that is resumed the saved settings take the place of the first two.

    Args:
        argv: the flags.
        description: text that --help begins with.

    Returns:
        The configuration, and the checkpoint's state if a run is resumed.

    Raises:
        ValueError: unknown preset or recipe, or a run that can't be resumed like this.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="benchmark")
    first.add_argument("--recipe")
    first.add_argument("--out", type=Path)
    first.add_argument("--resume", action="store_true")
    argv, own = take_agent_settings(argv)
    known, _ = first.parse_known_args(argv)
    recipe = known.recipe or OF_PRESET.get(known.preset, DEFAULT)
    default, state = get_recipe(recipe)(get_preset(known.preset)), None
    if known.resume:
        from agents.runs.checkpoint import read_checkpoint  # --help need not wait for torch

        out = known.out or Path("runs") / known.preset
        read_at = (out / CHECKPOINT).stat().st_mtime_ns if (out / CHECKPOINT).exists() else 0
        state = {**read_checkpoint(out / CHECKPOINT), "read_at": read_at}
        # a folder that a file names is not written to
        default = dataclasses.replace(state["config"], out=out, cache=None)
    config = read_flags(TrainConfig, argv, "train", description, default=default)
    own.check([config.agent])
    config = config if config.data == default.data else with_data_options(config)
    config = dataclasses.replace(config, agent_settings=own.of(config.agent) or config.agent_settings)
    if state:
        from agents.runs.checks import check_resumed

        check_trusted_data(config.data, out / CHECKPOINT)
        check_resumed(config, default, state["shared"]["step"])
        if (saved := state["config"].cache) is not None and config.cache is None:
            log_line(f"the run's cache was {saved}; this time it is the usual one, unless you say --cache {saved}")
        if (names := state.get("callbacks")) and not config.callbacks:
            log_line(
                f"the run had callbacks of your own; this time it has none, unless you say --callbacks {names}"
            )
        if (library := state.get("track")) and not config.track:
            log_line(f"{library} tracked the run; this time nothing does, unless you say --track {library}")
    return config, state
