"""A study of the queue becomes DICOM results, or sentences that name nobody."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

pytest.importorskip("pynetdicom")
pytest.importorskip("highdicom")

from helpers.pacs import MODEL, write_study
from pydicom import dcmread

from lnq.errors import BundleError, StartError, Stopped
from lnq.pacs.entry import Entry
from lnq.pacs.work import Segmenting, segment_study
from lnq.results.case_record import ResultOptions

OPTIONS = ResultOptions(format="dicom-seg", sr=True, preview=False, page=False)
HOW = Segmenting(MODEL, OPTIONS, key="0" * 64, precision="f32")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder / "objects", 1)
    return folder


def copy_of(study: Path, tmp_path: Path) -> Entry:
    shutil.copytree(study / "objects", tmp_path / "1-a" / "objects")
    return Entry(tmp_path / "1-a")


def test_results_are_dicom_objects_of_the_patient(study, tmp_path):
    entry = copy_of(study, tmp_path)
    outcome = segment_study(entry.objects, entry.folder, HOW, threading.Event())
    objects = [dcmread(entry.folder / name) for name in outcome.files]
    assert sorted(one.Modality for one in objects) == ["SEG", "SR"]
    assert {one.PatientID for one in objects} == {"SECRET1"}
    again = segment_study(entry.objects, entry.folder, HOW, threading.Event())  # after a kill: nothing is made twice
    assert again.files == outcome.files
    assert [dcmread(entry.folder / n).SOPInstanceUID for n in again.files] == [o.SOPInstanceUID for o in objects]
    assert not any("SECRET" in text or "Secret" in text for text in (*outcome.files, *outcome.sentences))


def test_a_study_with_a_hole_fails_with_a_sentence_that_names_nobody(study, tmp_path):
    entry = copy_of(study, tmp_path)
    for number in range(20, 40):
        (entry.objects / f"{number:04}.dcm").unlink()
    outcome = segment_study(entry.objects, entry.folder, HOW, threading.Event())
    assert outcome.files == () and len(outcome.sentences) == 1
    assert "slices are missing" in outcome.sentences[0] and "SECRET" not in outcome.sentences[0]


def test_a_study_without_a_ct_has_nothing_to_segment(tmp_path):
    entry = Entry(tmp_path / "1-a")
    entry.objects.mkdir(parents=True)
    assert segment_study(entry.objects, entry.folder, HOW, threading.Event()).sentences == (
        "No axial CT series is in it",
    )
    (entry.objects / "x.dcm").write_bytes(b"no DICOM")
    assert segment_study(entry.objects, entry.folder, HOW, threading.Event()).sentences == (
        "No axial CT series is in it",
    )


def test_a_model_that_is_not_there_is_the_nodes_fault_and_not_the_studys(study, tmp_path):
    how, entry = Segmenting(tmp_path / "none", OPTIONS, key="0" * 64), copy_of(study, tmp_path)
    with pytest.raises((BundleError, StartError)):
        segment_study(entry.objects, entry.folder, how, threading.Event())


def test_told_to_stop_it_stops(study, tmp_path):
    stop, entry = threading.Event(), copy_of(study, tmp_path)
    stop.set()
    with pytest.raises(Stopped):
        segment_study(entry.objects, entry.folder, HOW, stop)
