import numpy as np
import pytest

from lnq.inference.normalise import normalise
from lnq.inference.spec import Normalisation


def test_ct_clips_then_scales_by_the_training_labels():
    out = normalise(
        np.array([-1000, -36, 54, 87, 157, 3000], np.int16), Normalisation("ct", (-36.0, 157.0), 54.0, 33.0)
    )
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, [-90 / 33, -90 / 33, 0, 1, 103 / 33, 103 / 33], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_zscore_uses_the_volume_itself(dtype):
    out = normalise(np.array([0, 0, 10, 10], dtype), Normalisation("zscore"))
    np.testing.assert_allclose(out, [-1, -1, 1, 1])


def test_a_constant_volume_becomes_zero():
    assert normalise(np.full((2, 2, 2), 40.0), Normalisation("zscore")).tolist() == np.zeros((2, 2, 2)).tolist()


def test_the_input_is_left_alone():
    image = np.array([0.0, 1.0], np.float32)
    normalise(image, Normalisation("zscore"))
    assert image.tolist() == [0.0, 1.0]
