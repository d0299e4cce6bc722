"""DICOM SEG objects as The Cancer Imaging Archive distributes them, made with highdicom."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
from highdicom.sr.coding import CodedConcept
from pydicom.uid import generate_uid

NODE = CodedConcept("59441001", "SCT", "Lymph node")
PARTIAL, FULL = "Lymph Node Segmentation - Partially Annotated", "Lymph Node Segmentation - Fully Annotated"


def write_seg(
    series: Path,
    mask: np.ndarray,
    path: Path,
    description: str = PARTIAL,
    frames: str | list[int] = "all",
    kind: str = "BINARY",
) -> Path:
    """Write a SEG object of `mask` [Z, Y, X]: all slices, those "with node", or these alone, in ascending order."""
    slices = [pydicom.dcmread(file) for file in series.iterdir()]
    along = np.cross(*np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3))
    slices.sort(key=lambda s: np.array(s.ImagePositionPatient, float) @ along)
    used = list(range(len(slices))) if isinstance(frames, str) else frames
    segment = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="Node",
        segmented_property_category=NODE,
        segmented_property_type=NODE,
        algorithm_type="MANUAL",
    )
    seg = highdicom.seg.Segmentation(
        source_images=[slices[z] for z in used],
        pixel_array=mask[used].astype(np.float32 if kind == "FRACTIONAL" else np.uint8),
        segmentation_type=kind,
        segment_descriptions=[segment],
        series_instance_uid=generate_uid(),
        series_number=300,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        series_description=description,
        omit_empty_frames=frames == "with node",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    seg.save_as(path)
    return path
