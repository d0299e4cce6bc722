"""CT slices in memory and on disk for tests of odd DICOM files, and a reader of its own to compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid


def slice_dataset(stored: np.ndarray, position: Sequence[float], **tags: object) -> Dataset:
    """An axial CT slice of 2 x 1 mm pixels with 16 allocated and stored bits. Tags of None are left out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    elements: dict[str, object] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.4",
        "PatientID": "P1",
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Rows": stored.shape[-2],
        "Columns": stored.shape[-1],
        "PixelSpacing": [2, 1],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [f"{v:.6f}" for v in position],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "PixelData": stored.astype("<u2").tobytes(),
    }
    for name, value in (elements | tags).items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def write_slices(
    folder: Path,
    stored: np.ndarray,
    positions: Sequence[Sequence[float]],
    edit: Callable[[Dataset, int], None] | None = None,
) -> list[Path]:
    """Write stored values [n, rows, columns] as one file per slice. `edit` changes a slice by its number."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (image, position) in enumerate(zip(stored, positions, strict=True)):
        dataset = slice_dataset(image, position, InstanceNumber=number + 1)
        if edit is not None:
            edit(dataset, number)
        paths.append(folder / f"{number:04}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def upwards(count: int, distance_mm: float = 3.0) -> list[tuple[float, float, float]]:
    """Positions of slices above each other."""
    return [(0.0, 0.0, z * distance_mm) for z in range(count)]


def enhanced(stored: np.ndarray, order: Sequence[int], distance_mm: float = 3.0) -> Dataset:
    """An Enhanced CT object whose frames are stored in `order`. Its functional groups alone tell where they lie."""

    def group(**sequences: dict[str, object]) -> Dataset:
        outer = Dataset()
        for name, elements in sequences.items():
            item = Dataset()
            for tag, value in elements.items():
                setattr(item, tag, value)
            setattr(outer, name, [item])
        return outer

    missing = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"))
    dataset = slice_dataset(stored[list(order)], (0, 0, 0), SOPClassUID=EnhancedCTImageStorage, **missing)
    del dataset.RescaleIntercept
    dataset.NumberOfFrames = len(order)
    dataset.SharedFunctionalGroupsSequence = [
        group(
            PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
            PixelMeasuresSequence={"PixelSpacing": [2, 1], "SliceThickness": 3},
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        group(
            PlanePositionSequence={"ImagePositionPatient": [0, 0, z * distance_mm]},
            PixelValueTransformationSequence={"RescaleSlope": 2, "RescaleIntercept": -1000 - z, "RescaleType": "HU"},
        )
        for z in order
    ]
    return dataset


def independent_hu(paths: Sequence[Path]) -> dict[tuple[float, ...], np.ndarray]:
    """HU of each slice by its position, with pydicom and numpy alone: slope x stored value + intercept."""
    found = {}
    for path in paths:
        dataset = pydicom.dcmread(path, force=True)
        kind = f"{'<>'[dataset.original_encoding[1] is False]}{'ui'[dataset.PixelRepresentation]}2"
        stored = np.frombuffer(dataset.PixelData, kind).reshape(dataset.Rows, dataset.Columns).astype(int)
        hu = stored * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
        found[tuple(map(float, dataset.ImagePositionPatient))] = hu
    return found
