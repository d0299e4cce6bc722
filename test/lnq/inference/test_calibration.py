import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnq.inference.calibration import Calibration, logit


def test_numbers_worked_out_by_hand():
    """The logit of 1/2 is 0, that of 3/4 is ln 3 = 1.0986; 1 / (1 + e) = 0.2689."""
    np.testing.assert_allclose(logit(np.array([0.5, 0.75, 0.25])), [0, np.log(3), -np.log(3)], atol=1e-6)
    np.testing.assert_array_equal(logit(np.array([0.0, 1.0])), [-16, 16])
    calibrated = Calibration(2.0, -1.0).apply(np.array([0.5, 0.75], np.float32))
    np.testing.assert_allclose(calibrated, [0.26894, 1 / (1 + np.e / 9)], atol=1e-5)


def test_shape_and_type_stay_and_what_nobody_looked_at():
    for kind in (np.float32, np.float16):
        given_p = np.array([[0.0, 0.25], [0.5, 1.0]], kind)
        calibrated = Calibration(0.5, -2.0).apply(given_p)
        assert calibrated.dtype == kind and calibrated.shape == (2, 2)
        assert calibrated[0, 0] == 0 and (calibrated.ravel()[1:] > 0).all()


def test_without_a_calibration_nothing_is_touched():
    probability = np.random.default_rng(0).random((3, 4), np.float32)
    assert Calibration().apply(probability) is probability
    assert not Calibration().changes and Calibration(1.0, 0.1).changes


@given(st.floats(0.05, 5), st.floats(-4, 4), st.lists(st.floats(1e-5, 1 - 1e-5), min_size=2, max_size=20))
def test_the_order_stays(slope, offset, values):
    probability = np.sort(np.array(values, np.float32))
    assert (np.diff(Calibration(slope, offset).apply(probability)) >= 0).all()


def test_one_after_another_is_one():
    first, second = Calibration(0.5, 1.0), Calibration(3.0, -0.25)
    probability = np.linspace(0.05, 0.95, 19).astype(np.float32)
    np.testing.assert_allclose(
        second.after(first).apply(probability), second.apply(first.apply(probability)), atol=1e-5
    )
    np.testing.assert_allclose(first.inverse.apply(first.apply(probability)), probability, atol=1e-5)
    assert first.inverse.at(first.at(0.3)) == pytest.approx(0.3, abs=1e-12)
    assert second.at(0.5) == pytest.approx(1 / (1 + np.exp(0.25))) and second.at(0.0) == 0


@pytest.mark.parametrize("values", [(0.0, 0.0), (-1.0, 0.0), (float("nan"), 0.0), (1.0, float("inf"))])
def test_what_turns_the_order_round_is_refused(values):
    with pytest.raises(ValueError, match="^A calibration needs a positive slope and an offset, not"):
        Calibration(*values)
