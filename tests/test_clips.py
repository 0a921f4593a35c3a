"""Clips counted by hand, and batches that are a function of seed and step."""

from collections import Counter

import numpy as np
import pytest

from backbone.data.clips import IdentitySampler, consecutive_clips, spread_clip
from backbone.data.tracklet import Tracklet


def make(person: int, length: int, camera: int = 0) -> Tracklet:
    return Tracklet(person, camera, range(length), f"{person}/{camera}")  # only the length counts


# three people: two tracklets of 10 frames, one of 6, one of 2
TRACKLETS = [make(7, 10), make(7, 10, 1), make(3, 6), make(5, 2)]


def sampler(num_people: int = 2, clips_per_person: int = 4, num_frames: int = 4, seed: int = 0) -> IdentitySampler:
    return IdentitySampler(TRACKLETS, num_people, clips_per_person, num_frames, seed)


def rows(batch: list[tuple[int, np.ndarray]]) -> list[tuple[int, list[int]]]:
    return [(index, frames.tolist()) for index, frames in batch]


@pytest.mark.parametrize(
    ("length", "num_frames", "expected"),
    [
        (6, 3, [[0, 1, 2], [3, 4, 5]]),
        (7, 3, [[0, 1, 2], [3, 4, 5], [6, 6, 6]]),
        (5, 3, [[0, 1, 2], [3, 4, 4]]),
        (2, 3, [[0, 1, 1]]),
        (1, 3, [[0, 0, 0]]),
        (3, 1, [[0], [1], [2]]),
    ],
)
def test_consecutive_clips_by_hand(length, num_frames, expected):
    assert [clip.tolist() for clip in consecutive_clips(length, num_frames)] == expected


def test_a_batch_has_p_people_with_k_clips_each():
    for step in range(6):
        batch = sampler().batch(step)
        assert len(batch) == 8
        people = [TRACKLETS[index].person for index, _ in batch]
        assert len(set(people)) == 2
        assert people == [people[0]] * 4 + [people[4]] * 4
        for index, frames in batch:
            assert np.array_equal(frames, np.minimum(frames[0] + np.arange(4), len(TRACKLETS[index]) - 1))


@pytest.mark.parametrize(("num_people", "batches"), [(1, 3), (3, 1), (2, 1)])
def test_everyone_comes_once_an_epoch(num_people, batches):
    drawn = sampler(num_people)
    assert drawn.batches_per_epoch == batches
    orders = []
    for epoch in range(5):
        clips = [clip for step in range(batches) for clip in drawn.batch(epoch * batches + step)]
        counts = Counter(TRACKLETS[index].person for index, _ in clips)
        assert set(counts.values()) == {4}
        assert len(counts) == num_people * batches
        orders.append(tuple(counts))
    assert len(set(orders)) > 1


def test_those_left_over_take_turns():
    left_over = {frozenset(TRACKLETS[index].person for index, _ in sampler().batch(step)) for step in range(20)}
    assert len(left_over) == 3  # each of the three pairs


def test_a_batch_is_a_function_of_seed_and_step():
    drawn = sampler()
    batches = [rows(drawn.batch(step)) for step in range(5)]
    assert rows(sampler().batch(3)) == batches[3] == rows(drawn.batch(3))
    assert rows(sampler(seed=1).batch(3)) != batches[3]
    assert len({str(batch) for batch in batches}) == 5


def test_tracklets_take_turns_and_clips_start_at_different_frames():
    for step in range(12):
        by_tracklet: dict[int, list[int]] = {}
        for index, frames in sampler(num_people=3, clips_per_person=6).batch(step):
            by_tracklet.setdefault(index, []).append(int(frames[0]))
        assert sorted(len(starts) for starts in by_tracklet.values()) == [3, 3, 6, 6]
        assert len(set(by_tracklet[0])) == len(set(by_tracklet[1])) == 3
        # frames 0 to 5 have three starts: each comes before one comes again
        assert len(set(by_tracklet[2][:3])) == 3
        assert set(by_tracklet[3]) == {0}


def test_too_few_people():
    with pytest.raises(ValueError, match="a batch of 4 people needs as many to train on, got 3"):
        sampler(num_people=4)


@pytest.mark.parametrize("setting", ["num_people", "clips_per_person", "num_frames"])
def test_numbers_below_1(setting):
    with pytest.raises(ValueError, match="1 or more people, clips of each and frames"):
        sampler(**{setting: 0})


def test_spread_clips_take_one_frame_of_each_part():
    generator = np.random.default_rng(0)
    drawn = np.array([spread_clip(12, 4, generator) for _ in range(200)])
    for part in range(4):
        assert set(drawn[:, part]) == set(range(3 * part, 3 * part + 3))
    short = [spread_clip(3, 6, generator) for _ in range(20)]
    assert all(clip.tolist() == [0, 0, 1, 1, 2, 2] for clip in short)
    assert {len(clip) for clip in short} == {6}


def test_a_sampler_of_spread_clips_is_a_function_of_seed_and_step():
    spread = [IdentitySampler(TRACKLETS, 2, 4, 4, 0, "spread").batch(3) for _ in range(2)]
    assert rows(spread[0]) == rows(spread[1])
    assert any((np.diff(frames) > 1).any() for _, frames in spread[0])


def test_people_are_ordered_once_an_epoch_and_batches_can_come_in_any_order(monkeypatch):
    one, drawn = sampler(1), []
    draw = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: drawn.append(seed[1]) or draw(seed))
    steps = [0, 1, 2, 3, 4, 0, 5]  # of the epochs 0, 0, 0, 1, 1, 0, 1
    batches = [rows(one.batch(step)) for step in steps]
    assert drawn.count(0) == 4  # the orders of 0, 1, 0 and 1; the others are the batches' own draws
    assert batches == [rows(sampler(1).batch(step)) for step in steps]
