"""Write the files of a case's folder."""

from __future__ import annotations

import dataclasses
import errno
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lnq.archive.open import OpenedCase
from lnq.dicom.header import SliceFile
from lnq.errors import ImageError, Message, Words, cause_of
from lnq.files import file_sha256
from lnq.image.itk import write_volume
from lnq.image.volume import Volume
from lnq.nodes.measure import Node
from lnq.pipeline import Segmentation
from lnq.results.case_record import (
    CAPTURES,
    FORMATS,
    IMAGE_FORMATS,
    PAGE,
    PDF,
    PREVIEW,
    REPORT,
    SEGMENTS,
    CaseRecord,
    ResultOptions,
)
from lnq.results.node_table import NodeRow, rows_of, write_case_table

if TYPE_CHECKING:
    from lnq.results.dicom_common import Maker

INSTEAD = "mha"  # format of the mask where a DICOM object cannot be made
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
logger = logging.getLogger(__name__)
MASK = "segmentation"  # the mask's file name, without the format's extension


@dataclass(frozen=True, eq=False)
class CaseResults:
    """The results of a case that are written to its folder."""

    record: CaseRecord
    opened: OpenedCase
    segmentation: Segmentation
    truth: Volume | None
    said: Callable[[Message], str]  # the text of a message in results

    def write(self, folder: Path, options: ResultOptions) -> CaseRecord:
        """Write all files of a case except its record into `folder`. Returns the record with what became of them.

        Mask and table are written whatever happens to the other files, each of which is left out with a warning where
        it cannot be made. Raises OSError where the mask or the table cannot be written, or where the disk is full.
        """
        found = self.segmentation
        rows = rows_of(self.record.case, found.nodes)
        write_case_table(folder, rows)
        files = _Files(folder, self.said)
        mask = f"{MASK}{FORMATS[options.format]}"
        if options.format not in IMAGE_FORMATS:
            files.add((mask,), lambda: self._write_object(folder / mask, options.format))
            if mask in files.left_out:
                mask = f"{MASK}{IMAGE_FORMATS[INSTEAD]}"
                files.warnings[-1] += f" The mask is in {mask} instead."
        if not mask.endswith(".dcm"):
            write_volume(found.mask, folder / mask)
        if options.sr:
            files.add(options.of_report, lambda: self._write_report(folder, options, mask))
        if options.captures:
            files.add((CAPTURES,), lambda: self._write_captures(folder))
        if options.pdf:
            files.add((PDF,), lambda: self._write_pdf(folder))
        if options.probability:
            write_volume(found.probability, folder / f"probability{IMAGE_FORMATS.get(options.format, '.nii.gz')}")
        if options.preview:
            files.add((PREVIEW,), lambda: self._write_preview(folder))
        assert self.record.findings is not None  # a segmented case has findings
        findings = dataclasses.replace(self.record.findings, mask_sha256=file_sha256(folder / mask))
        record = dataclasses.replace(self.record, mask=f"{self.record.case}/{mask}", findings=findings)
        record = files.noted(record)
        if options.page:
            files.add((PAGE,), lambda: self._write_page(folder, record, rows))
        return files.noted(record)

    def _write_preview(self, folder: Path) -> None:
        from lnq.results.preview import preview

        preview(self.opened.volume, self.segmentation.labels, folder / PREVIEW, self.truth, self._title())

    def _write_page(self, folder: Path, record: CaseRecord, rows: Sequence[NodeRow]) -> None:
        from lnq.report.pages import write_case_page

        found = self.segmentation
        write_case_page(folder / PAGE, record, rows, self.opened.volume, found.labels, found.region_box)

    def _title(self) -> str:
        scores = self.record.scores
        return self.record.case if scores is None else f"{self.record.case}, Dice {scores.dice:.2f}"

    def _write_object(self, path: Path, format: str) -> None:
        """Write the mask as a DICOM object that refers to the case's series."""
        if format == "dicom-seg":
            from lnq.results.write_seg import write_seg

            write_seg(path, *self._of_slices())
        else:
            from lnq.results.write_rtstruct import write_rtstruct

            write_rtstruct(path, *self._of_slices())

    def _write_report(self, folder: Path, options: ResultOptions, mask: str) -> None:
        """Write the structured report, and the SEG that it refers to unless that is the mask.

        Raises ImageError where the mask should have been that SEG, and could not be written.
        """
        from lnq.results.write_sr import write_sr

        if options.format == "dicom-seg" and not mask.endswith(".dcm"):
            raise ImageError("the DICOM SEG that it refers to could not be written")
        if options.format != "dicom-seg":
            self._write_object(folder / SEGMENTS, "dicom-seg")
        write_sr(folder / REPORT, *self._of_slices())

    def _write_captures(self, folder: Path) -> None:
        from lnq.results.write_capture import write_captures

        write_captures(folder / CAPTURES, self._ct_on_slices(), *self._of_slices())

    def _write_pdf(self, folder: Path) -> None:
        from lnq.results.write_pdf import write_pdf

        write_pdf(folder / PDF, self._ct_on_slices(), *self._of_slices())

    def _ct_on_slices(self) -> Volume:
        assert self.opened.stack is not None  # of a DICOM series
        return self.opened.stack.on_slices(self.opened.volume)

    def _of_slices(self) -> tuple[Volume, Sequence[Node], Sequence[SliceFile], Maker]:
        """What DICOM objects are made from: labels on the slices, nodes, slices and maker."""
        from lnq.results.dicom_common import Maker

        versions, stack = self.record.versions, self.opened.stack
        assert versions is not None and stack is not None  # of a segmented case, and of a DICOM series
        labels = stack.on_slices(self.segmentation.labels)
        maker = Maker("lnq", versions.lnq, versions.weights)
        return labels, self.segmentation.nodes, self.opened.slices, maker


class _Files:
    """The files of a case that may be left out."""

    def __init__(self, folder: Path, said: Callable[[Message], str]) -> None:
        self._folder = folder
        self._said = said
        self.left_out: list[str] = []
        self.warnings: list[str] = []

    def add(self, names: Sequence[str], work: Callable[[], None]) -> None:
        """Write files by `work`. Where that fails, none of them stays. Raises OSError where the disk is full."""
        try:
            work()
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise
            if not isinstance(error, (ImageError, MemoryError, OSError)):
                logger.exception("Unforeseen error with %s", ", ".join(names))
            for name in names:
                path = self._folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            self.left_out += names
            what = Words(" and ".join(names))
            self.warnings.append(
                self._said(Message("Left out is {files}: {cause}.", files=what, cause=cause_of(error)))
            )

    def noted(self, record: CaseRecord) -> CaseRecord:
        """The record with what was left out, and why."""
        assert record.findings is not None  # a segmented case has findings
        findings = dataclasses.replace(record.findings, left_out=tuple(self.left_out))
        warnings = tuple(dict.fromkeys((*record.warnings, *self.warnings)))
        return dataclasses.replace(record, warnings=warnings, findings=findings)
