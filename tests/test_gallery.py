import numpy as np
import pytest
import torch

from agents.episodes import Gallery

# Distances of the rows to the query (0, 0): 1, 2, 3, 3, 4, 5.
ROWS = torch.tensor([[1.0, 0], [0, 2], [3, 0], [0, 3], [4, 0], [3, 4]])


def gallery(people, cameras=(1, 1, 1, 1, 1, 1), **settings):
    return Gallery(ROWS, np.array(people), np.array(cameras), list("abcdef"), person=7, camera=0, **settings)


def test_the_ranking_by_hand():
    ranking = gallery([-1, 7, 7, 5, 7, 6], cameras=[1, 0, 1, 1, 1, 1]).rank(torch.zeros(2))
    kinds = [(one.row, one.kind, one.rank) for one in ranking.candidates]
    # at a distance of 3 the wrong one ranks before the true one; junk and the query's own camera do not count
    assert kinds[:3] == [(0, "junk", None), (1, "same camera", None), (3, "wrong", 1)]
    assert kinds[3:] == [(2, "true", 2), (4, "true", 3), (5, "wrong", 4)]
    assert [one.distance for one in ranking.candidates] == [1, 2, 3, 3, 4, 5]
    assert ranking.true_match.row == 2
    assert ranking.nearest_wrong.row == 3
    assert [one.row for one in ranking.first(2)] == [0, 1, 2]  # and the true match


def test_nobody_to_find():
    ranking = gallery([1, 2, 3, 4, 5, 6]).rank(torch.zeros(2))
    assert ranking.true_match is None
    assert len(ranking.first(3)) == 3
    assert gallery([7] * 6).rank(torch.zeros(2)).nearest_wrong is None


def test_wrong_shapes_are_errors():
    with pytest.raises(ValueError, match="descriptor, person, camera and name for each"):
        gallery([1, 2])
    with pytest.raises(ValueError, match="have 2 numbers"):
        gallery([1] * 6).rank(torch.zeros(3))
