"""Measures are read together, and a batch of joint training waits for its device no more often than it has to."""

import dataclasses
import traceback
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import backbone.device
from agents.measures import Measures
from scripts.benchmark.training import SIZES, JointTraining, configured

SIZE = dataclasses.replace(SIZES["small"], num_frames=3)
# Operations that wait for a GPU, because Python sees their numbers or their result's size.
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount", "multinomial", "equal")

COUNTS = ("optim/adam.py", "optim/swa_utils.py")


@pytest.fixture
def slow_reading(monkeypatch):
    """Treat the CPU as a device whose numbers are waited for."""
    monkeypatch.setattr(backbone.device, "FREE", frozenset())


class CountWaits(TorchDispatchMode):
    """Counts operations that would wait for a GPU, and transfers by `tolist`, `numpy`, `cpu`."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.found = Counter()
        for name in ("tolist", "numpy", "cpu"):
            monkeypatch.setattr(torch.Tensor, name, self._counting(name, getattr(torch.Tensor, name)))

    def _counting(self, name, method):
        def counted(tensor, *args, **kwargs):
            self.note(name)
            return method(tensor, *args, **kwargs)

        return counted

    def note(self, name):
        frames = traceback.extract_stack()[::-1]
        where = next(one.name for one in frames if "/tests/" not in one.filename and "/torch/" not in one.filename)
        # Adam's and the average's counts of steps are on the CPU, and the people of a batch come from the loader.
        if where != "_show" and not any(one.filename.endswith(COUNTS) for one in frames):
            self.found[f"{name} in {where}"] += 1

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.partition(".")[0]
        if name.lstrip("_").startswith(tuple(one.lstrip("_") for one in WAITING)):
            self.note(name)
        return function(*args, **(kwargs or {}))


def test_measures_come_in_order_when_they_are_due(slow_reading):
    measures = Measures(3)
    assert measures.add({"a": torch.tensor(1.5), "b": 2}) == []
    assert measures.add({"a": torch.tensor(2.5)}) == []
    expected = [{"a": 1.5, "b": 2.0}, {"a": 2.5}, {"a": float("inf")}]
    assert measures.add({"a": torch.tensor(float("inf"))}) == expected
    assert measures.add({"a": torch.tensor(4, dtype=torch.int64)}) == []
    assert measures.read() == [{"a": 4.0}]
    assert measures.read() == []


def test_measures_that_are_free_are_read_at_once():
    measures = Measures(3)
    assert measures.add({"a": torch.tensor(1 / 3, dtype=torch.float64), "b": True}) == [{"a": 1 / 3, "b": 1.0}]
    assert measures.add({"a": 1}) == [{"a": 1.0}]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["paper", "strong"])
def test_a_batch_waits_for_no_number_until_measures_are_due(recipe, slow_reading, monkeypatch):
    training = JointTraining(dataclasses.replace(configured(SIZE, recipe, "cpu"), log_every=3))
    training.train(1)
    for callback in (training.shared, training.health):
        monkeypatch.setattr(type(callback), "_on_training_end", lambda self: None)
    with CountWaits(monkeypatch) as waits:
        training.train(2)
        assert not waits.found
        training.train(1)
        assert 1 <= sum(waits.found.values()) <= 5, waits.found


@pytest.mark.slow
def test_what_is_read_late_is_what_is_read_at_once(monkeypatch):
    found = []
    for free in (True, False):
        if not free:
            monkeypatch.setattr(backbone.device, "FREE", frozenset())
        training = JointTraining(configured(SIZE, "strong", "cpu"))
        logged = []
        for callback in (training.shared, training.health):
            monkeypatch.setattr(
                callback, "_" + ("check" if callback is training.shared else "note"), logged.extend
            )
        training.train(4)
        found.append(logged)
    now, late = found
    for part in ("identity_loss", "gradient_norm_F_a", "bin_entropy"):
        one, other = ([values for values in rows if part in values] for rows in (now, late))
        assert len(one) == len(other) >= 3
        for first, second in zip(one, other, strict=True):
            assert first == pytest.approx(second, rel=1e-3, abs=1e-4)


def test_a_loss_that_is_read_late_names_its_own_step(slow_reading):
    training = JointTraining(configured(SIZE, "paper", "cpu"))
    training.train(2)
    torch.nn.init.constant_(training.model.representation.glimpse.identify.bias, float("nan"))
    with pytest.raises(ValueError, match="the loss became nan at step 2"):
        training.train(3)
