"""Memory that is used up is told in a line, whoever asked for it."""

import cv2
import numpy as np
import pytest
import torch

from agents.runs import model
from agents.runs.memory import out_of_memory
from scripts import cli


def of_gpu():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 12.00 GiB.")


def of_opencv():
    cv2.resize(np.zeros((9, 9, 3), np.uint8), (2**20, 2**20))


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (lambda: torch.empty(10**15), "can't allocate memory: you tried to allocate 4000000000000000 bytes"),
        (lambda: np.empty(10**15), "Unable to allocate 7.11 PiB for an array"),
        (lambda: [0] * 10**15, "(MemoryError)"),
        (of_opencv, "Insufficient memory"),
        (of_gpu, "CUDA out of memory. Tried to allocate 12.00 GiB."),
    ],
)
def test_commands_say_it_in_a_line(work, reason, monkeypatch, capsys):
    monkeypatch.setattr(model, "load_run", lambda *_, **__: work())
    assert cli.main(["evaluate", "--checkpoint", "runs/big"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("a3d evaluate: error: there is not enough memory in scripts.options.load_run (")
    assert reason in line
    assert (
        ". Make smaller: the data (--data), with --splits also --jobs (runs at a time), --load.num-people" in line
    )


def test_other_errors_are_not_taken_for_it(monkeypatch):
    assert out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "train") == ""
    monkeypatch.setattr(model, "load_run", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["evaluate", "--checkpoint", "runs/big"])
