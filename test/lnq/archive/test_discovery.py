"""What is found under the inputs, and which series of a study is chosen."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.found import ct, edit, pack, reasons, segmented, slices_of, touch
from pydicom.uid import SecondaryCaptureImageStorage

from lnq.archive.case import DicomSeries
from lnq.archive.discovery import discover
from lnq.dicom.choice import Choice, read_uids
from lnq.errors import StartError

WriteSeries = Callable[..., Path]


def test_files_and_series_are_found_at_any_depth(tmp_path: Path, write_dicom: WriteSeries) -> None:
    touch(tmp_path / "a.mha", tmp_path / "deep" / "er" / "b.nii.gz", tmp_path / ".hidden.mha", tmp_path / "notes.txt")
    touch(tmp_path / "c.mhd", tmp_path / "c.zraw", tmp_path / "x-ct.nrrd", tmp_path / "x-seg.nrrd")
    series = write_dicom(ct(), tmp_path / "study" / "series")
    found = discover([tmp_path])
    assert segmented(found) == ["a", "c", "b", "x-ct", "series"]
    assert reasons(found, failed=False) == {
        tmp_path.name: f"{tmp_path.name} is left out: 1 of its files are of no known format, and ignored"
    }
    case = found[-2].case
    assert isinstance(case, DicomSeries)
    assert (case.path, len(case.slices)) == (series, 12)
    assert case.series_uid == pydicom.dcmread(case.slices[0]).SeriesInstanceUID


def test_results_of_an_earlier_run_are_no_cases(tmp_path: Path) -> None:
    touch(tmp_path / "ct.mha", tmp_path / "out" / "ct" / "segmentation.mha")
    assert segmented(discover([tmp_path], leave_out=tmp_path / "out")) == ["ct"]


def test_a_reserved_name_is_not_given(tmp_path: Path) -> None:
    touch(tmp_path / "nodes.csv.mha")
    (name,) = segmented(discover([tmp_path], reserved=["nodes.csv"]))
    assert name.startswith("nodes.csv-")


def test_the_same_series_in_two_archives_is_two_cases(tmp_path: Path, write_dicom: WriteSeries) -> None:
    folder = write_dicom(ct(slices=24), tmp_path / "whole")
    for number in (0, 1):
        half = tmp_path / f"half{number}"
        half.mkdir()
        for file in sorted(folder.iterdir())[:12]:
            file.rename(half / file.name)
        pack(half, tmp_path / f"d{number}.zip")
    for key in ("", "0b" * 32):
        found = discover([tmp_path / "d0.zip", tmp_path / "d1.zip"], Choice(every=True), key=key)
        assert len({f.case.name for f in found}) == 2


def test_nothing_to_do_cannot_start(tmp_path: Path, write_dicom: WriteSeries) -> None:
    with pytest.raises(
        StartError, match=r"^No CT found in .*: give .nii.gz, .* DICOM series or .zip, .* archives of them$"
    ):
        discover([tmp_path])
    with pytest.raises(StartError, match="nowhere does not exist: check the path"):
        discover([tmp_path / "nowhere"])
    write_dicom(ct(), tmp_path / "series")
    with pytest.raises(StartError, match=r"^None of the series asked for was found in "):
        discover([tmp_path], Choice(uids=frozenset({"1.2"})))


def test_series_of_one_folder_are_told_apart_and_one_of_several_folders_is_put_together(
    tmp_path: Path, write_dicom: WriteSeries
) -> None:
    flat = write_dicom(ct(), tmp_path / "flat")
    for file in write_dicom(ct(slices=20), tmp_path / "other").iterdir():
        file.rename(flat / f"b{file.name}")
    (tmp_path / "other").rmdir()
    spread = write_dicom(ct(), tmp_path / "spread" / "one", StudyInstanceUID="1.9")
    (tmp_path / "spread" / "two").mkdir()
    for file in sorted(spread.iterdir())[6:]:
        file.rename(tmp_path / "spread" / "two" / file.name)
    found = discover([tmp_path], Choice(every=True))
    assert [len(slices_of(f)) for f in found] == [12, 20, 12]
    assert [f.case.path.name for f in found] == ["flat", "flat", "spread"]
    assert len(set(segmented(found))) == 3
    assert segmented(found)[2] == "spread"


@pytest.mark.parametrize(
    ("better", "worse", "why"),
    [
        ((40, 3.0, {}), (24, 5.0, {}), "slices nearer to 3 mm apart"),
        (
            (20, 5.0, {}),
            (105, 1.0, {}),
            "slices nearer to 3 mm apart",
        ),  # by factor, of a scan of nearly the same length
        ((60, 5.0, {}), (30, 3.0, {}), "the longer scan"),
        ((60, 5.0, {"ContrastBolusAgent": "Iopromide"}), (100, 3.0, {}), "with contrast medium"),
        ((30, 3.0, {"SeriesNumber": 2}), (30, 3.0, {"SeriesNumber": 10}), "the lower number"),
    ],
)
def test_of_a_study_one_series_is_chosen(tmp_path: Path, write_dicom: WriteSeries, better, worse, why) -> None:
    for name, (slices, distance, tags) in (("a-worse", worse), ("better", better), ("z-worse", worse)):
        write_dicom(ct(slices, distance), tmp_path / name, **tags)
    found = discover([tmp_path])
    assert segmented(found) == ["better"]
    uid = found[0].case.series_uid
    assert reasons(found, failed=False) == {
        name: f"{name} is left out: series {uid} of the same study was chosen: {why}" for name in ("a-worse", "z-worse")
    }
    assert sorted(segmented(discover([tmp_path], Choice(every=True)))) == ["a-worse", "better", "z-worse"]


def test_each_study_has_its_own_choice(tmp_path: Path, write_dicom: WriteSeries) -> None:
    for study in ("1.1", "1.2"):
        write_dicom(ct(), tmp_path / study, StudyInstanceUID=study)
    assert segmented(discover([tmp_path])) == ["1.1", "1.2"]


CORONAL = np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]], float)  # columns z, y, x of the grid

UNSUITABLE = {
    "mr": (ct(), {"modality": "MR"}, "it holds MR images, not a CT"),
    "scout": (ct(), {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "its only CT images are scout views"),
    "captured": (
        ct(),
        {"ImageType": ["DERIVED", "SECONDARY"]},
        "it is a secondary capture or a reformatted series (ImageType SECONDARY)",
    ),
    "coronal": (ct(direction=CORONAL), {}, "its slices are not axial"),
    "few": (ct(slices=9), {}, "it has 9 slices, fewer than 10"),
}


@pytest.mark.parametrize("name", UNSUITABLE)
def test_a_series_that_is_no_axial_ct_is_left_out_or_fails_alone(
    tmp_path: Path, write_dicom: WriteSeries, name: str
) -> None:
    volume, tags, reason = UNSUITABLE[name]
    write_dicom(volume, tmp_path / name, **tags)
    assert reasons(discover([tmp_path]), failed=True) == {name: f"{name} cannot be used: {reason}"}
    write_dicom(ct(), tmp_path / "good")
    found = discover([tmp_path])
    assert segmented(found) == ["good"]
    assert reasons(found, failed=False) == {name: f"{name} is left out: {reason}"}


def test_a_study_without_a_ct_fails_once(tmp_path: Path, write_dicom: WriteSeries) -> None:
    for name in ("mr", "scout"):
        write_dicom(UNSUITABLE[name][0], tmp_path / "study" / name, **UNSUITABLE[name][1])
    assert list(reasons(discover([tmp_path]), failed=True).values()) == [
        "mr cannot be used: it holds MR images, not a CT, its only CT images are scout views"
    ]


def test_objects_that_are_no_images_are_left_out(tmp_path: Path, write_dicom: WriteSeries) -> None:
    write_dicom(ct(), tmp_path / "seg", modality="SEG", StudyInstanceUID="1.7")
    write_dicom(ct(), tmp_path / "good")
    found = discover([tmp_path])
    assert reasons(found, failed=False) == {"seg": "seg is left out: it holds SEG images, not a CT"}
    assert not reasons(found, failed=True)


def test_series_asked_for_are_taken_whatever_they_are(tmp_path: Path, write_dicom: WriteSeries) -> None:
    few = write_dicom(ct(slices=4), tmp_path / "few", SeriesDescription="Thorax 5.0 B30f")
    write_dicom(ct(), tmp_path / "good", SeriesDescription="Thorax 1.0 B70f")
    touch(tmp_path / "a.mha")
    uid = pydicom.dcmread(few / "0001.dcm").SeriesInstanceUID
    found = discover([tmp_path], Choice(uids=frozenset({uid})))
    assert segmented(found) == ["few"]
    assert reasons(found, failed=False) == {"good": "good is left out: it is not among the series asked for"}
    asked = Choice(uids=frozenset({uid, "1.2.9"}))
    assert reasons(discover([tmp_path], asked), failed=True) == {"1.2.9": "1.2.9 cannot be used: it was not found"}
    assert segmented(discover([tmp_path], Choice(description=re.compile(r"B3\df")))) == ["few"]


def test_a_list_of_series_is_a_column_of_a_table(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("case,series_uid\na,1.2\nb, 1.3\nc,\n")
    assert read_uids(table) == {"1.2", "1.3"}
    table.write_text("case\na\n")
    with pytest.raises(ValueError, match="must have a column series_uid with at least one entry"):
        read_uids(table)
    with pytest.raises(ValueError, match="cannot be read"):
        read_uids(tmp_path / "none.csv")


def test_a_damaged_file_fails_the_series_beside_it(tmp_path: Path, write_dicom: WriteSeries) -> None:
    folder = write_dicom(ct(), tmp_path / "series")
    (folder / "0013.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    write_dicom(ct(), tmp_path / "sound", StudyInstanceUID="1.8")
    found = discover([tmp_path])
    assert segmented(found) == ["sound"]
    (reason,) = reasons(found, failed=True).values()
    assert reason == "series cannot be used: its file 0013.dcm is damaged"


def test_a_named_file_of_no_known_format_is_a_failure(tmp_path: Path) -> None:
    touch(tmp_path / "a.mha", tmp_path / "scan.rar")
    found = discover([tmp_path / "a.mha", tmp_path / "scan.rar"])
    (sentence,) = reasons(found, failed=True).values()
    assert sentence.startswith("scan.rar cannot be used: its format is not known: give .nii.gz, ")


def test_a_screenshot_beside_stacks_that_only_folders_tell_apart_is_no_failure(
    tmp_path: Path, write_dicom: WriteSeries
) -> None:
    for name, hu in (("p1", 0), ("p2", 1)):
        other = ct().with_array(ct().array + hu)
        write_dicom(other, tmp_path / name)
        for file in (tmp_path / name).iterdir():
            edit(file, SeriesInstanceUID="1.2.9")
    shot = tmp_path / "p1" / "shot.dcm"
    shot.write_bytes((tmp_path / "p1" / "0001.dcm").read_bytes())
    edit(shot, SOPClassUID=SecondaryCaptureImageStorage, SOPInstanceUID="1.2.10", ImagePositionPatient=None)
    found = discover([tmp_path])
    assert segmented(found) == ["p1", "p2"] and not reasons(found, failed=True)
