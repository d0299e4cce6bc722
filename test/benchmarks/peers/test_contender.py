import numpy as np
import pytest

from benchmarks import compare
from benchmarks.peers.launch import check_name, failure, launch
from benchmarks.stages import ContenderJob, Stages, peak_memory
from lnq.image.itk import read_volume, write_volume


@pytest.fixture
def ct(tmp_path, thorax):
    write_volume(thorax, tmp_path / "chest.mha")
    return tmp_path / "chest.mha"


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


def test_a_comparison_reports_what_failed_and_goes_on(tiny_bundle, ct, tmp_path, monkeypatch):
    plain = compare.launch

    def launch_or_fail(name, case, repeat, job, timeout_s):
        if name == "monai":
            job = ContenderJob(tmp_path / "nowhere", job.ct, job.crop, job.output)
        return plain(name, case, repeat, job, timeout_s)

    monkeypatch.setattr(compare, "launch", launch_or_fail)
    arguments = ["--ct", str(ct), "--bundle", str(tiny_bundle), "-o", str(tmp_path / "results")]
    assert compare.main([*arguments, "--contenders", "monai", "lnq", "--repeats", "1"]) == 0
    name = f"compare-{tiny_bundle.name}"
    text = (tmp_path / "results" / f"{name}.md").read_text()
    assert "| monai | failed: " in text
    assert "| lnq | " in text
    assert (tmp_path / "results" / f"{name}.csv").read_text().count("\n") == 3
    assert (tmp_path / "results" / f"{name}.png").is_file()


def test_a_bundle_that_is_none_is_refused_in_one_sentence(ct, tmp_path, capsys):
    arguments = ["--ct", str(ct), "--bundle", str(tmp_path), "-o", str(tmp_path / "results")]
    assert compare.main(arguments) == 2
    assert "No model bundle" in capsys.readouterr().err


def test_ours_comes_first_and_names_are_checked():
    assert compare.plan(["monai", "lnq", "monai"], ["nnunet-mirror", "lnq"]) == (
        ["lnq", "monai"],
        ["nnunet-mirror"],
    )
    with pytest.raises(ValueError, match="not for lnq"):
        check_name("lnq+malloc")
    with pytest.raises(ValueError, match="A contender is one of lnq, monai, .*, not 'totalsegmentator'"):
        compare.plan(["lnq", "totalsegmentator"], [])


def test_why_a_process_failed():
    assert failure(1, "Traceback\n  deep\nValueError: no\n\n") == "ValueError: no"
    assert failure(-9, "") == "ended by SIGKILL, which is often for want of memory"
    assert failure(3, "") == "ended with status 3"


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
