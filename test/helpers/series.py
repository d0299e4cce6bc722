"""Series of CT slices for tests of headers alone."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset

from lnq.dicom.header import kind_of
from lnq.dicom.series import Series

AXIAL = [1, 0, 0, 0, 1, 0]
CORONAL = [1, 0, 0, 0, 0, -1]


def series(uid: str, slices: int = 100, distance_mm: float = 3.0, **tags: object) -> Series:
    """A series of study 1 with slices along the patient's long axis."""
    header = Dataset()
    for name, value in ({"Modality": "CT", "ImageOrientationPatient": AXIAL} | tags).items():
        setattr(header, name, value)
    positions = [(0.0, 0.0, z * distance_mm) for z in range(slices)]
    places = [f"{z}.dcm" for z in range(slices)]
    return Series(uid, "1", Path("/study"), header, places=places, positions_mm=positions, kind=kind_of(header))
