"""Ranks: the processes of one training over several GPUs or machines, which torchrun starts.

A process alone is rank 0 of 1, and every function here then returns what it was given, at no cost. In a group, all
ranks have to call the same functions in the same order: each call waits for the others.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")

# Variables of the environment by which torchrun tells a process its place among the others.
PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Seconds that ranks wait for each other: the longest work that one of them does alone is to draw data, and to
# search a large gallery.
LONGEST_WAIT = 1800


def rank() -> int:
    """Return this process's number in its group, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def world_size() -> int:
    """Return the number of processes in the group; 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_main() -> bool:
    """Tell whether this process is the one that writes files, shows progress, and scores."""
    return rank() == 0


@contextmanager
def joined(device: str = "auto", seconds: float = LONGEST_WAIT) -> Iterator[None]:
    """Be one of the ranks that torchrun started, while the context lasts; do nothing if it did not start any.

    All ranks but the first are silent; their errors pass.

    Args:
        device: name of the device that is trained on. The ranks of a machine take its GPUs in order.
        seconds: seconds that ranks wait for each other before they give up.

    Raises:
        ValueError: a machine has fewer GPUs than ranks, or `device` names one of them.
        OSError: another rank ended, or gave nothing for too long.
    """
    if not all(os.environ.get(name) for name in PLACE) or int(os.environ["WORLD_SIZE"]) < 2:
        yield
        return
    number, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    with ExitStack() as stack:
        if number:
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        try:
            on_gpu = _take_gpu(device)
            with _explaining():
                dist.init_process_group(
                    "cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=timedelta(seconds=seconds)
                )
            stack.callback(dist.destroy_process_group)
            yield
        except (ValueError, OSError) as error:
            kind = OSError if isinstance(error, OSError) else ValueError
            raise kind(f"rank {number} of {size}: {error}") from error
        except KeyboardInterrupt:
            if number:  # the first says it
                raise SystemExit(130) from None
            raise


def _take_gpu(device: str) -> bool:
    """Make this rank's GPU the one that `cuda` means; return whether there is one."""
    if device not in ("auto", "cuda"):
        if device.startswith("cuda"):
            raise ValueError(f"each rank takes a GPU of its own: say --device cuda, got {device}")
        return False
    if not torch.cuda.is_available():  # where `cuda` is asked for, the networks say so
        return False
    number, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= count:
        raise ValueError(
            f"this machine has {count} GPUs, and this is its rank number {number + 1}: start at most {count} "
            "(torchrun --nproc-per-node), or train on the CPU (--device cpu)"
        )
    torch.cuda.set_device(number)
    return True


@contextmanager
def _explaining() -> Iterator[None]:
    """Turn the errors of a collective into one that says what happened to the other ranks."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        reason = " ".join(str(error).split())
        raise OSError(
            f"another process of this training has ended, or has given nothing for too long ({reason[:150]}). Its "
            "own error says why; start all of them again, with --resume"
        ) from error


def own_rows(rows: Any, number: int, count: int) -> Any:
    """Return a rank's rows of a batch, a list or a tensor: of `count` equal, consecutive parts that `number`."""
    size = len(rows) // count
    return rows[number * size : (number + 1) * size]


def gather(rows: Tensor) -> Tensor:
    """Return the rows of all ranks, those of rank 0 first; each has as many.

    The gradient of a loss over all rows reaches this rank's rows, times the number of ranks: the mean over ranks
    (`average_gradients`) is then the gradient of that loss, which every rank computes.
    """
    return _Gather.apply(rows) if world_size() > 1 else rows


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
        with _explaining():
            dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return own_rows(gradients[0], rank(), world_size()) * world_size()


def average_gradients(parameters: Iterable[Tensor], also: Iterable[Tensor] = ()) -> None:
    """Replace gradients by their means over the ranks, in one message; those of the same parameters on each.

    Args:
        parameters: parameters, of which those without a gradient are left out.
        also: other tensors to average in the same message.
    """
    if world_size() == 1:
        return
    tensors = [*(one.grad for one in parameters if one.grad is not None), *also]
    if not tensors:
        return
    flat = torch.cat([one.detach().reshape(-1) for one in tensors])
    with _explaining():
        dist.all_reduce(flat)
    flat /= world_size()
    with torch.no_grad():
        for tensor, part in zip(tensors, flat.split([one.numel() for one in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))


def average_after_backward(parameters: Sequence[Tensor]) -> None:
    """Average gradients at the end of every backward pass that reaches one of the parameters, before any clipping.

    So an algorithm of another library needs no change.
    """
    if world_size() == 1:
        return
    is_due = False

    def average() -> None:
        nonlocal is_due
        is_due = False
        average_gradients(parameters)

    def note(_: Tensor) -> None:
        nonlocal is_due
        if not is_due:
            is_due = True
            torch.autograd.Variable._execution_engine.queue_callback(average)  # as torch's own DDP does

    for parameter in parameters:
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(note)


def share_of_mean(counts: Tensor) -> Tensor:
    """Return the factors by which the mean over ranks of their own means becomes the mean over all rows.

    Args:
        counts: numbers of rows that this rank has a mean of, int64 (K,).

    Returns:
        float32 (K,): a rank's rows as a share of all, times the number of ranks; 0 where no rank has any.
    """
    total = counts.clone()
    if world_size() > 1:
        with _explaining():
            dist.all_reduce(total)
    return counts * world_size() / total.clamp(min=1)


def batch_norm_statistics(module: nn.Module) -> list[Tensor]:
    """Return the running means and variances of a module's batch normalisations."""
    norms = (one for one in module.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm))
    found = (statistic for norm in norms for statistic in (norm.running_mean, norm.running_var))
    return [statistic for statistic in found if statistic is not None]


def synchronize_batch_norm(module: nn.Module, device: torch.device) -> None:
    """Let a module's batch normalisations, which are none themselves, normalise over the rows of all ranks.

    Raises:
        ValueError: the device is no GPU, which torch's layer needs.
    """
    if world_size() == 1:
        return
    if device.type != "cuda":
        raise ValueError(
            f"batch normalisations can be synchronised (--joint.sync-batch-norm) on GPUs alone, got {device}"
        )
    from timm.layers import convert_sync_batchnorm  # it knows timm's layers, too, and takes a second to import

    convert_sync_batchnorm(module)


def copy_from_main(module: nn.Module) -> None:
    """Give a module the weights that it has on rank 0."""
    if world_size() > 1:
        with _explaining():
            for value in module.state_dict().values():
                dist.broadcast(value, 0)


def from_main(value: T) -> T:
    """Return the value that rank 0 has, plain data or tensors on the CPU."""
    if world_size() == 1:
        return value
    values = [value]
    with _explaining():
        dist.broadcast_object_list(values, 0)
    return values[0]


def to_main(value: T) -> list[T]:
    """Return the values of all ranks, plain data or tensors on the CPU, on rank 0; on the others an empty list."""
    if world_size() == 1:
        return [value]
    values: list[Any] | None = [None] * world_size() if is_main() else None
    with _explaining():
        dist.gather_object(value, values)
    return values or []


def in_turns(own: Sequence[T]) -> list[T]:
    """Return on rank 0 what ranks made by turns, number n by rank n modulo their number; else an empty list."""
    parts = to_main(own)
    count = sum(map(len, parts))
    return [parts[number % len(parts)][number // len(parts)] for number in range(count)]


def one_first(make: Callable[[], T]) -> T:
    """Return what a function returns; each machine's first rank calls it before the others, who find its files."""
    is_first = world_size() == 1 or int(os.environ.get("LOCAL_RANK", rank())) == 0
    made = make() if is_first else None
    if world_size() > 1:
        with _explaining():
            dist.all_reduce(torch.zeros(1))
    return make() if made is None else made


def check_same(tensors: Iterable[Tensor]) -> None:
    """Refuse, on all ranks, weights that have parted.

    Raises:
        ValueError: some numbers are not the same, to the bit.
    """
    if world_size() == 1:
        return
    found = hashlib.sha256()
    for one in tensors:
        found.update(one.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    if len(set(from_main(to_main(found.digest())))) > 1:
        raise ValueError(
            "the ranks hold different weights: something updates them by other means than gradients, such as a "
            "callback that draws random numbers"
        )
