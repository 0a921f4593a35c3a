"""Settings of the agent's learning, which can be read without torch."""

import math
from dataclasses import dataclass
from typing import Literal

from backbone.own import is_own

PAPER_VARIANCE = 0.03
LOCATORS = ("linear", "mixture")
Baseline = Literal["value", "clip"]


@dataclass(frozen=True)
class PolicyConfig:
    """Settings of the agent's learning."""

    learning_rate: float | None = 2e-4
    """Learning rate of the agent's networks (reinforce: F_a and V). None: the default of that algorithm
    (agents.ALGORITHMS)."""
    variance: float = PAPER_VARIANCE
    """Variance of the policy's Gaussian, or of each Gaussian of its mixture, in coordinates from -1 to 1;
    algorithms that learn a variance ignore this."""
    locator: str = "linear"
    """Locator F_a. linear: one layer on the hidden state; mixture: a choice among the bins of an overview
    (attention.overview) by their features; or module:name of your own torch.nn.Module (docs/your_own.md).
    Algorithms with a policy network of their own ignore it."""
    inhibition: float = 0.0
    """Inhibition of return of the locator mixture: what the score of a bin loses that was looked at before, as a
    whole or by its share. Scores are logits; 5 makes a second look at a bin next to impossible. It needs
    attention.shows_looked. Other locators and algorithms have none."""
    normalize_advantage: bool = False
    """Centre and scale the advantages of a batch; off-policy algorithms ignore it."""
    baseline: Baseline = "value"
    """Baseline that reinforce subtracts from an episode's return. value: the value network's estimate; clip: the
    mean return of the other episodes on the same clip. Other algorithms ignore it."""
    gradient_to_glimpse: bool = True
    """Let reinforce's policy gradient train F_o and F_h beside the supervised losses; the gradients of other
    algorithms never do."""

    def __post_init__(self) -> None:
        check_locator(self.locator)
        if not 0 <= self.inhibition < math.inf:
            raise ValueError(f"inhibition must be 0 or more, and finite, got {self.inhibition}")


def check_locator(name: str) -> None:
    """Refuse a name that is none of `LOCATORS` and has not the form `module:name`.

    Raises:
        ValueError: such a name.
    """
    if name not in LOCATORS and not is_own(name):
        raise ValueError(f"unknown locator {name!r}; known: {', '.join(LOCATORS)}, or module:name of your own")
