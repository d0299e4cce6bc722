"""Stations by place: textbook places, borders of the written map, mirror and size."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnq.nodes.stations import STATIONS, UNCERTAIN, station_of
from phantom.stations import CARINA_MM, LUNGS_MM
from phantom.stations import STATIONS as DRAWN

LUNGS = (235.0, 210.0, 270.0)
PLACES = {  # left, back, up from the carina, in mm, for lungs of that size
    "2R": (-14.0, -16.0, 55.0),
    "2L": (14.0, -12.0, 55.0),
    "4R": (-14.0, -16.0, 20.0),
    "4L": (12.0, -6.0, 12.0),
    "3A": (-2.0, -62.0, 20.0),
    "3P": (6.0, 16.0, 40.0),
    "5/6": (34.0, -28.0, 18.0),
    "7": (0.0, 6.0, -16.0),
    "8": (4.0, 16.0, -60.0),
    "10R": (-34.0, -8.0, -14.0),
    "10L": (34.0, -2.0, -14.0),
}


def test_every_station_is_told_where_it_lies():
    assert {name: station_of(place, LUNGS) for name, place in PLACES.items()} == {name: name for name in PLACES}
    assert set(PLACES) == set(STATIONS)


@pytest.mark.parametrize(
    ("one", "other"),
    [("4R", "2R"), ("4R", "4L"), ("4R", "7"), ("7", "8"), ("7", "10R"), ("7", "10L"), ("4L", "5/6"), ("4L", "2L")],
)
def test_between_neighbours_lies_a_border_at_which_nothing_is_said(one, other):
    way = np.linspace(PLACES[one], PLACES[other], 201)
    told = [station_of(point, LUNGS) for point in way]
    assert told[0] == one and told[-1] == other and UNCERTAIN in told
    assert {one, other, UNCERTAIN} >= {name for name in told if name in (one, other)}


def test_right_and_left_part_at_the_tracheas_left_border_not_at_the_midline():
    assert station_of((-3.0, -16.0, 20.0), LUNGS) == "4R"
    assert station_of((6.0, -6.0, 20.0), LUNGS) == "4L"


def test_a_larger_patient_has_its_borders_farther_away():
    assert station_of((0.0, 6.0, -36.0), LUNGS) == UNCERTAIN
    assert station_of((0.0, 6.0, -36.0), np.multiply(LUNGS, 1.2)) == "7"
    assert station_of((0.0, 6.0, -38.0), np.multiply(LUNGS, 0.8)) == "8"
    assert station_of((0.0, 6.0, -36.0), np.multiply(LUNGS, 3.0)) == "7"  # a deep breath counts no more than so much


@pytest.mark.parametrize(
    "place", [(-20, -20, 150), (20, -20, 150), (10, 20, 150), (-150, 0, 20), (150, 0, -20), (0, 10, -200), (60, 0, -90)]
)
def test_beyond_the_map_nothing_is_said(place):
    assert station_of(place, LUNGS) == UNCERTAIN


@given(st.tuples(*[st.floats(-200, 200)] * 3), st.tuples(*[st.floats(100, 500)] * 3))
def test_every_place_has_an_answer(place, lungs):
    assert station_of(place, lungs) in (*STATIONS, UNCERTAIN)


def test_where_phantoms_place_their_nodes_the_answer_is_the_station():
    """Centres of the phantoms' stations; interlobar nodes (11) count as hilar ones, 5 and 6 as one."""
    merged = {"5": "5/6", "6": "5/6", "11R": "10R", "11L": "10L"}
    lungs = LUNGS_MM[::-1]
    told = {name: station_of(np.subtract(centre, CARINA_MM), lungs) for name, (centre, _, _) in DRAWN.items()}
    assert told == {name: merged.get(name, name) for name in DRAWN}, json.dumps(told)
