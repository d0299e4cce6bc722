"""Results of two CTs of one patient, without a network: their masks are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers.chests import RADIUS_MM, draw_chest, grid, positions

from lnq.archive.case import Case, content_sha256, file_state
from lnq.archive.discovery import ToSegment, discover
from lnq.archive.open import OpenedCase
from lnq.batch.record import write_record
from lnq.dicom.header import SliceFile
from lnq.files import file_sha256
from lnq.image.itk import write_volume
from lnq.image.resample import reorient_to_lps
from lnq.image.volume import Volume
from lnq.nodes.measure import Landmarks, Node, measure_nodes
from lnq.results.case_record import DONE, REPORT, SEGMENTS, CaseRecord, Findings, ResultOptions, Versions
from lnq.results.dicom_common import Maker
from lnq.results.node_table import rows_of, write_case_table
from lnq.results.write_seg import write_seg
from lnq.results.write_sr import write_sr

VERSIONS = Versions("1.0", "1" * 64, "2" * 64, "none", "cpu")
MAKER = Maker("lnq", "1.0", "2" * 64)


def balls(place: Volume, *nodes: tuple[tuple[float, float, float], float]) -> Volume:
    """A mask of balls, by centre (L, P, S) and radius, both in mm."""
    at = positions(place)
    inside = [np.linalg.norm(at - np.array(c)[:, None, None, None], axis=0) <= radius for c, radius in nodes]
    return place.with_array(np.any(inside, axis=0).astype(np.uint8) if inside else np.zeros(place.shape, np.uint8))


def chest(
    *nodes: tuple[tuple[float, float, float], float], direction: np.ndarray | None = None
) -> tuple[Volume, Volume]:
    """A chest CT of one patient, and a mask of balls that are drawn into it."""
    ct, _ = draw_chest(grid(direction), 1)
    mask = balls(ct, *nodes)
    hu = ct.array.copy()
    hu[mask.array > 0] = 75
    return ct.with_array(hu), mask


def of_radius(
    *centres: tuple[float, float, float], radius_mm: float = RADIUS_MM
) -> list[tuple[tuple[float, float, float], float]]:
    """These centres with one radius."""
    return [(centre, radius_mm) for centre in centres]


def the_case(path: Path) -> Case:
    """The one case of a path."""
    (case,) = (one.case for one in discover([path]) if isinstance(one, ToSegment))
    return case


def write_result(output: Path, name: str, path: Path, mask: Volume, options: ResultOptions | None = None) -> Path:
    """The result of a CT's file or folder, of which `mask` marks the nodes. Returns the case's folder."""
    options = options or ResultOptions(preview=False, page=False)
    case, folder = the_case(path), output / name
    folder.mkdir(parents=True)
    opened = case.open(output)
    nodes, labels = measured(opened, mask)
    write_case_table(folder, rows_of(name, nodes))
    if options.format == "mha":
        write_volume(mask, folder / "segmentation.mha")
    if options.wants_dicom:
        write_objects(folder, opened, nodes, labels, options)
    file = "segmentation.dcm" if options.format == "dicom-seg" else "segmentation.mha"
    findings = Findings(
        volume_mm3=sum(node.volume_mm3 for node in nodes),
        options=options,
        nodes=len(nodes),
        input_sha256=content_sha256(case),
        input_state=file_state(case),
        mask_sha256=file_sha256(folder / file),
    )
    record = CaseRecord(
        name, case.identity, str(case.path), case.series_uid, DONE, None, f"{name}/{file}", (), VERSIONS, findings
    )
    write_record(folder, record)
    return folder


def measured(opened: OpenedCase, mask: Volume) -> tuple[list[Node], Volume]:
    """The nodes of a mask, and their numbers on the CT's own grid."""
    lps, orientation = reorient_to_lps(mask)
    hu = reorient_to_lps(opened.volume)[0].array.astype(np.float32)
    nodes, numbers = measure_nodes(lps, hu, np.full(lps.shape, 0.75, np.float32), Landmarks(0.0, None))
    return nodes, mask.with_array(np.ascontiguousarray(orientation.undo(numbers)))


def write_objects(
    folder: Path, opened: OpenedCase, nodes: list[Node], labels: Volume, options: ResultOptions
) -> tuple[SliceFile, ...]:
    """The DICOM objects of a result."""
    assert opened.stack is not None
    seg = "segmentation.dcm" if options.format == "dicom-seg" else SEGMENTS
    write_seg(folder / seg, opened.stack.on_slices(labels), nodes, opened.slices, MAKER)
    if options.sr:
        write_sr(folder / REPORT, opened.stack.on_slices(labels), nodes, opened.slices, MAKER)
    return opened.slices
