"""What the command says during a run: on the terminal, and in a log file."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lnq.errors import StartError
from lnq.results.case_record import FAILED, CaseRecord
from lnq.text import PlainFormatter, on_one_line

logger = logging.getLogger("lnq")


@contextmanager
def silence(wanted: bool) -> Iterator[None]:
    """Keep log messages off the terminal where `wanted`."""
    handlers = [h for h in logging.getLogger().handlers if type(h) is logging.StreamHandler] if wanted else []
    for handler in handlers:
        handler.addFilter(_nothing)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_nothing)


def _nothing(_record: logging.LogRecord) -> bool:
    return False


@contextmanager
def log_file(path: Path | None) -> Iterator[None]:
    """Append messages to a file too. Raises StartError where it cannot be written."""
    if path is None:
        yield
        return
    try:
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise StartError(f"The log file {path} cannot be written: {error.strerror}") from None
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def progress_of(total: int, options: argparse.Namespace) -> Iterator[Callable[[CaseRecord, bool], None]]:
    """Yield a function that reports one case: by a line and a bar with the time left, a line of JSON, or not at all."""
    if options.quiet or options.json:

        def say(record: CaseRecord, new: bool) -> None:
            _log(record, new)
            if options.json:
                print(record.line(), end="", flush=True)

        yield say
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn())
    times = (bars.TimeElapsedColumn(), bars.TextColumn("left"), bars.TimeRemainingColumn())
    # On a terminal, rich prints the lines above the bar. A pipe gets them unchanged.
    console = Console(stderr=True)
    with bars.Progress(*columns, *times, console=console, redirect_stdout=sys.stdout.isatty()) as progress:
        task = progress.add_task("Segmenting", total=total)

        def tell(record: CaseRecord, new: bool) -> None:
            _log(record, new)
            progress.advance(task)
            print(describe(record, new), flush=True)

        yield tell


def _log(record: CaseRecord, new: bool) -> None:
    """Write a case's line to the log file alone. The terminal has its own lines."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            level = logging.ERROR if record.status == FAILED else logging.INFO
            handler.handle(logger.makeRecord(logger.name, level, "", 0, describe(record, new), (), None))


def describe(record: CaseRecord, new: bool) -> str:
    """One line for a case and one for each of its warnings. `new` says that this run made the result."""
    if record.findings is None:
        outcome = "failed" if record.status == FAILED else "left out"
        return on_one_line(f"{record.case}: {outcome}: {record.error}")
    text = f"{record.case}: done in {record.seconds:.1f} s" if new else f"{record.case}: an earlier run did it"
    nodes, scores = record.findings.nodes, record.scores
    text += f", {nodes or 'no'} node{'' if nodes == 1 else 's'} found"
    if scores is not None:
        distance = "none" if scores.assd_mm is None else f"{scores.assd_mm:.2f} mm"
        text += f", Dice {scores.dice:.3f}, ASSD {distance}"
    if record.chosen:
        text += f"; {record.chosen}"
    return "\n".join(map(on_one_line, [text, *(f"  warning: {w}" for w in record.warnings)]))
