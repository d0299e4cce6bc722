"""What a contender measures of itself."""

import pytest

from benchmarks.peers.stages import Stages, peak_memory


def test_cpu_time_outside_the_network_counts_from_the_start_on(monkeypatch):
    clock = iter([7.0, 10.0, 11.0, 20.0, 26.0, 30.0, 31.0, 40.0])
    monkeypatch.setattr("time.process_time", lambda: next(clock))
    stages = Stages(started=0.0)
    with stages("start"):  # before it was ready: from 7 to 10
        pass
    stages.ready()  # 11
    for stage in ("network", "postprocess"):  # from 20 to 26, from 30 to 31
        with stages(stage):
            pass
    assert stages.cpu_share_outside_network() == pytest.approx(1 - 6 / (40 - 11))


def test_stages_add_up():
    stages = Stages(started=0.0)
    assert stages.timed("crop", lambda a, b: a + b)(2, b=3) == 5
    first = stages.seconds["crop"]
    with stages("crop"):
        pass
    assert stages.seconds["crop"] >= first
    stages.ready()
    assert stages.base_bytes <= peak_memory()
