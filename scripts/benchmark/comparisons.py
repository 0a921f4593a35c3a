"""Measurements of `a3d benchmark`: the seconds of a fast way and of the plain way to do the same."""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid
from a3d_env.env import Attention3DEnv
from a3d_env.process import AttentionProcess
from a3d_env.vector import Attention3DVectorEnv
from backbone.config import BackboneConfig
from backbone.data.cache import FrameCache
from backbone.data.tracklet import FrameFiles, Tracklet
from backbone.glimpse import GlimpseNetwork
from backbone.metrics import evaluate_retrieval
from backbone.representation import Representation
from scripts.benchmark.scoring_cost import Size, draw_case, score_plainly

NUM_EPISODES = 64
NUM_CLIPS = 16  # in a step of training
LEAST_TIMES = 3  # that each way is timed, the first time left out
# As many as in MARS where the queries are not in the gallery; few numbers, so that ranking is what is timed.
RANKED = Size(1980, 9330, 16)
RANKED_SHARE = 20  # the plain way ranks this part of the queries, and its time is multiplied


@dataclass(frozen=True)
class Comparison:
    """The median seconds of the plain way and of the fast way to do the same.

    Attributes:
        what: name of the two ways, as it is printed.
        plain_seconds: median seconds of the plain way.
        fast_seconds: median seconds of the fast way.
    """

    what: str
    plain_seconds: float
    fast_seconds: float

    @property
    def ratio(self) -> float:
        """Seconds of the plain way as a multiple of those of the fast way."""
        return self.plain_seconds / self.fast_seconds


def episodes_one_by_one_or_batched(seconds: float, device: torch.device) -> Comparison:
    """Run 64 episodes on the playground: in the single environment, and in the batched one."""
    single, batched = Attention3DEnv(), Attention3DVectorEnv(NUM_EPISODES)
    actions = np.random.default_rng(0).uniform(-1, 1, (3, NUM_EPISODES, 3)).astype(np.float32)

    def one_by_one() -> None:
        for episode in range(NUM_EPISODES):
            single.reset(options={"clip": episode})
            for step in range(3):
                single.step(actions[step, episode])

    def together() -> None:
        batched.reset(options={"clip": np.arange(NUM_EPISODES)})
        for step in range(3):
            batched.step(actions[step])

    what = f"{NUM_EPISODES} episodes: one by one / batched"
    return _compare(what, one_by_one, together, seconds, torch.device("cpu"))


def glimpses_by_crop_or_table(seconds: float, device: torch.device) -> Comparison:
    """Look at 198 bins of 4 maps of 512 channels: crop and average each, or average all and look up."""
    grid = BinGrid()
    maps = torch.randn(4, 512, *grid.feature_size, device=device)
    clips = torch.arange(4, device=device)

    def crop() -> None:
        for time_cell, row, column in grid.corners.tolist():
            cells = maps[:, :, time_cell : time_cell + 4, row : row + 6, column : column + 3]
            cells.mean((2, 3, 4))

    def table() -> None:
        bins = grid.pool(maps)
        for index in range(grid.num_bins):
            bins[clips, index]

    return _compare("every bin of 4 ResNet18 maps: crop / table", crop, table, seconds, device)


def training_in_float32_or_autocast(seconds: float, device: torch.device) -> Comparison:
    """Train the small backbone for a step on 16 clips, in float32 and in the precision that `auto` takes."""
    clip = torch.randint(0, 256, (NUM_CLIPS, 6, 128, 64, 3), dtype=torch.uint8, device=device)
    flow = torch.randn(NUM_CLIPS, 6, 128, 64, 2, device=device)

    def step(representation: Representation) -> Callable[[], None]:
        return lambda: representation.feature_map(clip, flow).square().mean().backward()

    plain, fast = (
        Representation(BackboneConfig(precision=precision), num_glimpses=4, num_identities=2).to(device)
        for precision in ("float32", "auto")
    )
    return _compare("a step of the small backbone: float32 / auto", step(plain), step(fast), seconds, device)


def frames_decoded_or_cached(seconds: float, device: torch.device) -> Comparison:
    """Read a tracklet of 16 PNG frames with its flow: from the files, and from the cache."""
    with tempfile.TemporaryDirectory() as folder:
        paths = tuple(Path(folder) / f"{number:02}.png" for number in range(16))
        for path in paths:
            cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (128, 64, 3), dtype=np.uint8))
        tracklet = Tracklet(person=0, camera=0, frames=FrameFiles(paths), source="benchmark")
        counter = iter(range(10**9))

        def read(name: str) -> None:
            cache = FrameCache(Path(folder) / name, 128, 64, "dis-fast")
            np.array(cache.frames(tracklet)), np.array(cache.flow(tracklet))

        return _compare(
            "16 frames with flow: from files / from the cache",
            lambda: read(f"cache{next(counter)}"),
            lambda: read("cache"),
            seconds,
            torch.device("cpu"),
        )


def evaluation_clip_by_clip_or_batched(seconds: float, device: torch.device) -> Comparison:
    """Follow 64 episodes of random bins on ResNet50's features to their identities, alone and together."""
    grid = BinGrid()
    glimpse = GlimpseNetwork(num_channels=2048, num_glimpses=4, num_identities=625).to(device)
    bank = FeatureBank.blank(grid, 2048, device)
    process = AttentionProcess(bank, glimpse)
    bins = torch.randint(grid.num_bins, (3, NUM_EPISODES), device=device)
    clips = torch.zeros(NUM_EPISODES, dtype=torch.long, device=device)

    def run(part: slice) -> None:
        episodes = process.start(clips[part])
        for choice in bins:
            episodes = process.look(episodes, choice[part])
        process.judge(episodes)

    def one_by_one() -> None:
        for number in range(NUM_EPISODES):
            run(slice(number, number + 1))

    return _compare(
        f"{NUM_EPISODES} episodes on ResNet50's features: one by one / batched",
        one_by_one,
        lambda: run(slice(None)),
        seconds,
        device,
    )


def ranking_query_by_query_or_chunked(seconds: float, device: torch.device) -> Comparison:
    """Rank a gallery as large as that of MARS, both from the same descriptors, to R1 and mAP."""
    case = draw_case(RANKED)
    num_timed = RANKED.num_queries // RANKED_SHARE
    share = case._replace(
        query=case.query[:num_timed],
        query_people=case.query_people[:num_timed],
        query_cameras=case.query_cameras[:num_timed],
    )
    timed = _compare(
        f"{RANKED} ranked: a query at a time, {num_timed} timed, x {RANKED_SHARE} / in chunks",
        lambda: score_plainly(share),
        lambda: evaluate_retrieval(case),
        seconds,
        torch.device("cpu"),
    )
    return replace(timed, plain_seconds=timed.plain_seconds * RANKED.num_queries / num_timed)


COMPARISONS = (
    episodes_one_by_one_or_batched,
    evaluation_clip_by_clip_or_batched,
    glimpses_by_crop_or_table,
    training_in_float32_or_autocast,
    frames_decoded_or_cached,
    ranking_query_by_query_or_chunked,
)


def _compare(
    what: str, plain: Callable[[], object], fast: Callable[[], object], seconds: float, device: torch.device
) -> Comparison:
    return Comparison(what, _median_seconds(plain, seconds, device), _median_seconds(fast, seconds, device))


def _median_seconds(run: Callable[[], object], seconds: float, device: torch.device) -> float:
    run()  # the first time pays for memory and kernels
    taken: list[float] = []
    while sum(taken) < seconds or len(taken) < LEAST_TIMES:
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)
