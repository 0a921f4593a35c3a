"""Whitening within persons: a linear metric that gives least weight to directions in which a person's clips vary.

W is the covariance of descriptors around their person's mean. Shrunk to S = (1 - a) W + a tr(W) / D I, it becomes
the identity under the map x -> (x - m) S^(-1/2); mapped descriptors are compared by cosine. Before the map, the
parts f_g, h_1..h_T are scaled to the same average length, and the hidden states multiplied by a weight. This
weight and the shrinkage a are chosen by retrieval among training people who are held out of the fit. The hidden
states are left out unless they gain a percentage point of mAP there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from backbone.metrics import Search, evaluate_retrieval

# Of equally good ones the first is taken, the strongest, which relies least on data of few people.
SHRINKAGES = (0.7, 0.4, 0.2, 0.1, 0.05, 0.02, 0.005)
HIDDEN_WEIGHTS = (0.0, 0.25, 1.0)
FOLDS = 3
SEED = 0  # of the choice of clips if there are more than MOST_HELD_OUT
# Gain in mAP among held-out people that the hidden states need over f_g alone to be compared, too.
MINIMUM_GAIN = 0.01
# Number of held-out clips that is enough to choose by in large data.
MOST_HELD_OUT = 2000


@dataclass(frozen=True)
class Whitening:
    """A fitted metric, x -> (x - mean) projection.

    Attributes:
        mean: float32 (D,).
        projection: float32 (D, D).
        report: the chosen weight and shrinkage and their scores, in one line.
    """

    mean: Tensor
    projection: Tensor
    report: str


def fit_whitening(clips: Tensor, person: Tensor, camera: Tensor, part_sizes: Sequence[int]) -> Whitening:
    """Fit the metric with the shrinkage and the weight of h_1..h_T that retrieve held-out people best.

    Args:
        clips: [f_g, h_1..h_T], float32 (N, D), on the CPU.
        person: person ids, int64 (N,).
        camera: camera ids, int64 (N,).
        part_sizes: the lengths of f_g and of each h_t; they sum to D.

    Returns:
        The metric fitted to all people; a metric on f_g alone if no held-out person was seen by two cameras.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    if clips.ndim != 2 or clips.shape[1] != sum(part_sizes) or {len(person), len(camera)} != {len(clips)}:
        raise ValueError(
            f"fit_whitening needs clips (N, {sum(part_sizes)}), and N persons and cameras, got "
            f"{tuple(clips.shape)}, {len(person)} and {len(camera)}"
        )
    lengths = torch.stack([part.square().sum(1).mean().sqrt() for part in clips.split(list(part_sizes), dim=1)])
    hidden_weights = HIDDEN_WEIGHTS if len(part_sizes) > 1 else (0.0,)
    scores: dict[tuple[float, float], float] = {}
    for weight in hidden_weights:
        scale = part_scales(lengths, part_sizes, weight)
        scaled = clips[:, : len(scale)].double() * scale
        for shrinkage, score in _scores(scaled, person, camera):
            scores[weight, shrinkage] = score
    # The network was trained on the held-out people, too: a small gain among them is not one on unknown people.
    judged = {key: score - (MINIMUM_GAIN if key[0] else 0) for key, score in scores.items()}
    weight, shrinkage = max(judged, key=lambda key: judged[key]) if judged else (0.0, SHRINKAGES[0])
    scale = part_scales(lengths, part_sizes, weight)
    scaled = clips[:, : len(scale)].double() * scale
    projection = variation_within_people(scaled, person).whiten(
        torch.eye(len(scale), dtype=torch.float64), shrinkage
    )
    report = f"metric: whitened within persons, shrinkage {shrinkage}, hidden states weighted {weight}"
    if scores:
        without = max((score for (own, _), score in scores.items() if own == 0), default=float("nan"))
        found = f"mAP {100 * scores[weight, shrinkage]:.1f}, by f_g alone {100 * without:.1f}"
        report += f" (on training people held out of the fit: {found})"
    left_out = clips.shape[1] - len(scale)
    projection = functional.pad(scale[:, None] * projection, (0, left_out, 0, left_out))
    return Whitening(clips.double().mean(0).float(), projection.float(), report)


def part_scales(lengths: Tensor, part_sizes: Sequence[int], hidden_weight: float) -> Tensor:
    """Return each number's factor (D,): 1 / its part's average length, times the weight after the first part.

    With a weight of 0 only the factors of the first part are returned.
    """
    if hidden_weight == 0:
        lengths, part_sizes = lengths[:1], part_sizes[:1]
    weights = torch.tensor([1.0, *[hidden_weight] * (len(part_sizes) - 1)], dtype=torch.float64)
    scales = weights / lengths.double().clamp(min=1e-12)
    return scales.repeat_interleave(torch.tensor(list(part_sizes)))


@dataclass(frozen=True)
class WithinPersonVariation:
    """Variation of clips within persons: the eigenvectors and eigenvalues of W.

    Attributes:
        directions: orthonormal eigenvectors, float64 (R, D); the variance in all other directions is 0.
        variance: eigenvalues, float64 (R,).
        level: tr(W) / D, or 1 if nothing varies.
    """

    directions: Tensor
    variance: Tensor
    level: Tensor

    def whiten(self, vectors: Tensor, shrinkage: float) -> Tensor:
        """Return vectors times S^(-1/2), float64 (N, D), up to a scale, which does not change the cosine.

        The scale is chosen so that components in directions without variance stay as they are.
        """
        rest = (shrinkage * self.level).rsqrt()
        own = ((1 - shrinkage) * self.variance + shrinkage * self.level).rsqrt()
        return vectors + (vectors @ self.directions.T * (own / rest - 1)) @ self.directions


def variation_within_people(clips: Tensor, person: Tensor) -> WithinPersonVariation:
    """Return the spread of clips, float64 (N, D), around their person's mean."""
    _, number = person.unique(return_inverse=True)
    counts = number.bincount()
    means = torch.zeros(len(counts), clips.shape[1], dtype=clips.dtype).index_add_(0, number, clips)
    within = clips - (means / counts[:, None])[number]
    within = within / max(len(clips) - len(counts), 1) ** 0.5  # W = within^T within
    if len(clips) < clips.shape[1]:
        _, singular, directions = torch.linalg.svd(within, full_matrices=False)
        variance = singular.square()
    else:
        variance, columns = torch.linalg.eigh(within.T @ within)
        variance, directions = variance.clamp(min=0), columns.T
    level = variance.sum() / clips.shape[1]
    return WithinPersonVariation(directions, variance, level if level > 0 else torch.ones_like(level))


def _scores(clips: Tensor, person: Tensor, camera: Tensor) -> Iterator[tuple[float, float]]:
    """Yield each shrinkage and its mAP in retrieving, across cameras, people held out of the fit."""
    people = person.unique()
    found: dict[float, list[float]] = {shrinkage: [] for shrinkage in SHRINKAGES}
    for fold in range(FOLDS):
        held_out = torch.isin(person, people[fold::FOLDS])
        asked = held_out.nonzero().squeeze(1)
        drawn = torch.randperm(len(asked), generator=torch.Generator().manual_seed(SEED))[:MOST_HELD_OUT]
        asked = asked[drawn.sort().values]
        # with one person alone every query is a success
        if len(person[asked].unique()) < 2 or not has_match(person[asked], camera[asked]):
            continue
        others, own = clips[~held_out], clips[asked]
        spread = variation_within_people(others, person[~held_out])
        ids = person[asked].numpy(), camera[asked].numpy()
        for shrinkage in SHRINKAGES:
            vectors = functional.normalize(spread.whiten(own - others.mean(0), shrinkage), dim=1).float()
            scores = evaluate_retrieval(Search(vectors, vectors, ids[0], ids[0], ids[1], ids[1]))
            found[shrinkage].append(float(np.mean(scores.average_precisions)))
    for shrinkage, values in found.items():
        if values:
            yield shrinkage, float(np.mean(values))


def has_match(person: Tensor, camera: Tensor) -> bool:
    """Tell whether any of these people was seen by two cameras."""
    pairs = torch.stack([person, camera], dim=1).unique(dim=0)
    return len(pairs) > len(pairs[:, 0].unique())
