"""Results of a tilted and of a multi-frame series lie where the mask does, for every reader."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from helpers.contours import filled
from helpers.dicom_slices import enhanced, write_slices

from lnq.dicom.header import SliceFile
from lnq.dicom.read import CtSeries, read_dicom_files
from lnq.image.itk import read_volume
from lnq.image.volume import Volume
from lnq.nodes.measure import Node
from lnq.results.dicom_common import Maker
from lnq.results.write_rtstruct import write_rtstruct
from lnq.results.write_seg import write_seg
from lnq.results.write_sr import write_sr

WRITERS = {"SEG": write_seg, "SR": write_sr, "RTSTRUCT": write_rtstruct}
MAKER = Maker("lnq", "0.1.0", "0123456789abcdef" * 4)
NODE = Node(1, 700.0, 10.0, 15.0, 16.0, "10 to 15 mm", 41.0, 0.9, (10.0, 20.0, 10.0), None, None)
SHAPE = (12, 24, 20)
STUDY = {
    "PatientName": "Doe^Jane", "PatientID": "LNQ-001", "PatientBirthDate": "19500203", "PatientSex": "F",
    "AccessionNumber": "A1", "StudyID": "7", "StudyDate": "20230101", "StudyTime": "101112",
    "ReferringPhysicianName": "Roe^Richard", "FrameOfReferenceUID": "1.2.8", "SliceThickness": 3,
}  # fmt: skip


def of_study(dataset: pydicom.Dataset, _number: int = 0) -> None:
    for tag, value in STUDY.items():
        setattr(dataset, tag, value)


def tilted(folder: Path) -> list[Path]:
    """Slices of a gantry that leans by 20 degrees: their columns point downwards too, and they climb straight up."""
    angle = np.radians(20)

    def lean(dataset: pydicom.Dataset, number: int) -> None:
        of_study(dataset)
        dataset.ImageOrientationPatient = [1, 0, 0, 0, f"{np.cos(angle):.8f}", f"{-np.sin(angle):.8f}"]

    stored = np.random.default_rng(0).integers(900, 1100, SHAPE)
    return write_slices(folder, stored, [(5.0, 6.0, 7.0 + 3 * z) for z in range(SHAPE[0])], lean)


def multi_frame(folder: Path) -> list[Path]:
    """One object whose frames are stored in no order."""
    order = np.random.default_rng(1).permutation(SHAPE[0])
    dataset = enhanced(np.random.default_rng(0).integers(900, 1100, SHAPE), list(map(int, order)))
    of_study(dataset)
    folder.mkdir()
    dataset.save_as(folder / "frames.dcm", enforce_file_format=True)
    return [folder / "frames.dcm"]


KINDS: dict[str, Callable[[Path], list[Path]]] = {"tilted": tilted, "multi-frame": multi_frame}


@pytest.fixture(params=KINDS)
def read(request, tmp_path) -> CtSeries:
    return read_dicom_files(KINDS[request.param](tmp_path / "ct"), "ct")


def node_in(series: CtSeries) -> Volume:
    """A ball in the middle of the grid, whose half towards the feet and the left is cut off."""
    volume = series.volume
    centre = (volume.affine @ [*(np.array(volume.shape) / 2), 1])[:3]
    places = np.moveaxis(np.indices(volume.shape), 0, -1) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    ball = np.linalg.norm(places - centre, axis=-1) < 8
    return volume.with_array(
        (ball & ~((places < np.add(centre, (3, 0, 9)))[..., [0, 2]].all(axis=-1))).astype(np.int16)
    )


def write(writer: Callable[..., None], series: CtSeries, path: Path) -> tuple[Path, tuple[SliceFile, ...]]:
    slices = tuple(one.file for one in series.stack.slices)
    writer(path, series.stack.on_slices(node_in(series)), (NODE,), slices, MAKER)
    return path, slices


def dice_at(places_lps_mm: np.ndarray, marked: np.ndarray, mask: Volume) -> float:
    """Dice of marked voxels with centres [n, 3] and the nearest voxels of a mask."""
    index = np.rint((np.linalg.inv(mask.affine) @ np.c_[places_lps_mm, np.ones(len(places_lps_mm))].T)[:3]).astype(int)
    inside = ((index >= 0) & (index < np.array(mask.shape)[:, None])).all(axis=0)
    own = np.zeros(len(inside), bool)
    own[inside] = mask.array[tuple(index[:, inside])] > 0
    return float(2 * (own & marked).sum() / (own.sum() + marked.sum()))


def centres(position: np.ndarray, cosines: np.ndarray, spacing: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Places [rows * columns, 3] of a frame's pixels."""
    rows, columns = (index.ravel()[:, None] for index in np.indices(shape))
    return position + rows * cosines[3:] * spacing[0] + columns * cosines[:3] * spacing[1]


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_dciodvfy_finds_no_error_in_results_of_odd_series(read, writer, tmp_path, problems_of):
    assert problems_of(write(writer, read, tmp_path / "object.dcm")[0]) == []


def test_frames_lie_where_the_mask_does(read, tmp_path):
    path, slices = write(write_seg, read, tmp_path / "seg.dcm")
    seg = highdicom.seg.segread(path)
    shared = seg.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    by_place = {tuple(map(float, one.header.ImagePositionPatient)): one for one in slices}
    places, marked = [], []
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        places.append(centres(position, cosines, spacing, pixels.shape))
        marked.append(pixels.ravel() > 0)
        one = by_place[tuple(position)]
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedSOPClassUID == one.header.SOPClassUID
        assert source.ReferencedSOPInstanceUID == one.header.SOPInstanceUID
        assert source.get("ReferencedFrameNumber", 1) == one.frame + 1
    assert dice_at(np.concatenate(places), np.concatenate(marked), node_in(read)) == 1
    (referenced,) = seg.ReferencedSeriesSequence
    assert {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence} == {
        one.header.SOPInstanceUID for one in slices
    }


def test_highdicom_finds_the_frames_by_their_sources(read, tmp_path):
    path, slices = write(write_seg, read, tmp_path / "seg.dcm")
    seg = highdicom.seg.segread(path)
    wanted = read.stack.on_slices(node_in(read)).array
    options = {"combine_segments": True, "assert_missing_frames_are_empty": True}
    if len({one.path for one in slices}) > 1:
        found = seg.get_pixels_by_source_instance([one.header.SOPInstanceUID for one in slices], **options)
    else:
        numbers = [one.frame + 1 for one in slices]
        found = seg.get_pixels_by_source_frame(slices[0].header.SOPInstanceUID, numbers, **options)
    np.testing.assert_array_equal(found, wanted)


def test_dcmqi_puts_the_node_where_the_mask_is(tmp_path):
    """Of a multi-frame series. dcmqi reads no frames that lie on tilted slices: its images are upright."""
    read = read_dicom_files(multi_frame(tmp_path / "ct"), "ct")
    dcmqi = pytest.importorskip("dcmqi", reason="dcmqi is not installed: pip install -r requirements-dev.txt")
    path, _ = write(write_seg, read, tmp_path / "seg.dcm")
    program = Path(dcmqi.__file__).parent / "bin" / "segimage2itkimage"
    arguments = ["--inputDICOM", path, "--outputDirectory", tmp_path, "-p", "node", "-t", "nrrd"]
    subprocess.run([program, *arguments], check=True, capture_output=True)
    found = read_volume(tmp_path / "node-1.nrrd")
    index = np.moveaxis(np.indices(found.shape), 0, -1).reshape(-1, 3)
    places = index @ found.affine[:3, :3].T + found.affine[:3, 3]
    assert dice_at(places, found.array.ravel() > 0, node_in(read)) >= 0.99


def test_contours_filled_give_the_node_on_the_slices(read, tmp_path):
    path, slices = write(write_rtstruct, read, tmp_path / "rt.dcm")
    places = {(one.header.SOPInstanceUID, one.frame + 1): z for z, one in enumerate(slices)}
    wanted = read.stack.on_slices(node_in(read)).array
    found = np.zeros_like(wanted)
    for contour in pydicom.dcmread(path).ROIContourSequence[0].ContourSequence:
        (image,) = contour.ContourImageSequence
        z = places[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber", 1)]
        found[z][filled(contour, slices[z].header, found.shape[1:])] = 1
    np.testing.assert_array_equal(found, wanted)


def test_the_report_names_each_object_once(read, tmp_path):
    path, slices = write(write_sr, read, tmp_path / "sr.dcm")
    report = pydicom.dcmread(path)
    named = [
        item.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for one in study.ReferencedSeriesSequence
        for item in one.ReferencedSOPSequence
    ]
    assert len(named) == len(set(named)) == len({one.path for one in slices}) + 1
