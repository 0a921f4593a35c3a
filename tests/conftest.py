import contextlib
import importlib
import io
import itertools
import os
import shutil
import subprocess
import sys
import threading
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid
from a3d_env.playground import playground
from agents.features import SharedFeatureCallback
from backbone.glimpse import GlimpseNetwork
from scripts.cli import main


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tests run side by side, one core each; sums over threads would differ from machine to machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """No test reads or fills the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("A3D_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def nothing_waits_for_the_disk():
    """What tests write need not outlive a loss of power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def real_pictures():
    """Tests leave blank pictures, as drawing takes longer than a tiny run; `with real_pictures():` draws."""
    draw = Figure.savefig

    def blank(figure, *target, **settings):
        draw(Figure(figsize=(0.1, 0.1)), *target, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", blank)
        yield lambda: mock.patch.object(Figure, "savefig", draw)


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory, own_cache, real_pictures):
    """A run of the preset tiny as the command leaves it; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    with real_pictures():
        assert main(["train", "--preset", "tiny", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def tiny_run(trained_once, tmp_path_factory):
    """A copy of that run, for one file of tests."""
    return shutil.copytree(trained_once, tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def played():
    """The playground's bank and glimpse network; not to be changed."""
    return playground()


@pytest.fixture(scope="session")
def random_case():
    """A maker of banks of random features, with a glimpse network of random weights."""

    def make(num_channels=5, num_clips=4, num_glimpses=4, num_identities=6, grid=BinGrid(), seed=0):  # noqa: B008
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            glimpse = GlimpseNetwork(num_channels, num_glimpses, num_identities)
            maps = torch.randn(num_clips, num_channels, *grid.feature_size)
        names = [f"clip {number}" for number in range(num_clips)]
        return FeatureBank.from_feature_map(maps, grid, torch.arange(num_clips) % num_identities, names), glimpse

    return make


@pytest.fixture(scope="session")
def runs_here():
    """`with runs_here():` a command's runs are done in this process, one at a time; a new one imports torch."""
    one_at_a_time = threading.Lock()

    def run_module(module, argument, *, stdout=subprocess.PIPE, **_):
        written = io.StringIO()
        with (
            one_at_a_time,
            mock.patch.object(sys, "argv", [module, argument]),
            contextlib.redirect_stdout(written),
            contextlib.redirect_stderr(written),
        ):
            status = importlib.import_module(module).main()
        if stdout != subprocess.PIPE:
            stdout.write(written.getvalue().encode())
        return subprocess.CompletedProcess([module, argument], status or 0, written.getvalue())

    @contextlib.contextmanager
    def here():
        with (
            mock.patch("agents.runs.jobs.run_module", run_module),
            mock.patch("scripts.benchmark.scoring_cost.run_module", run_module),
        ):
            yield

    return here


@pytest.fixture
def interrupt_at(monkeypatch):
    """Press Ctrl-C in a batch, once."""

    def at(step: int) -> None:
        learn = SharedFeatureCallback._learn_from

        def interrupt(self, finished):
            if self.step == step:
                monkeypatch.setattr(SharedFeatureCallback, "_learn_from", learn)
                raise KeyboardInterrupt
            learn(self, finished)

        monkeypatch.setattr(SharedFeatureCallback, "_learn_from", interrupt)

    return at


@pytest.fixture
def people(tmp_path):
    """A folder of six people in two cameras, who carry nothing that is known."""
    root = tmp_path / "people"
    for person, camera, frame in itertools.product("abcdef", "12", range(6)):
        folder = root / person / camera / "walk"
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{frame}.png"), np.full((64, 32, 3), ord(person) + 10 * frame, np.uint8))
    return root
