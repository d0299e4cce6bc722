"""One case: its folder holds what was asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pydicom
import pytest
from helpers.batch_runs import command
from pydicom.uid import SegmentationStorage

from lnq import cli
from lnq.batch.record import read_manifest
from lnq.image.itk import write_volume


@pytest.mark.parametrize("format", ["dicom-seg", "rtstruct"])
def test_dicom_results_of_a_series_refer_to_it(tmp_path, thorax, tiny_bundle, write_dicom, format):
    pytest.importorskip("highdicom")
    write_dicom(thorax, tmp_path / "in" / "series")
    write_volume(thorax, tmp_path / "in" / "file.mha")
    arguments = command(tmp_path / "in", tmp_path / "out", tiny_bundle, "--format", format, "--sr")
    assert cli.main(arguments) == 1
    manifest = read_manifest(tmp_path / "out")
    assert manifest["file"].error == (
        "file.mha is not a DICOM series, so its result cannot be DICOM: choose another --format"
    )
    assert manifest["series"].mask == "series/segmentation.dcm"
    mask, report = (pydicom.dcmread(tmp_path / "out" / "series" / f"{name}.dcm") for name in ("segmentation", "nodes"))
    assert (mask.Modality, report.Modality) == ({"dicom-seg": "SEG", "rtstruct": "RTSTRUCT"}[format], "SR")
    assert mask.StudyInstanceUID == report.StudyInstanceUID == "1.2.3"
    parts = mask.SegmentSequence if format == "dicom-seg" else mask.StructureSetROISequence
    assert len(parts) == manifest["series"].findings.nodes > 0
    segments = tmp_path / "out" / "series" / "segments.dcm"
    assert segments.exists() == (format == "rtstruct")  # a report never refers to a SEG that is not there
    seg = mask if format == "dicom-seg" else pydicom.dcmread(segments)
    assert referred_to(report, SegmentationStorage) == {seg.SOPInstanceUID}
    if format == "rtstruct":  # as an earlier version left it
        segments.unlink()
        cli.main(arguments)
        assert segments.is_file()


def items(dataset: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    """A data set and all that it holds, at any depth."""
    yield dataset
    for element in dataset:
        for item in element.value if element.VR == "SQ" else ():
            yield from items(item)


def referred_to(report: pydicom.Dataset, sop_class: str) -> set[str]:
    """The instances of a class that a structured report names anywhere."""
    named = (item for item in items(report) if item.get("ReferencedSOPClassUID") == sop_class)
    return {item.ReferencedSOPInstanceUID for item in named}
