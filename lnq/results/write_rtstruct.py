"""Write the nodes of a DICOM series as an RT Structure Set, with one region of interest per node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, ImplicitVRLittleEndian, RTStructureSetStorage
from scipy import ndimage

from lnq.dicom.header import SliceFile
from lnq.image.volume import Volume
from lnq.nodes.measure import Node
from lnq.results.dicom_common import (
    ARTIFICIAL_INTELLIGENCE,
    COLOUR_RGB,
    LYMPH_NODE,
    Maker,
    Origin,
    complete,
    origin_of,
    save,
)
from lnq.results.dicom_reference import plane_of
from lnq.results.outlines import outlines

_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management: retired, but the standard still asks for it
_DECIMALS = 4  # of the contours' coordinates in mm


def write_rtstruct(
    path: Path, labels: Volume, nodes: Sequence[Node], slices: Sequence[SliceFile], maker: Maker
) -> None:
    """Write closed planar contours of each node in each slice. Without nodes, write one region without contours.

    A node's voxels are those whose centres lie within its contours. A channel of no width, the standard's keyhole,
    joins a hole to the outside. All contours can therefore have the type CLOSED_PLANAR, which every reader knows.
    Arguments and errors are those of `lnq.results.write_seg.write_seg`. The same arguments give the same bytes.
    """
    origin = origin_of(labels, nodes, slices, maker)
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian  # explicit VRs limit coordinates to 64 KiB
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = origin.instance_uid("RTSTRUCT")
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    complete(dataset, origin, "RTSTRUCT")
    dataset.OperatorsName = ""
    dataset.StructureSetLabel = "LYMPH_NODES"
    dataset.StructureSetDate, dataset.StructureSetTime = origin.source.date, origin.source.time
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.FrameOfReferenceUID = origin.source.slices[0].FrameOfReferenceUID
    dataset.PositionReferenceIndicator = ""
    dataset.ReferencedFrameOfReferenceSequence = [_referenced_frame(origin)]
    names = {node.number: origin.track(node.number).identifier for node in nodes} or {1: "No lymph node"}
    dataset.StructureSetROISequence = [_region(number, name, origin) for number, name in names.items()]
    for region, node in zip(dataset.StructureSetROISequence, nodes, strict=False):
        region.ROIVolume = f"{node.volume_mm3 / 1000:.4f}"  # cm3
    boxes = ndimage.find_objects(labels.array, len(names))
    dataset.ROIContourSequence = [_contours(number, labels.array, boxes[number - 1], origin) for number in names]
    dataset.RTROIObservationsSequence = [_observation(number) for number in names]
    save(dataset, path)


def _referenced_frame(origin: Origin) -> pydicom.Dataset:
    first = origin.source.slices[0]
    series = pydicom.Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ContourImageSequence = [_reference(header) for header in origin.source.objects]
    study = pydicom.Dataset()
    study.ReferencedSOPClassUID = _STUDY_CLASS
    study.ReferencedSOPInstanceUID = first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = pydicom.Dataset()
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _reference(header: pydicom.Dataset) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return item


def _region(number: int, name: str, origin: Origin) -> pydicom.Dataset:
    maker = origin.maker
    algorithm = pydicom.Dataset()
    algorithm.AlgorithmFamilyCodeSequence = [_coded(ARTIFICIAL_INTELLIGENCE)]
    algorithm.AlgorithmName = maker.name
    algorithm.AlgorithmVersion = maker.version
    algorithm.AlgorithmParameters = f"weights_sha256={maker.weights_sha256}"
    region = pydicom.Dataset()
    region.ROINumber = number
    region.ReferencedFrameOfReferenceUID = origin.source.slices[0].FrameOfReferenceUID
    region.ROIName = name
    region.ROIGenerationAlgorithm = "AUTOMATIC"
    region.ROIDerivationAlgorithmIdentificationSequence = [algorithm]
    return region


def _contours(
    number: int, labels: np.ndarray, box: tuple[slice, slice, slice] | None, origin: Origin
) -> pydicom.Dataset:
    """The contours of a region: around the voxels within `box` that hold its number. Without a box it has none."""
    contours = pydicom.Dataset()
    contours.ROIDisplayColor = list(COLOUR_RGB)
    contours.ReferencedROINumber = number
    if box is None:
        return contours
    items: list[pydicom.Dataset] = []
    first = np.array([box[1].start, box[2].start])
    for z in range(box[0].start, box[0].stop):
        plane = plane_of(origin.source.slices[z])
        for polygon in outlines(labels[z][box[1:]] == number):
            pixels = np.column_stack([polygon + first, np.ones(len(polygon))])
            items.append(_contour(len(items) + 1, pixels @ plane.T, z, origin))
    contours.ContourSequence = items
    return contours


def _contour(number: int, points_lps_mm: np.ndarray, z: int, origin: Origin) -> pydicom.Dataset:
    """One contour with the points `points_lps_mm`, [points, 3], in slice `z`."""
    image = pydicom.Dataset()
    origin.source.point_to(z, image)
    contour = pydicom.Dataset()
    contour.ContourNumber = number
    contour.ContourImageSequence = [image]
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(points_lps_mm)
    contour.ContourData = [f"{value:.{_DECIMALS}f}" for value in points_lps_mm.ravel()]
    return contour


def _observation(number: int) -> pydicom.Dataset:
    observation = pydicom.Dataset()
    observation.ObservationNumber = number
    observation.ReferencedROINumber = number
    observation.RTROIIdentificationCodeSequence = [_coded(LYMPH_NODE)]
    observation.RTROIInterpretedType = ""
    observation.ROIInterpreter = ""
    return observation


def _coded(code: Code) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
