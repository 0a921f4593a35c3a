"""Protocols: which pairs count, by hand, and where a search, a score and a page say so."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.episodes import Gallery
from agents.runs.scoring import describe_search, labels, noted_protocol, retrieve
from backbone.data import DataConfig, ReidData
from backbone.data.division import everybody, held_out
from backbone.data.spec import parse_data
from backbone.data.tracklet import Tracklet
from backbone.metrics import Search, evaluate_retrieval
from backbone.protocol import CLOTH_CHANGING, OTHER_CAMERA, SAME_CLOTHES, Labels, between
from backbone.verification import verify

TO_AERIAL = between("ground_to_aerial", {1, 2}, {9}, "the same person seen from the air")
# Person, camera, clothes; the query is person 7 by camera 1 in clothes 0.
QUERY = [(7, 1, 0)]
GALLERY = [(7, 1, 0), (7, 2, 0), (7, 9, 1), (5, 1, 0), (5, 9, 1), (7, 1, 1)]
# By hand: does the pair count?
COUNTED = {
    OTHER_CAMERA: [0, 1, 1, 1, 1, 0],
    SAME_CLOTHES: [0, 1, 0, 1, 1, 0],
    CLOTH_CHANGING: [0, 0, 1, 1, 1, 0],
    TO_AERIAL: [0, 0, 1, 0, 1, 0],
}
BY_NAME = pytest.mark.parametrize("protocol", COUNTED, ids=lambda one: one.name)


def labels_of(rows):
    return Labels(*(np.array(column) for column in zip(*rows, strict=True)))


def data_of(protocol, named=True):
    query, gallery = (
        [Tracklet(one, camera, None, "", clothes=f"u{worn}" * named) for one, camera, worn in part]
        for part in (QUERY, GALLERY)
    )
    return ReidData("some", [], query, gallery, protocol=protocol)


@BY_NAME
def test_the_pairs_that_count_by_hand(protocol):
    query, gallery = labels_of(QUERY), labels_of(GALLERY)
    assert protocol.counts(query, gallery).astype(int).tolist() == [COUNTED[protocol]]
    assert protocol.without_match(query, gallery) == 0
    assert protocol.without_match(query, gallery.part(slice(3, None))) == 1


@BY_NAME
def test_scores_are_those_of_the_pairs_that_count(protocol):
    # the nearer, the earlier in the gallery
    descriptors = torch.tensor([[0.0], *([float(place)] for place in range(1, 7))])
    scores = retrieve(data_of(protocol), descriptors)
    counted = [GALLERY[place][0] == 7 for place in range(6) if COUNTED[protocol][place]]
    ranks = [place + 1 for place, is_match in enumerate(counted) if is_match]
    assert scores.first_ranks.tolist() == ranks[:1]
    assert scores.average_precisions[0] == pytest.approx(
        np.mean([found / rank for found, rank in enumerate(ranks, 1)])
    )
    said = describe_search(data_of(protocol), "standard")
    is_usual = protocol == OTHER_CAMERA
    assert (f"protocol {protocol.name} (found is {protocol.match})" in said) == (not is_usual)
    assert noted_protocol(data_of(protocol)) == ({} if is_usual else {"protocol": protocol.name})


def test_thresholds_are_of_the_pairs_that_count():
    query, gallery = np.zeros((1, 1), np.float32), np.arange(1, 7, dtype=np.float32)[:, None]
    parts = zip(labels_of(QUERY), labels_of(GALLERY), strict=True)
    found = verify(Search(query, gallery, *(one for pair in parts for one in pair), CLOTH_CHANGING))
    assert (found.same.tolist(), found.different.tolist()) == ([3], [4, 5])


def test_clothes_have_to_be_known():
    with pytest.raises(ValueError, match="cloth_changing needs to know each tracklet's clothes"):
        retrieve(data_of(CLOTH_CHANGING, named=False), torch.zeros(7, 1))
    assert labels(data_of(SAME_CLOTHES).query, [])[0].clothes.tolist() == [0]


def test_nothing_to_find_is_said_in_the_protocols_words():
    search = Search(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32), [7], [7], [1], [2], [0], [0])
    assert evaluate_retrieval(search).num_queries == 1
    with pytest.raises(ValueError, match="no tracklet of the same person in other clothes by another camera"):
        evaluate_retrieval(search._replace(protocol=CLOTH_CHANGING))
    with pytest.raises(ValueError, match="query_clothes must be 1 integers"):
        evaluate_retrieval(search._replace(query_clothes=[0, 0]))


def test_everybody_and_people_held_out_are_searched_by_the_same_protocol():
    assert everybody(data_of(SAME_CLOTHES)).protocol == SAME_CLOTHES
    train = [Tracklet(person, camera, None, "") for person in range(6) for camera in (1, 2)]
    data = replace(data_of(SAME_CLOTHES), train=train)
    assert held_out(data, 0.4, seed=0).protocol == SAME_CLOTHES


def test_a_page_shows_what_the_protocol_leaves_out():
    rows = torch.arange(1.0, 7.0)[:, None]
    people, cameras, _ = labels_of(GALLERY)
    counts = TO_AERIAL.counts(labels_of(QUERY), labels_of(GALLERY))[0]
    gallery = Gallery(rows, people, cameras, list("abcdef"), 7, 1, counts=counts)
    found = [(one.kind, one.rank) for one in gallery.rank(torch.zeros(1)).candidates]
    assert found[:3] == [("same camera", None), ("left out", None), ("true", 1)]
    assert found[3:] == [("left out", None), ("wrong", 2), ("same camera", None)]


def test_the_protocol_is_an_option_of_the_data():
    assert parse_data("module:function:x@protocol=same_clothes", DataConfig())[1].protocol == "same_clothes"
    with pytest.raises(ValueError, match="'protocol' is no option of the data"):
        parse_data("mars:x@protocol=same_clothes", DataConfig())
