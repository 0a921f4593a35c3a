"""Which tensor of a file goes where in a two-stream network, and a report of what fitted."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from backbone.two_stream import TwoStream

# What wrapper classes put before every name, in any order; taken off where more fits without.
PREFIXES = ("module.", "backbone.", "model.", "encoder.")
MOST_PREFIXES = 3
NAMES_SHOWN = 4

Shape = tuple[int, ...]


@dataclass(frozen=True)
class FitReport:
    """What of a file fitted a network.

    Attributes:
        num_tensors: tensors of the network that were filled, and how many it has; counters of batches
            (num_batches_tracked) are left out.
        num_parameters: the same of its trained numbers.
        prefix: what was taken off the file's names.
        missing: the network's names that the file has nothing for: they stay as initialised.
        misshapen: name in the network, shape in the file, shape in the network; they stay as initialised, too.
        unused: names in the file that have no place in the network.
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
        """The report for people, without what did not happen; long lists are shortened."""
        tensors, parameters = (f"{part:,} of {whole:,}" for part, whole in (self.num_tensors, self.num_parameters))
        without = f", without {self.prefix!r} before the file's names" if self.prefix else ""
        percent = math.floor(1000 * self.share) / 10  # 100 for all of it only
        misshapen = (f"{name} ({there} in the file, {here} here)" for name, there, here in self.misshapen)
        return [
            f"{tensors} tensors fit, {parameters} parameters ({percent}%){without}",
            *_line("nothing for", self.missing, "as initialised"),
            *_line("of another shape", misshapen, "as initialised"),
            *_line("not used", self.unused),
        ]

    def __str__(self) -> str:
        """One line for each thing to say."""
        return "\n".join(f"  {line}" for line in self.lines)


def two_stream_state(network: "TwoStream", state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Map a published model's state dict to that of a network made from it.

    Names are mapped by `network.published`. F_flow gets F_img's weights; a convolution that sees 2 channels there
    gets the RGB filters averaged over colour. What has no place, as a classifier, is left out. Shapes are not
    checked.
    """
    return {place: value for _, place, value in _placed(network, state) if place is not None}


def best_fit(network: "TwoStream", state: dict[str, Tensor]) -> tuple[dict[str, Tensor], FitReport]:
    """Match a file's tensors with the network's, by name and shape.

    A name of the network's own wins over one of the published model (`two_stream_state`). Prefixes such as
    "module." are taken off where more parameters fit without them.

    Args:
        network: what is to be filled; it is not changed.
        state: tensors by name.

    Returns:
        What fits, by the network's names, and the report.
    """
    fits = (_fit(network, state, prefix) for prefix in _prefixes(state))
    return max(fits, key=lambda fit: fit[1].num_parameters[0])  # the first, and so the shortest, of equals


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
    # A counter that nothing reads, and that older files lack.
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
    """Return name in the file, name in the network or None, and value; twice what goes into both streams."""
    own = network.state_dict()
    for key, value in state.items():
        place = key if key in own else _published_place(network, key)
        yield key, place, value
        if (
            place is not None
            and place != key
            and place.startswith("image_stream.")
            and network.flow_stream is not None
        ):
            place = place.replace("image_stream.", "flow_stream.", 1)
            yield key, place, _for_flow(value, own.get(place))


def _published_place(network: "TwoStream", key: str) -> str | None:
    words = key.split(".")
    for count in range(len(words), 0, -1):
        if (place := network.published.get(".".join(words[:count]))) is not None:
            return ".".join([place, *words[count:]])
    return None


def _for_flow(value: Tensor, target: Tensor | None) -> Tensor:
    """Average RGB filters (C, 3, ...) over colour where the flow stream's are (C, 2, ...)."""
    if target is None or (value.shape[1:2], target.shape[1:2]) != ((3,), (2,)):
        return value
    return value.mean(1, keepdim=True).repeat_interleave(2, dim=1)


def _prefixes(names: Iterable[str]) -> Iterator[str]:
    """Return all prefixes made of up to three of `PREFIXES` that some name has, the shortest ones first."""
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
