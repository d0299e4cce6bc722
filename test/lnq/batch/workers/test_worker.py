"""Worker processes: what ends one ends its case alone, and leaves nothing half-written."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from lnq.archive.case import ImageFile
from lnq.batch.case import WORK_FOLDER
from lnq.batch.settings import CaseLimits, WorkerSettings
from lnq.batch.workers import worker as supervise
from lnq.batch.workers.worker import Worker, resident_gb
from lnq.errors import StartError, Stopped
from lnq.image.itk import write_volume


@pytest.fixture
def case(tmp_path, thorax) -> ImageFile:
    write_volume(thorax, tmp_path / "ct.mha")
    return ImageFile("ct", tmp_path / "ct.mha")


@pytest.fixture
def settings(tmp_path, tiny_bundle) -> WorkerSettings:
    return WorkerSettings(str(tmp_path / "out"), str(tiny_bundle), threads=1)


def left(settings: WorkerSettings) -> list[str]:
    """Names below the output folder."""
    output = Path(settings.output)
    return sorted(p.name for p in output.iterdir() if p.name != WORK_FOLDER) + [
        p.name for p in (output / WORK_FOLDER / settings.run).iterdir()
    ]


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (CaseLimits(seconds=0.001), "ct.mha could not be segmented: it took longer than 0.001 s"),
        (CaseLimits(memory_gb=0.05), "ct.mha could not be segmented: it took more than 0.05 GB of memory"),
    ],
)
def test_a_case_beyond_a_limit_fails_and_the_next_one_has_a_new_process(case, settings, limits, sentence):
    worker = Worker(settings, limits)
    for _ in range(2):
        record = worker.run(case)
        assert (record.status, record.error, record.mask) == ("failed", sentence, None)
        assert left(settings) == []


def test_a_crash_ends_its_case_alone(case, settings):
    worker = Worker(settings, CaseLimits())
    worker.start()
    process = worker._process
    assert process is not None
    os.kill(process.pid, signal.SIGSEGV)
    record = worker.run(case)
    assert record.error == "ct.mha could not be segmented: it crashed (SIGSEGV)"
    assert record.versions is not None
    assert worker.run(case).is_done
    assert left(settings) == ["ct"]
    worker.close()


def test_a_worker_that_is_told_to_stop_drops_its_case(case, settings):
    stop = threading.Event()
    worker = Worker(settings, CaseLimits(), stop.is_set)
    worker.start()
    stop.set()
    with pytest.raises(Stopped):
        worker.run(case)
    assert not (Path(settings.output) / "ct").exists()
    worker.close()
    worker.close()  # again does nothing


def test_a_worker_ends_with_the_process_that_it_works_for(case, settings):
    worker = Worker(settings, CaseLimits())
    worker.start()
    process = worker._process
    assert process is not None
    worker._connection.close()  # as the system does for a process that was killed
    assert process.wait(timeout=30) == 0


def test_a_bundle_that_cannot_be_loaded_is_named(settings, tmp_path):
    worker = Worker(WorkerSettings(settings.output, str(tmp_path / "none")), CaseLimits())
    with pytest.raises(StartError, match="^No model bundle in .*none: spec.json is missing$"):
        worker.start()


def test_memory_of_a_process_is_known_on_linux():
    assert 0.01 < resident_gb(os.getpid()) < 100
    assert resident_gb(2**22 + 1) == 0


def test_limits_count_from_the_cases_own_start(case, settings, monkeypatch):
    worker = Worker(settings, CaseLimits(seconds=300))
    worker.start()
    clock = time.monotonic
    monkeypatch.setattr(supervise.time, "monotonic", lambda: clock() + 1000)  # so long ago was the start
    assert worker.run(case).is_done
    worker.close()
