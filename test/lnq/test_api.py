"""`import lnq`: files, arrays and SimpleITK images give the same result, and what is no CT is refused."""

import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.paths import ROOT

import lnq
from lnq.image.itk import read_volume, to_sitk, write_volume


@pytest.fixture
def model(tiny_bundle) -> lnq.Model:
    return lnq.load_model(tiny_bundle, "cpu", threads=1)


def test_files_series_arrays_and_images_give_the_same(tmp_path, thorax, model, write_dicom):
    write_volume(thorax, tmp_path / "ct.nii.gz")
    cts = {
        "file": lnq.read_ct(tmp_path / "ct.nii.gz"),
        "text": lnq.read_ct(str(tmp_path / "ct.nii.gz")),
        "series": lnq.read_ct(write_dicom(thorax, tmp_path / "series")),
        "array": lnq.from_array(thorax.array, thorax.spacing_mm, thorax.affine[:3, 3], thorax.direction),
        "image": lnq.from_sitk(to_sitk(thorax)),
        "volume": thorax,
    }
    wanted = lnq.segment(thorax, model)
    assert wanted.mask.array.any()
    for name, ct in cts.items():
        np.testing.assert_allclose(ct.affine, thorax.affine, atol=1e-4, err_msg=name)
        found = lnq.segment(ct, model)
        np.testing.assert_array_equal(found.mask.array, wanted.mask.array, err_msg=name)
        assert [node.volume_mm3 for node in found.nodes] == pytest.approx([n.volume_mm3 for n in wanted.nodes])


def test_a_result_is_saved_as_mask_and_as_numbered_nodes(tmp_path, thorax, model):
    found = lnq.segment(thorax, model)
    found.save(tmp_path / "mask.mha")
    found.save(str(tmp_path / "nodes.nrrd"), labels=True)
    mask, labels = read_volume(tmp_path / "mask.mha"), read_volume(tmp_path / "nodes.nrrd")
    np.testing.assert_array_equal(mask.array, found.mask.array)
    np.testing.assert_array_equal(labels.array, found.labels.array)
    assert np.unique(labels.array).tolist() == list(range(len(found.nodes) + 1))
    np.testing.assert_array_equal(labels.array > 0, mask.array > 0)
    assert found.probability.shape == thorax.shape
    with pytest.raises(ValueError, match=r"A volume is written as one of .*, not as mask.png"):
        found.save(tmp_path / "mask.png")


def test_the_default_directions_are_head_back_and_left(thorax):
    ct = lnq.from_array(thorax.array, (5.0, 5.0, 5.0))
    np.testing.assert_array_equal(ct.affine @ [1, 2, 3, 1], [15, 10, 5, 1])  # L from x, P from y, S from z


def test_what_is_no_ct_is_refused(tmp_path, thorax, model):
    with pytest.raises(lnq.ImageError, match=r"^gone.mha: there is no such file$"):
        lnq.read_ct(tmp_path / "gone.mha")
    with pytest.raises(lnq.ImageError, match=r"^The image cannot be used: its voxels have 8 bits"):
        lnq.from_array(np.zeros((40, 40, 40), np.uint8), (5.0, 5.0, 5.0))
    with pytest.raises(lnq.ImageError, match=r"^The image cannot be used: it holds NaN"):
        lnq.segment(thorax.with_array(np.full(thorax.shape, np.nan)), model)
    with pytest.raises(lnq.ImageError, match=r"^The image cannot be used: its voxel spacing 0 x 5 x 5 mm"):
        lnq.from_array(thorax.array, (5.0, 5.0, 0.0))
    with pytest.raises(ValueError, match=r"^A CT must be a 3-D image with one number per voxel, not 2-D with 1$"):
        lnq.from_sitk(sitk.Image(40, 40, sitk.sitkInt16))
    with pytest.raises(lnq.BundleError, match=r"^No model bundle in .*: spec.json is missing$"):
        lnq.load_model(tmp_path)


def test_importing_it_brings_neither_torch_nor_what_reads_files():
    heavy = ("torch", "openvino", "SimpleITK", "pydicom", "pandas", "matplotlib", "training")
    code = f"import sys, lnq; print([name for name in {heavy!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
