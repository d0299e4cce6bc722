"""A result and its CT are read back as they were, or refused in a sentence."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
from helpers.followups import chest, the_case, write_result

from lnq.errors import ImageError, StartError
from lnq.followup.match import places_of
from lnq.followup.time_point import check_pair, read_time_point
from lnq.image.itk import write_volume
from lnq.image.resample import reorient_to_lps
from lnq.results.case_record import ResultOptions

FLIPPED = np.array([[0, 0, -1.0], [0, -1, 0], [-1, 0, 0]])


def centres(point) -> np.ndarray:
    return np.array([place.centre_mm for place in places_of(point.labels)])


def in_table(point) -> np.ndarray:
    return np.array([(row.l_mm, row.p_mm, row.s_mm) for row in point.rows])


@pytest.mark.parametrize("direction", [None, FLIPPED, FLIPPED[:, [1, 0, 2]]], ids=["LPS", "flipped", "coronal"])
def test_nodes_have_the_numbers_of_the_table(tmp_path, direction):
    ct, mask = chest(((-18, -12, 66), 9), ((16, 4, 59), 8), ((-4, -26, 42), 5), direction=direction)
    write_volume(ct, tmp_path / "ct.nrrd")
    point = read_time_point(write_result(tmp_path / "out", "chest", tmp_path / "ct.nrrd", mask))
    assert [place.number for place in places_of(point.labels)] == [1, 2, 3] == [row.number for row in point.rows]
    assert np.abs(centres(point) - in_table(point)).max() <= 0.06
    assert np.array_equal(point.labels.array > 0, mask.array > 0) and np.allclose(point.labels.affine, ct.affine)
    assert (point.date, point.title, point.slices) == (None, "ct", ())


@pytest.mark.parametrize("format", ["mha", "dicom-seg"])
def test_a_dicom_result_lies_on_its_slices(dicom_results, format):
    point = read_time_point(dicom_results(format)[0])
    assert (point.date, point.title) == ("2026-01-05", "2026-01-05")
    assert len(point.slices) == point.labels.shape[0] == point.ct.shape[0]
    assert np.abs(centres(point) - in_table(point)).max() <= 0.06
    tops = [reorient_to_lps(volume)[0].array for volume in (point.ct, point.labels)]
    assert tops[0][tops[1] > 0].mean() == pytest.approx(75, abs=1)


def test_an_rtstruct_alone_is_not_enough(dicom_results):
    folder, _ = dicom_results("dicom-seg")
    (folder / "segmentation.dcm").rename(folder / "other.dcm")
    record = json.loads((folder / "case.json").read_text())
    record["options"] |= {"format": "rtstruct", "sr": False}
    record["mask"] = "first/other.dcm"
    (folder / "case.json").write_text(json.dumps(record))
    sentence = "The nodes of first are in an RTSTRUCT alone: segment it with --sr as well"
    with pytest.raises(ImageError, match=f"^{sentence}$"):
        read_time_point(folder)


def test_what_is_not_as_it_was_is_refused(image_results, tmp_path):
    folder, _ = image_results
    (tmp_path / "first.nrrd").rename(tmp_path / "elsewhere.nrrd")
    with pytest.raises(ImageError, match=f"^The CT of first is no longer at {tmp_path / 'first.nrrd'}$"):
        read_time_point(folder)
    write_volume(chest()[0], tmp_path / "first.nrrd")
    sentence = "The CT of first has changed since it was segmented: segment it again"
    with pytest.raises(ImageError, match=f"^{sentence}$"):
        read_time_point(folder)


def test_a_mask_that_a_person_changed_is_refused(image_results):
    folder, _ = image_results
    write_volume(chest(((0, 0, 40), 5))[1], folder / "segmentation.mha")
    sentence = "The mask of first is not the one that lnq wrote, so its table does not tell of it"
    with pytest.raises(ImageError, match=f"^{sentence}$"):
        read_time_point(folder)


def test_a_table_of_other_nodes_is_refused(image_results):
    folder, _ = image_results
    rows = json.loads((folder / "nodes.json").read_text())
    rows[0]["l_mm"] += 3.0
    (folder / "nodes.json").write_text(json.dumps(rows))
    with pytest.raises(ImageError, match="^The mask of first does not fit its table: segment it again$"):
        read_time_point(folder)


@pytest.mark.parametrize("name", ["case.json", "nodes.json"])
def test_a_damaged_result_is_refused(image_results, name):
    folder, _ = image_results
    (folder / name).write_text("{")
    with pytest.raises(ImageError, match="^first is damaged, or of another version of lnq: segment it again$"):
        read_time_point(folder)


def test_a_result_without_paths_is_refused(image_results):
    folder, _ = image_results
    record = json.loads((folder / "case.json").read_text()) | {"input": None}
    (folder / "case.json").write_text(json.dumps(record))
    with pytest.raises(ImageError, match="^first was segmented with --case-names hash"):
        read_time_point(folder)


def test_the_same_ct_is_no_pair(image_results):
    point = read_time_point(image_results[0])
    with pytest.raises(StartError, match="^EARLIER and LATER are the same CT$"):
        check_pair(point, point, False)


def test_the_order_of_time_is_kept(dicom_results):
    first, second = map(read_time_point, dicom_results())
    check_pair(first, second, False)
    sentence = "EARLIER is of 2026-04-02 and LATER of 2026-01-05: give them in the order of time"
    with pytest.raises(StartError, match=f"^{sentence}$"):
        check_pair(second, first, False)


@pytest.mark.parametrize(("tag", "value"), [("PatientID", "P2"), ("PatientBirthDate", "19510203"), ("PatientSex", "M")])
def test_two_patients_are_told_apart_without_naming_them(dicom_results, tag, value):
    first, second = map(read_time_point, dicom_results(**{tag: value}))
    sentence = f"EARLIER and LATER are of two patients: their {tag} differs (--any-patient compares them nevertheless)"
    with pytest.raises(StartError, match=f"^{re.escape(sentence)}$"):
        check_pair(first, second, False)
    check_pair(first, second, True)


def test_what_a_header_lacks_tells_no_patients_apart(dicom_results):
    check_pair(*map(read_time_point, dicom_results(PatientID="", PatientSex="")), False)


def test_the_record_is_of_the_case(image_results, tmp_path):
    point = read_time_point(image_results[0])
    assert point.record.id == the_case(tmp_path / "first.nrrd").identity
    assert point.findings == dataclasses.replace(point.findings, options=ResultOptions(preview=False, page=False))
