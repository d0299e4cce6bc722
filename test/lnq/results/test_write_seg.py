"""SEG objects are read back with pydicom, highdicom and dcmqi, none of which wrote the frames' places by our code."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from lnq.image.itk import read_volume
from lnq.image.volume import Volume
from lnq.results.write_seg import write_seg


@pytest.fixture
def dcmqi_program() -> Path:
    dcmqi = pytest.importorskip("dcmqi", reason="dcmqi is not installed: pip install -r requirements-dev.txt")
    return Path(dcmqi.__file__).parent / "bin" / "segimage2itkimage"


def on_grid(segment: Volume, grid: Volume) -> np.ndarray:
    """The voxels of `grid` whose centres are those of a segment's marked voxels; each must be one's."""
    index = np.argwhere(segment.array > 0)
    found = np.linalg.inv(grid.affine) @ segment.affine @ np.column_stack([index, np.ones(len(index))]).T
    assert not len(index) or np.abs(found - np.rint(found)).max() < 1e-3
    mask = np.zeros(grid.shape, bool)
    mask[tuple(np.rint(found[:3]).astype(int))] = True
    assert mask.sum() == len(index)
    return mask


def by_pydicom(path: Path, grid: Volume) -> np.ndarray:
    """Numbers on `grid`, from each frame's own position and segment."""
    seg = pydicom.dcmread(path)
    shared = seg.SharedFunctionalGroupsSequence[0]
    row, column = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = shared.PixelMeasuresSequence[0].PixelSpacing
    numbers = np.zeros(grid.shape, np.int16)
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        affine = np.eye(4)
        affine[:3, :3] = np.column_stack([np.cross(row, column), column * between_rows, row * between_columns])
        affine[:3, 3] = frame.PlanePositionSequence[0].ImagePositionPatient
        identification = frame.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
        numbers[on_grid(Volume(pixels[None], affine), grid)] = identification[0].ReferencedSegmentNumber
    return numbers


def test_pydicom_reads_each_nodes_voxels(make_series, orientation, tmp_path):
    series = make_series(orientation)
    path = series.write(write_seg, tmp_path / "seg.dcm")
    np.testing.assert_array_equal(by_pydicom(path, series.labels), series.labels.array)


def test_highdicom_reads_each_nodes_voxels_slice_by_slice(make_series, orientation, tmp_path):
    series = make_series(orientation)
    seg = highdicom.seg.segread(series.write(write_seg, tmp_path / "seg.dcm"))
    sources = [pydicom.dcmread(path).SOPInstanceUID for path in series.slices]
    numbers = seg.get_pixels_by_source_instance(sources, combine_segments=True, assert_missing_frames_are_empty=True)
    np.testing.assert_array_equal(numbers, series.labels.array)


def test_dcmqi_reads_each_nodes_voxels(make_series, orientation, tmp_path, dcmqi_program):
    series = make_series(orientation)
    path = series.write(write_seg, tmp_path / "seg.dcm")
    arguments = ["--inputDICOM", path, "--outputDirectory", tmp_path, "-p", "node", "-t", "nrrd"]
    subprocess.run([dcmqi_program, *arguments], check=True, capture_output=True)
    for number in (1, 2):
        mask = on_grid(read_volume(tmp_path / f"node-{number}.nrrd"), series.labels)
        np.testing.assert_array_equal(mask, series.labels.array == number)
    told = json.loads((tmp_path / "node-meta.json").read_text())["segmentAttributes"]
    assert [(s[0]["SegmentLabel"], s[0]["SegmentAlgorithmType"]) for s in told] == [
        ("Lymph node 1", "AUTOMATIC"),
        ("Lymph node 2", "AUTOMATIC"),
    ]


def test_slices_without_node_have_no_frame(series, tmp_path):
    seg = pydicom.dcmread(series.write(write_seg, tmp_path / "seg.dcm"))
    assert seg.NumberOfFrames == 3
    assert seg.SegmentationType == "BINARY"


def test_one_node_alone_is_written(series, tmp_path):
    array = np.where(series.labels.array == 1, np.int16(1), np.int16(0))
    labels = series.labels.with_array(array)
    path = series.write(write_seg, tmp_path / "seg.dcm", labels=labels, nodes=series.nodes[:1])
    np.testing.assert_array_equal(by_pydicom(path, labels), array)


def test_no_node_is_one_segment_of_empty_frames_on_all_slices(series, tmp_path, capfd):
    seg = pydicom.dcmread(series.without_nodes().write(write_seg, tmp_path / "seg.dcm"))
    assert (seg.NumberOfFrames, seg.pixel_array.any()) == (7, False)
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["No lymph node"]
    assert seg.ContentDescription == "No mediastinal lymph node was found"
    assert "TrackingUID" not in seg.SegmentSequence[0]
    assert capfd.readouterr() == ("", "")


def test_dcmqi_reads_no_node(series, tmp_path, dcmqi_program):
    path = series.without_nodes().write(write_seg, tmp_path / "seg.dcm")
    arguments = ["--inputDICOM", path, "--outputDirectory", tmp_path, "-p", "node", "-t", "nrrd"]
    subprocess.run([dcmqi_program, *arguments], check=True, capture_output=True)
    empty = read_volume(tmp_path / "node-1.nrrd")
    assert empty.shape == series.labels.shape and not empty.array.any()


def test_segments_are_coded_as_mediastinal_lymph_nodes_of_an_algorithm(series, tmp_path):
    seg = highdicom.seg.segread(series.write(write_seg, tmp_path / "seg.dcm"))
    for number in (1, 2):
        segment = seg.get_segment_description(number)
        category, kind = segment.segmented_property_category, segment.segmented_property_type
        assert (category.value, category.scheme_designator, category.meaning) == ("85756007", "SCT", "Tissue")
        assert (kind.value, kind.scheme_designator, kind.meaning) == ("59441001", "SCT", "Lymph node")
        assert [(region.value, region.meaning) for region in segment.anatomic_regions] == [("72410000", "Mediastinum")]
        algorithm = segment.algorithm_identification
        assert (algorithm.name, algorithm.version) == ("lnq", "0.1.0")
        assert algorithm.parameters == {"weights_sha256": "0123456789abcdef" * 4}
        assert segment.tracking_id == f"Lymph node {number}"
    assert len({segment.TrackingUID for segment in seg.SegmentSequence}) == 2


def test_all_slices_are_referred_to(series, tmp_path):
    seg = pydicom.dcmread(series.write(write_seg, tmp_path / "seg.dcm"))
    (referred,) = seg.ReferencedSeriesSequence
    sources = [pydicom.dcmread(path) for path in series.slices]
    assert referred.SeriesInstanceUID == sources[0].SeriesInstanceUID
    uids = [item.ReferencedSOPInstanceUID for item in referred.ReferencedInstanceSequence]
    assert uids == [source.SOPInstanceUID for source in sources]
    assert seg.FrameOfReferenceUID == sources[0].FrameOfReferenceUID


def test_distance_of_the_slices_is_the_labels_whatever_the_headers_say(make_series, tmp_path):
    series = make_series(SpacingBetweenSlices=9, SliceThickness=5)
    seg = pydicom.dcmread(series.write(write_seg, tmp_path / "seg.dcm"))
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (measures.SpacingBetweenSlices, measures.SliceThickness, measures.PixelSpacing) == (2.5, 5, [0.75, 0.5])
