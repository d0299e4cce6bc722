"""Write the files of a case's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lnq.archive.open import OpenedCase
from lnq.image.itk import write_volume
from lnq.image.volume import Volume
from lnq.pipeline import Segmentation
from lnq.results.case_record import FORMATS, IMAGE_FORMATS, REPORT, SEGMENTS, CaseRecord, ResultOptions
from lnq.results.node_table import rows_of, write_case_table

MASK = "segmentation"  # the mask's file name, without the format's extension


@dataclass(frozen=True, eq=False)
class CaseResults:
    """The results of a case that are written to its folder."""

    record: CaseRecord
    opened: OpenedCase
    segmentation: Segmentation
    truth: Volume | None

    def write(self, folder: Path, options: ResultOptions) -> None:
        """Write all files of a case except its record into `folder`. Raises OSError where one cannot be written."""
        found = self.segmentation
        rows = rows_of(self.record.case, found.nodes)
        write_case_table(folder, rows)
        if options.format in IMAGE_FORMATS:
            write_volume(found.mask, folder / f"{MASK}{FORMATS[options.format]}")
        if options.wants_dicom:
            self._write_dicom(folder, options)
        if options.probability:
            write_volume(found.probability, folder / f"probability{IMAGE_FORMATS.get(options.format, '.nii.gz')}")
        if options.preview:
            from lnq.results.preview import FILE_NAME, preview

            preview(self.opened.volume, found.labels, folder / FILE_NAME, self.truth, self._title())
        if options.page:
            from lnq.report.pages import PAGE, write_case_page

            write_case_page(folder / PAGE, self.record, rows, self.opened.volume, found.labels, found.region_box)

    def _title(self) -> str:
        scores = self.record.scores
        return self.record.case if scores is None else f"{self.record.case}, Dice {scores.dice:.2f}"

    def _write_dicom(self, folder: Path, options: ResultOptions) -> None:
        """Write the DICOM objects that the options ask for. They refer to the case's series."""
        from lnq.results.dicom_common import Maker

        versions = self.record.versions
        assert versions is not None  # a segmented case was segmented by some version
        found, slices = self.segmentation, self.opened.slices
        assert self.opened.stack is not None  # `wants_dicom` is refused for other cases
        labels = self.opened.stack.on_slices(found.labels)
        maker = Maker("lnq", versions.lnq, versions.weights)
        if options.format == "dicom-seg" or options.sr:
            from lnq.results.write_seg import write_seg

            name = f"{MASK}.dcm" if options.format == "dicom-seg" else SEGMENTS
            write_seg(folder / name, labels, found.nodes, slices, maker)
        if options.format == "rtstruct":
            from lnq.results.write_rtstruct import write_rtstruct

            write_rtstruct(folder / f"{MASK}.dcm", labels, found.nodes, slices, maker)
        if options.sr:
            from lnq.results.write_sr import write_sr

            write_sr(folder / REPORT, labels, found.nodes, slices, maker)
