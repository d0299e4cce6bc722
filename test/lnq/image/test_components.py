import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from lnq.image.components import components, label


def test_voxels_that_touch_at_a_corner_are_one_component():
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[3, 3, 3] = True
    labels, count = label(mask)
    assert count == 2
    assert labels[0, 0, 0] == labels[1, 1, 1] != labels[3, 3, 3]
    assert components(mask)[0].tolist() == [1, 1, 2]


def test_an_empty_mask_has_none():
    numbers, count = components(np.zeros((3, 4, 5), bool))
    assert (numbers.tolist(), count) == ([], 0)


@given(arrays(bool, st.tuples(*[st.integers(1, 6)] * 3)))
def test_components_of_the_box_are_those_of_the_whole(mask):
    numbers, count = components(mask)
    wanted, wanted_count = ndimage.label(mask, ndimage.generate_binary_structure(3, 3))
    assert count == wanted_count
    np.testing.assert_array_equal(numbers, wanted[mask])
