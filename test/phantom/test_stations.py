"""The stations, where nodes lie relative to the carina."""

from collections import Counter

import numpy as np
import pytest

from phantom.stations import CARINA_MM, LUNGS_MM, STATIONS, draw_station, spots_around

REFERENCE = LUNGS_MM[::-1]  # z, y, x


def test_lower_paratracheal_and_subcarinal_nodes_are_the_most_frequent():
    rng = np.random.default_rng(0)
    drawn = Counter(draw_station(rng) for _ in range(4000))
    assert [name for name, _ in drawn.most_common(2)] == ["4R", "7"]
    assert set(drawn) == set(STATIONS)


@pytest.mark.parametrize("station", STATIONS)
def test_spots_lie_around_the_stations_centre_from_the_carina(station):
    spots = spots_around(np.random.default_rng(0), station, REFERENCE, 4000)
    centre, spread, _ = STATIONS[station]
    np.testing.assert_allclose(spots.mean(axis=0)[::-1], np.array(centre) - CARINA_MM, atol=1.5)
    np.testing.assert_allclose(spots.std(axis=0)[::-1], spread, rtol=0.1)


def test_sides_and_levels_are_the_patients():
    middle = {s: spots_around(np.random.default_rng(0), s, REFERENCE, 500).mean(axis=0) for s in STATIONS}
    assert middle["4R"][2] < 0 < middle["4L"][2]  # x grows to the left
    assert middle["7"][0] < 0 < middle["2R"][0]  # z grows upwards
    assert middle["3A"][1] < 0 < middle["3P"][1]  # y grows to the back


def test_a_smaller_patients_stations_are_nearer_but_not_without_end():
    def mean(lungs_mm):
        return spots_around(np.random.default_rng(0), "11L", lungs_mm, 500).mean(axis=0)

    np.testing.assert_allclose(mean([0.9 * n for n in REFERENCE]), 0.9 * mean(REFERENCE))
    np.testing.assert_allclose(mean([0.1 * n for n in REFERENCE]), 0.8 * mean(REFERENCE))


def test_large_nodes_are_spread_wider():
    spots = spots_around(np.random.default_rng(0), "2R", REFERENCE, 4000, wider_mm=6.0)
    np.testing.assert_allclose(spots.std(axis=0)[::-1], (12, 13, 15), rtol=0.1)
