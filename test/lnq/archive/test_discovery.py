"""What is found under the inputs, and which series of a study is chosen."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from lnq.archive.case import ArchivedImage, ArchivedSeries, DicomSeries
from lnq.archive.discovery import Found, SetAside, ToSegment, discover
from lnq.dicom.choice import Choice, read_uids
from lnq.errors import StartError, Stopped
from lnq.image.volume import Volume, make_affine

WriteSeries = Callable[..., Path]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0")


def ct(slices: int = 12, distance_mm: float = 3.0, direction: np.ndarray | None = None) -> Volume:
    return Volume(np.zeros((slices, 4, 5), np.int16), make_affine((distance_mm, 1.0, 1.0), direction=direction))


def segmented(found: list[Found]) -> list[str]:
    return [f.case.name for f in found if isinstance(f, ToSegment)]


def reasons(found: list[Found], failed: bool) -> dict[str, str]:
    return {f.case.name: str(f.reason) for f in found if isinstance(f, SetAside) and f.failed == failed}


def slices_of(found: Found) -> tuple[Path, ...]:
    assert isinstance(found.case, DicomSeries)
    return found.case.slices


def pack(folder: Path, archive: Path) -> Path:
    """A zip archive of a folder's files, under their paths below it."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder))
    return archive


def edit(path: Path, **tags: object) -> None:
    dataset = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


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


def test_what_is_given_twice_or_linked_back_is_one_case(tmp_path: Path) -> None:
    touch(tmp_path / "study" / "a.mha")
    (tmp_path / "study" / "back").symlink_to(tmp_path, target_is_directory=True)
    assert segmented(discover([tmp_path, tmp_path / "study" / "a.mha"])) == ["a"]


def test_results_of_an_earlier_run_are_no_cases(tmp_path: Path) -> None:
    touch(tmp_path / "ct.mha", tmp_path / "out" / "ct" / "segmentation.mha")
    assert segmented(discover([tmp_path], leave_out=tmp_path / "out")) == ["ct"]


def test_a_reserved_name_is_not_given(tmp_path: Path) -> None:
    touch(tmp_path / "nodes.csv.mha")
    (name,) = segmented(discover([tmp_path], reserved=["nodes.csv"]))
    assert name.startswith("nodes.csv-")


def test_a_folder_that_cannot_be_read_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a.mha", tmp_path / "locked" / "b.mha")
    listed = Path.iterdir

    def iterdir(folder: Path):
        if folder.name == "locked":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    found = discover([tmp_path])
    assert segmented(found) == ["a"]
    sentence = "locked cannot be used: it cannot be read: Permission denied"
    assert reasons(found, failed=True) == {"locked": sentence}


def test_a_slice_that_cannot_be_read_fails_its_series(
    tmp_path: Path, write_dicom: WriteSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dicom(ct(), tmp_path / "series")
    opened = Path.open

    def refuse(path: Path, *arguments: str):
        if path.name == "0012.dcm":
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments)

    monkeypatch.setattr(Path, "open", refuse)
    sentence = "series cannot be used: its file 0012.dcm cannot be read: Permission denied"
    assert reasons(discover([tmp_path]), failed=True) == {"series": sentence}
    (private,) = discover([tmp_path], hash_names=True)
    assert isinstance(private, SetAside)
    told = private.reason.without_names(private.case.name)
    assert told == f"{private.case.name} cannot be used: its file (not shown) cannot be read: Permission denied"


def test_what_is_odd_in_a_folder_ends_nothing(tmp_path: Path) -> None:
    touch(tmp_path / "a.mha")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    found = discover([tmp_path])
    assert segmented(found) == ["a"]
    assert reasons(found, failed=True) == {"self": "self cannot be used: it cannot be read: the link leads to itself"}


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_dicom_file_cut_anywhere_is_at_most_damaged(tmp_path: Path, write_dicom: WriteSeries) -> None:
    folder = write_dicom(ct(), tmp_path / "series")
    file = folder / "0006.dcm"
    whole = file.read_bytes()
    for place in range(132, 700, 3):
        file.write_bytes(whole[:place])
        assert [f.failed for f in discover([tmp_path])] in ([True], [False])


def test_the_same_series_in_two_archives_is_two_cases(tmp_path: Path, write_dicom: WriteSeries) -> None:
    folder = write_dicom(ct(slices=24), tmp_path / "whole")
    for number in (0, 1):
        half = tmp_path / f"half{number}"
        half.mkdir()
        for file in sorted(folder.iterdir())[:12]:
            file.rename(half / file.name)
        pack(half, tmp_path / f"d{number}.zip")
    for hashed in (False, True):
        found = discover([tmp_path / "d0.zip", tmp_path / "d1.zip"], Choice(every=True), hash_names=hashed)
        assert len({f.case.name for f in found}) == 2


def test_a_run_told_to_stop_does_so_while_it_searches(tmp_path: Path) -> None:
    touch(tmp_path / "a.mha")
    with pytest.raises(Stopped):
        discover([tmp_path], stopping=lambda: True)


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


def test_copies_of_a_slice_count_once(tmp_path: Path, write_dicom: WriteSeries) -> None:
    folder = write_dicom(ct(), tmp_path / "series")
    (folder / "copy.dcm").write_bytes((folder / "0003.dcm").read_bytes())
    found, copies = discover([tmp_path])
    assert len(slices_of(found)) == 12
    assert str(copies.reason) == "series is left out: 1 of its files are copies of others of the same series"


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


@pytest.mark.parametrize("position", [[1, 2], [1, 2, 3, 4], [0, 0, float("nan")], []])
def test_a_slice_without_a_position_ends_nothing(tmp_path: Path, write_dicom: WriteSeries, position: list) -> None:
    folder = write_dicom(ct(), tmp_path / "odd")
    edit(folder / "0003.dcm", ImagePositionPatient=position)
    touch(tmp_path / "sound.mha")
    assert segmented(discover([tmp_path])) == ["sound", "odd"]


def test_archives_are_looked_into(tmp_path: Path, write_dicom: WriteSeries) -> None:
    inside = tmp_path / "inside"
    write_dicom(ct(), inside / "study" / "series")
    touch(
        inside / "b.mhd", inside / "b.zraw", inside / "x-ct.nrrd", inside / "x-seg.nrrd", inside / "__MACOSX" / "b.mha"
    )
    pack(inside, tmp_path / "patient.zip")
    found = discover([tmp_path / "patient.zip"])
    assert segmented(found) == ["b", "x-ct", "patient"]
    header, _, series = (f.case for f in found)
    assert isinstance(header, ArchivedImage)
    assert header.members == ("b.mhd", "b.zraw")
    assert isinstance(series, ArchivedSeries)
    assert (series.path, series.members[0]) == (tmp_path / "patient.zip", "study/series/0001.dcm")


def test_damaged_archives_fail(tmp_path: Path, write_dicom: WriteSeries) -> None:
    archive = pack(write_dicom(ct(), tmp_path / "inside"), tmp_path / "cut.zip")
    archive.write_bytes(archive.read_bytes()[:-40])
    (tmp_path / "text.zip").write_text("no archive")
    found = discover([tmp_path / "cut.zip", tmp_path / "text.zip"])
    assert set(reasons(found, failed=True).values()) == {
        f"{name}.zip cannot be used: the archive is damaged" for name in ("cut", "text")
    }


def test_a_link_gives_its_own_name_and_format(tmp_path: Path) -> None:
    touch(tmp_path / "blobs" / "0a1b2c")
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "ct.nii.gz").symlink_to("../blobs/0a1b2c")
    assert segmented(discover([tmp_path / "shown"])) == ["ct"]


def test_a_named_file_of_no_known_format_is_a_failure(tmp_path: Path) -> None:
    touch(tmp_path / "a.mha", tmp_path / "scan.rar")
    found = discover([tmp_path / "a.mha", tmp_path / "scan.rar"])
    (sentence,) = reasons(found, failed=True).values()
    assert sentence.startswith("scan.rar cannot be used: its format is not known: give .nii.gz, ")


def test_a_dicomdir_stands_for_its_folder(tmp_path: Path, write_dicom: WriteSeries) -> None:
    write_dicom(ct(), tmp_path / "DICOM" / "S1")
    touch(tmp_path / "DICOMDIR")
    assert segmented(discover([tmp_path / "DICOMDIR"])) == ["S1"]


def test_a_stranger_that_begins_like_dicom_harms_no_series(tmp_path: Path, write_dicom: WriteSeries) -> None:
    folder = write_dicom(ct(), tmp_path / "series")
    (folder / "odd.bin").write_bytes(b"\x08\0\0\0" + b"\x10\0\0\0" + bytes(range(200)))
    found = discover([tmp_path])
    assert segmented(found) == ["series"]
    assert [str(f.reason) for f in found if isinstance(f, SetAside)] == [
        "series is left out: 1 of its files are of no known format, and ignored"
    ]


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
