"""The object and its page, whose text another program reads."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess

import pydicom
import pytest
from helpers.pictures import ct_of

from lnq.results.write_pdf import NOTE, TITLE, draw_page, write_pdf


@pytest.fixture
def text_of(tmp_path):
    """The text of a PDF."""
    program = shutil.which("pdftotext")
    if program is None:
        pytest.skip("pdftotext is not installed: apt-get install poppler-utils")

    def read(page: bytes) -> str:
        (tmp_path / "page.pdf").write_bytes(page)
        command = [program, "-layout", tmp_path / "page.pdf", "-"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.count("\f") == 1  # one page
        return done.stdout

    return read


def test_the_object_holds_the_page(series, tmp_path):
    path = tmp_path / "page.dcm"
    write_pdf(path, ct_of(series.labels), series.labels, series.nodes, series.read(), series.maker)
    dataset = pydicom.dcmread(path)
    page = dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength]
    assert page.startswith(b"%PDF-") and page.rstrip().endswith(b"%%EOF")
    assert dataset.MIMETypeOfEncapsulatedDocument == "application/pdf" and dataset.DocumentTitle == TITLE
    assert dataset.PatientID == "LNQ-001" and dataset.Modality == "DOC"
    source = pydicom.dcmread(series.slices[0])
    assert dataset.SourceInstanceSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID


def test_the_page_has_the_nodes_of_the_table_and_names_nobody(node_rows, thorax, node_labels, text_of, series):
    text = text_of(draw_page(thorax, node_labels, node_rows, series.maker))
    lines = [line.split() for line in text.splitlines()]
    assert ["3", "24.0", "26.0", "1234", "-10", "0.88"] in lines  # no side, no height
    assert ["2", "12.3", "14.3", "1234", "-10", "0.88", "left", "-12"] in lines
    assert lines.index(["3", "24.0", "26.0", "1234", "-10", "0.88"]) < lines.index(
        ["1", "8.4", "10.4", "1234", "-10", "0.88", "left", "-12"]
    )
    assert TITLE in text and NOTE in text and "lnq 0.1.0, weights 0123456789abcdef" in text
    assert "Doe" not in text and "LNQ-001" not in text


def test_nodes_that_do_not_fit_are_counted(node_rows, thorax, node_labels, text_of, series):
    rows = [dataclasses.replace(node_rows[0], number=number) for number in range(1, 31)]
    assert "6 smaller nodes are not in this table." in text_of(draw_page(thorax, node_labels, rows, series.maker))


def test_a_case_without_a_node_says_so(thorax, node_labels, text_of, series):
    empty = node_labels.with_array(0 * node_labels.array)
    assert "No lymph node was marked." in text_of(draw_page(thorax, empty, [], series.maker))
