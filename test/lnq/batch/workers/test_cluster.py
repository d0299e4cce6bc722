"""Cases on the workers of a Dask cluster."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
from helpers.batch_runs import command, contents

import lnq
from lnq import cli


def test_workers_of_an_older_version_are_named(tmp_path, archive_of_cases, tiny_bundle, capfd, monkeypatch):
    distributed = pytest.importorskip("distributed")

    class OldWorkers:
        def __init__(self, *_, **__):
            pass

        def wait_for_workers(self, *_, **__):
            pass

        def submit(self, *_, **__):
            answer = Future()
            answer.set_exception(TypeError("WorkerSettings.__init__() got an unexpected keyword argument 'mirror'"))
            return answer

        def close(self):
            pass

    monkeypatch.setattr(distributed, "Client", OldWorkers)
    arguments = command(archive_of_cases, tmp_path / "out", tiny_bundle, "--scheduler", "tcp://old:1")
    assert cli.main(arguments) == 2
    assert capfd.readouterr().err.splitlines()[-1] == (
        f"The cluster's workers have another version than this, {lnq.__version__}: "
        "WorkerSettings.__init__() got an unexpected keyword argument 'mirror'"
    )


@pytest.mark.slow
def test_a_cluster_gives_what_this_machine_does(tmp_path, archive_of_cases, tiny_bundle):
    distributed = pytest.importorskip("distributed")
    cli.main(command(archive_of_cases, tmp_path / "here", tiny_bundle))
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:
        arguments = command(archive_of_cases, tmp_path / "there", tiny_bundle, "--scheduler", cluster.scheduler_address)
        assert cli.main(arguments) == 1
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
