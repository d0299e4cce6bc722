"""Worker processes of one machine share out the cases, and one that cannot start ends the run."""

import threading

import pytest

from lnq.archive.case import ImageFile
from lnq.batch.settings import CaseLimits, WorkerSettings
from lnq.batch.workers.pool import LocalPool
from lnq.errors import StartError
from lnq.image.itk import write_volume


def test_every_case_is_done_once_and_failures_come_too(tmp_path, thorax, tiny_bundle):
    cases = [ImageFile(name, tmp_path / f"{name}.mha") for name in ("a", "b", "c")]
    for case in cases[:2]:
        write_volume(thorax, case.path)
    settings = WorkerSettings(str(tmp_path / "out"), str(tiny_bundle), threads=1)
    pool = LocalPool(settings, CaseLimits(), 2, threading.Event())
    versions = pool.start()
    records = {record.case: record for record in pool.run(cases)}
    pool.close()
    assert {name: record.status for name, record in records.items()} == {"a": "done", "b": "done", "c": "failed"}
    assert {record.versions for record in records.values()} == {versions}
    assert records["c"].error == f"c.mha could not be segmented: No such file or directory: {tmp_path / 'c.mha'}"


def test_a_pool_without_a_bundle_does_not_start(tmp_path):
    settings = WorkerSettings(str(tmp_path / "out"), str(tmp_path / "none"))
    pool = LocalPool(settings, CaseLimits(), 1, threading.Event())
    with pytest.raises(StartError, match=r"^No model bundle in .*none: spec.json is missing$"):
        pool.start()
    pool.close()
