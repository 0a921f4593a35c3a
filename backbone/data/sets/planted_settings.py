"""Settings of the real people who carry drawn things."""

from dataclasses import dataclass

from backbone.data.sets.drawing import SHAPES, THING_COLOURS

PLANTING_VERSION = 1  # part of the cache's key: raise it when the pictures change


@dataclass(frozen=True)
class PlantedConfig:
    """Settings of things planted on real people. Equal settings and files give equal pixels."""

    twins: int = 2
    """Number of people that each real one becomes, who look the same but for the thing that each carries."""
    copies: int = 4
    """Number of times that each training tracklet of a twin is made, with the thing seen in other frames and other
    passers-by."""
    passers_by: float = 0.6
    """Expected number of people who cross in a tracklet."""
    seen_frames: tuple[int, int] = (3, 5)
    """Fewest and most frames for which the thing is seen at a stretch."""
    hidden_frames: tuple[int, int] = (1, 2)
    """Fewest and most frames for which the thing is hidden between two such stretches."""
    num_colours: int = len(THING_COLOURS)
    """Number of different colours of things."""
    num_shapes: int = 2
    """Number of different shapes of things."""
    thing_size: float = 0.1
    """Half of a thing's width, in body heights."""
    seed: int = 0
    """Seed of who carries what, when it is seen, and who passes by."""

    def __post_init__(self) -> None:
        for name, least, most in (
            ("twins", 1, 6 * self.num_shapes * self.num_colours),
            ("copies", 1, 1000),
            ("passers_by", 0, 100),
            ("num_colours", 1, len(THING_COLOURS)),
            ("num_shapes", 1, len(SHAPES)),
            ("thing_size", 0.02, 0.15),
            ("seed", 0, 2**63),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"planted.{name} must be {least} to {most}, got {getattr(self, name)}")
        for name, fewest in (("seen_frames", 1), ("hidden_frames", 0)):
            least, most = getattr(self, name)
            if not fewest <= least <= most:
                raise ValueError(f"planted.{name} must be (least, most) with {fewest} <= least <= most")
