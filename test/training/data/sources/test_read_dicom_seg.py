"""DICOM SEG objects are made with highdicom from small synthetic series."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.segmentations import FULL, PARTIAL, write_seg
from rich.console import Console

from lnq.errors import ImageError
from lnq.image.volume import Volume, make_affine
from training.config import TINY
from training.data.preparation import Preparation, prepare_cases
from training.data.prepared import PreparedCase, case_folders
from training.data.sources.read_dicom_seg import find_dicom_cases, read_segmentation
from training.data.splits import read_splits


def oblique() -> np.ndarray:
    """Columns z, y, x of a grid turned by 25 degrees about x and then by 15 about the patient's long axis."""
    a, b = np.radians([25, 15])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_s = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return (about_s @ about_x)[:, ::-1]


def small_ct(direction: np.ndarray | None = None) -> Volume:
    array = np.arange(7 * 8 * 16, dtype=np.int16).reshape(7, 8, 16) - 500
    return Volume(array, make_affine((2.5, 0.75, 0.5), (-10.0, 20.0, -300.25), direction))


def two_nodes() -> np.ndarray:
    """Two blobs without any symmetry, in slices 1, 2 and 5 of seven."""
    mask = np.zeros((7, 8, 16), bool)
    mask[1:3, 2:5, 3:9] = True
    mask[2, 4, 9] = True
    mask[5, 6:, 11:13] = True
    return mask


def reverse_frames(path: Path) -> None:
    """Turn round the order of a BINARY object's frames, whose pixels fill whole bytes."""
    seg = pydicom.dcmread(path)
    seg.PerFrameFunctionalGroupsSequence = list(reversed(seg.PerFrameFunctionalGroupsSequence))
    size = seg.Rows * seg.Columns // 8
    frames = [seg.PixelData[i * size : (i + 1) * size] for i in range(int(seg.NumberOfFrames))]
    seg.PixelData = b"".join(reversed(frames))
    seg.save_as(path)


def edit(path: Path, change: Callable[[pydicom.Dataset], None]) -> None:
    seg = pydicom.dcmread(path)
    change(seg)
    seg.save_as(path)


def marked_mm(volume: Volume) -> np.ndarray:
    """Centres of the marked voxels, (L, P, S) in mm, in ascending order."""
    index = np.argwhere(volume.array > 0)
    position = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return position[np.lexsort(np.round(position, 3).T)]


@pytest.mark.parametrize("direction", [None, oblique()], ids=["axial", "oblique"])
@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("frames", ["all", "with node", [1, 2, 5]])
def test_label_is_the_mask_in_physical_space(
    tmp_path: Path, write_series: Callable[..., Path], direction: np.ndarray, kind: str, frames: str | list[int]
) -> None:
    ct, mask = small_ct(direction), two_nodes()
    series = write_series(ct, tmp_path / "ct")
    path = write_seg(series, mask, tmp_path / "seg.dcm", frames=frames, kind=kind)
    assert pydicom.dcmread(path).NumberOfFrames == (7 if frames == "all" else 3)
    label = read_segmentation(path, ct)
    assert label.array.dtype == np.uint8
    np.testing.assert_array_equal(label.array, mask)
    np.testing.assert_array_equal(label.affine, ct.affine)


@pytest.mark.parametrize("frames", ["all", "with node", [5]])
def test_order_of_the_frames_does_not_matter(
    tmp_path: Path, write_series: Callable[..., Path], frames: str | list[int]
) -> None:
    ct, mask = small_ct(oblique()), two_nodes()
    path = write_seg(write_series(ct, tmp_path / "ct"), mask, tmp_path / "seg.dcm", frames=frames)
    reverse_frames(path)
    wanted = mask if isinstance(frames, str) else mask & np.isin(np.arange(7), frames)[:, None, None]
    np.testing.assert_array_equal(read_segmentation(path, ct).array, wanted)


def test_slice_distance_of_the_object_is_not_needed_on_the_cts_grid(
    tmp_path: Path, write_series: Callable[..., Path]
) -> None:
    ct, mask = small_ct(), two_nodes()
    mask[2] = False  # slices 1 and 5 alone: nothing tells that 2.5 mm lie between slices
    path = write_seg(write_series(ct, tmp_path / "ct"), mask, tmp_path / "seg.dcm", frames=[1, 5])
    edit(path, lambda s: delattr(s.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0], "SpacingBetweenSlices"))
    np.testing.assert_array_equal(read_segmentation(path, ct).array, mask)


def test_object_on_a_part_of_the_cts_grid_is_placed(tmp_path: Path, write_series: Callable[..., Path]) -> None:
    """The object covers rows from 2 and columns from 8 on, and its columns run the other way."""
    ct, mask = small_ct(oblique()), two_nodes()
    part = ct.crop((slice(0, 7), slice(2, 8), slice(8, 16)))
    affine = part.affine.copy()
    affine[:3, 3] += affine[:3, 2] * 7
    affine[:3, 2] *= -1
    turned = Volume(np.ascontiguousarray(part.array[:, :, ::-1]), affine)
    # turning the columns round turns the slices' normal as well, so the mask's slices are reversed
    series = write_series(turned, tmp_path / "part")
    path = write_seg(series, mask[::-1, 2:, :7:-1], tmp_path / "seg.dcm")
    wanted = mask.copy()
    wanted[:, :2] = wanted[:, :, :8] = False
    np.testing.assert_array_equal(read_segmentation(path, ct).array, wanted)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_object_of_another_grid_keeps_its_own(tmp_path: Path, write_series: Callable[..., Path], kind: str) -> None:
    ct, mask = small_ct(), two_nodes()
    finer = Volume(ct.array, make_affine((2.5, 0.6, 0.6), (-10.0, 20.0, -300.25), oblique()))
    path = write_seg(write_series(finer, tmp_path / "finer"), mask, tmp_path / "seg.dcm", frames="with node", kind=kind)
    np.testing.assert_allclose(
        marked_mm(read_segmentation(path, ct)), marked_mm(finer.with_array(mask.astype(np.uint8))), atol=1e-3
    )
    edit(path, lambda s: delattr(s.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0], "SpacingBetweenSlices"))
    with pytest.raises(ImageError, match=r"^seg.dcm is not on its CT's grid and does not say how far apart its own"):
        read_segmentation(path, ct)


def test_object_that_reaches_beyond_the_ct_is_refused(tmp_path: Path, write_series: Callable[..., Path]) -> None:
    ct = small_ct()
    path = write_seg(write_series(ct, tmp_path / "ct"), two_nodes(), tmp_path / "seg.dcm")
    with pytest.raises(ImageError, match=r"^seg.dcm marks voxels beyond the CT: its slices are missing, or it is an"):
        read_segmentation(path, ct.crop((slice(0, 5), slice(0, 8), slice(0, 16))))


def test_damaged_object_is_refused(tmp_path: Path, write_series: Callable[..., Path]) -> None:
    ct = small_ct()
    path = write_seg(write_series(ct, tmp_path / "ct"), two_nodes(), tmp_path / "seg.dcm")
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ImageError, match=r"^seg.dcm cannot be read as a DICOM SEG object: "):
        read_segmentation(path, ct)
    with pytest.raises(ImageError, match=r"0001.dcm cannot be read as a DICOM SEG object: "):
        read_segmentation(tmp_path / "ct" / "0001.dcm", ct)


def find(folder: Path, annotation: str = "auto") -> tuple[dict, list[str]]:
    said = StringIO()
    cases = find_dicom_cases(folder, annotation, Console(file=said, width=400))  # type: ignore[arg-type]
    return {case.name: case for case in cases}, said.getvalue().splitlines()


def test_objects_and_series_are_matched_by_reference(tmp_path: Path, write_series: Callable[..., Path]) -> None:
    """All files lie in one folder, under names that tell nothing."""
    ct, mask, mixed = small_ct(), two_nodes(), tmp_path / "mixed"
    mixed.mkdir()
    for patient, description in (("LNQ/001", PARTIAL), ("LNQ/002", FULL), ("none", None)):
        series = write_series(ct, tmp_path / patient.replace("/", ""), patient)
        if description:
            write_seg(series, mask, mixed / f"{len(list(mixed.iterdir()))}a", description)
        for file in series.iterdir():
            file.rename(mixed / f"{len(list(mixed.iterdir()))}b")
    (mixed / "notes.txt").write_text("no DICOM file")
    cases, said = find(mixed)
    assert {name: (case.full, case.split, case.problem) for name, case in cases.items()} == {
        "LNQ_001": (False, "train", ""),
        "LNQ_002": (True, "test", ""),
    }
    for case in cases.values():
        headers = [pydicom.dcmread(file) for file in case.slices]
        assert len(headers) == 7
        assert {(h.PatientID, h.SeriesInstanceUID) for h in headers} == {(case.patient, case.uids["series_uid"])}
        assert pydicom.dcmread(case.label).SeriesInstanceUID == case.uids["seg_series_uid"]
    assert "1 CT series have no DICOM SEG object and are left out" in said


def test_what_is_wrong_with_an_object_is_named(tmp_path: Path, write_series: Callable[..., Path]) -> None:
    ct, mask = small_ct(), two_nodes()
    for patient in ("lost", "vague", "twice", "good"):
        series = write_series(ct, tmp_path / patient / "ct", patient)
        description = "Segmentation" if patient == "vague" else PARTIAL
        write_seg(series, mask, tmp_path / patient / "seg.dcm", description)
    write_seg(tmp_path / "twice" / "ct", mask, tmp_path / "twice" / "again.dcm")
    for file in (tmp_path / "lost" / "ct").iterdir():
        uid = pydicom.dcmread(file).SeriesInstanceUID
        file.unlink()
    (tmp_path / "stub.dcm").write_bytes(b"\0" * 128 + b"DICM")
    cases, said = find(tmp_path)
    problems = {name: case.problem for name, case in cases.items() if not name.startswith("twice-")}
    assert problems == {
        "lost": f"seg.dcm refers to the CT series {uid}, which is not there",
        "vague": "its description 'Segmentation' does not say whether it is partially or fully annotated",
        "good": "",
    }
    both = [case.problem for name, case in cases.items() if name.startswith("twice-")]
    assert both == ["several DICOM SEG objects mark its CT"] * 2
    assert f"{tmp_path}/stub.dcm is damaged and left out" in said
    assert find(tmp_path, "full")[0]["vague"].full


def test_a_sixth_of_the_fully_annotated_patients_validate(tmp_path: Path, write_series: Callable[..., Path]) -> None:
    ct, mask = small_ct().crop((slice(0, 2), slice(0, 8), slice(0, 16))), two_nodes()[:2]
    for number in range(6):
        series = write_series(ct, tmp_path / f"{number}" / "ct", f"patient-{number}")
        write_seg(series, mask, tmp_path / f"{number}" / "seg.dcm", FULL)
    first = sorted(case.split for case in find(tmp_path)[0].values())
    assert first == ["test"] * 5 + ["validation"]


def test_download_is_prepared(thorax: Volume, tmp_path: Path, write_series: Callable[..., Path]) -> None:
    """A node of 11 mm radius in a chest of which only the slices with node have frames; bad ones beside it."""
    centre = np.array([0.0, 0.0, 40.0])
    index = np.indices(thorax.shape).reshape(3, -1)
    position = thorax.affine[:3, :3] @ index + thorax.affine[:3, 3:]
    mask = (np.linalg.norm(position - centre[:, None], axis=0) <= 11.0).reshape(thorax.shape)
    for patient in ("whole", "gap", "cut", "lost"):
        series = write_series(thorax, tmp_path / "raw" / patient / "ct", patient)
        write_seg(series, mask, tmp_path / "raw" / patient / "seg" / "1-1.dcm", frames="with node")
    files = sorted((tmp_path / "raw" / "gap" / "ct").iterdir())
    files[20].unlink()
    for file in (tmp_path / "raw" / "cut" / "ct").iterdir():  # from the node's middle upwards
        if pydicom.dcmread(file).ImagePositionPatient[2] > 40:
            file.unlink()
    for file in (tmp_path / "raw" / "lost" / "ct").iterdir():
        file.unlink()
    said = StringIO()
    wanted = Preparation((tmp_path / "raw",), tmp_path / "out", TINY.spacing_mm)
    prepare_cases(wanted, Console(file=said, width=400))
    for reason in (
        "gap is left out: ct cannot be trained on: 1 slice is missing, after slice ",
        "cut is left out: 1-1.dcm marks voxels beyond the CT: its slices are missing, or it is another's",
        "lost is left out: 1-1.dcm refers to the CT series",
        "1 cases are prepared (1 of them now), 3 are left out",
    ):
        assert reason in said.getvalue()
    assert [folder.name for folder in case_folders(tmp_path / "out")] == ["whole"]
    case = PreparedCase(tmp_path / "out" / "whole")
    assert not case.info.full and case.info.label_lost == 0.0
    assert case.info.node_volumes_mm3 == (mask.sum() * 125.0,)
    headers = pydicom.dcmread(next((tmp_path / "raw" / "whole" / "ct").iterdir()))
    assert case.info.provenance["series_uid"] == headers.SeriesInstanceUID
    assert case.info.provenance["patient_id"] == case.info.patient == "whole"
    assert case.info.provenance["slices"] == 48
    assert case.info.provenance["seg_description"] == PARTIAL
    assert read_splits(tmp_path / "out" / "splits.csv")["whole"].split == "train"
