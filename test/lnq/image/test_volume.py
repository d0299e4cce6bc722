import re
import subprocess
import sys

import numpy as np
import pytest
from helpers.volumes import example, oblique

from lnq.image.volume import Volume, bounding_box, make_affine


def test_affine_places_voxels_in_patient_axes():
    affine = make_affine((2.5, 0.8, 0.7), (10, 20, 30))
    # Voxel z=2, y=3, x=4: 4 * 0.7 to the left, 3 * 0.8 to the back, 2 * 2.5 up.
    np.testing.assert_allclose(affine @ [2, 3, 4, 1], [12.8, 22.4, 35.0, 1])


def test_properties_follow_from_the_affine():
    volume = example(oblique())
    assert volume.shape == (4, 5, 6)
    np.testing.assert_allclose(volume.spacing_mm, (2.5, 0.8, 0.7))
    assert volume.voxel_volume_mm3 == pytest.approx(1.4)
    np.testing.assert_allclose(volume.direction, oblique())


def test_crop_keeps_every_voxel_at_its_place():
    volume = example(oblique())
    part = volume.crop((slice(1, 3), slice(2, None), slice(None, 4)))
    assert part.shape == (2, 3, 4)
    assert part.array[0, 0, 0] == volume.array[1, 2, 0]
    np.testing.assert_allclose(part.affine @ [1, 1, 1, 1], volume.affine @ [2, 3, 1, 1])


def test_the_bounding_box_is_the_smallest_and_grows_within_the_array():
    mask = np.zeros((6, 7, 8), bool)
    assert not mask[bounding_box(mask)].size
    assert not mask[bounding_box(mask, (1, 1, 1))].size
    mask[2, 1:4, 7] = mask[4, 2, 5] = True
    assert bounding_box(mask) == np.s_[2:5, 1:4, 5:8]
    assert bounding_box(mask, (1, 2, 3)) == np.s_[1:6, 0:6, 2:8]


def test_crop_refuses_steps():
    with pytest.raises(ValueError, match="slices of step 1"):
        example().crop((slice(0, 4, 2), slice(None), slice(None)))


def test_an_array_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=re.escape("shape (2, 2, 2) does not fit the volume's (4, 5, 6)")):
        example().with_array(np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match=re.escape("must be [Z, Y, X], not of shape (2, 2)")):
        Volume(np.zeros((2, 2)), np.eye(4))


def test_importing_volumes_needs_no_simpleitk():
    code = "import sys; sys.modules['SimpleITK'] = None; import lnq.image.volume, lnq.anatomy.crop, lnq.pipeline"
    subprocess.run([sys.executable, "-c", code], check=True)
