"""Contours are filled again with matplotlib's polygons, in the pixels of the slices that they refer to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from helpers.contours import filled

from lnq.results.write_rtstruct import write_rtstruct


def rasterised(path: Path, slices: list[Path]) -> np.ndarray:
    """Each pixel's ROI number, int16 [Z, Y, X]; no pixel may lie in two contours."""
    headers = [pydicom.dcmread(file) for file in slices]
    place = {header.SOPInstanceUID: z for z, header in enumerate(headers)}
    numbers = np.zeros((len(slices), headers[0].Rows, headers[0].Columns), np.int16)
    for roi in pydicom.dcmread(path).ROIContourSequence:
        for contour in roi.get("ContourSequence", ()):
            z = place[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            inside = filled(contour, headers[z], numbers.shape[1:])
            assert not numbers[z][inside].any()
            numbers[z][inside] = roi.ReferencedROINumber
    return numbers


def test_contours_filled_give_each_nodes_voxels(make_series, orientation, tmp_path):
    series = make_series(orientation)
    path = series.write(write_rtstruct, tmp_path / "rtstruct.dcm")
    np.testing.assert_array_equal(rasterised(path, series.slices), series.labels.array)


def test_contour_runs_half_a_voxel_outside_the_outer_centres(series, tmp_path):
    """In millimetres of the patient: node 2 is two columns wide, from voxel (6, 11) to the slice's corner."""
    dataset = pydicom.dcmread(series.write(write_rtstruct, tmp_path / "rtstruct.dcm"))
    (contour,) = dataset.ROIContourSequence[1].ContourSequence
    points = np.array(contour.ContourData, float).reshape(-1, 3)
    first, last = (series.labels.affine[:3] @ [5, row, column, 1] for row, column in ((5.5, 10.5), (8.5, 12.5)))
    np.testing.assert_allclose(points.min(axis=0), first, atol=1e-4)
    np.testing.assert_allclose(points.max(axis=0), last, atol=1e-4)


def test_regions_are_named_numbered_and_of_an_algorithm(series, tmp_path):
    dataset = pydicom.dcmread(series.write(write_rtstruct, tmp_path / "rtstruct.dcm"))
    regions = dataset.StructureSetROISequence
    assert [(roi.ROINumber, roi.ROIName) for roi in regions] == [(1, "Lymph node 1"), (2, "Lymph node 2")]
    assert [float(roi.ROIVolume) for roi in regions] == [0.7125, 0.0563]  # cm3
    for roi in regions:
        assert roi.ROIGenerationAlgorithm == "AUTOMATIC"
        (algorithm,) = roi.ROIDerivationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("lnq", "0.1.0")
        assert algorithm.AlgorithmParameters == "weights_sha256=" + "0123456789abcdef" * 4
    for observation in dataset.RTROIObservationsSequence:
        assert observation.RTROIIdentificationCodeSequence[0].CodeValue == "59441001"
    assert dataset.ApprovalStatus == "UNAPPROVED"


def test_all_slices_are_referred_to(series, tmp_path):
    dataset = pydicom.dcmread(series.write(write_rtstruct, tmp_path / "rtstruct.dcm"))
    sources = [pydicom.dcmread(path) for path in series.slices]
    (frame,) = dataset.ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    (referred,) = study.RTReferencedSeriesSequence
    assert frame.FrameOfReferenceUID == sources[0].FrameOfReferenceUID
    assert study.ReferencedSOPInstanceUID == sources[0].StudyInstanceUID
    assert referred.SeriesInstanceUID == sources[0].SeriesInstanceUID
    uids = [item.ReferencedSOPInstanceUID for item in referred.ContourImageSequence]
    assert uids == [source.SOPInstanceUID for source in sources]


def test_no_node_is_a_region_without_contours(series, tmp_path):
    dataset = pydicom.dcmread(series.without_nodes().write(write_rtstruct, tmp_path / "rtstruct.dcm"))
    assert [roi.ROIName for roi in dataset.StructureSetROISequence] == ["No lymph node"]
    assert "ContourSequence" not in dataset.ROIContourSequence[0]


def test_outline_of_any_length_is_written_whole(make_series, tmp_path):
    """Explicit transfer syntaxes hold 64 KiB a value, which a node full of holes exceeds."""
    array = np.ones((2, 80, 90), np.int16)
    array[:, 1:-1, 1:-1] = np.random.default_rng(0).random((2, 78, 88)) < 0.8
    series = make_series(numbers=array)
    path = series.write(write_rtstruct, tmp_path / "rtstruct.dcm", nodes=series.nodes[:1])
    np.testing.assert_array_equal(rasterised(path, series.slices), array)
    assert max(len(str(c["ContourData"].value)) for c in contours(path)) > 2**16


def contours(path: Path) -> list[pydicom.Dataset]:
    return [contour for roi in pydicom.dcmread(path).ROIContourSequence for contour in roi.ContourSequence]
