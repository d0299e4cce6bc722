"""A contender in a process of its own."""

import numpy as np
import pytest

from benchmarks.peers.launch import check_name, failure, launch
from benchmarks.peers.stages import ContenderJob
from lnq.image.itk import read_volume


def test_ours_measures_itself_and_leaves_mask_and_probability(tiny_bundle, ct, tmp_path, thorax):
    job = ContenderJob(tiny_bundle, ct, ct, tmp_path / "out")
    run = launch("lnq", "chest", 1, job)
    assert run.error is None
    assert list(run.seconds) == ["start", "read", "crop", "preprocess", "network", "postprocess", "write"]
    assert all(seconds >= 0 for seconds in run.seconds.values())
    assert 0 <= run.total_s - sum(run.seconds.values()) < 0.5 * run.total_s
    assert run.windows > 0
    assert 0 < run.cpu_outside < 1
    assert 10e6 < run.base_bytes <= run.peak_bytes < 4e9
    assert run.versions["numpy"] == np.__version__
    mask, probability = read_volume(job.output / run.mask), read_volume(job.output / "probability.mha")
    assert mask.shape == thorax.shape
    assert 0 < probability.array.max() <= 1
    assert probability.shape < thorax.shape


def test_why_a_process_failed():
    assert failure(1, "Traceback\n  deep\nValueError: no\n\n") == "ValueError: no"
    assert failure(-9, "") == "ended by SIGKILL, which is often for want of memory"
    assert failure(3, "") == "ended with status 3"


def test_settings_of_malloc_are_for_peers():
    assert check_name("monai+malloc") == "monai"
    with pytest.raises(ValueError, match="not for lnq"):
        check_name("lnq+malloc")
