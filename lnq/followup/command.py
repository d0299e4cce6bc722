"""The command `lnq compare`: two CTs of one patient, node by node."""

from __future__ import annotations

import argparse
import dataclasses
import os
import secrets
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from lnq.batch.case import WORK_FOLDER
from lnq.batch.lock import alone
from lnq.batch.record import MANIFEST, identity_of_result
from lnq.batch.settings import WorkerSettings
from lnq.errors import DONE, SOME_FAILED, ImageError, StartError, cause_of
from lnq.files import PRIVATE_UMASK, prepare_output, replace_files
from lnq.followup.additions import additions_of
from lnq.followup.change import Size, changes_of, choose_targets, pass_on, sum_after_mm, sum_of_short_axes_mm
from lnq.followup.comparison import (
    COMPARISON_CSV,
    COMPARISON_JSON,
    COMPARISON_PAGE,
    Compared,
    FollowUp,
    TargetSum,
    write_csv,
    write_json,
)
from lnq.followup.match import Match, aligned_places, match_nodes, places_of
from lnq.followup.register import LEAST_OVERLAP, Alignment, align
from lnq.followup.source import ResultSource, sources_of
from lnq.followup.time_point import TimePoint, check_pair, read_time_point
from lnq.followup.tracking import Tracks, follow, maker_of, own_tracks, reported_tracks
from lnq.results.case_record import REPORT, SEGMENTS
from lnq.results.dicom_common import Track
from lnq.results.node_table import nodes_of
from lnq.signals import signals_held
from lnq.version import __version__

_FILES = (SEGMENTS, REPORT, COMPARISON_CSV, COMPARISON_PAGE, COMPARISON_JSON)  # the last one tells of the others


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, except those of the model."""
    for name in ("earlier", "later"):
        parser.add_argument(
            name,
            type=Path,
            metavar=name.upper(),
            help="a case's folder of lnq batch, a CT, or the folder of a comparison, which stands for its later CT",
        )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder for the comparison")
    parser.add_argument(
        "--sr",
        type=Path,
        metavar="FILE",
        help="structured report on EARLIER whose tracking UIDs are kept (default: that of its result)",
    )
    parser.add_argument("--private", action="store_true", help="results that their owner alone can read")
    parser.add_argument(
        "--any-patient", action="store_true", help="compare CTs whose headers tell of two patients nevertheless"
    )


def run(options: argparse.Namespace, bundle: Path) -> tuple[int, str]:
    """Run the command. Returns the exit status and the last sentence.

    Raises StartError for what cannot be compared, BundleError where the model that it takes cannot be loaded.
    """
    if find_spec("jinja2") is None:
        raise StartError("A comparison needs the package jinja2 for its page: install the extra lnq[report]")
    output: Path = options.output
    _check_output(output, options.earlier, options.later)
    with ExitStack() as stack:
        if options.private:
            stack.callback(os.umask, os.umask(PRIVATE_UMASK))
        prepare_output(output)
        run = secrets.token_hex(8)
        stack.enter_context(alone(output, run))
        settings = WorkerSettings(
            output="",
            bundle=str(bundle.resolve()),
            device=options.device,
            precision=options.precision,
            mirror=options.mirror,
            members=options.members,
            umask=PRIVATE_UMASK if options.private else None,
        )
        try:
            sources = sources_of(options.earlier, options.later, output, settings)
            points = read_time_point(sources[0].folder), read_time_point(sources[1].folder)
            check_pair(*points, options.any_patient)
            tracks, used = earlier_tracks(sources[0], points[0], options.sr)
            alignment = align(points[0].chest, points[1].chest)
            comparison = compare(output, points, sources[0].comparison, tracks, alignment, used)
            _write(output, output / WORK_FOLDER / run, comparison, points, alignment, tracks)
        except ImageError as error:
            return SOME_FAILED, str(error)
        except OSError as error:
            return SOME_FAILED, f"The comparison cannot be made: {cause_of(error)}"
    return DONE, f"All done: {_counted(comparison)}; see {output / COMPARISON_PAGE}"


def _check_output(output: Path, earlier: Path, later: Path) -> None:
    """Raise StartError where writing into a folder would replace what is compared, or another result."""
    for name, path in (("EARLIER", earlier), ("LATER", later)):
        if path.resolve() in (output.resolve(), output.resolve() / COMPARISON_JSON):
            raise StartError(f"{name} is the output folder, and would be lost: give another one")
    if identity_of_result(output) is not None or (output / MANIFEST).is_file():
        raise StartError(f"{output} holds results of lnq batch: give another output folder")


def earlier_tracks(
    source: ResultSource, point: TimePoint, report: Path | None
) -> tuple[dict[int, Track], tuple[str, ...]]:
    """How the earlier CT's nodes are followed, and identifiers that no new node may get.

    As an earlier comparison or a structured report says. Raises StartError where neither can be what is meant.
    """
    before = source.comparison
    if before is None:
        return reported_tracks(point, report)
    if report is not None:
        raise StartError("EARLIER is a comparison, which has its own tracking UIDs: leave --sr out")
    if before.later.mask_sha256 != point.findings.mask_sha256 or len(before.tracks) != len(point.rows):
        raise StartError(f"{point.record.case} was segmented anew since it was compared: compare it again")
    return dict(enumerate(before.tracks, start=1)), before.used


def compare(
    output: Path,
    points: tuple[TimePoint, TimePoint],
    before: FollowUp | None,
    earlier: Tracks,
    alignment: Alignment,
    used: Sequence[str] = (),
) -> FollowUp:
    """Compare two aligned CTs. `before` is the comparison that the first one was the later part of."""
    rows = points[0].rows, points[1].rows
    matches = match_nodes(aligned_places(points[0].labels, alignment), places_of(points[1].labels))
    matches = [_seen(match, points, alignment) for match in matches]
    later = follow(matches, rows, earlier, own_tracks(points[1]), used)
    targets = before.targets if before else choose_targets(rows[0], earlier)
    changes = changes_of(matches, rows, (earlier, later), targets)
    sums = before.sums if before else (TargetSum(points[0].title, sum_of_short_axes_mm(rows[0], earlier, targets)),)
    sums = (*sums, TargetSum(points[1].title, sum_after_mm(changes, rows[1], later)))
    identifiers = (track.identifier for track in (*earlier.values(), *later.values()))
    return FollowUp(
        earlier=_compared(output, points[0]),
        later=_compared(output, points[1]),
        first=before.first if before else points[0].findings.mask_sha256,
        overlap=round(alignment.overlap, 3),
        changes=tuple(changes),
        tracks=tuple(later[row.number] for row in rows[1]),
        used=tuple(dict.fromkeys((*used, *identifiers))),
        targets=pass_on(changes, later),
        sums=sums if targets or (before and before.sums) else (),
        warnings=_warnings(points, alignment),
    )


def _seen(match: Match, points: tuple[TimePoint, TimePoint], alignment: Alignment) -> Match:
    """The match, outside where its node is in one CT alone and lies beyond the other one."""
    if match.state not in ("new", "gone"):
        return match
    side, number = (1, match.later[0]) if match.state == "new" else (0, match.earlier[0])
    row = next(row for row in points[side].rows if row.number == number)
    matrix = np.linalg.inv(alignment.matrix) if side else alignment.matrix
    other = points[1 - side].opened.volume
    index = (np.linalg.inv(other.affine) @ matrix @ (row.l_mm, row.p_mm, row.s_mm, 1.0))[:3]
    is_shown = ((index >= -0.5) & (index <= np.array(other.shape) - 0.5)).all()
    return match if is_shown else dataclasses.replace(match, is_outside=True)


def _compared(output: Path, point: TimePoint) -> Compared:
    folder = point.folder.resolve()
    if folder.is_relative_to(output.resolve()):
        folder = folder.relative_to(output.resolve())
    return Compared(str(folder), point.record.case, point.date, point.findings.mask_sha256)


def _warnings(points: tuple[TimePoint, TimePoint], alignment: Alignment) -> tuple[str, ...]:
    found = [
        f"The carina was not found in the {name} CT: the alignment started from the middle of the mediastinum."
        for name, point in zip(("earlier", "later"), points, strict=True)
        if point.chest.carina_lps_mm is None
    ]
    if alignment.overlap < LEAST_OVERLAP:
        found.append(
            f"The two CTs could not be aligned well (Dice of the mediastinum {alignment.overlap:.2f}): "
            "check which node is which."
        )
    if points[0].record.versions != points[1].record.versions:
        found.append("Other versions, weights or options found the nodes of the two CTs: a change may be theirs.")
    if points[1].slices and find_spec("highdicom") is None:
        found.append("There are no DICOM results without the package highdicom: install the extra lnq[dicom].")
    for name, point in zip(("earlier", "later"), points, strict=True):
        found += [f"{name.capitalize()} CT: {warning}" for warning in point.record.warnings]
    return tuple(found)


def _write(
    output: Path,
    work: Path,
    comparison: FollowUp,
    points: tuple[TimePoint, TimePoint],
    alignment: Alignment,
    earlier: Tracks,
) -> None:
    """Write all files, or none: those of an earlier comparison in the folder stay until then. `work` is free.

    A signal waits until all are moved. A run that is killed while they are leaves no comparison.json, so nothing goes
    on from a mixture.
    """
    from lnq.followup.page import write_page

    write_csv(work, comparison.changes)
    if points[1].slices and find_spec("highdicom") is not None:
        try:
            _write_objects(work, comparison, points, earlier)
        except ImageError as error:
            warning = f"Left out are {SEGMENTS} and {REPORT}: {error}."
            comparison = dataclasses.replace(comparison, warnings=(*comparison.warnings, warning))
    write_page(work, comparison, points, alignment, output)
    write_json(work, comparison, __version__)
    made = [name for name in _FILES if (work / name).is_file()]
    with signals_held():
        _move(work, output, made)
    for left in output.glob(".replaced-*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)


def _move(work: Path, output: Path, made: Sequence[str]) -> None:
    """Put the files that were made in the place of all that an earlier comparison left. Raises OSError."""
    before = work / "before.json"
    if (output / COMPARISON_JSON).is_file():
        os.replace(output / COMPARISON_JSON, before)
    try:
        replace_files(work, output, made)
    except BaseException:
        if before.is_file():
            os.replace(before, output / COMPARISON_JSON)
        raise
    for name in set(_FILES) - set(made):
        (output / name).unlink(missing_ok=True)


def _write_objects(folder: Path, comparison: FollowUp, points: tuple[TimePoint, TimePoint], earlier: Tracks) -> None:
    from lnq.results.write_seg import write_seg
    from lnq.results.write_sr import write_sr

    later = points[1]
    sizes = {earlier[row.number].uid: (earlier[row.number], Size.of_one(row)) for row in points[0].rows}
    of_slices = later.labels, nodes_of(later.rows), later.slices, maker_of(later), comparison.tracks
    write_seg(folder / SEGMENTS, *of_slices)
    write_sr(folder / REPORT, *of_slices, additions_of(comparison, sizes))


def _counted(comparison: FollowUp) -> str:
    states = [change.state for change in comparison.changes]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return ", ".join(counts) if counts else "no node in either CT"
