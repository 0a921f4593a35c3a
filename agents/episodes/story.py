"""Descriptions of episodes in plain sentences."""

from agents.episodes.episode import Episode
from agents.episodes.gallery import Ranking


def describe_episode(episode: Episode, ranking: Ranking | None = None) -> list[str]:
    """Describe an episode: its predicted identity, its bins, the best change of a bin, and the nearest tracklets.

    Args:
        episode: the episode.
        ranking: the gallery, ranked by the episode's descriptor.
    """
    lines = [_verdict(episode), *_sample(episode), *_looks(episode), *_beliefs(episode), *_better(episode)]
    if ranking is not None:
        lines.append(_retrieval(ranking))
    return lines


def describe_change(episode: Episode, before: Ranking | None = None, after: Ranking | None = None) -> list[str]:
    """Describe the effect of changed glimpses, compared with the episode's original; empty without an original."""
    original = episode.original
    if original is None or not episode.changes:
        return []
    changed = ", ".join(
        f"glimpse {number} at {corner} instead of {original.corner(number)}"
        for number, corner in episode.changes.items()
    )
    lines = [
        f"With {changed}, the true identity gets {percent(episode.probability)} instead of "
        f"{percent(original.probability)}, and {episode.identity_names[episode.identity]} is named"
        + (" as before" if episode.identity == original.identity else f" instead of {_named(original)}")
        + f"; the reward is {episode.reward:.3f} instead of {original.reward:.3f}."
    ]
    first = min(episode.changes)
    if original.is_sample and original.has_maps:
        mean = float(original.reward_map(first).probability[original.corner(first)])
        lines.append(
            f"The original was a sample. What follows the change does not explore: that alone, with glimpse "
            f"{first} where it was, would have come to {percent(mean)}."
        )
    follow = [
        f"glimpse {number} goes to {episode.corner(number)} instead of {original.corner(number)}"
        for number in range(2, episode.num_glimpses + 1)
        if number not in episode.changes and episode.corner(number) != original.corner(number)
    ]
    if follow:
        lines.append(f"The agent then looks elsewhere, too: {', '.join(follow)}.")
    if before is not None and after is not None:
        lines.append(f"Before: {_retrieval(before)} After: {_retrieval(after)}")
    return lines


def percent(share: float) -> str:
    """Return a share as a percentage: with one decimal below 10, without above."""
    return f"{100 * share:.1f}%" if share < 0.0995 else f"{100 * share:.0f}%"


def _named(episode: Episode) -> str:
    return episode.identity_names[episode.identity]


def _verdict(episode: Episode) -> str:
    looked = f"{episode.agent_name} looked {episode.num_glimpses} times"
    sure = percent(float(episode.probabilities.max()))
    said = f"{looked}, and {episode.judge} says {_named(episode)} ({sure})"
    if episode.is_right:
        return f"{said}, which is right."
    true = episode.identity_names[episode.true_identity]
    return f"{said}, which is wrong: it is {true} ({percent(episode.probability)})."


def _sample(episode: Episode) -> list[str]:
    return ["The agent explored: this is a sample, not what it does at test time."] if episode.is_sample else []


def _looks(episode: Episode) -> list[str]:
    chosen = (episode.hits or [])[1:]
    hits = episode.process.bank.hits
    if not chosen or hits is None:
        return []
    if not hits.any():
        return ["The thing to find is out of sight in the whole clip."]
    on_it = [str(number) for number, hit in enumerate(chosen, 2) if hit]
    if not on_it:
        return [f"None of the {len(chosen)} bins that it chose covers the thing to find."]
    cover = "covers" if len(on_it) == 1 else "cover"
    return [
        f"Of the {len(chosen)} bins that it chose, {len(on_it)} {cover} the thing (glimpse {', '.join(on_it)})."
    ]


def _beliefs(episode: Episode) -> list[str]:
    if len(episode.beliefs) < 2:
        return []
    shares = [percent(float(belief)) for belief in episode.beliefs[:, episode.true_identity]]
    return [f"After each glimpse the true identity stood at {', '.join(shares)}."]


def _better(episode: Episode) -> list[str]:
    if not episode.has_maps:
        return []
    gains = []
    for number, found in enumerate(episode.maps, 2):
        # after the glimpse both follow the agent without exploring, in a sampled episode, too
        taken, best = float(found.probability[episode.corner(number)]), float(found.probability.max())
        gains.append((best - taken, number, found.best, taken, best))
    gain, number, corner, taken, best = max(gains)
    if gain <= 0.005:
        more = "would have been better" if gain <= 0 else "would have given it half a percentage point more"
        return [f"No other bin at a single glimpse {more}."]
    return [
        f"The best single change: glimpse {number} with its corner at {corner} (time, height, width, in cells) "
        f"would have given it {percent(best)} instead of {percent(taken)} (--set-glimpse {number}="
        f"{','.join(map(str, corner))})."
    ]


def _retrieval(ranking: Ranking) -> str:
    match, wrong = ranking.true_match, ranking.nearest_wrong
    if match is None:
        return "The gallery has nobody to be found."
    counted = sum(one.rank is not None for one in ranking.candidates)
    text = f"The true match ranks {match.rank} of {counted}, at distance {match.distance:.2f}"
    return text + ("." if wrong is None else f"; the nearest wrong one is at {wrong.distance:.2f}.")
