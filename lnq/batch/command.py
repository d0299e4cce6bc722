"""The command `process.py batch`: its options, and its messages during a run."""

from __future__ import annotations

import argparse
import logging
import os
import re
import secrets
import signal
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from lnq.archive.discovery import Found, ToSegment, discover
from lnq.batch.key import default_key_file, list_cases, read_key
from lnq.batch.messages import log_file, progress_of, silence
from lnq.batch.record import MANIFEST
from lnq.batch.run import RESERVED, Batch
from lnq.batch.settings import CaseLimits, WorkerSettings
from lnq.batch.workers.pool import LocalPool, Pool
from lnq.dicom.choice import Choice, read_uids
from lnq.errors import DONE, INTERRUPTED, SOME_FAILED, TERMINATED, BundleError, StartError, Stopped
from lnq.files import PRIVATE_UMASK, prepare_output
from lnq.inference.backends import available_cpus
from lnq.memory import share_gb
from lnq.results.case_record import DICOM_FORMATS, FAILED, FORMATS, ResultOptions
from lnq.signals import signals_go_to

logger = logging.getLogger("lnq")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, except those of the model."""
    parser.add_argument(
        "inputs", type=Path, nargs="+", metavar="IN", help="image file, DICOM series, zip archive, or folder of them"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder for the results")
    choice = parser.add_argument_group("which series", "by default one axial CT of each study")
    choice.add_argument("--all-series", action="store_true", help="every axial CT series")
    choice.add_argument("--series", nargs="+", default=[], metavar="UID", help="the series of these SeriesInstanceUIDs")
    choice.add_argument("--series-list", type=Path, metavar="CSV", help="those in the column series_uid of a table")
    choice.add_argument("--series-description", metavar="REGEX", help="those whose SeriesDescription it matches")
    _add_results(parser.add_argument_group("results"))
    _add_work(parser.add_argument_group("work"))
    talk = parser.add_argument_group("messages")
    talk.add_argument("--quiet", action="store_true", help="nothing but the last sentence")
    talk.add_argument("--json", action="store_true", help="a line of JSON per case, as in the manifest; no progress")
    talk.add_argument("--log", type=Path, metavar="FILE", help="append what is said, with times, to a file")


def _add_results(results: argparse._ArgumentGroup) -> None:
    results.add_argument("--format", choices=FORMATS, default="mha", help="of the masks (default: mha)")
    results.add_argument("--sr", action="store_true", help="write the measured nodes as a DICOM structured report too")
    results.add_argument(
        "--captures", action="store_true", help="write slices with outlines and numbers as DICOM secondary captures too"
    )
    results.add_argument("--pdf", action="store_true", help="write a page with picture and table as DICOM too")
    results.add_argument("--probability", action="store_true", help="write the probability of node as well")
    results.add_argument("--no-preview", action="store_true", help="leave the pictures out")
    results.add_argument("--no-report", action="store_true", help="leave the pages out, which need jinja2")
    results.add_argument("--truth", type=Path, metavar="DIR", help="masks named as the cases: print Dice and ASSD")
    results.add_argument(
        "--case-names",
        choices=("folder", "hash"),
        default="folder",
        help="hash: no path, name or UID, which may be a patient's, in any result or message",
    )
    results.add_argument("--key", type=Path, metavar="FILE", help="of --case-names hash (default: ~/.config/lnq/key)")
    results.add_argument("--private", action="store_true", help="results that their owner alone can read")


def _add_work(work: argparse._ArgumentGroup) -> None:
    work.add_argument("--overwrite", action="store_true", help="do finished cases again")
    work.add_argument(
        "--workers", type=int, default=0, metavar="N", help="cases at a time (default: one per two CPUs, two on two)"
    )
    work.add_argument(
        "--threads",
        type=int,
        default=0,
        metavar="N",
        help="CPU threads of each (default: shared out; of a cluster's 1)",
    )
    work.add_argument("--scheduler", metavar="ADDRESS", help="send the cases to the workers of a Dask cluster")
    work.add_argument("--time-limit", type=float, default=0, metavar="SECONDS", help="a case may take (default: any)")
    work.add_argument(
        "--memory-limit",
        type=float,
        metavar="GB",
        help="a worker may take; 0: any (default: its share of nine tenths of what is free)",
    )


def run(options: argparse.Namespace, bundle: Path) -> tuple[int, str]:
    """Run the command. Returns the exit status and the last sentence. Raises StartError where it cannot start."""
    if options.truth is not None and not options.truth.is_dir():
        raise StartError(f"--truth {options.truth} is not a folder")
    _refuse_contradictions(options)
    choice = _choice(options)
    stop, told = threading.Event(), list[int]()
    with ExitStack() as stack:
        if options.private:
            stack.callback(os.umask, os.umask(PRIVATE_UMASK))
        prepare_output(options.output)
        key_file = None if options.case_names == "folder" else options.key or default_key_file()
        key = "" if key_file is None else read_key(key_file, options.output)
        for context in (log_file(options.log), _signals(stop, told), silence(options.quiet or options.json)):
            stack.enter_context(context)
        failures: list[str] = []
        try:
            found = discover(options.inputs, choice, options.output, key, RESERVED, stop.is_set)
            workers = max(1, min(_workers(options), sum(isinstance(f, ToSegment) for f in found)))
            batch = Batch(found, _settings(options, bundle, workers), options.overwrite, stop.is_set)
            if key_file is not None:
                _list_cases(key_file, found)
            lines = closing(batch.run(_pool(options, batch.settings, workers, stop)))
            with progress_of(len(found), options) as say, lines as records:
                for record, new in records:
                    say(record, new)
                    if record.status == FAILED:
                        failures.append(record.error or "")
        except Stopped:
            status = TERMINATED if told and told[0] == signal.SIGTERM else INTERRUPTED
            return status, "Stopped: finished cases are kept, the same command goes on from there"
        except (StartError, BundleError, BrokenPipeError):
            raise
        except Exception as error:
            if not key:
                raise
            raise StartError(f"Stopped by an unforeseen {type(error).__name__}; its text is withheld") from None
        manifest = options.output / MANIFEST
        if batch.unwritten:
            return SOME_FAILED, batch.unwritten[0]
        if failures:
            return SOME_FAILED, f"{count_failures(failures)} (the rest is done, see {manifest})"
        return DONE, f"All done: results are in {options.output}, listed in {manifest.name}"


def _list_cases(key_file: Path, found: Sequence[Found]) -> None:
    """Tell the owner, beside the key, which case is which."""
    try:
        list_cases(key_file, (one.case for one in found))
    except OSError as error:
        raise StartError(f"The list of cases beside {key_file} cannot be written: {error.strerror}") from None


def _refuse_contradictions(options: argparse.Namespace) -> None:
    """Raise StartError for options that cannot be used, alone or together."""
    wants_dicom = options.sr or options.captures or options.pdf or options.format in DICOM_FORMATS
    if wants_dicom and options.case_names == "hash":
        raise StartError("DICOM results carry the patient's name: --case-names hash goes with image formats alone")
    if (options.sr or options.format == "dicom-seg") and find_spec("highdicom") is None:
        raise StartError("DICOM results need the package highdicom: install the extra lnq[dicom]")
    if not options.no_report and find_spec("jinja2") is None:
        logger.warning("There is no report without the package jinja2: install the extra lnq[report]")
    for name in ("workers", "threads", "time_limit", "memory_limit"):
        if (getattr(options, name) or 0) < 0:
            raise StartError(f"--{name.replace('_', '-')} must not be negative, as {getattr(options, name)} is")


def count_failures(failures: Sequence[str]) -> str:
    """One sentence on all failed cases."""
    if len(failures) == 1:
        return failures[0]
    return f"{len(failures)} cases failed, the first: {failures[0]}"


def _choice(options: argparse.Namespace) -> Choice:
    """Which series are wanted. Raises StartError for a list or an expression that cannot be used."""
    try:
        uids = frozenset(options.series) | (read_uids(options.series_list) if options.series_list else frozenset())
        expression = options.series_description
        return Choice(uids, re.compile(expression) if expression else None, options.all_series)
    except re.error as error:
        raise StartError(
            f"--series-description {options.series_description} is not a regular expression: {error}"
        ) from None
    except ValueError as error:
        raise StartError(str(error)) from None


def _settings(options: argparse.Namespace, bundle: Path, workers: int) -> WorkerSettings:
    return WorkerSettings(
        output=str(options.output.resolve()),
        bundle=str(bundle.resolve()),
        device=options.device,
        precision="f32" if options.scheduler and options.precision == "auto" else options.precision,  # alike everywhere
        mirror=options.mirror,
        members=options.members,
        threads=options.threads or (1 if options.scheduler else max(1, available_cpus() // workers)),
        truth=None if options.truth is None else str(options.truth.resolve()),
        private=options.case_names == "hash",
        umask=PRIVATE_UMASK if options.private else None,
        run=secrets.token_hex(8),
        options=ResultOptions(
            format=options.format,
            sr=options.sr,
            captures=options.captures,
            pdf=options.pdf,
            probability=options.probability,
            preview=not options.no_preview,
            page=not options.no_report and find_spec("jinja2") is not None,
        ),
    )


def _workers(options: argparse.Namespace) -> int:
    """Cases at a time. Half the time of a case one CPU works alone; in the other half the network keeps a few busy."""
    cpus = available_cpus()
    return options.workers or max(min(2, cpus), cpus // 2)


def _pool(options: argparse.Namespace, settings: WorkerSettings, workers: int, stop: threading.Event) -> Pool:
    memory_gb = options.memory_limit
    if memory_gb is None:  # a cluster's machines have limits of their own
        memory_gb = 0.0 if options.scheduler else share_gb(workers)
    limits = CaseLimits(options.time_limit, memory_gb)
    if options.scheduler:
        from lnq.batch.workers.cluster import ClusterPool

        return ClusterPool(settings, limits, options.scheduler, stop)
    return LocalPool(settings, limits, workers, stop)


def _signals(stop: threading.Event, told: list[int]) -> AbstractContextManager[None]:
    """Have SIGINT and SIGTERM set `stop` and add their number to `told`."""

    def note(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        stop.set()

    return signals_go_to(note)
