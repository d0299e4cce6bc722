"""Turn raw cases into prepared ones: cropped, resampled, compressed, with the statistics that training needs.

    python -m training.prepare SOURCE... -o PREPARED --preset compact

A SOURCE is a folder of pairs `<case>-ct.nrrd` and `<case>-seg.nrrd`, as the LNQ2023 challenge and the phantoms name
them; a data set of nnU-Net v2, with or without `ignore`; a folder with CT series and DICOM SEG objects anywhere below
it; or a CSV table (see `training.data.sources.find`).
Prepared cases are kept, so the same command run again does only what is missing. In the end it writes a page that shows
the data set, and what looks wrong in it: PREPARED/dataset.html.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from training.command import plain_console, run_command
from training.config import COMPACT, ConfigArguments, parse
from training.data.preparation import Preparation, prepare_cases
from training.data.sources.raw_case import Annotation
from training.dataset_page.page import report_dataset


@dataclass(frozen=True)
class Prepare:
    """Prepare raw cases: the challenge's pairs, nnU-Net's data sets, DICOM with DICOM SEG, or a CSV table of files."""

    sources: tyro.conf.Positional[tuple[Path, ...]]  # folders with raw cases, or .csv tables
    output: Annotated[
        Path, tyro.conf.arg(aliases=["-o"])
    ]  # gets a folder per case, dataset.json, splits.csv and dataset.html
    annotation: Annotation = "auto"  # auto: as the source says (names with val or test are full, others partial)
    folds: int | None = None  # of the cases for training, patients kept together; 5 unless given
    processes: int = 1  # cases prepared side by side; each takes up to 2 GB
    preset: str = "compact"  # its spacing and crop
    config: ConfigArguments = COMPACT


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = parse(Prepare, arguments)
    wanted = Preparation(
        sources=command.sources,
        output=command.output,
        spacing_mm=command.config.spacing_mm,
        crop=command.config.crop,
        annotation=command.annotation,
        folds=command.folds,
        processes=command.processes,
    )
    console = plain_console()

    def prepare_and_report() -> bool:
        complete = prepare_cases(wanted, console)
        report_dataset(wanted.output, console)
        return complete

    return run_command(prepare_and_report)


if __name__ == "__main__":
    sys.exit(main())
