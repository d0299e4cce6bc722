"""Everything that is found under the inputs, or why it is not."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from helpers.found import ct, edit, pack, reasons, segmented, slices_of, touch
from pydicom.datadict import dictionary_VR

from lnq.archive.case import ArchivedImage, ArchivedSeries
from lnq.archive.discovery import SetAside, ToSegment, discover
from lnq.dicom.header import GEOMETRY, OF_CHOICE, OF_GATHERING
from lnq.errors import ImageError, Stopped

WriteSeries = Callable[..., Path]


def test_what_is_given_twice_or_linked_back_is_one_case(tmp_path: Path) -> None:
    touch(tmp_path / "study" / "a.mha")
    (tmp_path / "study" / "back").symlink_to(tmp_path, target_is_directory=True)
    assert segmented(discover([tmp_path, tmp_path / "study" / "a.mha"])) == ["a"]


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
    (private,) = discover([tmp_path], key="0b" * 32)
    assert isinstance(private, SetAside)
    told = private.reason.without_names(private.case.name)
    assert told == f"{private.case.name} cannot be used: its file (not shown) cannot be read: Permission denied"


@pytest.mark.parametrize("tag", sorted({*OF_CHOICE, *OF_GATHERING}))
def test_an_element_that_cannot_be_decoded_harms_no_other_series(tmp_path, write_dicom: WriteSeries, tag: str) -> None:
    """One slice's element gets a kind of value that does not exist."""
    values: dict[str, object] = {"UI": "1.2", "DA": "19500101", "FL": 1.0, "CS": "A", "DT": "1950", "TM": "10"}
    kind = dictionary_VR(tag)
    is_there = tag in GEOMETRY or tag in ("SpecificCharacterSet", "ImageType", "Modality")
    slices = write_dicom(ct(), tmp_path / "odd", **({} if is_there else {tag: values.get(kind, "1")}))
    write_dicom(ct(), tmp_path / "sound", StudyInstanceUID="1.9")
    path = slices / "0006.dcm"
    data = path.read_bytes()
    place = data.find(struct.pack("<HH", *divmod(int(pydicom.tag.Tag(tag)), 1 << 16)), 132) + 4
    if place > 4:
        path.write_bytes(data[:place] + b"\x4c\xf8" + data[place + 2 :])
    found = discover([tmp_path])
    assert "sound" in segmented(found)
    for one in found:
        if isinstance(one, ToSegment) and one.case.name != "sound":
            with contextlib.suppress(ImageError):
                one.case.open(tmp_path)


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


def test_a_run_told_to_stop_does_so_while_it_searches(tmp_path: Path) -> None:
    touch(tmp_path / "a.mha")
    with pytest.raises(Stopped):
        discover([tmp_path], stopping=lambda: True)


def test_copies_of_a_slice_count_once(tmp_path: Path, write_dicom: WriteSeries) -> None:
    folder = write_dicom(ct(), tmp_path / "series")
    (folder / "copy.dcm").write_bytes((folder / "0003.dcm").read_bytes())
    found, copies = discover([tmp_path])
    assert len(slices_of(found)) == 12
    assert str(copies.reason) == "series is left out: 1 of its files are copies of others of the same series"


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
