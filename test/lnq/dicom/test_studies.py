"""Random sets of objects, as archives hold them: nothing is lost, and no series holds two patients."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    MRImageStorage,
    RawDataStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
)

from lnq.dicom.choice import Choice, select
from lnq.dicom.series import Gatherer, Series

UIDS = ("1.1", "1.2")
COUNT = 12

Objects = list[tuple[Dataset, str]]


def image(patient: str, study: str, series: str, sop: str, z: float, **tags: object) -> Dataset:
    dataset = Dataset()
    elements = {
        "SOPClassUID": CTImageStorage,
        "Modality": "CT",
        "PatientID": patient,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
        "SOPInstanceUID": sop,
        "ImagePositionPatient": [0, 0, z],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [1, 1],
        "Rows": 512,
        "Columns": 512,
    }
    for name, value in (elements | tags).items():
        if value is not None:
            setattr(dataset, name, value)
    return dataset


STRANGERS = (
    {"SOPClassUID": SecondaryCaptureImageStorage, "ImagePositionPatient": None, "Rows": 64, "Columns": 64},
    {"SOPClassUID": RTStructureSetStorage, "Modality": "RTSTRUCT", "ImagePositionPatient": None, "Rows": None},
    {"SOPClassUID": RawDataStorage, "ImagePositionPatient": None, "Rows": None},
    {"SOPClassUID": MRImageStorage, "Modality": "MR"},
    {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]},
    {"Rows": 256},
    {"Modality": None, "SOPClassUID": None},
)


@st.composite
def archives(draw: st.DrawFn) -> Objects:
    """Scans of two patients whose UIDs may be reused, objects of other kinds among them, and copies."""
    objects: Objects = []
    for number in range(draw(st.integers(1, 3))):
        patient, study, series = (draw(st.sampled_from(values)) for values in (("A", "B"), UIDS, UIDS))
        restart = draw(st.booleans())
        marks = {"ConvolutionKernel": draw(st.sampled_from(("B31f", "B70f"))), "AcquisitionNumber": number}
        for z in range(COUNT):
            sop = f"2.{z}" if restart else f"2.{number}.{z}"
            objects.append((image(patient, study, series, sop, 3.0 * z, **marks), f"/{number}/{z}"))
        for index, stranger in enumerate(draw(st.lists(st.sampled_from(STRANGERS), max_size=3))):
            other = image(patient, study, series, f"3.{number}.{index}", 500.0 + index, **stranger)
            objects.append((other, f"/{number}/s{index}"))
    for index in draw(st.lists(st.integers(0, len(objects) - 1), max_size=3, unique=True)):
        objects.append((objects[index][0], f"/copies/{index}"))
    return objects


def gather(objects: Objects) -> list[Series]:
    patients = {place: header.get("PatientID") for header, place in objects}
    same = {place: id(header) for header, place in objects}
    gatherer = Gatherer(lambda one, other: same[one.place] == same[other.place])
    for header, place in objects:
        gatherer.add(header, place, Path(place).parent)
    found = gatherer.all()
    for series in found:
        assert len({patients[place] for place in (*series.places, *series.copies)}) == 1
    return found


@settings(max_examples=60, deadline=None)
@given(archives(), st.randoms(use_true_random=False))
def test_every_object_is_in_one_series_of_its_patient(objects: Objects, random) -> None:
    found = gather(objects)
    places = [place for series in found for place in (*series.places, *series.copies)]
    assert sorted(places) == sorted(place for _, place in objects)
    selection = select(found, Choice())
    assert {id(series) for series in (*selection.chosen, *(o for o, _ in selection.others))} == {
        id(series) for series in found
    }
    assert all(str(reason) for _, reason in selection.others)
    chosen = selection.chosen
    for series in chosen:
        assert len(series.places) == len(set(series.positions_mm)) == COUNT
    assert len({series.study for series in chosen}) == len(chosen)
    scanned = {(header.get("PatientID"), header.StudyInstanceUID) for header, place in objects if place.endswith("/0")}
    assert {(series.text("PatientID"), series.study_uid) for series in chosen} == scanned


def facts(found: list[Series]) -> set[tuple]:
    return {(series.uid, series.patient, series.kind, tuple(sorted(series.positions_mm))) for series in found}


@settings(max_examples=40, deadline=None)
@given(archives(), st.randoms(use_true_random=False))
def test_series_do_not_depend_on_the_order_of_the_files(objects: Objects, random) -> None:
    mixed = list(objects)
    random.shuffle(mixed)
    assert facts(gather(mixed)) == facts(gather(objects))
    one, other = (facts(select(gather(given), Choice()).chosen) for given in (objects, mixed))
    assert one == other
