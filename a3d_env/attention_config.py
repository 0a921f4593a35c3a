"""Settings of an episode, which can be read without torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AttentionConfig:
    """Settings of an episode: its bins, its number of glimpses, its reward and its overview."""

    bin_size: tuple[int, int, int] = (4, 6, 3)
    """Size of a bin in cells of the feature map: time, height, width."""
    num_glimpses: int = 4
    """T, the number of bins looked at in an episode, the first of which is the centre. 1: the centre alone ("w/o
    RNN" in Table VII); 0: no bin ("w/o attention")."""
    reward: str = "identity"
    """Reward at an episode's end: identity (equation 7), log_prob, margin or rank, computed from F_c's logits;
    glimpses: the mean over glimpses of log_prob, each glimpse judged alone, together with the global feature;
    prefixes: the same, each glimpse judged together with the global feature and all glimpses before it; or
    module:name of a function of your own (docs/your_own.md)."""
    overview: tuple[int, int, int] | None = None
    """Numbers of bins along time, height and width whose features are in every observation, evenly spread over the
    clip; the locator mixture needs them. None: the agent observes only the bins that it looks at, as in the
    paper."""
    shows_looked: bool = False
    """Let every observation with an overview also tell, for each of the overview's bins, the share of it that was
    looked at; policy.inhibition needs that."""
