"""Write a page with a picture and the table of a case's nodes as a DICOM object (Encapsulated PDF)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, EncapsulatedPDFStorage, ExplicitVRLittleEndian

from lnq.dicom.header import SliceFile
from lnq.image.volume import Volume
from lnq.nodes.measure import Node
from lnq.results.dicom_common import Maker, complete, origin_of, save
from lnq.results.node_table import NodeRow, rows_of
from lnq.results.preview import draw_panels

TITLE = "Lymph nodes marked in a chest CT"
NOTE = "Research result of a program, checked by nobody. Not for clinical use."
_A4_INCHES = (8.27, 11.69)
_MOST_ROWS = 24  # of the table; what does not fit on the page is counted below it
_COLUMNS = (
    "node",
    "short axis\nmm",
    "long axis\nmm",
    "volume\nmm³",
    "density\nHU",
    "score",
    "side",
    "above\ncarina mm",
    "station",
)


def write_pdf(
    path: Path, ct: Volume, labels: Volume, nodes: Sequence[Node], slices: Sequence[SliceFile], maker: Maker
) -> None:
    """Write one page: picture, table of the nodes as in `nodes.csv`, the largest first, and what made it.

    The page itself names no patient; the object's header does, as all objects of the study do. `ct` (HU) lies on the
    labels' grid. The other arguments and the errors are those of `lnq.results.write_seg.write_seg`. The same arguments
    give the same bytes.
    """
    origin = origin_of(labels, nodes, slices, maker)
    page = draw_page(ct, labels, rows_of("", nodes), maker)
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = EncapsulatedPDFStorage
    dataset.SOPInstanceUID = origin.instance_uid("DOC", page.hex())
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    dataset.ContentDate = dataset.ContentTime = ""  # `complete` fills them
    complete(dataset, origin, "DOC")
    dataset.ConversionType = "WSD"
    dataset.BurnedInAnnotation = "NO"
    dataset.AcquisitionDateTime = ""
    dataset.DocumentTitle = TITLE
    dataset.ConceptNameCodeSequence = []
    first = origin.source.slices[0]
    source = pydicom.Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = first.SOPClassUID, first.SOPInstanceUID
    dataset.SourceInstanceSequence = [source]
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocumentLength = len(page)
    dataset.EncapsulatedDocument = page + bytes(len(page) % 2)
    save(dataset, path)


def draw_page(ct: Volume, labels: Volume, rows: Sequence[NodeRow], maker: Maker) -> bytes:
    """The page, as the bytes of a PDF. Nothing in it tells when it was made."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=_A4_INCHES)
    head, picture, table = np.asarray(figure.subfigures(3, 1, height_ratios=(0.08, 0.45, 0.47)), object)
    head.text(0.07, 0.45, TITLE, fontsize=15, fontweight="bold")
    head.text(0.07, 0.15, NOTE, fontsize=9)
    draw_panels(picture, ct, labels)
    picture.subplots_adjust(left=0.03, right=0.97, top=0.92, bottom=0.03, hspace=0.2)
    _draw_table(table, rows)
    made = f"{maker.name} {maker.version}, weights {maker.weights_sha256[:16]}"
    figure.text(0.07, 0.03, made, fontsize=7)
    file = io.BytesIO()
    figure.savefig(file, format="pdf", metadata={"CreationDate": None, "Title": TITLE})
    return file.getvalue()


def _draw_table(figure: Any, rows: Sequence[NodeRow]) -> None:
    axes = figure.add_axes((0.07, 0.1, 0.86, 0.86))
    axes.set_axis_off()
    if not rows:
        axes.text(0.0, 0.9, "No lymph node was marked.", fontsize=11)
        return
    largest = sorted(rows, key=lambda row: -row.short_axis_mm)
    cells = [_cells(row) for row in largest[:_MOST_ROWS]]
    table = axes.table(cells, colLabels=_COLUMNS, loc="upper center", cellLoc="center", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    for (row, _), cell in table.get_celld().items():
        cell.set_height(0.07 if row == 0 else 0.036)
    if len(rows) > _MOST_ROWS:
        axes.text(0.0, 0.0, f"{len(rows) - _MOST_ROWS} smaller nodes are not in this table.", fontsize=8)


def _cells(row: NodeRow) -> tuple[str, ...]:
    carina = "" if row.above_carina_mm is None else f"{row.above_carina_mm:.0f}"
    return (
        str(row.number), f"{row.short_axis_mm:.1f}", f"{row.long_axis_mm:.1f}", f"{row.volume_mm3:.0f}",
        f"{row.mean_hu:.0f}", f"{row.mean_probability:.2f}", row.side or "", carina,
        row.station or "",
    )  # fmt: skip
