"""From a few own cases to a better bundle, in small."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from helpers.raw_pairs import write_pair

from lnq.image.volume import Volume
from lnq.inference.calibration import Calibration
from lnq.inference.spec import ModelSpec
from training import improve as module
from training.data.splits import read_splits
from training.improve import Improve, config_of, main, unknowns, worse
from training.scoring.before_after import HeldOutScore

SHORT = ["--finetune.epochs", "1", "--finetune.iterations", "2", "--device", "cpu", "--threads", "1"]


@pytest.fixture
def raw(thorax: Volume, tmp_path: Path) -> Path:
    """Three cases annotated in part, and four wholly."""
    for number in (1, 2, 3):
        write_pair(tmp_path / "raw", f"lnq2023-train-000{number}", thorax)
    for number in (4, 5, 6, 7):
        write_pair(tmp_path / "raw", f"lnq2023-train-000{number}", thorax)
        (tmp_path / "raw" / f"lnq2023-train-000{number}-info.json").write_text('{"full": true}')
    return tmp_path / "raw"


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_own_cases_make_a_new_bundle_and_a_comparison(raw: Path, bundle: Path, capsys, monkeypatch) -> None:
    given, out = bytes_of(bundle), raw.parent / "out"
    arguments = [str(raw), "--model", str(bundle), "-o", str(out), "--hold-out", "0.5", *SHORT]
    assert main(arguments) == 0
    assert bytes_of(bundle) == given
    assert (out / "prepared" / "dataset.html").is_file()
    splits = [row.split for row in read_splits(out / "prepared" / "splits.csv").values()]
    assert (splits.count("train"), splits.count("test"), splits.count("validation")) == (3, 3, 1)
    old, new = ModelSpec.load(bundle), ModelSpec.load(out / "model")
    for name in ("network", "patch", "spacing_mm", "crop", "normalisation", "postprocess", "window_step", "mirror"):
        assert getattr(new, name) == getattr(old, name), name
    assert new.sha256 != old.sha256
    assert new.provenance["pretraining"]["bundle"] == old.sha256["weights.safetensors"]
    assert len(new.provenance["threshold"]["cases"]) == 1
    text = (out / "improve.md").read_text()
    for line in (
        "Trained on 3 cases, 2 of them wholly annotated.",
        "| 1 wholly annotated | before |",
        "| 2 annotated in part | after |  |",
        "- 1 wholly annotated held-out cases are few: the difference may be chance.",
        "- The thresholds were chosen on 1 other cases that training did not see.",
        "- Not for clinical use.",
    ):
        assert line in text, line
    before = bytes_of(out / "model")
    monkeypatch.setattr(module, "_export", lambda *_: pytest.fail("exported again"))
    assert main(arguments) == 0  # nothing is done again
    assert bytes_of(out / "model") == before and (out / "improve.md").read_text() == text


def test_a_run_that_ends_in_the_middle_goes_on(raw: Path, bundle: Path, monkeypatch) -> None:
    out = raw.parent / "out"
    arguments = [str(raw), "--model", str(bundle), "-o", str(out), *SHORT]
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        main(arguments)
    assert not (out / "model").exists()
    monkeypatch.setattr(Path, "rename", rename)
    assert main(arguments) == 0
    assert ModelSpec.load(out / "model") and not (out / "model.part").exists()


@pytest.mark.slow
def test_too_few_cases_are_trained_on_and_not_compared(thorax: Volume, bundle: Path, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "lnq2023-train-0001", thorax)
    bundle = shutil.copytree(bundle, tmp_path / "given")
    dataclasses.replace(ModelSpec.load(bundle), calibration=Calibration(0.5, -1.0)).save(bundle)
    assert main([str(tmp_path / "raw"), "--model", str(bundle), "-o", str(tmp_path / "out"), *SHORT]) == 0
    text = (tmp_path / "out" / "improve.md").read_text()
    assert "nobody knows whether the new bundle is better" in text and "|" not in text
    assert "those of the given bundle stay" in text
    old, new = ModelSpec.load(bundle), ModelSpec.load(tmp_path / "out" / "model")
    assert (new.threshold, new.peak_threshold) == (old.threshold, old.peak_threshold)
    assert new.calibration == old.calibration  # the thresholds are on its scale


@pytest.mark.slow
def test_a_setting_that_its_method_does_not_read_is_refused_before_a_case_is_prepared(
    bundle: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    assert main([str(tmp_path), "--model", str(bundle), "-o", str(out), "--losses.small-node-mm", "8"]) == 2
    sentence = "losses.small_node_mm is for method known alone, not for dbdmp_without_pce"
    assert capsys.readouterr().err == f"Error: {sentence}\n"
    assert not out.exists()


def test_cases_that_come_later_need_another_folder(raw: Path, bundle: Path, thorax: Volume, capsys) -> None:
    out = raw.parent / "out"
    arguments = [str(raw), "--model", str(bundle), "-o", str(out), *SHORT]
    assert main(arguments) == 0
    write_pair(raw, "lnq2023-train-0009", thorax)
    assert main(arguments) == 2
    assert "does not name 1 of the cases, such as lnq2023-train-0009: give another output folder" in (
        capsys.readouterr().err
    )


def test_the_bundle_settles_what_the_network_sees(bundle: Path) -> None:
    spec = ModelSpec.load(bundle)
    config = config_of(spec, Improve((), Path("out"), seed=3))
    assert (config.network, config.patch, config.spacing_mm, config.crop) == (
        spec.network, spec.patch, spec.spacing_mm, spec.crop,
    )  # fmt: skip
    assert config.losses.trust == "none" and config.seed == 3


def test_a_worse_bundle_is_called_worse() -> None:
    partial = HeldOutScore("b", False, None, 3, 2, 4)
    before = [HeldOutScore("a", True, 0.5, 3, 2, 4), partial]
    said = "The new bundle is worse than the given one on these cases: keep the given one."
    for dice, wanted in ((0.4, said), (0.5, "")):
        assert worse(before, [HeldOutScore("a", True, dice, 3, 2, 4), partial]) == wanted
    assert worse(before, before[1:]) == ""


def test_what_is_unknown_is_said(bundle: Path) -> None:
    spec = dataclasses.replace(ModelSpec.load(bundle), provenance={})
    partial = HeldOutScore("a", False, None, 3, 2, 4)
    said = unknowns([], [partial], spec)
    assert said[0] == (
        "No held-out case is wholly annotated: nobody knows the Dice, nor how many of the other marks are nodes."
    )
    assert "few" not in json.dumps(unknowns([], [HeldOutScore("a", True, 0.5, 3, 2, 4)] * 10, spec))
