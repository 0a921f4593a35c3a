"""The mixture of Gaussians against PyTorch's own, and what is drawn from it."""

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from agents.mixture import GaussianMixture

LOCATIONS = torch.tensor([[-1.0, 0, 1], [0, 0.5, 0], [1, -1, 0.2]])


def test_the_density_is_pytorchs_mixture():
    torch.manual_seed(0)
    scores, actions = torch.randn(5, 3), torch.randn(5, 3)
    components = Independent(Normal(LOCATIONS.expand(5, 3, 3), 0.3), 1)
    expected = MixtureSameFamily(Categorical(logits=scores), components).log_prob(actions)
    mixture = GaussianMixture(LOCATIONS, 0.09).proba_distribution(scores)
    torch.testing.assert_close(mixture.log_prob(actions), expected)


def test_one_place_is_one_gaussian():
    mixture = GaussianMixture(LOCATIONS[:1], 0.25).proba_distribution(torch.zeros(4, 1))
    actions = torch.randn(4, 3)
    torch.testing.assert_close(mixture.log_prob(actions), Normal(LOCATIONS[0], 0.5).log_prob(actions).sum(1))


def test_samples_have_the_weights_and_the_variance():
    torch.manual_seed(0)
    weights = torch.tensor([0.6, 0.3, 0.1])
    actions = GaussianMixture(LOCATIONS, 0.0025).proba_distribution(weights.log().expand(20_000, 3)).sample()
    nearest = torch.cdist(actions, LOCATIONS).argmin(1)  # 18 deviations apart: it is the one drawn
    torch.testing.assert_close(nearest.bincount(minlength=3) / 20_000, weights, atol=0.012, rtol=0)
    torch.testing.assert_close((actions - LOCATIONS[nearest]).std(0), torch.full((3,), 0.05), atol=0.001, rtol=0)


def test_without_exploring_it_is_the_heaviest_place_and_not_between_two():
    mixture = GaussianMixture(LOCATIONS, 0.09)
    scores = torch.tensor([[1.0, 0, 1.1], [0, 5, 0]])
    assert torch.equal(mixture.actions_from_params(scores, deterministic=True), LOCATIONS[[2, 1]])
    actions, log_prob = mixture.log_prob_from_params(scores)
    torch.testing.assert_close(log_prob, mixture.log_prob(actions))
    assert mixture.entropy() is None


def test_the_gradient_is_the_posterior_weight_less_the_weight():
    scores = torch.tensor([[0.3, -0.2, 0.1]], requires_grad=True)
    mixture = GaussianMixture(LOCATIONS, 0.5).proba_distribution(scores)
    action = torch.tensor([[-0.5, 0.1, 0.4]])
    mixture.log_prob(action).sum().backward()
    weights = scores.detach().softmax(1)
    densities = Normal(LOCATIONS, 0.5**0.5).log_prob(action[:, None]).sum(2).exp()
    posterior = weights * densities / (weights * densities).sum()
    torch.testing.assert_close(scores.grad, posterior - weights)


def test_scores_that_are_not_finite_are_an_error():
    with pytest.raises(ValueError, match="score is NaN or infinite"):
        GaussianMixture(LOCATIONS, 0.1).proba_distribution(torch.tensor([[0.0, float("nan"), 1]]))
    with pytest.raises(TypeError, match="the locator makes the scores"):
        GaussianMixture(LOCATIONS, 0.1).proba_distribution_net()
