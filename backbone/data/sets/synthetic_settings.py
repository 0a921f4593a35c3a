"""Settings of the built-in data: which people are drawn, and what makes them hard to tell apart."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import combinations, product

from backbone.data.sets.drawing import NUM_OUTFITS, PLACES, SHAPES, THING_COLOURS, THING_SIZE, Thing

# Part of the cache's key: raise it when the drawing changes.
DRAWING_VERSION = 4

FAR_APART = 0.45  # least distance of two things along a body, in body heights: more than a bin of the benchmark

MOST_BYTES = 2**36  # of drawn frames: 64 GiB


@dataclass(frozen=True)
class SyntheticConfig:
    """Settings of the drawn data. Equal settings give equal pixels."""

    num_train_people: int = 80
    """Number of people to train on."""
    num_test_people: int = 100
    """Number of other people to test on."""
    tracklets_per_camera: int = 3
    """Number of tracklets of each training person in each of the two cameras; test people have one."""
    num_frames: int = 16
    """Number of frames of a tracklet."""
    height: int = 128
    """Height of a frame in pixels."""
    width: int = 64
    """Width of a frame in pixels."""
    num_outfits: int = 4
    """Number of different outfits, which people share."""
    wardrobe: tuple[int, int] = (0, NUM_OUTFITS)
    """Range of outfits that the people's clothes are from: the first number up to, but not including, the second.
    Without look_alikes passers-by wear any."""
    seen_frames: tuple[int, int] = (5, 9)
    """Fewest and most frames for which the thing is seen at a stretch."""
    hidden_frames: tuple[int, int] = (3, 6)
    """Fewest and most frames for which the thing is hidden between two such stretches."""
    passers_by: float = 1.0
    """Expected number of people who cross in a tracklet."""
    look_alikes: bool = False
    """Draw passers-by in the people's clothes, not in any; what they carry is of the same kinds in either case."""
    num_colours: int = len(THING_COLOURS)
    """Number of different colours of things."""
    num_shapes: int = len(SHAPES)
    """Number of different shapes of things."""
    thing_size: float = THING_SIZE
    """Half of a thing's width, in body heights."""
    num_things: int = 1
    """Number of things that name a person, 1 or 2. Two are far from each other on the body, and come into sight at
    times of their own; other people carry each of them, too, beside another second thing."""
    num_gaits: int = 0
    """Number of different rhythms of walking, of one stride: two doubles walk in two of them, all others in the
    first; 0: everyone has a gait of their own."""
    doubles: float = 0.0
    """Share of the people, 0 to 1, who have a double: the same clothes and thing in another rhythm, so that the
    motion, and a build that differs a little, tell the two apart; above 0 it takes 2 gaits or more."""
    seed: int = 0
    """Seed of the data, apart from the training's."""

    def __post_init__(self) -> None:
        first, end = self.wardrobe
        if not 0 <= first < end <= NUM_OUTFITS:
            raise ValueError(f"wardrobe must be (first, end) of the outfits 0 to {NUM_OUTFITS}, got {first, end}")
        if not 1 <= self.num_outfits <= end - first:
            raise ValueError(f"num_outfits must be 1 to the wardrobe's {end - first}, got {self.num_outfits}")
        for name, most in (("num_colours", len(THING_COLOURS)), ("num_shapes", len(SHAPES))):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be 1 to {most}, got {getattr(self, name)}")
        if self.num_things not in (1, 2):
            raise ValueError(f"num_things must be 1 or 2, got {self.num_things}")
        if not 0.02 <= self.thing_size <= 0.15:
            raise ValueError(f"thing_size must be 0.02 to 0.15 body heights, got {self.thing_size}")
        if self.num_gaits < 0 or not 0 <= self.doubles <= 1 or (self.doubles > 0 and self.num_gaits < 2):
            raise ValueError(
                "num_gaits must be 0 or more, and doubles 0 to 1, above 0 only with 2 gaits or more; got "
                f"{self.num_gaits} and {self.doubles}"
            )
        things = len(list(self._places())) * (self.num_shapes * self.num_colours) ** self.num_things
        wanted, looks = sum(self.num_looks), self.num_outfits * things  # as `all_things`, counted
        if min(self.num_train_people, self.num_test_people) < 2 or wanted > looks:
            raise ValueError(
                f"synthetic data needs 2 or more train and test people and at most {looks} looks with "
                f"{self.num_outfits} outfits, got {self.num_train_people} and {self.num_test_people} people"
            )
        if min(self.num_frames, self.tracklets_per_camera) < 1:
            raise ValueError("synthetic data needs at least 1 frame a tracklet and 1 tracklet per camera")
        if self.height < 32 or self.width < 16:
            raise ValueError(f"a pedestrian needs 32 x 16 pixels or more, got {self.height} x {self.width}")
        tracklets = 2 * (self.num_train_people * self.tracklets_per_camera + self.num_test_people)
        size = 3 * tracklets * self.num_frames * self.height * self.width
        if size > MOST_BYTES:
            raise ValueError(f"{size:,} bytes of synthetic frames are too many: at most {MOST_BYTES:,} are drawn")
        for name, least_allowed in (("seen_frames", 1), ("hidden_frames", 0)):
            least, most = getattr(self, name)
            if not least_allowed <= least <= most:
                raise ValueError(
                    f"{name} must be (least, most) with {least_allowed} <= least <= most, got {least, most}"
                )
        if not 0 <= self.passers_by <= 100 or self.seed < 0:
            raise ValueError(
                f"synthetic data needs passers_by from 0 to 100 and a seed of 0 or more, got {self.passers_by} "
                f"and {self.seed}"
            )

    def all_things(self) -> list[tuple[Thing, ...]]:
        """Return every combination of things that a person can carry."""
        kinds = list(product(list(SHAPES)[: self.num_shapes], THING_COLOURS[: self.num_colours]))
        return [
            tuple(Thing(place, shape, colour) for place, (shape, colour) in zip(places, chosen, strict=True))
            for places in self._places()
            for chosen in product(kinds, repeat=self.num_things)
        ]

    def _places(self) -> Iterator[tuple[str, ...]]:
        """Yield the places of things that one person can carry."""
        for places in combinations(PLACES, self.num_things):
            heights = [PLACES[place][1] for place in places]
            if self.num_things == 1 or max(heights) - min(heights) >= FAR_APART:
                yield places

    def all_looks(self) -> list[tuple[int, tuple[Thing, ...]]]:
        """Return every combination of an outfit and things: the identities there can be."""
        return list(product(range(self.num_outfits), self.all_things()))

    @property
    def num_looks(self) -> tuple[int, int]:
        """The looks of the train and of the test people: two doubles share one."""
        train, test = (
            people - min(round(self.doubles * people / 2), people // 2)
            for people in (self.num_train_people, self.num_test_people)
        )
        return train, test

    @property
    def key(self) -> str:
        """A name for the cache, of everything that the pixels depend on."""
        settings = {**asdict(self), "version": DRAWING_VERSION}
        if self.num_things == 1:  # drawings made before there was another number
            del settings["num_things"]
        text = json.dumps(settings, sort_keys=True)
        return f"synthetic-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


# The benchmark's people and the walkers that the small backbone starts from wear different clothes, so that
# nobody of the one is anybody of the other.
BENCHMARK_WARDROBE, WALKERS_WARDROBE = (0, 14), (14, NUM_OUTFITS)


def benchmark(seed: int = 0) -> SyntheticConfig:
    """Return the variant on which looking matters: small frames, so that many runs fit into hours on a CPU.

    People share clothes; the thing that they carry names them, and it is out of sight a third of the time.
    One in five has a double, who differs in the rhythm of walking and a little in build. Passers-by wear the same
    outfits and carry things of the same kinds, so that the clip as a whole shows strangers' things beside the
    person's; only where it is, on the walker in the middle, tells it apart. How much bins set on the truth gain
    over no attention and over random bins is measured in benchmarks/attention.md.
    """
    return SyntheticConfig(
        num_train_people=240,
        num_test_people=200,
        tracklets_per_camera=4,
        num_frames=12,
        height=64,
        width=32,
        num_outfits=5,
        wardrobe=BENCHMARK_WARDROBE,
        num_shapes=2,
        thing_size=0.1,
        num_gaits=2,
        doubles=0.2,
        hidden_frames=(2, 4),
        look_alikes=True,
        passers_by=1.0,
        seed=seed,
    )


def two_things(seed: int = 0) -> SyntheticConfig:
    """Return the variant on which looking at several things matters: only two things together name a person.

    People wear one of two outfits. One of a person's two things and the outfit leave about four of the 200 test
    people; who looks twice at the same thing learns no more. In the place of doubles who differ in their walk,
    everybody walks alike.
    """
    return replace(benchmark(seed), num_outfits=2, num_things=2, num_gaits=1, doubles=0.0)


def without_clutter(seed: int = 0) -> SyntheticConfig:
    """Return walkers in other clothes, alone, things in sight: for the small backbone's first weights."""
    return replace(
        benchmark(seed),
        num_train_people=420,
        num_test_people=100,
        wardrobe=WALKERS_WARDROBE,
        doubles=0.5,
        seen_frames=(12, 12),
        hidden_frames=(0, 0),
        passers_by=0.0,
    )
