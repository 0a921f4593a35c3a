"""Drawn pedestrians: reproducible, disjoint, hard in the ways that they claim, and true about the thing."""

from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest

from backbone.data.sets import synthetic as module
from backbone.data.sets import synthetic_settings
from backbone.data.sets.camera import Camera
from backbone.data.sets.drawing import NUM_OUTFITS, PLACES, SHAPES, THING_COLOURS, Look
from backbone.data.sets.synthetic import NUM_CAMERAS, draw_tracklet, read_synthetic
from backbone.data.sets.synthetic_settings import SyntheticConfig, benchmark, without_clutter

SMALL = SyntheticConfig(
    num_train_people=3, num_test_people=2, tracklets_per_camera=2, num_frames=8, height=64, width=32
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("drawn")


def pixels(config: SyntheticConfig, cache) -> np.ndarray:
    train, test = read_synthetic(config, cache)
    return np.stack([np.stack(list(tracklet.frames.read())) for tracklet in [*train, *test]])


def clear_camera(config: SyntheticConfig) -> Camera:
    """A camera that leaves colours as they are, without noise, before a black wall."""
    camera = Camera(config.height, config.width, np.random.default_rng(0))
    camera.scene[:] = 0
    camera.tone = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    camera.noise[:] = 0
    return camera


def some_looks(config: SyntheticConfig, number: int) -> list[Look]:
    return module._people(replace(config, num_train_people=number))[:number]


def test_same_seed_same_pixels(shared, tmp_path):
    first, again = pixels(SMALL, shared), pixels(SMALL, tmp_path)
    assert first.shape == (3 * 2 * 2 + 2 * 2, 8, 64, 32, 3)
    np.testing.assert_array_equal(first, again)
    boxes = [
        [one.truth_boxes for half in read_synthetic(SMALL, cache) for one in half] for cache in (shared, tmp_path)
    ]
    np.testing.assert_array_equal(*boxes)


def test_another_seed_other_pixels(shared):
    first, other = pixels(SMALL, shared), pixels(replace(SMALL, seed=1), shared)
    assert np.all((first != other).mean(axis=(1, 2, 3, 4)) > 0.5)  # of every tracklet


def test_people_are_disjoint_and_numbered_through(shared):
    train, test = read_synthetic(SMALL, shared)
    assert [(one.person, one.camera) for one in train] == [(p, c) for p in range(3) for c in (0, 0, 1, 1)]
    assert [(one.person, one.camera) for one in test] == [(3, 0), (3, 1), (4, 0), (4, 1)]
    assert len({one.source for one in [*train, *test]}) == 16


def test_looks_are_unique_and_clothes_are_shared():
    config = SyntheticConfig()
    people = module._people(config)
    assert len({(one.top, one.bottom, one.things) for one in people}) == 180
    outfits = [(one.top, one.bottom) for one in people]
    assert len(set(outfits)) == config.num_outfits
    assert min(map(outfits.count, outfits)) > 20


def test_strangers_may_wear_anything_or_what_the_people_wear():
    generator = np.random.default_rng(0)
    strangers = [module._stranger(SyntheticConfig(), generator) for _ in range(400)]
    assert len({(look.top, look.bottom) for look in strangers}) == NUM_OUTFITS
    assert {look.things[0].place for look in strangers} == set(PLACES)
    assert {look.things[0].shape for look in strangers} == set(SHAPES)
    assert {look.things[0].colour for look in strangers} == set(THING_COLOURS)
    alike = [module._stranger(benchmark(), generator) for _ in range(400)]
    people = module._people(benchmark())
    for kind in (
        lambda look: (look.top, look.bottom),
        lambda look: look.things[0].shape,
        lambda look: look.things[0].colour,
    ):
        assert set(map(kind, alike)) == set(map(kind, people))


def look_of(one: Look) -> tuple:
    return one.top, one.bottom, one.things, one.stride


def test_one_in_five_of_the_benchmarks_people_has_a_double_of_another_rhythm():
    people = module._people(benchmark(seed=3))
    assert len(people) == 440
    for half, num_pairs in ((people[:240], 24), (people[240:], 20)):
        doubles, others = half[: 2 * num_pairs], half[2 * num_pairs :]
        assert list(map(look_of, doubles[::2])) == list(map(look_of, doubles[1::2]))
        assert all({a.period, b.period} == {5.0, 20.0} for a, b in zip(doubles[::2], doubles[1::2], strict=True))
        assert len(set(map(look_of, half))) == num_pairs + len(others)
        assert {one.period for one in others} == {5.0}
    assert not set(map(look_of, people[:240])) & set(map(look_of, people[240:]))


def test_nobody_of_the_benchmark_is_among_the_walkers():
    walkers = {(one.top, one.bottom) for one in module._people(without_clutter(seed=1000))}
    worn = {(one.top, one.bottom) for seed in range(20) for one in module._people(benchmark(seed))}
    assert len(walkers) == 5
    assert not walkers & worn


def test_the_benchmarks_passers_by_cross_with_things_like_the_persons():
    """How hard it is: the thing is in sight two thirds of the time, beside 0.5 to 0.9 strangers on average."""
    config = benchmark()
    seen, strangers = [], []
    for number, look in enumerate(some_looks(config, 40)):
        generator = np.random.default_rng(number)
        _, boxes = draw_tracklet(look, config, clear_camera(config), generator)
        seen.append(~np.isnan(boxes[:, 0]).any(axis=1))
        crossing = [module._passer_by(config, generator)[1] for _ in range(generator.poisson(config.passers_by))]
        in_view = [[0 < pose.x < config.width for pose in poses] for poses in crossing]
        strangers.append(np.sum(in_view, axis=0) if in_view else np.zeros(config.num_frames))
    assert 0.58 < np.mean(seen) < 0.72
    assert 0.5 < np.mean(strangers) < 0.9


def test_without_clutter_nothing_crosses_and_nothing_is_hidden(tmp_path):
    config = replace(without_clutter(), num_train_people=4, num_test_people=2, tracklets_per_camera=1)
    train, test = read_synthetic(config, tmp_path)
    assert not np.isnan([one.truth_boxes for one in [*train, *test]]).any()


def test_cameras_have_colours_and_places_of_their_own():
    config = replace(SMALL, passers_by=0)
    look = some_looks(config, 2)[0]
    cameras = [
        Camera(config.height, config.width, np.random.default_rng([0, 1, number])) for number in range(NUM_CAMERAS)
    ]
    drawn = [draw_tracklet(look, config, camera, np.random.default_rng(5)) for camera in cameras]
    (one, boxes), (other, other_boxes) = drawn
    np.testing.assert_array_equal(boxes, other_boxes)  # the same walk, filmed by each
    edges = [frames[:, :, :3].mean(axis=(0, 1, 2)) for frames in (one, other)]
    assert np.abs(edges[0] - edges[1]).max() > 5
    assert not np.array_equal(cameras[0].tone, cameras[1].tone)


def test_the_background_moves_and_the_noise_changes():
    config = replace(SMALL, passers_by=0)
    camera = Camera(config.height, config.width, np.random.default_rng(0))
    background = camera.background(config.num_frames, np.random.default_rng(3))
    assert any(not np.array_equal(background[0], other) for other in background[1:])
    still = np.full((2, 64, 32, 3), 100, dtype=np.uint8)
    first, second = camera.film(still, np.random.default_rng(0)).astype(int)
    assert 4 < (first - second).std() < 9  # 5 * sqrt(2), less where clipped


def test_things_are_seen_in_stretches_as_configured():
    config = SyntheticConfig(passers_by=0, height=64, width=32, num_frames=40)
    for number, look in enumerate(some_looks(config, 6)):
        _, boxes = draw_tracklet(look, config, clear_camera(config), np.random.default_rng(number))
        runs = [(seen, len(list(run))) for seen, run in groupby(~np.isnan(boxes[:, 0]).any(axis=1))]
        assert len(runs) >= 4
        for seen, length in runs[1:-1]:
            least, most = config.seen_frames if seen else config.hidden_frames
            assert least <= length <= most
        assert all(length <= 9 for _, length in runs)


@pytest.mark.parametrize("size", [(128, 64), (64, 32), (256, 128)])
def test_the_box_covers_the_thing_and_nothing_is_outside_it(size):
    height, width = size
    config = SyntheticConfig(passers_by=0, height=height, width=width)
    for number, look in enumerate(some_looks(config, 8)):
        frames, boxes = draw_tracklet(look, config, clear_camera(config), np.random.default_rng(number))
        is_thing = np.all(frames == look.things[0].colour, axis=3)
        for thing, box in zip(is_thing, boxes[:, 0] * [width, height, width, height], strict=True):
            if np.isnan(box).any():
                assert np.isnan(box).all()
                assert not thing.any()
                continue
            x0, y0, x1, y1 = np.rint(box).astype(int)
            np.testing.assert_allclose(box, [x0, y0, x1, y1], atol=1e-3)
            assert thing[y0:y1, x0:x1].mean() > 0.25  # least for a small triangle, with its soft edges
            thing[y0:y1, x0:x1] = False
            assert not thing.any()


def test_passers_by_occlude():
    shares = {}
    for passers_by in (0.0, 8.0):
        config = SyntheticConfig(passers_by=passers_by, height=64, width=32)
        camera = clear_camera(config)
        drawn = [
            draw_tracklet(look, config, camera, np.random.default_rng(number))[1]
            for number, look in enumerate(some_looks(config, 12))
        ]
        shares[passers_by] = 1 - np.isnan(drawn).any(axis=-1).mean()
    assert 0.5 < shares[0.0] < 0.75  # 7 of 7 + 4.5 frames
    assert 0.1 < shares[8.0] < shares[0.0] - 0.1


@pytest.mark.parametrize(("seen_share", "is_seen"), [(1.0, True), (0.5, True), (0.3, False), (0.0, False)])
def test_a_thing_mostly_covered_is_out_of_sight(seen_share, is_seen):
    mark = np.zeros((40, 40), dtype=np.uint8)
    rows = round(10 * seen_share)
    mark[5 : 5 + rows, 7:19] = 255
    mark[30, 30] = 100  # a blurred edge
    box = module.seen_box(mark, (12 * 10 / 0.7) ** 0.5 / 2)  # the whole: 12 x 10 px
    np.testing.assert_array_equal(box, [7, 5, 19, 5 + rows] if is_seen else [np.nan] * 4)


def fail(*arguments: object) -> None:
    raise AssertionError("drawn again")


def test_the_second_call_draws_nothing(shared, monkeypatch):
    first = pixels(SMALL, shared)
    monkeypatch.setattr(module, "draw_tracklet", fail)
    np.testing.assert_array_equal(pixels(SMALL, shared), first)
    with pytest.raises(AssertionError, match="drawn again"):
        read_synthetic(replace(SMALL, seed=99), shared)


def test_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    real, calls = module.draw_tracklet, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "draw_tracklet", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_synthetic(SMALL, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_may_draw_at_once(tmp_path):
    for _ in range(2):  # the second finds the folder there when it is done
        module._draw_into(SMALL, tmp_path / SMALL.key)
    assert [path.name for path in tmp_path.iterdir()] == [SMALL.key]
    assert len(read_synthetic(SMALL, tmp_path)[0]) == 12


@pytest.mark.parametrize("size", [(32, 16), (48, 20)])
def test_small_frames(size, tmp_path):
    height, width = size
    config = replace(SMALL, height=height, width=width, num_frames=1, tracklets_per_camera=1)
    train, test = read_synthetic(config, tmp_path)
    assert (len(train), len(test)) == (6, 4)
    assert next(train[0].frames.read()).shape == (height, width, 3)
    boxes = np.stack([one.truth_boxes for one in [*train, *test]])
    assert (boxes.shape, boxes.dtype) == ((10, 1, 1, 4), np.float32)
    seen = boxes[~np.isnan(boxes)]
    assert len(seen)
    assert seen.min() >= 0
    assert seen.max() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_outfits": 21}, "num_outfits must be 1 to the wardrobe's 20, got 21"),
        ({"num_outfits": 4, "wardrobe": (2, 5)}, "num_outfits must be 1 to the wardrobe's 3, got 4"),
        ({"wardrobe": (5, 21)}, r"wardrobe must be .*0 to 20, got \(5, 21\)"),
        ({"num_colours": 9}, "num_colours must be 1 to 8, got 9"),
        ({"num_shapes": 0}, "num_shapes must be 1 to 4, got 0"),
        ({"thing_size": 0.5}, "thing_size must be"),
        ({"doubles": 0.5}, "above 0 only with 2 gaits or more; got 0 and 0.5"),
        ({"num_gaits": 2, "doubles": 1.5}, "doubles 0 to 1"),
        ({"num_train_people": 1}, "2 or more train and test people"),
        ({"num_test_people": 1_200}, "at most 768 looks with 4 outfits, got 3 and 1200"),
        ({"num_frames": 0}, "at least 1 frame"),
        ({"height": 31}, "32 x 16 pixels or more, got 31 x 32"),
        ({"seen_frames": (0, 0)}, "seen_frames must be"),
        ({"seen_frames": (5, 4)}, r"seen_frames .* got \(5, 4\)"),
        ({"hidden_frames": (-1, 2)}, "hidden_frames must be"),
        ({"passers_by": -1.0}, "passers_by from 0"),
        ({"seed": -1}, "seed of 0 or more"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_the_key_knows_every_setting_and_the_version(monkeypatch):
    changes = [{}, {"seed": 1}, {"passers_by": 2.0}, {"seen_frames": (5, 8)}, {"width": 64}, {"num_outfits": 7}]
    keys = {replace(SMALL, **change).key for change in changes}
    assert len(keys) == len(changes)
    monkeypatch.setattr(synthetic_settings, "DRAWING_VERSION", -1)
    assert SMALL.key not in keys


@pytest.mark.parametrize("name", ["frames.npy", "truth_boxes.npy"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:500] + bytes(64) + content[564:],  # zeros
        lambda content: content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],  # a bit
        lambda content: content + b"x",  # longer than it says
        lambda content: content[:-1],
        lambda content: b"",
    ],
)
def test_damaged_drawings_are_drawn_anew(name, damage, tmp_path, caplog):
    expected = pixels(SMALL, tmp_path)
    path = tmp_path / SMALL.key / name
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(damage(content))
    np.testing.assert_array_equal(pixels(SMALL, tmp_path), expected)
    assert path.read_bytes() == content
    assert f"{path.parent} is damaged, or of an earlier version, and drawn anew" in caplog.text
