"""Matching of a file's tensors with those of a two-stream network, by name and shape, and its report."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from backbone.two_stream import TwoStream

# Prefixes that wrapper classes put before every name, in any order; removed if more tensors fit without them.
PREFIXES = ("module.", "backbone.", "model.", "encoder.")
MOST_PREFIXES = 3
NAMES_SHOWN = 4

Shape = tuple[int, ...]


@dataclass(frozen=True)
class FitReport:
    """Report of the tensors of a file that fitted a network.

    Attributes:
        num_tensors: number of the network's tensors that were filled, and number of all, without counters of
            batches (num_batches_tracked).
        num_parameters: number of the network's trained numbers that were filled, and number of all.
        prefix: the prefix that was removed from the file's names.
        missing: names of the network's tensors that the file does not have: they stay as initialised.
        misshapen: tensors of another shape, which stay as initialised: name in the network, shape in the file,
            shape in the network.
        unused: names in the file that match no tensor of the network.
    """

    num_tensors: tuple[int, int]
    num_parameters: tuple[int, int]
    prefix: str
    missing: tuple[str, ...]
    misshapen: tuple[tuple[str, Shape, Shape], ...]
    unused: tuple[str, ...]

    @property
    def share(self) -> float:
        """The share of the network's trained numbers that was filled, in [0, 1]."""
        return self.num_parameters[0] / self.num_parameters[1]

    @property
    def lines(self) -> list[str]:
        """The report as lines of text, one for each kind of tensor that occurs; long lists are shortened."""
        tensors, parameters = (f"{part:,} of {whole:,}" for part, whole in (self.num_tensors, self.num_parameters))
        without = f", without {self.prefix!r} before the file's names" if self.prefix else ""
        percent = math.floor(1000 * self.share) / 10  # rounded down: 100 means all
        misshapen = (f"{name} ({there} in the file, {here} here)" for name, there, here in self.misshapen)
        return [
            f"{tensors} tensors fit, {parameters} parameters ({percent}%){without}",
            *_line("nothing for", self.missing, "as initialised"),
            *_line("of another shape", misshapen, "as initialised"),
            *_line("not used", self.unused),
        ]

    def __str__(self) -> str:
        """Return the lines, indented."""
        return "\n".join(f"  {line}" for line in self.lines)


def two_stream_state(network: "TwoStream", state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert a published model's state dict to that of a two-stream network made from it.

    Names are converted by `network.published`. F_flow gets F_img's weights; its convolution on 2 channels gets the
    RGB filters averaged over colour. Tensors without a counterpart, such as a classifier's, are left out. Shapes
    are not checked.
    """
    return {place: value for _, place, value in _placed(network, state) if place is not None}


def best_fit(network: "TwoStream", state: dict[str, Tensor]) -> tuple[dict[str, Tensor], FitReport]:
    """Match a file's tensors with the network's, by name and shape.

    Names are looked up among the network's own first, then among the published model's (`two_stream_state`).
    Prefixes such as "module." are removed if more parameters fit without them.

    Args:
        network: the network that will be filled; it is not changed here.
        state: the file's tensors by name.

    Returns:
        The tensors that fit, by the network's names, and the report.
    """
    fits = (_fit(network, state, prefix) for prefix in _prefixes(state))
    return max(fits, key=lambda fit: fit[1].num_parameters[0])  # of equals the first, whose prefix is shortest


def _fit(network: "TwoStream", state: dict[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], FitReport]:
    own = network.state_dict()
    named = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    fitting: dict[str, Tensor] = {}
    misshapen: dict[str, tuple[str, Shape, Shape]] = {}
    used: set[str] = set()
    for key, place, value in _placed(network, named):
        if place not in own:
            continue
        used.add(prefix + key)
        if value.shape == own[place].shape:
            fitting[place] = value
        else:
            misshapen[place] = (place, tuple(value.shape), tuple(own[place].shape))
    sizes = {key: value.numel() for key, value in network.named_parameters()}
    # num_batches_tracked is left out: nothing reads it, and older files lack it.
    counted = [key for key in own if not key.endswith("num_batches_tracked")]
    report = FitReport(
        num_tensors=(sum(key in fitting for key in counted), len(counted)),
        num_parameters=(sum(sizes.get(key, 0) for key in fitting), sum(sizes.values())),
        prefix=prefix,
        missing=tuple(key for key in counted if key not in fitting and key not in misshapen),
        misshapen=tuple(misshapen.values()),
        unused=tuple(key for key in state if key not in used),
    )
    return fitting, report


def _placed(network: "TwoStream", state: dict[str, Tensor]) -> Iterator[tuple[str, str | None, Tensor]]:
    """Yield name in the file, name in the network or None, and value; twice if a tensor fills both streams."""
    own = network.state_dict()
    for key, value in state.items():
        place = key if key in own else _published_place(network, key)
        yield key, place, value
        if place and place != key and place.startswith("image_stream.") and network.flow_stream is not None:
            place = place.replace("image_stream.", "flow_stream.", 1)
            yield key, place, _for_flow(value, own.get(place))


def _published_place(network: "TwoStream", key: str) -> str | None:
    words = key.split(".")
    for count in range(len(words), 0, -1):
        if (place := network.published.get(".".join(words[:count]))) is not None:
            return ".".join([place, *words[count:]])
    return None


def _for_flow(value: Tensor, target: Tensor | None) -> Tensor:
    """Average RGB filters (C, 3, ...) over colour if the flow stream's are (C, 2, ...)."""
    if target is None or (value.shape[1:2], target.shape[1:2]) != ((3,), (2,)):
        return value
    return value.mean(1, keepdim=True).repeat_interleave(2, dim=1)


def _prefixes(names: Iterable[str]) -> Iterator[str]:
    """Yield all combinations of up to three of `PREFIXES` that some name begins with, the shortest first."""
    found = [""]
    for _ in range(MOST_PREFIXES + 1):
        yield from found
        longer = [before + prefix for before in found for prefix in PREFIXES]
        found = [prefix for prefix in longer if any(name.startswith(prefix) for name in names)]


def _line(what: str, names: Iterable[str], then: str = "") -> list[str]:
    names = list(names)
    if not names:
        return []
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return [f"{what} ({len(names)}{f', {then}' if then else ''}): {', '.join(names[:NAMES_SHOWN])}{more}"]
