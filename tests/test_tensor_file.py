"""Tensors that no network has are named, in whatever file of weights they are."""

import pytest
import torch

from a3d_env.bank_file import open_bank, save_bank
from backbone.tensor_file import UnknownTensor, load_tensors
from backbone.weights_file import read_state
from scripts.checkpoint import read_checkpoint
from scripts.train_policy import POLICY, read_policy

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


def test_tensors_of_eight_bits_are_no_weights(tmp_path):
    torch.save({"weight": ONES.to(torch.int8)}, tmp_path / "w.pt")
    with pytest.raises(
        ValueError, match=r"w\.pt holds whole numbers of 8 bits, as of a quantised network, in weight$"
    ):
        read_state(tmp_path / "w.pt")
    assert load_tensors(tmp_path / "w.pt")["weight"].dtype == torch.int8  # a random state has them
