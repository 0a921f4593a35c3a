"""What is compared: by hand, against a slow obvious metric, and as a linear judge."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from backbone.config import BackboneConfig, DescriptorConfig
from backbone.descriptor import Comparison, as_linear
from backbone.metrics import Search, evaluate_retrieval
from backbone.representation import Representation
from backbone.whitening import fit_whitening, part_scales, variation_within_people


def people(num_people: int, clips_each: int, size: int, seed: int = 0):
    """Clips of people who differ in two numbers, while two other ones vary widely within a person."""
    generator = torch.Generator().manual_seed(seed)
    person = torch.arange(num_people).repeat_interleave(clips_each)
    camera = torch.arange(clips_each).repeat(num_people)
    own = torch.randn(num_people, size, generator=generator)
    own[:, 2:] *= 0.05
    noise = 0.1 * torch.randn(len(person), size, generator=generator)
    noise[:, 2:4] *= 50
    return own[person] + noise, person, camera


def slow_whitening(clips, person, shrinkage):
    """S^(-1/2) as one would write it, up to a factor."""
    clips = clips.double().numpy()
    within = np.zeros((clips.shape[1],) * 2)
    for one in set(person.tolist()):
        rows = clips[person.numpy() == one]
        within += (rows - rows.mean(0)).T @ (rows - rows.mean(0))
    within /= len(clips) - len(set(person.tolist()))
    size = len(within)
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / size * np.eye(size)
    values, vectors = np.linalg.eigh(shrunk)
    return vectors @ np.diag(values**-0.5) @ vectors.T


@pytest.mark.parametrize(("num_people", "clips_each"), [(20, 4), (3, 2)])  # more clips than numbers, and fewer
def test_whitening_is_the_inverse_root_of_the_shrunk_covariance(num_people, clips_each):
    clips, person, _ = people(num_people, clips_each, 8)
    spread = variation_within_people(clips.double(), person)
    for shrinkage in (0.1, 0.5):
        found = spread.whiten(torch.eye(8, dtype=torch.float64), shrinkage)
        expected = slow_whitening(clips, person, shrinkage)
        factor = found[0, 0].item() / expected[0, 0]
        np.testing.assert_allclose(found.numpy(), factor * expected, rtol=1e-6, atol=1e-8)


def test_the_learned_metric_finds_people_whom_the_raw_distance_does_not():
    clips, person, camera = people(40, 4, 10)
    fitted = fit_whitening(clips[:80], person[:80], camera[:80], [10])
    others, ids, cameras = clips[80:], person[80:].numpy(), camera[80:].numpy()
    raw = evaluate_retrieval(Search(others, others, ids, ids, cameras, cameras))
    learned = functional.normalize((others - fitted.mean) @ fitted.projection, dim=1)
    found = evaluate_retrieval(Search(learned, learned, ids, ids, cameras, cameras))
    assert found.mean_average_precision > raw.mean_average_precision + 20
    assert "shrinkage" in fitted.report


def test_hidden_states_that_say_nothing_are_left_out():
    clips, person, camera = people(40, 4, 6)
    noise = torch.randn(160, 4, generator=torch.Generator().manual_seed(1))
    fitted = fit_whitening(torch.cat([clips, noise], dim=1), person, camera, [6, 4])
    assert "hidden states weighted 0.0" in fitted.report
    assert (fitted.projection[6:] == 0).all()


def test_hidden_states_that_say_what_f_g_says_already_are_left_out():
    clips, person, camera = people(40, 4, 6)
    clips[:, 2:4] /= 50  # or twice the numbers would allow half of the least shrinkage, which gains there
    fitted = fit_whitening(torch.cat([clips, clips], dim=1), person, camera, [6, 6])
    assert (fitted.projection[6:] == 0).all()


def test_hidden_states_that_name_the_person_are_kept():
    clips, person, camera = people(40, 4, 6)
    noise = torch.randn(160, 6, generator=torch.Generator().manual_seed(1))
    fitted = fit_whitening(torch.cat([noise, clips], dim=1), person, camera, [6, 6])
    assert (fitted.projection[6:] != 0).any()


@pytest.mark.parametrize("clips_each", [1, 3])
def test_people_whom_one_camera_saw_leave_f_g_alone(clips_each):
    clips, person, _ = people(6, clips_each, 5)
    fitted = fit_whitening(clips, person, torch.zeros_like(person), [3, 2])
    assert torch.isfinite(fitted.projection).all()
    assert (fitted.projection[3:] == 0).all()


def test_without_hidden_states_the_metric_is_that_of_f_g():
    clips, person, camera = people(40, 4, 6)
    noise = torch.randn(160, 4, generator=torch.Generator().manual_seed(1))
    beside = fit_whitening(torch.cat([clips, noise], dim=1), person, camera, [6, 4])
    alone = fit_whitening(clips, person, camera, [6])
    torch.testing.assert_close(beside.projection[:6, :6], alone.projection)


@pytest.mark.parametrize("num_people", [1, 2, 3])
def test_too_few_people_to_choose_by_take_the_strongest_shrinkage(num_people):
    fitted = fit_whitening(*people(num_people, 4, 5), [5])
    assert "shrinkage 0.7" in fitted.report
    assert "held out" not in fitted.report


def test_of_many_clips_some_are_drawn_of_both_cameras(monkeypatch):
    monkeypatch.setattr("backbone.whitening.MOST_HELD_OUT", 40)
    clips, person, camera = people(30, 8, 6)
    fitted = fit_whitening(clips, person, camera % 2, [6])  # every second clip would be of one camera
    assert "held out" in fitted.report


def test_parts_enter_at_the_same_length():
    scales = part_scales(torch.tensor([2.0, 4.0]), [2, 1], 0.5)
    assert scales.tolist() == [0.5, 0.5, 0.125]


def test_what_does_not_fit_is_an_error():
    with pytest.raises(
        ValueError, match=r"needs clips \(N, 3\), and N persons and cameras, got \(4, 2\), 4 and 4"
    ):
        fit_whitening(torch.zeros(4, 2), torch.arange(4), torch.arange(4), [2, 1])


@pytest.mark.parametrize("compared", ["concatenation", "global", "parts", "learned"])
def test_what_each_name_compares(compared):
    comparison = Comparison(compared, num_channels=3, num_glimpses=2, hidden_size=2)
    read, person, camera = people(10, 3, 7)
    raw = comparison(read)
    if compared == "concatenation":
        assert raw is read
        assert comparison.finish(read) is read
        assert comparison.weights(read).eq(1).all()
        return
    # before it is fitted, f_g alone
    expected = functional.normalize(read[:, :3], dim=1)
    torch.testing.assert_close(comparison.finish(raw)[:, :3], expected)
    assert comparison.finish(raw)[:, 3:].abs().sum() == 0
    torch.testing.assert_close(
        comparison.weights(torch.tensor([[0.0, 0.0], [9.0, -9.0]])), torch.tensor([0.5, 1.0])
    )
    said = comparison.fit(read, person, camera)
    assert bool(said) == (compared != "global")
    if compared == "parts":
        lengths = [part.square().sum(1).mean() for part in comparison(read).split([3, 2, 2], dim=1)]
        assert torch.stack(lengths).tolist() == pytest.approx([1, 1, 1])
    comparison.reset()
    torch.testing.assert_close(comparison(read), raw)


@pytest.mark.parametrize("compared", ["concatenation", "global", "parts", "learned"])
def test_a_linear_judge_orders_people_as_their_distances_do(compared):
    comparison = Comparison(compared, num_channels=3, num_glimpses=2, hidden_size=2)
    read, person, camera = people(10, 3, 7)
    comparison.fit(read, person, camera)
    described = comparison.finish(comparison(read))
    targets = torch.stack([described[3 * number : 3 * number + 3].mean(0) for number in range(10)])
    weight, bias = as_linear(comparison, targets)
    shown = functional.normalize(targets, dim=1) if comparison.is_cosine else targets
    distances = torch.cdist(described, shown, compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.equal((read @ weight.T + bias).argsort(1), (-distances).argsort(1))


def test_a_mirrored_clip_has_the_mirrored_map_at_test_and_not_in_training():
    config = BackboneConfig(precision="float32")
    network = Representation(config, 4, 3, DescriptorConfig(mirror=True)).eval()
    generator = torch.Generator().manual_seed(0)
    clip = torch.randint(0, 256, (2, 3, 32, 16, 3), dtype=torch.uint8, generator=generator)
    flow = torch.randn(2, 3, 32, 16, 2, generator=generator)
    flipped = flow.flip(3) * torch.tensor([-1.0, 1.0])
    with torch.no_grad():
        maps, mirrored = network.feature_map(clip, flow), network.feature_map(clip.flip(3), flipped)
        torch.testing.assert_close(maps.flip(4), mirrored, rtol=1e-4, atol=1e-5)
        network.mirror = False
        once = network.feature_map(clip, flow)
    assert not torch.allclose(once, maps)


def test_the_neck_normalises_what_the_classifier_reads():
    network = Representation(
        BackboneConfig(precision="float32"), 1, 3, DescriptorConfig(neck="batch_norm")
    ).train()
    maps = torch.randn(8, network.backbone.num_channels, 2, 3, 2)
    read = network.global_feature(5 + 3 * maps)
    torch.testing.assert_close(read.mean(0), torch.zeros(read.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(read.std(0, unbiased=False), torch.ones(read.shape[1]), atol=1e-3, rtol=0)
    assert not network.neck.bias.requires_grad


@pytest.mark.slow
def test_an_untrained_flow_stream_enters_at_nought_beside_published_weights(tmp_path):
    torch.manual_seed(0)
    published = Representation(BackboneConfig("resnet18", flow=None, precision="float32"), 1, 3).backbone
    torch.save(published.state_dict(), tmp_path / "images.pt")
    weights = str(tmp_path / "images.pt")
    config = BackboneConfig("resnet18", weights, flow_scale="learned", precision="float32")
    network = Representation(config, 1, 3).backbone.eval()
    clip, flow = torch.randn(1, 3, 2, 64, 32), torch.randn(1, 2, 2, 64, 32)
    assert network.flow_scale.item() == 0
    torch.testing.assert_close(network(clip, flow), published.eval()(clip), rtol=1e-4, atol=1e-4)
    network(clip, flow).square().sum().backward()
    assert network.flow_scale.grad != 0
    # weights that were trained with flow, and none at all, are added as they are
    assert (
        Representation(BackboneConfig("small", "synthetic", flow_scale="learned"), 1, 3).backbone.flow_scale == 1
    )
    assert Representation(BackboneConfig("small", flow_scale="learned"), 1, 3).backbone.flow_scale == 1


def test_a_trained_scale_of_the_flow_stream_is_kept(tmp_path):
    config = BackboneConfig("small", flow_scale="learned", precision="float32")
    trained = Representation(config, 1, 3).backbone
    torch.nn.init.constant_(trained.flow_scale, 0.03)
    torch.save(trained.state_dict(), tmp_path / "trained.pt")
    loaded = Representation(dataclasses.replace(config, weights=str(tmp_path / "trained.pt")), 1, 3).backbone
    assert loaded.flow_scale.item() == pytest.approx(0.03)


def test_a_metric_of_the_mean_does_not_depend_on_which_glimpse_saw_what():
    """Three glimpses, of which one, another in each clip, names the person: in order they are hard to compare."""
    own, person, camera = people(60, 4, 6)
    generator = torch.Generator().manual_seed(2)
    hidden = 0.02 * torch.randn(len(own), 3, 6, generator=generator)
    hidden[torch.arange(len(own)), torch.randint(3, (len(own),), generator=generator)] += own
    clips = torch.cat([0.1 * torch.randn(len(own), 4, generator=generator), hidden.flatten(1)], dim=1)
    found = {}
    for of_mean in (False, True):
        comparison = Comparison("learned", 4, 3, 6, of_mean=of_mean)
        comparison.fit(clips, person, camera)
        vectors = comparison.finish(comparison(clips))
        ids = (person.numpy(), person.numpy(), camera.numpy(), camera.numpy())
        found[of_mean] = np.mean(evaluate_retrieval(Search(vectors, vectors, *ids)).average_precisions)
    swapped = torch.cat([clips[:, :4], hidden[:, [2, 0, 1]].flatten(1)], dim=1)
    torch.testing.assert_close(comparison(swapped), comparison(clips), rtol=1e-3, atol=1e-3)
    assert found[True] > found[False] + 0.05
