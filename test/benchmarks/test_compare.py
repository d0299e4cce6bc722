"""The command that compares contenders."""

import pytest

from benchmarks import compare
from benchmarks.peers.stages import ContenderJob


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


def test_ours_comes_first_and_unknown_names_are_refused():
    assert compare.plan(["monai", "lnq", "monai"], ["nnunet-mirror", "lnq"]) == (
        ["lnq", "monai"],
        ["nnunet-mirror"],
    )
    with pytest.raises(ValueError, match="A contender is one of lnq, monai, .*, not 'totalsegmentator'"):
        compare.plan(["lnq", "totalsegmentator"], [])
