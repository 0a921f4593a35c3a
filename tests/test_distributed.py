"""Ranks: two processes on half of a batch each learn what one learns on all of it; started once for all tests."""

import dataclasses
import multiprocessing
import os
import socket
import traceback
import warnings
from pathlib import Path
from unittest import mock

import cv2
import pytest
import torch

from agents.ranks import learn_together
from agents.runs.config import get_preset
from agents.runs.recipes import get_recipe, set_trick, with_agent, with_settings
from agents.runs.trained import build_model, build_shared
from backbone.data.loader import ClipBatch
from backbone.data.tracklet import FrameFiles, Tracklet
from backbone.distributed import joined, own_rows, rank, world_size

PEOPLE = [0, 0, 1, 1, 2, 2, 3, 3]  # of a batch's clips; rank 0 has the first four
TRACKLETS = [0, 0, 2, 2, 4, 5, 6, 6]  # the first rank has clips of one fold alone


def paper():
    return get_recipe("paper")(get_preset("tiny"))


def strong():
    """The recipe, with all losses that there are."""
    config = get_recipe("strong")(get_preset("tiny"))
    for trick in ("neck", "triplet", "centre_loss"):
        config = set_trick(trick, config, on=True)
    return with_settings(config, joint={"paid_by": "other_tracklets", "warmup": 0})


def ppo():
    """Advantages that are normalised, and a gradient that is clipped."""
    config = with_agent(get_recipe("strong")(get_preset("tiny")), "ppo")
    return dataclasses.replace(config, agent_settings={"max_grad_norm": 0.01, "n_epochs": 1})


CASES = {case.__name__: case for case in (paper, strong, ppo)}


def batch(seed: int) -> ClipBatch:
    """This rank's clips of a batch of eight."""
    generator = torch.Generator().manual_seed(seed)
    clip = torch.randint(0, 256, (8, 3, 64, 32, 3), dtype=torch.uint8, generator=generator)
    flow = torch.randn(8, 3, 64, 32, 2, generator=generator).half()
    clip, flow, person, tracklet = (
        torch.as_tensor(own_rows(rows, rank(), world_size())) for rows in (clip, flow, PEOPLE, TRACKLETS)
    )
    names = [str(number) for number in tracklet.tolist()]
    return ClipBatch(clip, flow, person, tracklet, names, None, torch.full((len(clip),), 3))


def act_alike(agent) -> None:
    """Let an agent take the actions that one process would take in these rows of the batch."""
    generator, choose = torch.Generator().manual_seed(0), agent.policy._distribution

    def chosen(found):
        distribution = choose(found)

        def get_actions(deterministic=False):
            actions = torch.rand(len(found) * world_size(), 3, generator=generator) * 2 - 1
            return own_rows(actions, rank(), world_size())

        distribution.get_actions = get_actions
        return distribution

    agent.policy._distribution = chosen


def learned(case: str) -> dict[str, dict[str, torch.Tensor]]:
    """Learn from a batch: its gradients, and the weights after it."""
    config = CASES[case]()
    config = with_settings(config, load={"num_people": 4 // world_size()}, backbone={"precision": "float32"})
    tracklets = [Tracklet(number // 2, 0, FrameFiles((Path(str(number)),)), str(number)) for number in range(8)]
    model = build_model(config, [0, 1, 2, 3])
    shared = build_shared(model, map(batch, range(1)), tracklets)
    model.representation.eval()
    model.representation.train = lambda mode=True: model.representation  # each rank's own statistics would differ
    learn_together(model.agent, config.seed)
    act_alike(model.agent)
    parts = {"representation": model.representation, "policy": model.agent.policy, "judges": shared.judges}
    parts = {name: part for name, part in parts.items() if part is not None}
    model.agent.learn(model.steps_per_batch, callback=[shared])
    gradients = {
        f"{name}.{key}": value.grad.clone()
        for name, part in parts.items()
        for key, value in part.named_parameters()
        if value.grad is not None
    }
    if shared.optimizer.centers.grad is not None:
        gradients["centers"] = shared.optimizer.centers.grad.clone()
    weights = {f"{n}.{key}": value for n, part in parts.items() for key, value in part.state_dict().items()}
    return {"gradients": gradients, "weights": weights}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def placed(number: int, port: int):
    """The environment that torchrun gives rank `number` of two."""
    place = {
        "RANK": number,
        "LOCAL_RANK": number,
        "WORLD_SIZE": 2,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    return mock.patch.dict(os.environ, {name: str(value) for name, value in place.items()})


def work(number: int, folder: Path, ports: list[int]) -> None:
    """Do, as one of two ranks, what the tests look at."""
    with placed(number, ports[0]), joined("cpu", 60):
        torch.save({case: learned(case) for case in CASES}, folder / f"learned-{number}.pt")


def as_second(folder: Path, ports: list[int]) -> None:
    cv2.setNumThreads(0)  # OpenCV's threads are those of the process that this one is a copy of
    try:
        work(1, folder, ports)
    except BaseException:
        (folder / "error.txt").write_text(traceback.format_exc())


@pytest.fixture(scope="module")
def both(tmp_path_factory, own_cache):
    """A folder with what two ranks left: this process, and a copy of it, for which importing takes no time."""
    folder, ports = tmp_path_factory.mktemp("ranks"), [free_port() for _ in range(3)]
    torch.save({case: learned(case) for case in CASES}, folder / "learned-alone.pt")
    context = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")
    second = context.Process(target=as_second, args=(folder, ports))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # a copy of a process with threads, which it leaves alone
        second.start()
    try:
        work(0, folder, ports)
    finally:
        second.join(60)
        if second.is_alive():
            second.kill()
        if (folder / "error.txt").exists():
            print((folder / "error.txt").read_text())
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_learn_what_one_process_learns_from_the_whole_batch(both, case):
    first, second, alone = (torch.load(both / f"learned-{who}.pt")[case] for who in (0, 1, "alone"))
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name
    assert alone["gradients"].keys() == first["gradients"].keys()
    for name, value in alone["gradients"].items():
        part = [other.abs().max() for key, other in alone["gradients"].items() if key[:6] == name[:6]]
        difference = (first["gradients"][name] - value).abs().max()
        assert difference <= 1e-5 * max(1, *part), f"{name}: {difference:.2g}"  # in float32
