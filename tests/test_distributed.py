"""Ranks: two processes on half of a batch each learn what one learns on all of it; started once for all tests."""

import dataclasses
import hashlib
import io
import json
import multiprocessing
import os
import socket
import traceback
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import cv2
import pytest
import torch

from agents.ranks import learn_together
from agents.runs.checkpoint import read_checkpoint, restore
from agents.runs.describe import clip_batches, fit_comparison
from agents.runs.logs import read_history
from agents.runs.model import load_run
from agents.runs.presets import get_preset
from agents.runs.recipes import get_recipe, set_trick, with_agent, with_settings
from agents.runs.scoring import evaluate
from agents.runs.trained import build_batches, build_model, build_shared
from backbone.data.loader import ClipBatch
from backbone.data.tracklet import FrameFiles, Tracklet
from backbone.distributed import (
    _take_gpu,
    average_after_backward,
    check_same,
    in_turns,
    joined,
    own_rows,
    rank,
    synchronize_batch_norm,
    world_size,
)
from scripts.cli import main
from scripts.train import how_to_go_on

pytestmark = pytest.mark.slow

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


def learned(case: str) -> dict[str, Any]:
    """Learn from a batch: its gradients, and a digest of the weights after it."""
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
    weights = hashlib.sha256()
    for part in parts.values():
        for value in part.state_dict().values():
            weights.update(value.numpy().tobytes())
    return {"gradients": gradients, "weights": weights.hexdigest()}


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
    flags = [
        "--steps",
        "2",
        "--evaluate-every",
        "1",
        "--checkpoint-every",
        "1",
        "--descriptor.compared",
        "learned",
    ]
    said = io.StringIO()
    few = [mock.patch.dict(one.__kwdefaults__, clips_per_batch=5) for one in (evaluate.__wrapped__, clip_batches)]
    with placed(number, ports[1]), redirect_stdout(said), redirect_stderr(said), few[0], few[1]:
        status = main(["train", "--preset", "tiny", "--device", "cpu", *flags, "--out", str(folder / "run")])
    (folder / f"said-{number}").write_text(f"{status}\n{said.getvalue()}")
    weight = torch.ones(2, requires_grad=True)
    errors = []
    with placed(number, ports[2]), joined("cpu", 60):
        try:
            check_same([torch.zeros(3), torch.full((2,), number)])
        except ValueError as error:
            errors.append(str(error))
        average_after_backward([weight])
        (weight * torch.tensor([number, 4.0])).sum().backward()
        errors.append(f"{weight.grad.tolist()} {in_turns([number, number + 2, 4][: 3 - number])}")
        if number:
            os._exit(9)  # as if it were killed
        try:
            weight.sum().backward()
        except OSError as error:
            errors.append(str(error))
    (folder / "errors.txt").write_text("\n".join(errors))


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
    assert second.exitcode == 9
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_learn_what_one_process_learns_from_the_whole_batch(both, case):
    first, second, alone = (torch.load(both / f"learned-{who}.pt")[case] for who in (0, 1, "alone"))
    assert first["weights"] == second["weights"]
    assert alone["gradients"].keys() == first["gradients"].keys()
    for name, value in alone["gradients"].items():
        part = [other.abs().max() for key, other in alone["gradients"].items() if key[:6] == name[:6]]
        difference = (first["gradients"][name] - value).abs().max()
        assert difference <= 1e-5 * max(part), f"{name}: {difference:.2g}"  # in float32


def test_the_first_rank_writes_and_speaks(both):
    said = [(both / f"said-{number}").read_text() for number in (0, 1)]
    assert said[1] == "0\n"
    assert said[0].startswith("0\n")
    assert all(said[0].count(text) == 1 for text in ("synthetic: 6 people", "after training", "2 batches in"))
    names = {path.name for path in (both / "run").iterdir()}
    assert names == {
        "checkpoint.pt", "best.pt", "config.json", "metrics.json", "history.jsonl", "scores.jsonl", "curves.png",
        "bins.png", "tensorboard", ".lock",
    }  # fmt: skip
    assert [line["step"] for line in read_history(both / "run" / "history.jsonl")] == [1, 2]
    assert [line["step"] for line in read_history(both / "run" / "scores.jsonl")] == [1, 2]


def test_scores_of_shares_are_those_of_one_process(both):
    run = load_run(both / "run")
    scores = evaluate(run, {"agent": run.agent}, run.data)["agent"]
    for name, value in json.loads((both / "run" / "metrics.json").read_text())["after"].items():
        assert value == pytest.approx(scores[name], abs=0.01), name


def test_the_metric_is_fitted_to_the_clips_of_all_ranks(both):
    run = load_run(both / "run")
    comparison = run.representation.comparison
    found = comparison.projection.clone()
    comparison.reset()
    fit_comparison(run, run.data.train)
    difference = (comparison.projection - found).abs().max() / found.abs().max()
    assert difference < 1e-3


def test_a_run_of_two_ranks_goes_on_in_one_process_and_as_a_third(both, tmp_path):
    state = read_checkpoint(both / "run" / "checkpoint.pt")
    assert len(state["other_ranks"]) == 1
    run = load_run(both / "run")
    shared = build_shared(run, iter([]), run.data.train)
    drawn = {}
    for number in range(3):
        here = [
            mock.patch(f"{module}.rank", lambda n=number: n)
            for module in ("agents.runs.checkpoint", "agents.ranks")
        ]
        with here[0], here[1]:
            restore(shared, run.agent, state, both)
        drawn[number] = torch.get_rng_state()
    assert torch.equal(drawn[0], state["random"]["torch"])
    assert torch.equal(drawn[1], state["other_ranks"][0]["random"]["torch"])
    assert len({tuple(value.tolist()) for value in drawn.values()}) == 3
    assert shared.step == 2


def test_a_rank_that_ends_is_an_error_of_the_others(both):
    parted, gradient, gone = (both / "errors.txt").read_text().splitlines()
    assert "the ranks hold different weights" in parted
    assert gradient == "[0.5, 4.0] [0, 1, 2, 3, 4]"
    assert "another process of this training has ended" in gone
    assert "--resume" in gone


def test_a_stopped_run_of_several_ranks_says_how_to_go_on(both):
    with mock.patch("backbone.distributed.world_size", return_value=2):
        said = how_to_go_on(paper(), both / "run")
    assert f": torchrun --nproc-per-node 2 --no-python a3d train --resume --out {both / 'run'}" in said


def test_what_ranks_can_not_do_together_is_refused(capsys):
    with (
        mock.patch("agents.ranks.world_size", return_value=2),
        pytest.raises(ValueError, match="leave target_kl out"),
    ):
        learn_together(SimpleNamespace(target_kl=0.01), 0)
    with (
        mock.patch("backbone.distributed.world_size", return_value=2),
        pytest.raises(ValueError, match=r"\(--joint.sync-batch-norm\) on GPUs alone, got cpu"),
    ):
        synchronize_batch_norm(torch.nn.BatchNorm1d(3), torch.device("cpu"))
    with (
        mock.patch("agents.runs.trained.world_size", return_value=4),
        pytest.raises(
            ValueError, match="4 ranks with 2 people each need 8 to train on, got 6: let each bring fewer"
        ),
    ):
        build_batches(paper(), SimpleNamespace(train_people=range(6)), None)
    with placed(1, 1), mock.patch("torch.cuda.is_available", return_value=False):
        assert not _take_gpu("cuda")
    with placed(1, 1):
        assert main(["evaluate"]) == 2
        with (
            pytest.raises(
                ValueError, match="rank 1 of 2: each rank takes a GPU of its own: say --device cuda, got cuda:1"
            ),
            joined("cuda:1"),
        ):
            pass
    assert "torchrun starts a3d train alone" in capsys.readouterr().err
