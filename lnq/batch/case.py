"""Segment one case of a batch, and put the complete folder of its results into the output."""

from __future__ import annotations

import dataclasses
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from lnq.archive.case import Case, content_sha256, file_state
from lnq.batch.record import blank_record, identity_of_result, record_of_failure, write_record
from lnq.batch.settings import WorkerSettings
from lnq.batch.truth import read_truth, score, truth_sha256
from lnq.batch.write import CaseResults
from lnq.errors import ImageError, Message, attempt
from lnq.files import replace_folder
from lnq.inference.backends import Model
from lnq.pipeline import segment
from lnq.results.case_record import DONE, CaseRecord, Findings, Versions

WORK_FOLDER = ".lnq-work"  # folder below the output for cases that are not finished
REPLACED = "replaced"  # an earlier result within it, while another takes its place


def run_case(
    case: Case, model: Model, settings: WorkerSettings, versions: Versions, scratch: Path | None = None
) -> CaseRecord:
    """Segment a case and put its complete folder into the output. Returns its record.

    The results are prepared in the folder `scratch`, which is this process's own and on the output's file system.

    A case that fails leaves no files. Its record says why, and its result of an earlier run stays.
    """
    start = time.perf_counter()
    records: list[CaseRecord] = []

    def work() -> None:
        with _made(scratch or scratch_folder(settings, "one")) as folder:
            result, unpacked = folder / "result", folder / "unpacked"
            result.mkdir()
            unpacked.mkdir()
            blank = dataclasses.replace(blank_record(case, settings), versions=versions)
            record = _segment_into(blank, case, model, settings, result, unpacked)
            record = dataclasses.replace(record, seconds=round(time.perf_counter() - start, 2))
            write_record(result, record)
            publish(result, Path(settings.output) / case.name, case.path.name)
            records.append(record)

    reason = attempt(case.path.name, work)
    if reason is None:
        return records[0]
    return record_of_failure(case, settings, reason, round(time.perf_counter() - start, 2), versions)


def _segment_into(
    blank: CaseRecord, case: Case, model: Model, settings: WorkerSettings, folder: Path, scratch: Path
) -> CaseRecord:
    """Segment one case and write its files into `folder`. Returns its record, without the seconds."""
    options = settings.options
    state, digest = file_state(case), content_sha256(case)
    opened = case.open(scratch)
    if options.wants_dicom and not opened.slices:
        sentence = "{subject} is not a DICOM series, so its result cannot be DICOM: "
        sentence += "choose an image --format without --sr, --captures, --pdf"
        raise ImageError(sentence, subject=case.path.name)
    truth = read_truth(case, settings.truth, opened.volume)
    segmentation = segment(opened.volume, model)
    warnings = [*case.warnings, *segmentation.warnings]
    scores = None
    if truth is not None:
        scores = score(segmentation.mask, truth, truth_sha256(case, settings.truth) or "")
    elif settings.truth is not None:
        warnings.append("No truth with this case's name was found.")
    mask = segmentation.mask
    findings = Findings(
        volume_mm3=round(float(mask.array.sum(dtype=np.int64)) * mask.voxel_volume_mm3, 1),
        options=options,
        nodes=len(segmentation.nodes),
        input_sha256=digest,
        input_state=state,
        scores=scores,
    )
    record = dataclasses.replace(blank, status=DONE, warnings=tuple(warnings), findings=findings)
    results = CaseResults(record, opened, segmentation, truth, lambda message: settings.said(message, case))
    record = results.write(folder, options)
    if file_state(case) != state:
        sentence = "{subject} cannot be used: its files changed while it was segmented"
        raise ImageError(sentence, subject=case.path.name)
    return record


def scratch_folder(settings: WorkerSettings, worker: str) -> Path:
    """The folder in which a worker process of this name prepares its results."""
    return Path(settings.output) / WORK_FOLDER / settings.run / worker


@contextmanager
def _made(scratch: Path) -> Iterator[Path]:
    """Make a folder for one case, and remove it afterwards."""
    folder = scratch / secrets.token_hex(4)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        clear_scratch(scratch)


def clear_scratch(scratch: Path) -> None:
    """Remove what a worker process has left, but for earlier results that it was replacing: the run puts them back."""
    for folder in scratch.iterdir() if scratch.is_dir() else ():
        if not (folder / REPLACED).exists():
            shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        scratch.rmdir()


def publish(result: Path, target: Path, subject: str) -> None:
    """Move a finished folder to `target` and replace an earlier result of it.

    Raises ImageError about the case called `subject` where anything else is there, OSError where it cannot be moved.
    """
    if target.exists() and identity_of_result(target) is None and not (target.is_dir() and not any(target.iterdir())):
        sentence = "{place} is in the way: it is not the result of an earlier run"
        reason = Message(sentence, place=target)
        raise ImageError("{subject} could not be segmented: {reason}", subject=subject, reason=reason)
    replace_folder(result, target, result.with_name(REPLACED))
