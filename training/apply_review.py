"""Turn readers' decisions on candidates into a new version of the labels. The old one stays as it is.

    python -m training.apply_review SOURCE... --candidates CANDIDATES --decisions FOLDER -o LABELS

Sources are those that `training.propose` looked at. LABELS gets `cases.csv`, which `training.prepare` and
`training.convert` read, a label of three states per reviewed case (0 background, 1 node, 2 unknown), where each comes
from, and `votes.csv` with what every reader said. Cases that nobody reviewed keep their label. Rejected CTs are left
out.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import track

from lnq.files import file_sha256, replace_atomically, write_text
from lnq.image.itk import write_volume
from lnq.image.volume import Volume
from lnq.plain import to_plain
from lnq.text import in_cell
from lnq.version import __version__
from training.command import plain_console, run_over_cases
from training.data.sources.find import find_cases, read_pair
from training.data.sources.patient_outlines import write_outlines
from training.data.sources.raw_case import Annotation, RawCase
from training.data.sources.states import UNKNOWN
from training.review.apply import Reviewed, review_case
from training.review.decisions import Decisions, decision_files, read_decisions, refuse_others
from training.review.mining import MINED_BY
from training.review.verdicts import Outcome, tally
from training.review.write import read_found

LABELS, PROVENANCE, IMAGES, SEGMENTATIONS, OUTLINES = "labels", "provenance", "images", "dicom-seg", "outlines"
CASES_CSV, VOTES_CSV = "cases.csv", "votes.csv"
_CASES_COLUMNS = ("case", "patient", "split", "fold", "image", "label", "annotation", "unknown")
_VOTES_COLUMNS = ("case", "what", "reader", "verdict", "outcome", "agreed")


@dataclass(frozen=True)
class ApplyReview:
    """Write a new version of the labels from decisions on candidates."""

    sources: tyro.conf.Positional[tuple[Path, ...]]  # those that training.propose looked at
    candidates: Path  # folder that training.propose wrote
    decisions: tuple[Path, ...]  # decisions files, or folders with them; several readers of a case vote
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets the labels and cases.csv
    full_from_mm: float = 5.0  # a case counts as full where readers state that all nodes of that size are marked
    dicom_seg: bool = False  # write the nodes of DICOM series as DICOM SEG too
    outlines: bool = False  # write the labels as outlines in patient coordinates too
    annotation: Annotation = "auto"  # as of training.prepare


def apply_review(command: ApplyReview, console: Console) -> bool:
    """Write the new labels; returns whether every case could be written.

    Raises ValueError where decisions are damaged or about something else, and where the output holds other labels.
    """
    cases = find_cases(command.sources, command.annotation, console)
    decisions = _read_all(command, {case.name for case in cases})
    outcomes = {
        name: tally([d for _, d in given], len(read_found(command.candidates / name)["candidates"]))
        for name, given in decisions.items()
    }
    made_from = {case.name: _made_from(command, case, decisions[case.name]) for case in cases if case.name in decisions}
    _refuse_other_version(command.output, made_from)
    rows, failed, rejected = [], 0, 0
    for case in track(cases, "Applying", console=console):
        outcome = outcomes.get(case.name)
        if outcome is not None and outcome.rejected:
            rejected += 1
            console.print(f"{case.name} was rejected: {outcome.rejected}")
            continue
        try:
            if outcome is None:
                rows.append(_unreviewed(case, command.output))
            else:
                given = [d for _, d in decisions[case.name]]
                rows.append(_write_case(case, command, given, outcome, made_from[case.name]))
        except (ValueError, OSError, MemoryError) as error:
            failed += 1
            console.print(f"{case.name} is left out: {error}")
    _write_csv(command.output / CASES_CSV, _CASES_COLUMNS, rows)
    _write_votes(command.output / VOTES_CSV, outcomes)
    split = sum(not vote.agreed for outcome in outcomes.values() for vote in outcome.votes)
    unreviewed = sum(case.name not in outcomes for case in cases)
    console.print(
        f"{len(rows)} cases are in {command.output}, {unreviewed} of the sources were not reviewed, {rejected} were "
        f"rejected, {failed} are left out; readers disagree on {split} nodes"
    )
    return not failed


def _read_all(command: ApplyReview, cases: set[str]) -> dict[str, list[tuple[Path, Decisions]]]:
    """The decisions of each case, one per reader. Raises ValueError where one is about something else."""
    found: dict[str, list[tuple[Path, Decisions]]] = {}
    for path in decision_files(command.decisions):
        decisions = read_decisions(path)
        if decisions.case not in cases:
            raise ValueError(f"{path} judges {decisions.case!r}, which is no case of the sources")
        refuse_others(decisions, path, command.candidates / decisions.case)
        of_case = found.setdefault(decisions.case, [])
        twice = [other for other, earlier in of_case if _same_reader(earlier, decisions)]
        if twice:
            raise ValueError(f"{twice[0]} and {path} are both by {decisions.reader}: keep one of them")
        of_case.append((path, decisions))
    return {case: _without_mined(given) for case, given in found.items()}


def _without_mined(given: list[tuple[Path, Decisions]]) -> list[tuple[Path, Decisions]]:
    """The decisions on a case, without mined ones where a person has judged it: those are no second opinion."""
    people = [(path, decisions) for path, decisions in given if not decisions.reader.startswith(MINED_BY)]
    return people or given


def _same_reader(one: Decisions, other: Decisions) -> bool:
    return one.reader.strip().casefold() == other.reader.strip().casefold()


def _made_from(command: ApplyReview, case: RawCase, given: Sequence[tuple[Path, Decisions]]) -> dict[str, Any]:
    """What a label depends on. A case whose files are missing fails later, with that reason."""
    files = {d.reader: {"file": path.name, "sha256": file_sha256(path), "saved": d.saved} for path, d in given}
    subject = to_plain(given[0][1].subject)
    try:
        source = case.files()
    except OSError:
        source = {}
    made_from = {"decisions": files, "subject": subject, "full_from_mm": command.full_from_mm, "source": source}
    as_read: dict[str, Any] = json.loads(json.dumps(made_from))
    return as_read


def _refuse_other_version(output: Path, made_from: dict[str, dict[str, Any]]) -> None:
    """Raise ValueError where the output holds labels that were made from something else, or of cases that are not here.

    The table of cases would then forget what they were made for.
    """
    for path in sorted((output / PROVENANCE).glob("*.json")):
        name = path.name.removesuffix(".json")
        try:
            before = json.loads(path.read_text())["made_from"]
        except (OSError, ValueError, TypeError, KeyError):
            before = None
        if before is None or before != made_from.get(name):
            raise ValueError(
                f"{output} holds a label of {name} from other decisions or sources: give a folder for a new version"
            )


def _unreviewed(case: RawCase, output: Path) -> dict[str, Any]:
    """The line of a case that keeps its label. Raises ValueError where it cannot be used."""
    if case.problem:
        raise ValueError(case.problem)
    image = _image_of(case, output)
    if _is_copy(image, output) and not image.is_file():
        _copy(read_pair(case)[0], image)
    return _row(case, image, None if case.label is None else case.label.resolve(), case.full, case.ignore)


def _row(case: RawCase, image: Path, label: Path | None, full: bool, unknown: int | None) -> dict[str, Any]:
    annotation = "none" if label is None else "full" if full else "partial"
    values = (
        case.name, case.patient, case.split, "" if case.fold is None else case.fold, image, label or "",
        annotation, "" if unknown is None else unknown,
    )  # fmt: skip
    return dict(zip(_CASES_COLUMNS, values, strict=True))


def _image_of(case: RawCase, output: Path) -> Path:
    """What the table names as a case's CT: its file or folder, or a copy unless a folder holds just the series."""
    if not case.slices or set(case.image.iterdir()) == set(case.slices):
        return case.image.resolve()
    return (output / IMAGES / f"{case.name}.nrrd").resolve()


def _is_copy(image: Path, output: Path) -> bool:
    return image.parent == (output / IMAGES).resolve()


def _copy(ct: Volume, image: Path) -> None:
    image.parent.mkdir(parents=True, exist_ok=True)
    write_volume(ct, image)


def _write_case(
    case: RawCase, command: ApplyReview, decisions: Sequence[Decisions], outcome: Outcome, made_from: dict[str, Any]
) -> dict[str, Any]:
    """Write a case's label and where it comes from, unless they are there; returns its line of the table."""
    label, provenance = (
        command.output / part / f"{case.name}{end}" for part, end in ((LABELS, ".nrrd"), (PROVENANCE, ".json"))
    )
    image = _image_of(case, command.output)
    seg = command.output / SEGMENTATIONS / f"{case.name}.dcm" if command.dicom_seg and case.slices else None
    outlines = command.output / OUTLINES / f"{case.name}.json" if command.outlines else None
    wanted = [path for path in (label, provenance, seg, outlines) if path is not None]
    if not all(path.is_file() for path in wanted):
        reviewed = review_case(case, command.candidates / case.name, decisions, outcome, command.full_from_mm)
        for path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
        if seg is not None:
            reviewed.write_dicom_seg(seg)
        if outlines is not None:
            write_outlines(outlines, reviewed.label, _facts(case, decisions, reviewed, outcome))
        if _is_copy(image, command.output):
            _copy(reviewed.ct, image)
        write_volume(reviewed.label, label)
        _write_provenance(provenance, reviewed, outcome, made_from)  # last: it marks a case that is done
    full = bool(json.loads(provenance.read_text())["full"])
    return _row(case, image, label.resolve(), full, UNKNOWN)


def _facts(case: RawCase, decisions: Sequence[Decisions], reviewed: Reviewed, outcome: Outcome) -> dict[str, Any]:
    """Where outlines come from, for a file that leaves this folder."""
    return {
        "case": case.name,
        "readers": [{"reader": one.reader, "saved": one.saved} for one in decisions],
        "complete_from_mm": outcome.complete_from_mm,
        "weights": list(reviewed.weights),
        "ct": decisions[0].subject.ct,
        "made_with": f"lnq {__version__}",
    }


def _write_provenance(path: Path, reviewed: Reviewed, outcome: Outcome, made_from: dict[str, Any]) -> None:
    content = {
        "made_from": made_from,
        "full": reviewed.full,
        "voxels": reviewed.counts(),
        "votes": to_plain(outcome.votes),
        "complete_from_mm": outcome.complete_from_mm,
    }
    write_text(path, json.dumps(content, indent=1) + "\n")


def _write_votes(path: Path, outcomes: dict[str, Outcome]) -> None:
    """A line for each verdict of a reader, in each case those that readers disagree on first."""
    rows = [
        (name, vote.what, reader, verdict, vote.outcome, "yes" if vote.agreed else "no")
        for name, outcome in sorted(outcomes.items())
        for vote in sorted(outcome.votes, key=lambda vote: vote.agreed)
        for reader, verdict in sorted(vote.by_reader.items())
    ]
    cells = (map(in_cell, row) for row in rows)
    _write_csv(path, _VOTES_COLUMNS, [dict(zip(_VOTES_COLUMNS, row, strict=True)) for row in cells])


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status, which is 1 where a case was left out."""
    command = tyro.cli(ApplyReview, args=arguments, prog="python -m training.apply_review")
    return run_over_cases(lambda: apply_review(command, plain_console()))


if __name__ == "__main__":
    sys.exit(main())
