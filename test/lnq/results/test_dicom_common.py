"""What holds for all DICOM objects alike."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.pictures import ct_of
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, JPEG2000Lossless

from lnq.errors import ImageError
from lnq.results.dicom_common import Maker, Track
from lnq.results.write_capture import write_captures
from lnq.results.write_pdf import write_pdf
from lnq.results.write_rtstruct import write_rtstruct
from lnq.results.write_seg import write_seg
from lnq.results.write_sr import write_sr


def write_one_capture(path, labels, **of_slices):
    """The first of the captures, as a file of its own."""
    folder = path.with_name("captures")
    try:
        write_captures(folder, ct_of(labels), labels, **of_slices)
        (folder / "0001.dcm").replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_page(path, labels, **of_slices):
    write_pdf(path, ct_of(labels), labels, **of_slices)


WRITERS = {
    "SEG": write_seg, "SR": write_sr, "RTSTRUCT": write_rtstruct, "OT": write_one_capture, "DOC": write_page,
}  # fmt: skip


@pytest.fixture(params=WRITERS)
def modality(request):
    return request.param


@pytest.fixture
def writer(modality):
    return WRITERS[modality]


def elements(dataset):
    return list(dataset.iterall())


def error_of(writer, series, tmp_path, **changes) -> str:
    with pytest.raises((ImageError, ValueError, OSError)) as caught:
        series.write(writer, tmp_path / "object.dcm", **changes)
    assert not [file for file in tmp_path.iterdir() if file.name != "ct"]
    return str(caught.value)


@pytest.mark.parametrize("empty", [False, True], ids=["nodes", "no node"])
def test_second_run_writes_the_same_bytes(writer, series, tmp_path, empty):
    series = series.without_nodes() if empty else series
    first, second = (series.write(writer, tmp_path / name).read_bytes() for name in ("first.dcm", "second.dcm"))
    assert first == second


@pytest.mark.parametrize("empty", [False, True], ids=["nodes", "no node"])
def test_dciodvfy_finds_no_error(writer, series, tmp_path, empty, problems_of):
    series = series.without_nodes() if empty else series
    assert problems_of(series.write(writer, tmp_path / "object.dcm")) == []


def test_every_date_and_time_is_the_studys(writer, series, tmp_path):
    dataset = pydicom.dcmread(series.write(writer, tmp_path / "object.dcm"))
    dates = {e.value for e in elements(dataset) if e.VR == "DA" and e.keyword != "PatientBirthDate"}
    assert (dates, {e.value for e in elements(dataset) if e.VR == "TM"}) == ({"20230101"}, {"101112"})
    assert [e for e in elements(dataset) if e.VR == "DT" and e.value] == []


@pytest.mark.parametrize(
    ("tags", "date", "time"),
    [
        ({"StudyTime": ""}, "20230101", "000000"),
        ({"StudyDate": "", "SeriesDate": "20221231", "SeriesTime": "235959.5"}, "20221231", "235959.5"),
        ({"StudyDate": "2023.01.02", "AcquisitionDate": "20220102"}, "20220102", "000000"),
        ({"StudyDate": None, "StudyTime": None}, "19000101", "000000"),
    ],
    ids=["no time", "of the series", "of another form", "none"],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR DA")
def test_missing_date_is_taken_from_elsewhere(writer, make_series, tmp_path, tags, date, time):
    dataset = pydicom.dcmread(make_series(**tags).write(writer, tmp_path / "object.dcm"))
    assert (dataset.InstanceCreationDate, dataset.InstanceCreationTime) == (date, time)
    assert dataset.StudyDate == (tags.get("StudyDate", "20230101") or "")


def test_uids_follow_series_maker_and_mask(modality, series, tmp_path):
    def uids(**changes) -> tuple[str, str]:
        dataset = pydicom.dcmread(series.write(WRITERS[modality], tmp_path / "object.dcm", **changes))
        return dataset.SOPInstanceUID, dataset.SeriesInstanceUID

    instance, own_series = uids()
    assert {instance[:5], own_series[:5]} == {"2.25."} and len(instance) <= 44
    array = series.labels.array.copy()
    array[5, 6, 11] = 0
    other_mask = uids(labels=series.labels.with_array(array))
    assert other_mask[0] != instance and other_mask[1] == own_series
    other_weights = uids(maker=Maker("lnq", "0.1.0", "f" * 64))
    assert len({instance, own_series, *other_mask, *other_weights}) == 5


def test_maker_is_named(writer, series, tmp_path):
    dataset = pydicom.dcmread(series.write(writer, tmp_path / "object.dcm"))
    assert (dataset.Manufacturer, dataset.ManufacturerModelName, dataset.SoftwareVersions) == ("lnq", "lnq", "0.1.0")
    assert dataset.DeviceSerialNumber == "0123456789abcdef" * 4
    assert dataset.SeriesDescription == "Lymph nodes by lnq 0.1.0"
    assert dataset.ContentQualification == "RESEARCH"


def test_patient_and_study_are_the_sources(modality, writer, make_series, tmp_path):
    series = make_series(PatientAge="072Y", ClinicalTrialProtocolID="P1", InstitutionName="Hospital")
    source = pydicom.dcmread(series.slices[0])
    dataset = pydicom.dcmread(series.write(writer, tmp_path / "object.dcm"))
    for tag in (
        "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge",
        "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "StudyDescription",
        "ReferringPhysicianName", "ClinicalTrialProtocolID",
    ):  # fmt: skip
        assert dataset[tag].value == source[tag].value
    assert "InstitutionName" not in dataset
    assert dataset.Modality == modality and dataset.SeriesInstanceUID != source.SeriesInstanceUID


def test_what_the_source_lacks_is_left_blank(writer, make_series, tmp_path, problems_of):
    blank = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyTime", "StudyID", "AccessionNumber")
    series = make_series(**dict.fromkeys(blank), ReferringPhysicianName=None, SliceThickness=None)
    path = series.write(writer, tmp_path / "object.dcm")
    assert problems_of(path) == []
    assert {str(pydicom.dcmread(path)[tag].value or "") for tag in blank} == {""}


@pytest.mark.parametrize(
    ("charset", "name", "stored"),
    [
        ("ISO_IR 192", "Müller^Jürgen", "Müller^Jürgen".encode()),
        ("ISO_IR 100", "Müller^Jürgen", "Müller^Jürgen".encode("latin-1")),
        ("ISO_IR 144", "Люкceмбypг", "Люкceмбypг".encode("iso8859-5")),
        ("GB18030", "Wang^XiaoDong=王^小东", "Wang^XiaoDong=王^小东".encode("gb18030")),
        (
            ["", "ISO 2022 IR 87"],
            "Yamada^Tarou=山田^太郎",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
        ),
    ],
    ids=["UTF-8", "Latin 1", "Cyrillic", "Chinese", "Japanese"],
)
def test_name_in_any_script_is_kept_to_the_byte(writer, make_series, tmp_path, charset, name, stored):
    series = make_series(SpecificCharacterSet=charset, PatientName=name)
    path = series.write(writer, tmp_path / "object.dcm")
    dataset = pydicom.dcmread(path)
    assert str(dataset.PatientName) == name
    assert dataset.SpecificCharacterSet == charset
    assert stored in path.read_bytes()


@pytest.mark.parametrize("charset", [None, "ISO_IR 999", "ISO_IR 192", "ISO_IR 144"])
@pytest.mark.filterwarnings("ignore:Unknown encoding", "ignore:Failed to decode byte string")
def test_bytes_of_another_script_than_is_declared_are_kept(writer, make_series, tmp_path, charset):
    series = make_series(SpecificCharacterSet=charset)
    for path in series.slices:
        path.write_bytes(path.read_bytes().replace(b"Doe^Jane", b"D\xf6\xeb^J\xe4ne"))
    assert b"D\xf6\xeb^J\xe4ne" in series.write(writer, tmp_path / "object.dcm").read_bytes()


def test_values_out_of_form_are_copied_as_they_are(writer, make_series, tmp_path, recwarn, capsys):
    """And nothing of a patient is said on the way: warnings end in logs."""
    series = make_series(PatientName="JANE DOE", PatientBirthDate="1950", PatientSex="female", PatientAge="72")
    recwarn.clear()
    dataset = pydicom.dcmread(series.write(writer, tmp_path / "object.dcm"), stop_before_pixels=True)
    assert [str(warning.message) for warning in recwarn] == []
    assert capsys.readouterr() == ("", "")
    with pydicom.config.disable_value_validation():
        assert (dataset.PatientName, dataset.PatientSex, dataset.PatientAge) == ("JANE DOE", "female", "72")


def test_pixels_are_not_needed(writer, series, tmp_path):
    wanted = series.write(writer, tmp_path / "wanted.dcm").read_bytes()
    for path in series.slices:
        header = pydicom.dcmread(path)
        header.PixelData = encapsulate([b"no JPEG 2000"])
        header["PixelData"].is_undefined_length = True
        header.file_meta.TransferSyntaxUID = JPEG2000Lossless
        header.save_as(path)
    assert series.write(writer, tmp_path / "object.dcm").read_bytes() == wanted


def test_headers_may_be_big_endian(writer, make_series, tmp_path):
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113100", "DCM", "Basic"
    series = make_series(DeidentificationMethodCodeSequence=[code], PregnancyStatus=4)
    wanted = series.write(writer, tmp_path / "wanted.dcm").read_bytes()
    for path in series.slices:
        header = pydicom.dcmread(path)
        header.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        pydicom.dcmwrite(path, header, implicit_vr=False, little_endian=False)
    assert series.write(writer, tmp_path / "object.dcm").read_bytes() == wanted


def test_series_without_frame_of_reference_is_given_one(make_series, tmp_path):
    series = make_series(FrameOfReferenceUID=None)
    seg, *others = (pydicom.dcmread(series.write(writer, tmp_path / "object.dcm")) for writer in WRITERS.values())
    frames = {e.value for d in others for e in elements(d) if e.keyword.endswith("FrameOfReferenceUID")}
    assert frames == {seg.FrameOfReferenceUID}


def test_nodes_and_labels_must_agree(writer, series, tmp_path):
    rule = "Nodes must be numbered from 1 and the labels hold each number"
    assert error_of(writer, series, tmp_path, nodes=series.nodes[:1]) == f"{rule}: [1] and [1, 2]"
    assert error_of(writer, series, tmp_path, nodes=series.nodes[::-1]) == f"{rule}: [2, 1] and [1, 2]"
    assert error_of(writer, series, tmp_path, nodes=()) == f"{rule}: [] and [1, 2]"


def test_followed_nodes_have_a_track_each(series, tmp_path):
    with pytest.raises(ValueError, match="^2 nodes cannot have 1 tracks$"):
        series.write(write_seg, tmp_path / "seg.dcm", tracks=[Track("Lymph node 1", "1.2")])


def test_folder_that_is_not_there_is_named(writer, series, tmp_path):
    with pytest.raises(PermissionError) as caught:
        series.write(writer, tmp_path / "gone" / "object.dcm")
    assert str(caught.value) == f"{tmp_path}/gone does not exist or cannot be written to"


def test_failed_write_leaves_the_earlier_object(writer, series, tmp_path, monkeypatch):
    path = series.write(writer, tmp_path / "object.dcm")
    before = path.read_bytes()

    def full_disk(dataset, filename, **options):
        Path(filename).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pydicom.Dataset, "save_as", full_disk)
    with pytest.raises(OSError, match=r"No space left on device: '.*/(object|0001).dcm'$"):
        series.write(writer, path, maker=Maker("lnq", "0.2.0", "f" * 64))
    assert path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ct", "object.dcm"]


@pytest.mark.parametrize(
    ("name", "version", "weights", "said"),
    [
        ("", "1", "a" * 64, "A maker's name must be 1 to 64 ASCII characters, no backslash, not ''"),
        ("lnq", "1\\2", "a" * 64, "A maker's version must be 1 to 64 ASCII characters, no backslash, not '1\\\\2'"),
        ("lnq", "1", "A" * 64, f"A maker's weights_sha256 must be 64 hex digits, not '{'A' * 64}'"),
    ],
)
def test_maker_that_no_header_can_hold_is_refused(name, version, weights, said):
    with pytest.raises(ValueError) as caught:
        Maker(name, version, weights)
    assert str(caught.value) == said


@pytest.mark.parametrize("writer", [write_seg, write_rtstruct])
def test_nodes_may_be_more_than_a_byte_counts(writer, series, tmp_path):
    array = np.zeros(series.labels.shape, np.int16)
    array.reshape(-1)[: 300 * 2 : 2] = np.arange(1, 301)
    nodes = [dataclasses.replace(series.nodes[0], number=number) for number in range(1, 301)]
    path = series.write(writer, tmp_path / "object.dcm", labels=series.labels.with_array(array), nodes=nodes)
    values = {str(element.value) for element in elements(pydicom.dcmread(path))}
    assert {f"Lymph node {number}" for number in range(1, 301)} <= values


def test_import_needs_neither_highdicom_nor_matplotlib():
    code = "import sys, lnq.results.write_seg, lnq.results.write_sr, lnq.results.write_rtstruct; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"highdicom", "contourpy", "matplotlib", "SimpleITK"} & set(loaded)
