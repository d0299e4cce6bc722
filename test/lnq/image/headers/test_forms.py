"""A mask gets the forms of its image's NIfTI header."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from helpers.volumes import example

from lnq.image.headers.forms import NiftiForms
from lnq.image.itk import read_volume, write_volume

# qform: 180 degrees about z, as LPS images have it; sform: another origin and code
AS_THEY_WERE = NiftiForms((1.0, 1.5, 2.0, 2.5), 2, (1, 4), (0.0, 0.0, 1.0, 5.0, 6.0, 7.0), (-1.5, 0, 0, 9.0) * 3)
PLACES = (("4f", 76), ("B", 123), ("2h", 252), ("6f", 256), ("12f", 280))


def forms_in(path: Path) -> NiftiForms:
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    pixdim, (units,), codes, turn, sform = (struct.unpack_from(f"<{kind}", data, place) for kind, place in PLACES)
    return NiftiForms(pixdim, units, codes, turn, sform)


def with_forms(path: Path, forms: NiftiForms) -> Path:
    """An image with other forms than it was written with."""
    write_volume(example(), path, compress=False)
    data = bytearray(path.read_bytes())
    values = (forms.pixdim, (forms.units,), forms.codes, forms.quaternion, forms.sform)
    for (kind, place), value in zip(PLACES, values, strict=True):
        struct.pack_into(f"<{kind}", data, place, *value)
    path.write_bytes(data)
    return path


SOUND = (-1.5, 0.0, 0.0, 9.0, 0.0, -2.0, 0.0, 6.0, 0.0, 0.0, 2.5, 7.0)
SHEARED = (-1.5, 0.5, 0.0, 9.0, 0.0, -2.0, 0.0, 6.0, 0.0, 0.0, 2.5, 7.0)


@pytest.mark.parametrize("name", ["mask.nii", "mask.nii.gz"])
@pytest.mark.parametrize(("codes", "sform"), [((1, 4), SOUND), ((0, 0), SOUND), ((1, 1), SHEARED), ((0, 2), SOUND)])
def test_a_mask_has_both_forms_of_its_image(tmp_path, name, codes, sform):
    forms = NiftiForms(AS_THEY_WERE.pixdim, 2, codes, AS_THEY_WERE.quaternion, sform)
    image = read_volume(with_forms(tmp_path / "ct.nii", forms))
    mask = (image.array > np.median(image.array)).astype(np.uint8)
    write_volume(image.with_array(mask), tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["ct.nii", name])
    assert forms_in(tmp_path / name) == forms
    again = read_volume(tmp_path / name)
    np.testing.assert_array_equal(again.array, mask)
    np.testing.assert_array_equal(again.affine, image.affine)


def test_other_formats_and_other_geometries_know_no_forms(tmp_path):
    image = read_volume(
        with_forms(tmp_path / "ct.nii", NiftiForms(AS_THEY_WERE.pixdim, 2, (1, 0), (0, 0, 1, 5, 6, 7), SOUND))
    )
    write_volume(image, tmp_path / "ct.mha")
    np.testing.assert_allclose(read_volume(tmp_path / "ct.mha").affine, image.affine, atol=1e-6)
    assert image.crop(np.s_[1:, 1:, 1:]).forms is None


@pytest.mark.parametrize(("units", "millimetre"), [(0, 1.0), (1, 0.001), (2, 1.0), (3, 1000.0), (10, 1.0)])
def test_lengths_are_in_the_header_s_unit(tmp_path, units, millimetre):
    pixdim = (1.0, *(s * millimetre for s in (1.5, 2.0, 2.5)))
    turn = (0.0, 0.0, 1.0, *(v * millimetre for v in (5.0, 6.0, 7.0)))
    image = read_volume(with_forms(tmp_path / "ct.nii", NiftiForms(pixdim, units, (1, 0), turn, SOUND)))
    np.testing.assert_allclose(image.spacing_mm, (2.5, 2.0, 1.5), rtol=1e-6)
    np.testing.assert_allclose(image.affine[:3, 3], (-5.0, -6.0, 7.0), rtol=1e-6)
