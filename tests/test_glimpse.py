"""F_o, F_h and F_c against the equations written out."""

import pytest
import torch
from torch.nn import functional

from backbone.glimpse import GlimpseNetwork, RowwiseLinear, describe


def linear(state, name, rows):
    return functional.linear(rows, state[f"{name}.weight"], state[f"{name}.bias"])


def test_layers_have_the_sizes_of_table_iv():
    shapes = {name: tuple(p.shape) for name, p in GlimpseNetwork(2048, 4, 150).named_parameters() if p.ndim == 2}
    assert shapes == {
        "embed_observation.what.0.weight": (128, 2048),
        "embed_observation.what.2.weight": (256, 128),
        "embed_observation.where.0.weight": (128, 3),
        "embed_observation.where.2.weight": (256, 128),
        "embed_hidden.i2h.weight": (256, 256),
        "embed_hidden.h2h.weight": (256, 256),
        "identify.weight": (150, 2048 + 4 * 256),
    }


@pytest.mark.parametrize("with_gradient", [True, False])
def test_a_glimpse_is_equations_3_and_4(with_gradient):
    torch.manual_seed(0)
    network = GlimpseNetwork(6, 4, 3)
    state = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    feature, location, hidden = torch.randn(5, 6), torch.rand(5, 3), torch.randn(5, 256)
    with torch.set_grad_enabled(with_gradient):
        got = network.glimpse(feature, location, hidden)
    what = linear(state, "embed_observation.what.2", linear(state, "embed_observation.what.0", feature).relu())
    where = linear(state, "embed_observation.where.2", linear(state, "embed_observation.where.0", location).relu())
    recurrent = linear(state, "embed_hidden.h2h", hidden)
    expected = torch.tanh(linear(state, "embed_hidden.i2h", what + where) + recurrent)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_steps", [0, 1, 4])
def test_unroll_starts_from_zeros_and_goes_glimpse_by_glimpse(num_steps):
    torch.manual_seed(0)
    network = GlimpseNetwork(6, 4, 3)
    features, locations = torch.randn(5, num_steps, 6), torch.rand(5, num_steps, 3)
    hidden = network.unroll(features, locations)
    assert hidden.shape == (5, num_steps, 256)
    previous = torch.zeros(5, 256)
    for step in range(num_steps):
        previous = network.glimpse(features[:, step], locations[:, step], previous)
        torch.testing.assert_close(hidden[:, step], previous)


def test_the_last_hidden_state_sends_gradients_to_all_it_came_from():
    torch.manual_seed(0)
    network = GlimpseNetwork(6, 4, 3)
    features, locations = torch.randn(2, 4, 6, requires_grad=True), torch.rand(2, 4, 3, requires_grad=True)
    network.unroll(features, locations)[:, -1].sum().backward()
    assert (features.grad.abs().sum((0, 2)) > 0).all()  # every step's bin
    assert (locations.grad.abs().sum((0, 2)) > 0).all()
    assert all(p.grad is not None and p.grad.any() for p in network.embed_observation.parameters())
    assert all(p.grad is not None and p.grad.any() for p in network.embed_hidden.parameters())


def test_describe_puts_the_global_feature_first_then_the_steps_in_order():
    got = describe(torch.tensor([[1.0, 2], [3, 4]]), torch.arange(12.0).reshape(2, 3, 2))
    assert got.tolist() == [[1, 2, 0, 1, 2, 3, 4, 5], [3, 4, 6, 7, 8, 9, 10, 11]]


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 128), (19, 7), (2048, 128), (3072, 150)])
def test_rows_do_not_depend_on_their_batch(inputs, outputs):
    torch.manual_seed(0)
    layer, rows = RowwiseLinear(inputs, outputs), torch.randn(64, inputs)
    with torch.no_grad():
        alone = torch.cat([layer(row[None]) for row in rows])
        for count in (1, 2, 7, 64):
            assert torch.equal(layer(rows[:count]), alone[:count])
        reference = functional.linear(rows.double(), layer.weight.double(), layer.bias.double())
    torch.testing.assert_close(alone.double(), reference, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer(rows), alone, rtol=1e-4, atol=1e-5)


def test_without_glimpses_the_descriptor_is_the_global_feature():
    network, global_feature = GlimpseNetwork(6, 0, 3), torch.randn(2, 6)
    assert torch.equal(describe(global_feature, torch.zeros(2, 0, 256)), global_feature)
    assert network.identify(global_feature).shape == (2, 3)


def test_a_glimpse_is_judged_by_its_part_of_the_logits_beside_the_global_features():
    torch.manual_seed(0)
    network = GlimpseNetwork(6, 4, 3)
    features, hidden = torch.randn(5, 6), torch.randn(5, 4, 256, requires_grad=True)
    logits = network.identify_glimpses(features, hidden)
    for step in range(4):
        only = torch.zeros(5, 4, 256)
        only[:, step] = hidden[:, step]
        torch.testing.assert_close(logits[:, step], network.identify(describe(features, only)))
    logits[:, 1].sum().backward()
    assert hidden.grad.abs().sum((0, 2)).gt(0).tolist() == [False, True, False, False]
    # All parts together are the logits of all that was seen.
    nothing = network.identify(describe(features, torch.zeros(5, 4, 256)))
    parts = (logits - nothing[:, None]).sum(1) + nothing
    torch.testing.assert_close(parts, network.identify(describe(features, hidden)))
    # After the last glimpse, too; after each, those of an episode that ended there.
    prefixes = network.identify_prefixes(features, hidden)
    for step in range(4):
        until_then = torch.cat([hidden[:, : step + 1], torch.zeros(5, 3 - step, 256)], dim=1)
        torch.testing.assert_close(prefixes[:, step], network.identify(describe(features, until_then)))


@pytest.mark.parametrize("sizes", [(0, 4, 3), (6, -1, 3), (6, 4, 0)])
def test_sizes_are_positive(sizes):
    with pytest.raises(ValueError, match=r"must be 1 or more and num_glimpses 0 or more"):
        GlimpseNetwork(*sizes)


def test_tied_glimpses_are_read_alike_and_stay_so_in_training():
    torch.manual_seed(0)
    network = GlimpseNetwork(5, 3, 4)
    network.tie_glimpses()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1, weight_decay=0.01)
    features, hidden = torch.randn(8, 5), torch.randn(8, 3, 256)
    for _ in range(2):
        optimizer.zero_grad()
        network.identify(describe(features, hidden)).logsumexp(1).sum().backward()
        optimizer.step()
    first, *others = network.glimpse_weights.unbind(0)
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=0)
    weight, bias = network.identify.weight[:, :5], network.identify.bias
    expected = features @ weight.T + hidden.sum(1) @ first.T + bias
    torch.testing.assert_close(network.identify(describe(features, hidden)), expected, rtol=1e-4, atol=1e-4)
