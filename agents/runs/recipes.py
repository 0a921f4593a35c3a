"""Recipes: the method's settings by name, whatever the data and the network of the preset are.

`paper` leaves the preset as it is. `strong` adds what makes the agent find the identifying thing on people that it
was not trained on, and what the field trains with; each lever of it can be switched back alone, for ablations.
`plain` is what a user would write instead, to compare with.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from agents.runs.config import TrainConfig
from agents.runs.presets import get_preset

Change = Callable[[TrainConfig], TrainConfig]
Settings = dict[str, dict[str, Any]]  # values by section and name

# The field's ways of training, by name: settings with each, and without.
TRICKS: dict[str, tuple[Settings, Settings]] = {
    "warm_up": ({"joint": {"warmup": 60}}, {"joint": {"warmup": 0}}),
    "cosine": ({"joint": {"schedule": "cosine"}}, {"joint": {"schedule": "step"}}),
    "weight_decay": ({"joint": {"weight_decay": 5e-4}}, {"joint": {"weight_decay": 0.0}}),
    "label_smoothing": ({"joint": {"label_smoothing": 0.1}}, {"joint": {"label_smoothing": 0.0}}),
    "weight_average": ({"joint": {"average_decay": 0.98}}, {"joint": {"average_decay": None}}),
    "neck": ({"descriptor": {"neck": "batch_norm"}}, {"descriptor": {"neck": "none"}}),
    "triplet": ({"joint": {"triplet_weight": 1.0}}, {"joint": {"triplet_weight": 0.0}}),
    "soft_margin": ({"joint": {"margin": None}}, {"joint": {"margin": 0.3}}),
    "centre_loss": ({"joint": {"center_weight": 5e-4}}, {"joint": {"center_weight": 0.0}}),
    "slow_backbone": ({"joint": {"backbone_rate": 0.5}}, {"joint": {"backbone_rate": 1.0}}),
    "gem": ({"backbone": {"pooling": "gem"}}, {"backbone": {"pooling": "mean"}}),
    "spread_frames": ({"load": {"sampling": "spread"}}, {"load": {"sampling": "consecutive"}}),
    "erasing": ({"augment": {"erase_probability": 0.5}}, {"augment": {"erase_probability": 0.0}}),
    "random_crop": ({"augment": {"crop_padding": 0.05}}, {"augment": {"crop_padding": 0.0}}),
    "colour_jitter": ({"augment": {"color_jitter": 0.2}}, {"augment": {"color_jitter": 0.0}}),
}


# Episodes that the clip's baseline compares.
FEWEST_EPISODES = 2

STRONG: dict[str, Settings] = {
    # The agent sees the whole clip, coarsely, and takes the bin that looks most promising.
    "locator": {"attention": {"overview": (2, 6, 6)}, "policy": {"locator": "mixture"}},
    # Each glimpse has to identify by itself, beside the global feature, and is paid for it: a bin that shows
    # nothing more is known to be worth nothing.
    "glimpse_reward": {"attention": {"reward": "glimpses"}},
    "glimpse_loss": {"joint": {"glimpse_weight": 1.0}},
    # The triplet loss acts on the clip as a whole: on the hidden states the hardest triplets would be those in
    # which no glimpse saw the thing, whose distances say nothing. Squared distances would shrink the features.
    "global_triplet": {"joint": {"triplet_on": "global", "triplet_distance": "euclidean"}},
    # Distances in which features that vary between clips of one person count least.
    "metric": {"descriptor": {"compared": "learned"}},
    "mirror": {"descriptor": {"mirror": True}},
    # An untrained flow stream does not disturb the features of an image network.
    "flow_scale": {"backbone": {"flow_scale": "learned"}},
    # An episode's return is compared with those of other episodes on the same clip.
    "clip_baseline": {"policy": {"baseline": "clip"}},
    "normalized_advantage": {"policy": {"normalize_advantage": True}},
    "episodes": {"joint": {"episodes_per_clip": 8}},
    # The policy gradient does not change the input of F_c; the locator has layers of its own.
    "fixed_glimpse": {"policy": {"gradient_to_glimpse": False}},
    # A standard deviation of one cell, and a learning rate that fits a policy with normalised advantages.
    "variance": {"policy": {"variance": 0.05}},
    "learning_rate": {"policy": {"learning_rate": 1e-3}},
    # As the field trains: the rate rises, and falls to 0; what is tested is an average of the last weights.
    **{name: TRICKS[name][0] for name in ("warm_up", "cosine", "weight_average")},
    **{name: TRICKS[name][0] for name in ("weight_decay", "label_smoothing")},
}


# Beside these, for networks that know real images: the triplet loss acts before a batch normalisation, the cross
# entropy after it.
PHOTOGRAPHED: dict[str, Settings] = {"neck": TRICKS["neck"][0]}
# Instead, for the small network that was trained on drawn walkers: there the clip as a whole shows strangers'
# things, too, and what makes it tell people apart by itself takes hits from the agent (benchmarks/real.md).
DRAWN: dict[str, Settings] = {"without_triplet": TRICKS["triplet"][1]}
LEVERS = STRONG | PHOTOGRAPHED | DRAWN

# A glimpse is paid for what it adds to those before it.
PREFIXES: Settings = {"attention": {"reward": "prefixes"}, "joint": {"glimpses_judged": "prefixes"}}
# Changes of `strong` for people whom a thing names, not the clip as a whole: whichever glimpse sees it, F_c and
# the metric read it in the same way.
COMPLEMENTARY: dict[str, Settings] = {
    "prefixes": PREFIXES,
    "glimpses_mean": {"descriptor": {"glimpses": "mean"}},
}
# Changes of `strong` for people whom several things name: glimpses don't return to where one has looked.
SEVERAL: dict[str, Settings] = {
    "prefixes": PREFIXES,
    "inhibition": {"attention": {"shows_looked": True}, "policy": {"inhibition": 5.0}},
}


def paper(config: TrainConfig) -> TrainConfig:
    """Return the preset as it is."""
    return config


def strong(config: TrainConfig) -> TrainConfig:
    """Return the preset with all levers of `STRONG`, and with those of `DRAWN` or of `PHOTOGRAPHED`."""
    return _changed(config, STRONG | (DRAWN if is_drawn(config) else PHOTOGRAPHED), "strong")


def complementary(config: TrainConfig) -> TrainConfig:
    """Return the recipe strong with the changes of `COMPLEMENTARY`."""
    return _changed(strong(config), COMPLEMENTARY, "complementary")


def several(config: TrainConfig) -> TrainConfig:
    """Return the recipe strong with the changes of `SEVERAL`."""
    return _changed(strong(config), SEVERAL, "several")


def _changed(config: TrainConfig, changes: dict[str, Settings], recipe: str) -> TrainConfig:
    for change in changes.values():
        config = with_settings(config, **change)
    return dataclasses.replace(config, recipe=recipe)


def is_drawn(config: TrainConfig) -> bool:
    """Tell whether a preset begins with the weights made on drawn walkers."""
    return config.backbone.weights == "synthetic"


def plain(config: TrainConfig) -> TrainConfig:
    """Return what a user would write in the place of all this: frames averaged, no attention, no learned metric.

    Cross entropy and a batch-hard triplet loss, with a margin of 0.3, train the mean of the frames' features,
    which cosine compares. Of `TRICKS` there is that loss, and which frames a clip has stays the preset's.
    """
    for name in TRICKS:
        if name not in ("triplet", "spread_frames"):
            config = set_trick(name, config, on=False)
    return with_settings(
        dataclasses.replace(with_agent(config, "centre"), recipe="plain"),
        backbone={"flow_scale": "one"},
        descriptor={"compared": "global", "mirror": False},
        attention={"num_glimpses": 0, "reward": "log_prob", "overview": None},
        policy={"locator": "linear"},
        joint={
            "episodes_per_clip": 1,
            "glimpse_weight": 0.0,
            "triplet_weight": 1.0,
            "triplet_on": "global",
            "triplet_distance": "euclidean",
            "mining": "batch_hard",
            "learning_rate": 2e-4,
        },
    )


RECIPES: dict[str, Change] = {
    "paper": paper,
    "strong": strong,
    "complementary": complementary,
    "several": several,
    "plain": plain,
}


def has_trick(name: str, config: TrainConfig) -> bool:
    """Tell whether a configuration has one of the field's ways of training, with whatever number."""
    (used, unused) = TRICKS[name]
    ((section, settings),) = used.items()
    ((field, on),) = settings.items()
    value = getattr(config.load.augment if section == "augment" else getattr(config, section), field)
    return bool(value != unused[section][field]) if isinstance(on, float | int) else bool(value == on)


def set_trick(name: str, config: TrainConfig, *, on: bool) -> TrainConfig:
    """Switch one of the field's ways of training on or off; one that is so already keeps its number."""
    if has_trick(name, config) == on:
        return config
    if name == "cosine" and config.joint.halve_every is None:  # or the step schedule would have no step
        config = with_settings(config, joint={"halve_every": max(config.steps // 3, 1)})
    used, unused = TRICKS[name]
    return _with_augment(config, used if on else unused)


def _with_augment(config: TrainConfig, settings: Settings) -> TrainConfig:
    """Change settings by section, where the section `augment` is one of `load`."""
    settings = dict(settings)
    if "augment" in settings:
        augment = dataclasses.replace(config.load.augment, **settings.pop("augment"))
        config = with_settings(config, load={"augment": augment})
    return with_settings(config, **settings)


# The recipe where none is asked for: what works. Of these presets, walkers makes weights without attention, and
# tiny learns nothing in any case.
DEFAULT = "strong"
OF_PRESET = {"walkers": "paper", "tiny": "paper", "planted": "complementary", "two_things": "several"}


def get_recipe(name: str) -> Change:
    """Return a recipe.

    Raises:
        ValueError: unknown name.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]


def _switch_back(lever: str) -> Change:
    """Return the change that gives one lever's settings the preset's own values again."""

    def change(config: TrainConfig) -> TrainConfig:
        preset = get_preset(config.preset)
        own = {
            section: {name: getattr(getattr(preset, section), name) for name in values}
            for section, values in LEVERS[lever].items()
        }
        if lever == "episodes":
            own["joint"]["episodes_per_clip"] = max(own["joint"]["episodes_per_clip"], FEWEST_EPISODES)
        return with_settings(config, **own)

    return change


# Each switches one lever of a configuration of the strong recipe back to what the preset has, as the recipe paper
# leaves it; with "episodes" two of a clip stay, which its baseline needs.
STRONG_LEVERS: dict[str, Change] = {lever: _switch_back(lever) for lever in LEVERS}


def with_agent(config: TrainConfig, name: str) -> TrainConfig:
    """Let another agent decide, without the settings that were made for the one before."""
    return config if name == config.agent else dataclasses.replace(config, agent=name, agent_settings={})


def with_settings(config: TrainConfig, **sections: dict[str, Any]) -> TrainConfig:
    """Change settings by section and name."""
    for section, settings in sections.items():
        config = dataclasses.replace(
            config, **{section: dataclasses.replace(getattr(config, section), **settings)}
        )
    return config
