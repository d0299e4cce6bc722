"""One case: its folder holds what was asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pydicom
import pytest
from helpers.batch_runs import command
from pydicom.uid import SegmentationStorage

from lnq import cli
from lnq.archive.case import DicomSeries
from lnq.batch.case import run_case
from lnq.batch.record import read_manifest
from lnq.batch.settings import WorkerSettings
from lnq.errors import ImageError
from lnq.image.itk import read_volume, write_volume
from lnq.inference.backends import load_model
from lnq.results.case_record import ResultOptions, Versions


@pytest.mark.parametrize("format", ["dicom-seg", "rtstruct"])
def test_dicom_results_of_a_series_refer_to_it(tmp_path, thorax, tiny_bundle, write_dicom, format):
    pytest.importorskip("highdicom")
    write_dicom(thorax, tmp_path / "in" / "series")
    write_volume(thorax, tmp_path / "in" / "file.mha")
    arguments = command(tmp_path / "in", tmp_path / "out", tiny_bundle, "--format", format, "--sr")
    assert cli.main(arguments) == 1
    manifest = read_manifest(tmp_path / "out")
    assert manifest["file"].error == (
        "file.mha is not a DICOM series, so its result cannot be DICOM: "
        "choose an image --format without --sr, --captures, --pdf"
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


def test_captures_and_page_lie_beside_a_mask_of_any_format(tmp_path, thorax, tiny_bundle, write_dicom):
    write_dicom(thorax, tmp_path / "in" / "series")
    arguments = command(tmp_path / "in", tmp_path / "out", tiny_bundle, "--captures", "--pdf")
    assert cli.main(arguments) == 0
    folder = tmp_path / "out" / "series"
    mask = read_volume(folder / "segmentation.mha")
    captures = [pydicom.dcmread(path) for path in sorted((folder / "captures").iterdir())]
    assert len(captures) == mask.array.any(axis=(1, 2)).sum() > 1
    shown = sorted(float(one.ImagePositionPatient[2]) for one in captures)
    heights = mask.affine[2, 3] + mask.affine[2, 0] * mask.array.any(axis=(1, 2)).nonzero()[0]
    assert shown == pytest.approx(sorted(heights.tolist()))
    page = pydicom.dcmread(folder / "page.dcm")
    assert {one.StudyInstanceUID for one in (page, *captures)} == {"1.2.3"}
    (folder / "captures" / "0001.dcm").unlink()
    assert read_manifest(tmp_path / "out")["series"].findings.left_out == ()
    shutil.rmtree(folder / "captures")
    assert cli.main(arguments) == 0 and len(list((folder / "captures").iterdir())) == len(captures)  # done again


def test_captures_that_cannot_be_made_are_left_out(tmp_path, thorax, tiny_bundle, write_dicom, monkeypatch):
    """The mask and the page are written all the same."""

    def fail(folder, *_):
        folder.mkdir()
        (folder / "0001.dcm").write_bytes(b"half")
        raise ImageError("its headers are odd")

    write_dicom(thorax, tmp_path / "in" / "series")
    monkeypatch.setattr("lnq.results.write_capture.write_captures", fail)
    settings = WorkerSettings(str(tmp_path / "out"), str(tiny_bundle), options=ResultOptions(captures=True, pdf=True))
    model = load_model(tiny_bundle, "cpu")
    folder = tmp_path / "in" / "series"
    case = DicomSeries("series", folder, tuple(sorted(folder.iterdir())), "1.2")
    record = run_case(case, model, settings, Versions.of(model))
    assert record.findings.left_out == ("captures",)
    assert "Left out is captures: its headers are odd." in record.warnings
    assert not (tmp_path / "out" / "series" / "captures").exists()
    assert (tmp_path / "out" / "series" / "page.dcm").is_file() and record.mask == "series/segmentation.mha"


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
