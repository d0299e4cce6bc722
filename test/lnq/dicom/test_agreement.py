"""What the network gets agrees with a reader of its own, pydicom and numpy alone: HU and place of each voxel."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from helpers.dicom_slices import slice_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from lnq.dicom.read import read_dicom_files

SHAPE = (5, 4, 6)
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)


def rotation(turns: tuple[float, float, float]) -> np.ndarray:
    """Columns x, y, z of a frame that is turned about each axis (radians)."""
    result = np.eye(3)
    for axis, angle in enumerate(turns):
        turn = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        turn[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        result = turn @ result
    return result


@settings(max_examples=60, deadline=None)
@given(
    turns=st.tuples(*[st.floats(-np.pi, np.pi)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 5.0)] * 3),
    slope=st.sampled_from([1, 2, 0.5]),
    intercept=st.sampled_from([0, -1024, -1000.4]),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    signed=st.booleans(),
    downwards=st.booleans(),
    syntax=st.sampled_from(SYNTAXES),
    order=st.permutations(range(SHAPE[0])),
)
def test_hu_and_places_agree(turns, spacing, slope, intercept, photometric, signed, downwards, syntax, order) -> None:
    axes, (row_mm, column_mm, slice_mm) = rotation(turns), spacing
    stored = np.random.default_rng(1).integers(-1000 if signed else 0, 3000, SHAPE)
    origin, step = np.array([-20.0, 30.0, -400.0]), axes[:, 2] * slice_mm * (-1 if downwards else 1)
    wanted: dict[tuple[float, ...], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for z in order:
            position = origin + z * step
            tags = {
                "ImageOrientationPatient": [f"{v:.12f}" for v in (*axes[:, 0], *axes[:, 1])],
                "PixelSpacing": [f"{row_mm:.10f}", f"{column_mm:.10f}"],
                "PhotometricInterpretation": photometric,
                "PixelRepresentation": int(signed),
                "RescaleSlope": slope,
                "RescaleIntercept": intercept,
                "PixelData": stored[z].astype("<i2").tobytes(),
            }
            dataset = slice_dataset(stored[z], position, **tags)
            dataset.file_meta.TransferSyntaxUID = syntax
            paths.append(Path(folder) / f"{order.index(z)}.dcm")
            dataset.save_as(paths[-1], enforce_file_format=True)
            for (y, x), value in np.ndenumerate(stored[z]):
                place = position + axes[:, 0] * column_mm * x + axes[:, 1] * row_mm * y
                wanted[tuple(np.round(place, 2))] = round(value * slope + intercept)
        volume = read_dicom_files(paths, "it").volume
    assert volume.array.shape == SHAPE
    places = np.array(list(wanted))
    index = np.linalg.solve(volume.affine, np.c_[places, np.ones(len(places))].T)[:3]
    nearest = np.rint(index).astype(int)
    offset_mm = volume.affine[:3, :3] @ (index - nearest)
    assert np.abs(offset_mm).max() < 0.01
    np.testing.assert_allclose(volume.array[tuple(nearest)], list(wanted.values()), atol=0.5)
