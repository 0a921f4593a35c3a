"""Tensors that no network has are named, in whatever file of weights they are."""

import json

import numpy as np
import pytest
import torch

from a3d_env.bank_file import open_bank, save_bank
from agents.runs.bank_policy import POLICY, read_policy
from agents.runs.checkpoint import read_checkpoint
from backbone.embeddings import load_embeddings
from backbone.flownet import load_flownet
from backbone.json_file import read_object
from backbone.tensor_file import UnknownTensor, load_tensors
from backbone.weights_file import read_state

ONES = torch.ones(3, 3)
UNUSUAL = {
    "is sparse or nested": lambda: ONES.to_sparse(),
    "is sparse or": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "has no content": lambda: torch.empty(3, device="meta"),
    "holds numbers of the type qint8": lambda: torch.quantize_per_tensor(ONES, 0.1, 0, torch.qint8),
    "holds numbers of the type complex64": lambda: ONES.to(torch.complex64),
    "holds numbers of the type float8_e4m3fn": lambda: ONES.to(torch.float8_e4m3fn),
    "repeats a few numbers to 1,000,000,000,000": lambda: torch.ones(1).expand(10**12),  # a file of 1 kB
}


READERS = {
    torch: [
        lambda folder: read_state(folder / "weights.pt"),
        lambda folder: read_checkpoint(folder / "weights.pt"),
        lambda folder: load_flownet(folder / "weights.pt", torch.device("cpu")),
        read_policy,
        lambda folder: open_bank(folder / "bank"),
    ],
    np: [lambda folder: load_embeddings(folder / "a.npz")],
    json: [lambda folder: read_object(folder / "a.json", UnknownTensor, "")],
}


@pytest.mark.parametrize("what", UNUSUAL)
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of kinds that it will give up
def test_the_tensor_and_the_file_are_named(what, tmp_path, played):
    weights, policy = tmp_path / "weights.pt", tmp_path / POLICY
    for path in (weights, policy):
        torch.save({"shared": [{"step": 1}, {"weight": UNUSUAL[what]()}]}, path)
    text = rf"shared\[1\]\.weight is a tensor that {what}"
    with pytest.raises(UnknownTensor, match=f"^{text}"):
        load_tensors(weights)
    for read, path in ((read_state, weights), (read_checkpoint, weights), (read_policy, policy.parent)):
        with pytest.raises(ValueError, match=rf"\.pt .*: {text}"):
            read(path)
    save_bank(tmp_path / "bank", *played)
    (tmp_path / "bank" / "glimpse.pt").write_bytes(weights.read_bytes())
    with pytest.raises(ValueError, match=rf"glimpse\.pt .*: {text}"):
        open_bank(tmp_path / "bank")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")]
)
def test_a_lack_of_memory_is_not_taken_for_damage(error, tmp_path, played, monkeypatch):
    def fail(*_, **__):
        raise error

    save_bank(tmp_path / "bank", *played)
    np.savez(tmp_path / "a.npz", a=1)
    for name in ("weights.pt", POLICY, "a.json"):
        (tmp_path / name).write_bytes((tmp_path / "a.npz").read_bytes())
    for place, name in ((torch, "load"), (np, "load"), (json, "loads")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, fail)
            for read in READERS[place]:
                with pytest.raises(type(error)):
                    read(tmp_path)


def test_tensors_of_eight_bits_are_no_weights(tmp_path):
    torch.save({"weight": ONES.to(torch.int8)}, tmp_path / "w.pt")
    with pytest.raises(
        ValueError, match=r"w\.pt holds whole numbers of 8 bits, as of a quantised network, in weight$"
    ):
        read_state(tmp_path / "w.pt")
    assert load_tensors(tmp_path / "w.pt")["weight"].dtype == torch.int8  # a random state has them
