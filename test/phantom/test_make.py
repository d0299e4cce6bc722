import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from lnq.anatomy.crop import find_crop
from lnq.inference.spec import CropSpec
from phantom import make_phantom
from phantom.stations import STATIONS

SMALL = {"spacing_mm": (8.0, 4.0, 4.0), "size": (34, 96, 96)}


@pytest.fixture(scope="module")
def small():
    return make_phantom(7, **SMALL)


def test_same_seed_gives_the_same_phantom(small):
    again = make_phantom(7, **SMALL)
    for name in ("ct", "nodes", "partial"):
        np.testing.assert_array_equal(getattr(small, name).array, getattr(again, name).array)
    assert small.info == again.info


@pytest.mark.slow
def test_other_seeds_give_other_phantoms(small):
    other = make_phantom(8, **SMALL)
    assert np.mean(small.ct.array != other.ct.array) > 0.5
    assert small.info.nodes != other.info.nodes


def test_size_and_spacing_are_as_asked(small):
    assert small.ct.shape == small.nodes.shape == small.partial.shape == (34, 96, 96)
    assert small.ct.spacing_mm == pytest.approx((8.0, 4.0, 4.0))
    np.testing.assert_array_equal(small.ct.affine, small.nodes.affine)
    assert (small.ct.array.dtype, small.nodes.array.dtype, small.partial.array.dtype) == (np.int16, np.uint16, np.uint8)


def test_drawn_grid_covers_a_chest():
    phantom = make_phantom(9, size=64)
    assert phantom.ct.shape[1:] == (64, 64)
    extent = np.array(phantom.ct.shape) * phantom.ct.spacing_mm
    assert 200 < extent[0] < 400 and 310 < extent[1] < 480
    assert 1.0 <= phantom.ct.spacing_mm[0] <= 5.0


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="phase must be one of"):
        make_phantom(1, phase="late", **SMALL)
    with pytest.raises(ValueError, match="spacing_mm must be positive"):
        make_phantom(1, spacing_mm=(3.0, 0.0, 1.0), size=32)


def test_tissues_have_their_hu(plain):
    image = plain.ct.array.astype(np.float32)
    smooth = ndimage.gaussian_filter(image, (0, 1, 1))

    def median(low, high):
        core = ndimage.binary_erosion((smooth > low) & (smooth < high), np.ones((1, 5, 5)))
        return np.median(image[core])

    assert -950 < median(-980, -700) < -820  # lung
    assert -118 < median(-150, -50) < -90  # fat
    assert 35 < median(15, 95) < 65  # muscle, blood and organs without contrast
    assert (image > 250).mean() > 0.002  # bone


def test_blood_is_bright_with_contrast_only(plain, venous):
    for phantom, low, high in ((plain, 30, 60), (venous, 120, 260)):
        # the descending aorta: 30 mm left of and 33 mm behind the carina, 40 mm below it
        inverse = np.linalg.inv(phantom.ct.affine)
        z, y, x = np.rint(inverse @ [30, 33, -40, 1])[:3].astype(int)
        around = ndimage.median_filter(phantom.ct.array[z, y - 12 : y + 13, x - 12 : x + 13].astype(float), 5)
        assert ((around > low) & (around < high)).sum() > 40


def test_nodes_are_counted_described_and_soft(venous):
    records, labels = venous.info.nodes, venous.nodes.array
    assert 5 <= len(records) <= 25
    assert [r.label for r in records] == list(range(1, len(records) + 1)) == sorted(np.unique(labels)[1:].tolist())
    sizes = [r.short_axis_mm for r in records]
    assert min(sizes) >= 3.0 and 8.0 <= max(sizes) <= 20.0
    assert {r.station for r in records} <= set(STATIONS)
    for r in records:
        mask = labels == r.label
        assert mask.sum() * venous.ct.voxel_volume_mm3 == pytest.approx(r.volume_mm3)
        points = (venous.nodes.affine @ np.c_[np.argwhere(mask), np.ones(mask.sum())].T)[:3].T
        assert np.linalg.norm(points.mean(0) - r.centre_mm) < 0.5 * r.short_axis_mm + 2.5
    hu = ndimage.gaussian_filter(venous.ct.array.astype(float), (0, 0.6, 0.6))[labels > 0]
    assert 40 < np.median(hu) < 110


def test_volumes_agree_with_the_short_axes(venous):
    for r in venous.info.nodes:
        if r.short_axis_mm > 8:
            sphere = np.pi / 6 * r.short_axis_mm**3
            assert 0.6 * sphere < r.volume_mm3 < 6 * sphere


def test_every_node_lies_in_the_mediastinal_region(venous, plain):
    for phantom in (venous, plain):
        crop = find_crop(phantom.ct, CropSpec())
        assert crop.lungs_found == 2
        nodes = phantom.nodes.array > 0
        inside = nodes[crop.box] & crop.region
        assert inside.sum() >= 0.98 * nodes.sum()


def test_partial_annotation_holds_whole_nodes(venous, plain):
    for phantom in (venous, plain):
        annotated = [r.label for r in phantom.info.nodes if r.annotated]
        assert 1 <= len(annotated) < len(phantom.info.nodes)
        np.testing.assert_array_equal(phantom.partial.array, np.isin(phantom.nodes.array, annotated))


def test_phantoms_need_neither_simpleitk_nor_torch():
    code = "import sys, phantom; sys.exit(any(m in sys.modules for m in ('SimpleITK', 'torch', 'openvino')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
