"""Cost of training and inference on one device: frames a second, what is outside the backbone, synchronisations.

`a3d benchmark --device cuda` prints these rows, too. `benchmarks/gpu.sh` runs this module alone: it goes on after
a measurement that fails, and writes training.json anew after each one.
"""

import argparse
import itertools
import json
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import configure
from torch import nn

from a3d_env.bank import FeatureBank
from a3d_env.process import AttentionProcess
from agents.health import TrainingHealth
from agents.rollout import follow
from agents.runs.build import build_agent, build_environment, build_grid, build_representation
from agents.runs.config import TrainConfig
from agents.runs.presets import get_preset
from agents.runs.recipes import get_recipe, with_settings
from agents.runs.trained import TrainedModel, build_cache, build_shared
from backbone.data.loader import ClipBatch
from backbone.losses import identity_loss, triplet_loss
from backbone.progress import print_result

RECIPES = ("paper", "strong")
GFLOP_A_FRAME = 27.2  # of a trained frame of the two-stream ResNet50 at 256 x 128
# Dense bfloat16, in TFLOP/s, by a part of the card's name; the first that fits.
PEAKS = {
    "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "H200": 989, "B200": 2250, "A100": 312, "L40S": 362,
    "L40": 181, "L4": 121, "A10": 125, "4090": 165,
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """Sizes of what is trained.

    Attributes:
        backbone: name of the network.
        height: height of frames in pixels.
        width: width of frames in pixels.
        num_frames: number of frames of a clip.
        num_people: number of people of a batch, four clips each.
        num_timed: number of batches that are timed.
    """

    backbone: str = "resnet50"
    height: int = 256
    width: int = 128
    num_frames: int = 6
    num_people: int = 8
    num_timed: int = 10


SIZES = {"full": Size(), "small": Size("small", 64, 32, 6, 2, 3)}
NUM_IDENTITIES, CLIPS_PER_PERSON = 625, 4


@dataclass
class Figures:
    """What was measured so far.

    Attributes:
        device: the device's name.
        size: what was trained.
        values: figures by name.
        failures: the error of each measurement that failed, by its name.
    """

    device: str
    size: Size
    values: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def configured(size: Size, recipe: str, device: str) -> TrainConfig:
    """Return the settings of a recipe at a size, without weights of a file."""
    preset = with_settings(
        replace(get_preset("mars"), device=device),
        backbone={"name": size.backbone, "weights": None},
        load={
            "height": size.height,
            "width": size.width,
            "num_frames": size.num_frames,
            "num_people": size.num_people,
            "clips_per_person": CLIPS_PER_PERSON,
        },
    )
    if size.height < 128:  # maps of few cells
        preset = with_settings(preset, attention={"bin_size": (2, 3, 2)})
    return get_recipe(recipe)(preset)


def without_attention(config: TrainConfig) -> TrainConfig:
    """Return the same settings without a glimpse, and so without what trains glimpses."""
    return with_settings(
        config,
        attention={"num_glimpses": 0, "reward": "identity", "overview": None},
        policy={"locator": "linear", "baseline": "value"},
        joint={"glimpse_weight": 0.0, "episodes_per_clip": 1},
    )


def made_up_batch(config: TrainConfig) -> ClipBatch:
    """Return a batch of noise of the configuration's size, in memory that is copied to a GPU ahead."""
    load, generator = config.load, torch.Generator().manual_seed(0)
    count = load.num_people * load.clips_per_person
    shape = count, load.num_frames, load.height, load.width
    has_flow = config.backbone.flow is not None
    boxes = np.tile(np.array([0, 0, load.width / 2, load.height / 2], np.float32), (count, load.num_frames, 1))
    batch = ClipBatch(
        clip=torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=generator),
        flow=torch.randn(*shape, 2, generator=generator).half() if has_flow else None,
        person=torch.arange(load.num_people).repeat_interleave(load.clips_per_person),
        tracklet=torch.arange(count),
        source=["made up"] * count,
        truth_boxes=boxes,
        num_different=torch.full((count,), load.num_frames),
    )
    return batch.pin_memory() if torch.cuda.is_available() else batch


class JointTraining:
    """Joint training as `a3d train` runs it, on one batch again and again."""

    def __init__(self, config: TrainConfig):
        self.config = config
        representation = build_representation(config, NUM_IDENTITIES)
        grid = build_grid(config, representation)
        agent = build_agent(config, build_environment(config, representation, grid))
        agent.set_logger(configure(None, []))
        self.model = TrainedModel(
            config, representation, grid, agent, build_cache(config), list(range(NUM_IDENTITIES))
        )
        self.shared = build_shared(self.model, itertools.repeat(made_up_batch(config)), [])
        self.health = TrainingHealth(log_every=config.log_every)

    def train(self, num_batches: int) -> None:
        """Train on that many batches."""
        self.model.agent.learn(
            num_batches * self.model.steps_per_batch,
            callback=[self.shared, self.health],
            log_interval=self.config.log_every,
            reset_num_timesteps=False,
        )


def plain_loop(config: TrainConfig, *, losses: bool) -> Callable[[int], None]:
    """Return a plain loop of the same backbone, batch and optimizer; without `losses`, of the backbone alone."""
    batch, representation = made_up_batch(config), build_representation(config, NUM_IDENTITIES).train()
    device, backbone = representation.device, representation.backbone
    head = nn.Linear(backbone.num_channels, NUM_IDENTITIES).to(device)
    parameters = [*backbone.parameters(), *(head.parameters() if losses else ())]
    adam = torch.optim.Adam(parameters, lr=2e-4, fused=device.type == "cuda" or None)
    person = batch.person.to(device)

    def run(num_batches: int) -> None:
        for _ in range(num_batches):
            maps = representation.feature_map(batch.clip, batch.flow)
            pooled = maps.mean((2, 3, 4))
            loss = pooled.mean()
            if losses:
                loss = identity_loss(head(pooled), person) + triplet_loss(pooled, person)
            adam.zero_grad()
            loss.backward()
            adam.step()

    return run


def inference(config: TrainConfig, *, attention: bool) -> Callable[[int], None]:
    """Return what describes a batch's clips, so many times."""
    model, batch = JointTraining(config).model, made_up_batch(config)
    representation = model.representation.eval()
    identity = torch.zeros(len(batch.clip), dtype=torch.long, device=representation.device)

    @torch.no_grad()
    def run(num_batches: int) -> None:
        for _ in range(num_batches):
            maps = representation.feature_map(batch.clip, batch.flow)
            pooled = representation.global_feature(maps)
            if attention:
                bank = FeatureBank.from_feature_map(
                    maps, model.grid, identity, batch.source, global_feature=pooled
                )
                process = AttentionProcess(bank, representation.glimpse)
                process.descriptor(follow(model.agent, process))

    return run


def ms_a_batch(run: Callable[[int], None], size: Size, device: torch.device) -> float:
    """Return the milliseconds of a batch: the best of three times `num_timed` batches, after three to warm up."""
    run(3)
    taken = []
    for _ in range(3):
        _wait(device)
        started = time.perf_counter()
        run(size.num_timed)
        _wait(device)
        taken.append(1e3 * (time.perf_counter() - started) / size.num_timed)
    return min(taken)


def synchronisations(run: Callable[[int], None], num_batches: int) -> float:
    """Return how often a batch waits for the GPU, by PyTorch's own warnings of it."""
    run(2)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run(num_batches)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [one for one in found if "called a synchronizing" in str(one.message)]
    for place in sorted({f"{Path(one.filename).name}:{one.lineno}" for one in waits}):
        print_result(f"    waits at {place}")
    return len(waits) / num_batches


Measure = Callable[[dict[str, float]], float]
"""Takes the figures so far, by name, and returns one more."""


def measurements(size: Size, device: torch.device) -> Iterator[tuple[str, Measure]]:
    """Yield what is measured, by name."""
    config = configured(size, "paper", str(device))  # strong's backbone has one number more
    frames = size.num_people * CLIPS_PER_PERSON * size.num_frames
    yield "backbone: ms", lambda _: ms_a_batch(plain_loop(config, losses=False), size, device)
    yield "backbone: trained frames/s", lambda known: 1e3 * frames / known["backbone: ms"]
    yield "plain loop: ms", lambda _: ms_a_batch(plain_loop(config, losses=True), size, device)
    for recipe in RECIPES:
        for name, measure in _of_recipe(recipe, size, device):
            yield f"{recipe}: {name}", measure
    if device.type == "cuda":
        yield "peak memory: GiB", lambda _: torch.cuda.max_memory_allocated(device) / 2**30


def _of_recipe(recipe: str, size: Size, device: torch.device) -> Iterator[tuple[str, Measure]]:
    config, ms = configured(size, recipe, str(device)), f"{recipe}: ms"
    frames, peak = size.num_people * CLIPS_PER_PERSON * size.num_frames, peak_of(device)
    yield "ms", lambda _: ms_a_batch(JointTraining(config).train, size, device)
    yield "trained frames/s", lambda known: 1e3 * frames / known[ms]
    if size.backbone == "resnet50" and peak is not None:  # GFLOP / (TFLOP/s) is ms
        yield "share of the bfloat16 peak", lambda known: GFLOP_A_FRAME * frames / peak / known[ms]
    yield "share outside the backbone", lambda known: 1 - known["backbone: ms"] / known[ms]
    yield "training / plain loop", lambda known: known[ms] / known["plain loop: ms"]
    without = f"{recipe}: without attention: ms"
    yield (
        "without attention: ms",
        lambda _: ms_a_batch(JointTraining(without_attention(config)).train, size, device),
    )
    yield "training with / without attention", lambda known: known[ms] / known[without]
    described, pooled = f"{recipe}: inference: ms", f"{recipe}: inference without attention: ms"
    yield "inference: ms", lambda _: ms_a_batch(inference(config, attention=True), size, device)
    yield (
        "inference without attention: ms",
        lambda _: ms_a_batch(inference(config, attention=False), size, device),
    )
    yield "inference with / without attention", lambda known: known[described] / known[pooled]
    if device.type == "cuda":
        yield "synchronisations a batch", lambda _: synchronisations(JointTraining(config).train, 20)


def measure_training(
    size: Size, device: torch.device, keep: Callable[[Figures], None] | None = None, seconds: float = 200
) -> Figures:
    """Measure and print, one after another; a failure is printed, and the next goes on.

    Args:
        size: what is trained.
        device: where.
        keep: function that is given the figures after each.
        seconds: time after which nothing is begun any more.
    """
    figures = Figures(torch.cuda.get_device_name(device) if device.type == "cuda" else device.type, size)
    print_result(f"{figures.device}, torch {torch.__version__}: {size}")
    torch.backends.cudnn.benchmark = True
    started = time.perf_counter()
    for name, measure in measurements(size, device):
        try:
            if time.perf_counter() - started > seconds:
                raise TimeoutError(f"not begun: {seconds:.0f} s are over")
            figures.values[name] = float(measure(figures.values))
            print_result(f"{figures.values[name]:12.3f}  {name}")
        except Exception as error:  # whatever it is, the other figures are wanted
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error}"[:300]
            figures.failures[name] = f"{text} ({Path(where.filename).name}:{where.lineno})"
            print_result(f"{'failed':>12}  {name}: {figures.failures[name]}")
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if keep is not None:
            keep(figures)
    return figures


def peak_of(device: torch.device) -> float | None:
    """Return the dense bfloat16 peak of a card, TFLOP/s; None if it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((float(peak) for part, peak in PEAKS.items() if part in name), None)


def as_json(figures: Figures) -> dict[str, Any]:
    """Return figures in the types of JSON."""
    return {
        "device": figures.device,
        "torch": torch.__version__,
        "size": vars(figures.size),
        "figures": figures.values,
        "failures": figures.failures,
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Measure by the command line's arguments."""
    parser = argparse.ArgumentParser(description="Measure training and inference, and write training.json.")
    parser.add_argument("folder", type=Path, help="folder that training.json is written to")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    parser.add_argument("--size", choices=list(SIZES), default="full", help="full: ResNet50 at 256 x 128")
    parser.add_argument("--seconds", type=float, default=200, help="time after which nothing is begun any more")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)

    def keep(figures: Figures) -> None:
        text = json.dumps(as_json(figures), indent=2) + "\n"
        (given.folder / "training.json").write_text(text, encoding="utf-8")

    measure_training(SIZES[given.size], torch.device(given.device), keep, given.seconds)


if __name__ == "__main__":
    main()
