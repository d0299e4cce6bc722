"""A processing module of mercure, an open DICOM router: one series or study per run, from a folder to a folder.

MERCURE_IN_DIR     the DICOM files, and task.json, whose process.settings are ours (see `MercureSettings`)
MERCURE_OUT_DIR    gets the DICOM results, and result.json, which mercure keeps with the job
"""

from __future__ import annotations

import argparse
import json
import math
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnq.errors import DONE, SOME_FAILED, StartError
from lnq.files import write_text
from lnq.pacs.entry import StudyOutcome
from lnq.pacs.settings import RESULTS, result_options
from lnq.pacs.work import Segmenting, segment_study
from lnq.plain import check_types, from_plain
from lnq.signals import signals_held
from lnq.version import __version__

IN, OUT = "MERCURE_IN_DIR", "MERCURE_OUT_DIR"
TASK, RESULT = "task.json", "result.json"


@dataclass(frozen=True)
class MercureSettings:
    """What a rule of mercure may set for this module."""

    results: tuple[str, ...] = ("seg", "sr")  # of lnq.pacs.settings.RESULTS
    keep_ct: bool = False  # hand the CT on with the results
    time_limit: float = 0.0  # seconds; 0 means any

    def __post_init__(self) -> None:
        check_types(self)
        if not self.results or not set(self.results) <= set(RESULTS):
            raise ValueError(f"results must name some of {', '.join(RESULTS)}")
        if not 0.0 <= self.time_limit < math.inf:
            raise ValueError(f"time_limit must be a number of seconds, not {self.time_limit}")


def read_task(folder: Path) -> MercureSettings:
    """Our settings in mercure's task. Raises StartError where they cannot be used."""
    path = folder / TASK
    if not path.is_file():
        return MercureSettings()
    try:
        task: Any = json.loads(path.read_text())
        process = task.get("process") or {}
        if isinstance(process, list):  # several modules in a row: mercure puts the one that runs first
            process = process[0] if process else {}
        given = process.get("settings") or {}
        if not isinstance(given, Mapping):
            raise ValueError("settings is no table")
        return from_plain(MercureSettings, given)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise StartError(f"The settings in {TASK} cannot be used: {error}") from None


def run(options: argparse.Namespace, bundle: Path) -> tuple[int, str]:
    """Segment what lies in the input folder. Returns the exit status and the last sentence.

    Raises StartError where the folders or the settings cannot be used, and what `segment_study` raises.
    """
    source, target = _folder(IN), _folder(OUT)
    settings = read_task(source)
    how = Segmenting(
        bundle,
        result_options(settings.results),
        secrets.token_hex(32),
        options.device,
        options.precision,
        options.mirror,
        options.members,
        settings.time_limit,
    )
    try:
        with tempfile.TemporaryDirectory(prefix=".lnq-", dir=target) as work:
            objects, folder = Path(work) / "objects", Path(work) / "study"
            objects.mkdir()
            folder.mkdir()
            paths = sorted(path for path in source.iterdir() if path.is_file() and path.suffix != ".json")
            for number, path in enumerate(paths):
                os.symlink(path.resolve(), objects / f"{number:06d}.dcm")
            outcome = segment_study(objects, folder, how, threading.Event())
            with signals_held():  # all results or none
                for number, name in enumerate(outcome.files, start=1):
                    os.rename(folder / name, target / f"lnq-{number:03d}-{Path(name).name}")
        if settings.keep_ct and outcome.files:
            for path in paths:
                shutil.copyfile(path, target / path.name)
        write_text(target / RESULT, json.dumps(_told(outcome), indent=1) + "\n")
    except OSError as error:
        raise StartError(f"{OUT} cannot be written: {error.strerror or error}") from None
    if not outcome.files:
        return SOME_FAILED, " ".join(outcome.sentences)
    return DONE, f"All done: {len(outcome.files)} objects, {outcome.nodes} nodes"


def _told(outcome: StudyOutcome) -> dict[str, Any]:
    return {
        "program": f"lnq {__version__}",
        "notice": "Not for clinical use.",
        "nodes": outcome.nodes,
        "objects": len(outcome.files),
        "messages": list(outcome.sentences),
    }


def _folder(variable: str) -> Path:
    given = os.environ.get(variable)
    if not given:
        raise StartError(f"The environment variable {variable} is not set: mercure sets it")
    if not Path(given).is_dir():
        raise StartError(f"{variable} is {given}, which is no folder")
    return Path(given)
