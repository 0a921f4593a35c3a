"""The grid of bins against hand-computed numbers and obvious loops."""

import itertools

import numpy as np
import pytest
import torch

from a3d_env.bins import BinGrid, averaging

GRIDS = [
    BinGrid(),
    BinGrid((6, 16, 8), (6, 6, 3)),  # one position in time
    BinGrid((2, 3, 4), (1, 1, 1), (4, 9, 8)),
    BinGrid((3, 4, 5), (3, 4, 5), (5, 9, 11)),  # one bin, and cells that are no whole number of pixels
    BinGrid((3, 7, 5), (2, 3, 2), (8, 50, 33)),
]


def test_the_papers_grid_has_198_bins():
    grid = BinGrid((6, 16, 8), (4, 6, 3), (6, 256, 128))
    assert grid.positions == (3, 11, 6)
    assert grid.num_bins == 198
    assert grid.corners[0].tolist() == [0, 0, 0]
    assert grid.corners[1].tolist() == [0, 0, 1]
    assert grid.corners[-1].tolist() == [2, 10, 5]


@pytest.mark.parametrize(
    ("feature_size", "bin_size", "corner"),
    [
        ((6, 16, 8), (4, 6, 3), [1, 5, 3]),  # ceil(2 / 2), ceil(10 / 2), ceil(5 / 2)
        ((6, 16, 8), (3, 5, 2), [2, 6, 3]),  # ceil(3 / 2), ceil(11 / 2), ceil(6 / 2)
        ((6, 16, 8), (6, 16, 8), [0, 0, 0]),
        ((2, 2, 2), (1, 1, 1), [1, 1, 1]),
    ],
)
def test_the_centre_is_rounded_up(feature_size, bin_size, corner):
    grid = BinGrid(feature_size, bin_size)
    assert grid.corners[grid.centre].tolist() == corner


@pytest.mark.parametrize("grid", GRIDS)
def test_index_and_corners_are_each_others_inverse(grid):
    assert [grid.index(corner) for corner in grid.corners.tolist()] == list(range(grid.num_bins))


def test_locations_run_from_minus_one_to_one():
    grid = BinGrid((6, 16, 8), (6, 6, 3))
    assert grid.locations.dtype == torch.float32
    assert grid.locations[0].tolist() == [0, -1, -1]  # a single position in time is at 0
    assert grid.locations[-1].tolist() == [0, 1, 1]
    torch.testing.assert_close(grid.locations[grid.index([0, 5, 3])], torch.tensor([0, 0, 0.2]))


@pytest.mark.parametrize(
    ("counts", "corners"),
    [
        # of 3 x 11 x 6 positions; 5 / 3 and 10 / 3 are rounded
        ((2, 6, 4), [[0, 2], [0, 2, 4, 6, 8, 10], [0, 2, 3, 5]]),
        ((1, 3, 1), [[1], [0, 5, 10], [3]]),  # one: the centre
        ((9, 2, 6), [[0, 1, 2], [0, 10], [0, 1, 2, 3, 4, 5]]),  # no more than there are
    ],
)
def test_an_overview_is_spread_evenly(counts, corners):
    grid = BinGrid(overview_counts=counts)
    expected = [[time, height, width] for time in corners[0] for height in corners[1] for width in corners[2]]
    assert grid.overview.dtype == torch.int64
    assert grid.corners[grid.overview].tolist() == expected


def test_bins_cover_each_other_and_the_overview_as_counted_cell_by_cell():
    grid = BinGrid((3, 5, 4), (2, 3, 2), (3, 50, 40), (2, 2, 2))  # bins of 12 cells
    cells = [
        {(time + t, row + r, column + c) for t, r, c in itertools.product(range(2), range(3), range(2))}
        for time, row, column in grid.corners.tolist()
    ]
    for one, other in itertools.product(range(grid.num_bins), repeat=2):
        assert grid.overlap(torch.tensor(one), torch.tensor(other)) == pytest.approx(
            len(cells[one] & cells[other]) / 12
        )
    assert torch.equal(grid.overview_cover[5], grid.overlap(torch.full((8,), 5), grid.overview))


def test_without_counts_the_overview_is_empty():
    assert BinGrid().overview.shape == (0,)
    for counts in ((2, 0, 4), (2, 6), (-1, 6, 4)):
        with pytest.raises(ValueError, match=r"an overview is 3 counts"):
            BinGrid(overview_counts=counts)
    with pytest.raises(ValueError, match="there is no overview"):
        BinGrid(shows_looked=True)


@pytest.mark.parametrize("grid", GRIDS)
def test_nearest_is_the_nearest_of_all(grid):
    action = 3 * torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) - 1.5  # a third lie outside
    distance = (action.clamp(-1, 1)[:, None] - grid.locations).double().square().sum(2)
    chosen = grid.nearest(action)
    torch.testing.assert_close(distance.gather(1, chosen[:, None])[:, 0], distance.amin(1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_bins_location_leads_to_the_bin(grid):
    assert grid.nearest(grid.locations).tolist() == list(range(grid.num_bins))
    assert grid.nearest(grid.locations.double()).tolist() == list(range(grid.num_bins))
    assert grid.nearest(grid.locations.reshape(1, -1, 3)).shape == (1, grid.num_bins)


def test_what_lies_outside_is_clipped():
    grid = BinGrid()
    assert grid.nearest(torch.tensor([[9.0, -9.0, torch.inf], [-torch.inf, 1.0001, -1.0]])).tolist() == [
        grid.index([2, 0, 5]),
        grid.index([0, 10, 0]),
    ]


@pytest.mark.parametrize("grid", GRIDS)
def test_pool_is_the_mean_of_each_bins_cells(grid):
    feature_map = torch.randn(2, 3, *grid.feature_size, generator=torch.Generator().manual_seed(1))
    pooled = grid.pool(feature_map)
    assert pooled.shape == (2, grid.num_bins, 3)
    for number, (time, top, left) in enumerate(grid.corners.tolist()):
        length, height, width = grid.bin_size
        cells = feature_map[:, :, time : time + length, top : top + height, left : left + width]
        torch.testing.assert_close(pooled[:, number], cells.mean((2, 3, 4)))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("channels_last", [True, False])
def test_pool_and_its_gradient_are_those_of_a_product_for_each_axis(grid, channels_last):
    generator = torch.Generator().manual_seed(1)
    feature_map = torch.randn(2, 3, *grid.feature_size, generator=generator, dtype=torch.float64)
    if channels_last:
        feature_map = feature_map.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    feature_map.requires_grad_()
    weight = torch.randn(2, grid.num_bins, 3, generator=generator, dtype=torch.float64)
    sizes = zip(grid.feature_size, grid.bin_size, strict=True)
    axes = (averaging(count, size, feature_map) for count, size in sizes)
    slow = torch.einsum("bcthw,pt,qh,rw->bpqrc", feature_map, *axes).flatten(1, 3)
    fast = grid.pool(feature_map)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-7)
    (slow_gradient,) = torch.autograd.grad((slow * weight).sum(), feature_map)
    (fast_gradient,) = torch.autograd.grad((fast * weight).sum(), feature_map)
    torch.testing.assert_close(fast_gradient, slow_gradient, rtol=0, atol=1e-7)


def test_frames_and_pixels_by_hand():
    grid = BinGrid((6, 16, 8), (4, 6, 3), (6, 256, 128))  # cells of 1 frame, 16 x 16 pixels
    assert grid.frame_ranges[grid.centre].tolist() == [1, 5]
    assert grid.boxes[grid.centre].tolist() == [48, 80, 96, 176]  # left 3, top 5; 3 wide, 6 high
    assert grid.boxes[0].tolist() == [0, 0, 48, 96]
    assert grid.boxes[-1].tolist() == [80, 160, 128, 256]

    coarse = BinGrid((3, 4, 2), (2, 2, 1), (8, 10, 5))  # cells of 2.67 frames, 2.5 x 2.5 pixels
    last = coarse.index([1, 2, 1])
    assert coarse.frame_ranges[[0, last]].tolist() == [[0, 5], [3, 8]]
    assert coarse.boxes[[0, last]].tolist() == [[0, 0, 2, 5], [2, 5, 5, 10]]


@pytest.mark.parametrize("grid", GRIDS)
def test_bins_lie_in_the_clip_and_reach_its_ends(grid):
    num_frames, height, width = grid.clip_size
    assert grid.frame_ranges.shape == (grid.num_bins, 2)
    assert (grid.frame_ranges[:, 0].min(), grid.frame_ranges[:, 1].max()) == (0, num_frames)
    assert grid.boxes.min(0)[:2].tolist() == [0, 0]
    assert grid.boxes.max(0)[2:].tolist() == [width, height]
    assert (grid.frame_ranges[:, 0] < grid.frame_ranges[:, 1]).all()
    assert (grid.boxes[:, :2] < grid.boxes[:, 2:]).all()


def hits_loop(grid, truth_boxes):
    hits = np.zeros((len(truth_boxes), grid.num_bins), dtype=bool)
    for clip, boxes in enumerate(truth_boxes):
        for number in range(grid.num_bins):
            x0, y0, x1, y1 = grid.boxes[number]
            for frame in range(*grid.frame_ranges[number]):
                tx0, ty0, tx1, ty1 = boxes[frame]
                if np.isnan(tx0):
                    continue
                inside = max(0, min(x1, tx1) - max(x0, tx0)) * max(0, min(y1, ty1) - max(y0, ty0))
                hits[clip, number] |= inside >= 0.5 * (tx1 - tx0) * (ty1 - ty0)
    return hits


@pytest.mark.parametrize("grid", [BinGrid(), GRIDS[4]])
def test_hits_are_those_of_a_loop(grid):
    rng = np.random.default_rng(0)
    num_frames, height, width = grid.clip_size
    corner = rng.uniform(0, 0.8, (4, num_frames, 2)) * (width, height)
    boxes = np.concatenate([corner, corner + rng.uniform(2, 0.4 * width, (4, num_frames, 2))], axis=2)
    boxes[rng.random((4, num_frames)) < 0.6] = np.nan
    boxes[3] = np.nan
    got = grid.hits(boxes)
    np.testing.assert_array_equal(got, hits_loop(grid, boxes))
    assert not got[3].any()
    assert 0.02 < got[:3].mean() < 0.9


def test_half_of_the_thing_is_a_hit_and_less_is_not():
    grid = BinGrid((1, 1, 4), (1, 1, 2), (1, 10, 40))  # bins of 20 pixels at x = 0, 10, 20
    thing = np.array([[[15.0, 0, 25, 10]], [[16.0, 0, 26, 10]], [[5.0, 5, 5, 5]]])
    assert grid.hits(thing).tolist() == [[True, True, True], [False, True, True], [False, False, False]]


@pytest.mark.parametrize("sizes", [((6, 16, 8), (7, 6, 3)), ((6, 16, 8), (4, 6, 0)), ((6, 4, 2), (4, 6, 3))])
def test_a_bin_must_fit_into_the_map(sizes):
    with pytest.raises(ValueError, match=r"does not fit into a feature map of \(6"):
        BinGrid(*sizes)


def test_a_map_is_not_finer_than_its_clip():
    with pytest.raises(ValueError, match="finer than its clip"):
        BinGrid((6, 16, 8), (4, 6, 3), (5, 256, 128))


@pytest.mark.parametrize("corner", [[3, 0, 0], [0, -1, 0], [0, 0]])
def test_no_bin_outside(corner):
    with pytest.raises(ValueError, match="no bin has its corner"):
        BinGrid().index(corner)


def test_wrong_actions_and_maps_are_errors():
    grid = BinGrid()
    with pytest.raises(ValueError, match=r"got shape \(2, 4\)"):
        grid.nearest(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="NaN"):
        grid.nearest(torch.tensor([[0, torch.nan, 0]]))
    for shape in [(2, 3, 6, 16, 9), (3, 6, 16, 8)]:
        with pytest.raises(ValueError, match="expected a feature map"):
            grid.pool(torch.zeros(shape))


def test_a_clip_beyond_all_bounds_is_refused():
    with pytest.raises(
        ValueError, match="9,500,000 bins is too large: 134,217,728 pixels and 100,000 bins at most"
    ):
        BinGrid(feature_size=(1, 100, 100_000), bin_size=(1, 6, 1), clip_size=(1, 100, 100_000))
    with pytest.raises(ValueError, match="with 1 bins is too large"):
        BinGrid(feature_size=(1, 1, 1), bin_size=(1, 1, 1), clip_size=(1000, 1000, 1000))
