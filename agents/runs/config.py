"""The configuration of a training run, its presets, and its file."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import dacite
import tyro

from a3d_env.attention_config import AttentionConfig
from agents.joint_config import JointConfig
from agents.policy_config import PolicyConfig
from backbone.config import BackboneConfig, DescriptorConfig
from backbone.data import DataConfig
from backbone.data.load_config import LoadConfig
from backbone.data.registry import EXAMPLES
from backbone.data.spec import parse_data, parse_spec
from backbone.flags import BadFrame, CacheFolder, Device

CHECKPOINT = "checkpoint.pt"  # in a run's folder
MOST_EPISODES = 65_536  # in a batch

# Settings of more than one command, with their help text.
DataName = Annotated[
    str,
    tyro.conf.arg(
        help=f"Name of the data: {EXAMPLES}, or module:function[:DIRECTORY] of your own. Settings of the data can "
        "follow an @, as in folder:my_tracklets@test_fraction=0.3."
    ),
]


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run."""

    preset: str = "benchmark"
    """Settings to start from. benchmark: built-in data, minutes on a CPU; two_things: the same where two things
    together name a person; planted: your own real people, who carry drawn things; tiny: seconds, learns nothing;
    street: your own tracklets of real people, with a MobileNetV2 from ImageNet, on a CPU; small: the same with the
    benchmark's small network; prid, ilids, mars: the paper's, with --recipe paper; walkers: for a3d pretrain."""
    recipe: str = "paper"
    """Settings of the method, which change those of the preset; flags go before both. strong, the default of a3d
    train: what makes the agent find the identifying thing on people that it was not trained on, and common ways of
    training (listed in agents/runs/recipes.py); complementary, the default of planted: strong, with a reward for
    what a glimpse adds to those before it, whichever comes first; several, the default of two_things: strong, with
    that reward, and no second look at one place; paper: the preset as it is, and the default of tiny and
    walkers; plain: frames averaged, no attention, to compare with."""
    data: DataName = "synthetic"
    agent: str = "reinforce"
    """Agent that decides where to look, by a name of agents.ALGORITHMS. Learning: reinforce, a2c, ppo, trpo, sac,
    tqc, td3, ddpg, dqn, qrdqn, ..., or module:Class of your own. Not learning: untrained (the policy as it was
    initialised, no RL objective), random, centre, truth (on the identifying thing, where it is known), ... Any
    keyword of the algorithm's constructor is set by --agents.NAME.KEYWORD VALUE, as in --agents.ppo.learning-rate
    3e-4, or in a file: --agents FILE.yaml (name -> keyword -> value)."""
    agent_settings: tyro.conf.Suppress[dict[str, Any]] = field(default_factory=dict)
    """Settings of that algorithm alone, by the keywords of its constructor; they go before those of `policy`."""
    out: Path | None = None
    """Folder of the run; by default runs/<preset>, with a number if that is taken."""
    resume: bool = False
    """Go on from the checkpoint in the run's folder, with the settings saved there."""
    steps: int = 600
    """Number of batches to train on."""
    seed: int = 0
    """Seed of weights, batches and exploration."""
    evaluate_every: int = 0
    """Number of batches between two scorings of the test people, whose scores go to scores.jsonl, curves.png and
    TensorBoard; 0: score only before and after the training. The checkpoint of the highest mAP is kept as best.pt;
    since the test people chose it, its scores on them are too high. With data_options.held_out, training people
    who are held out take their place, and choose it."""
    device: Device = "auto"
    cache: CacheFolder = None
    decode_anew: bool = False
    """Keep nothing on disk, but decode image files and compute flow anew for each clip: for data larger than the
    disk. Training is slower; more --load.workers make up for it."""
    on_bad_frame: BadFrame = "error"
    checkpoint_every: int = 100
    """Number of batches between two checkpoints."""
    log_every: int = 10
    """Number of batches that each point of the learning curves averages."""
    callbacks: str = ""
    """Callbacks of your own, module:name with commas: subclasses of stable-baselines3's BaseCallback, made without
    arguments (docs/your_own.md). Give them again with --resume: code that a checkpoint names is not run."""
    track: Literal["wandb", "mlflow", "trackio"] | None = None
    """Library that tracks the run beside TensorBoard (pip install 'a3d[wandb]', 'a3d[mlflow]' or 'a3d[trackio]'):
    it gets the settings, curves, scores and pictures of bins (docs/track_tune_share.md). Give it again with
    --resume, and the same tracked run goes on: no checkpoint makes anything be sent."""
    data_options: DataConfig = field(default_factory=DataConfig)
    load: LoadConfig = field(default_factory=LoadConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    descriptor: DescriptorConfig = field(default_factory=DescriptorConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    joint: JointConfig = field(default_factory=JointConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.evaluate_every < 0:
            raise ValueError(f"evaluate_every must be 0 or more, got {self.evaluate_every}")
        clips = self.load.num_people * self.load.clips_per_person
        if not 1 <= clips * self.joint.episodes_per_clip <= MOST_EPISODES:
            raise ValueError(
                f"a batch has 1 to {MOST_EPISODES:,} episodes, got {self.load.num_people} people x "
                f"{self.load.clips_per_person} clips x {self.joint.episodes_per_clip} episodes"
            )


# Key in a run's config.json of all settings that the algorithm was really made with.
USED = "algorithm"


def config_to_json(config: TrainConfig, used: dict[str, Any] | None = None) -> str:
    """Write a configuration as JSON text, with what the algorithm was really made with if that is known."""
    values = dataclasses.asdict(config) | ({} if used is None else {USED: used})
    return json.dumps(values, indent=2, default=str) + "\n"


def config_from_json(text: str | bytes, source: Path) -> TrainConfig:
    """Read a configuration from JSON text.

    Args:
        text: text that `config_to_json` wrote.
        source: name of the file that the text is from, for the error.

    Raises:
        ValueError: the text is no configuration of this version.
    """
    try:
        data = json.loads(text)
        if not isinstance(data, dict):
            raise TypeError(f"expected settings by name, got a {type(data).__name__}")
        data.pop(USED, None)
        return dacite.from_dict(TrainConfig, data, dacite.Config(cast=[Path, tuple], strict=True))
    # values of other types than they were written with raise many
    except (ValueError, dacite.DaciteError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{source} holds no configuration that this version can read: {error}") from error


def with_data_options(config: TrainConfig) -> TrainConfig:
    """Return the settings with those that `data` names after an @ in `data_options`.

    Command lines and calls of `train` are read by this function, and files are not: a file may name a folder with
    an @ in its name, which is not there any more.

    Raises:
        ValueError: the data has no such option.
    """
    data, options = parse_data(config.data, config.data_options)
    return dataclasses.replace(config, data=data, data_options=options)


def with_seed(config: TrainConfig, number: int) -> TrainConfig:
    """Return the settings of run number `number`: other weights, batches and exploration, and other people.

    Built-in data is drawn anew, a folder's people are split anew, and of prid and ilids it is the next of the ten
    published splits; the same for all rows, so that their differences are paired.
    """
    config = with_data_options(config)
    data = config.data_options
    drawn = dataclasses.replace(data.synthetic, seed=data.synthetic.seed + number)
    planted = dataclasses.replace(data.planted, seed=data.planted.seed + number)
    data = dataclasses.replace(data, synthetic=drawn, planted=planted, split_seed=data.split_seed + number)
    if num_splits := parse_spec(config.data).data_set.num_splits:
        data = dataclasses.replace(data, split=(data.split + number) % num_splits)
    return dataclasses.replace(config, seed=config.seed + number, data_options=data)
