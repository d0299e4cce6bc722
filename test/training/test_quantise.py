from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.apart import ROOT, predict_apart

from lnq.inference.spec import INT8_NAME, INT8_WEIGHTS_NAME, ModelSpec
from training.bundle.eight_bit import draw_windows, find_cts
from training.quantise import main


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "model"))


def test_an_8_bit_network_is_added_to_the_bundle(bundle: Path, cts: Path, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    before = json.loads((bundle / "spec.json").read_text())
    command = [
        sys.executable,
        "-m",
        "training.quantise",
        str(cts),
        "--model",
        str(bundle),
        "--cts",
        "1",
        "--windows",
        "3",
    ]
    subprocess.run(command, check=True, cwd=ROOT)  # apart, as `predict_apart` tells
    after = json.loads((bundle / "spec.json").read_text())
    assert set(after["sha256"]) - set(before["sha256"]) == {INT8_NAME, INT8_WEIGHTS_NAME}
    assert after | {"sha256": before["sha256"]} == before
    sample = draw_windows(cts / "a-ct.mha", ModelSpec.load(bundle), 1, np.random.default_rng(1))[0]
    small, plain = (predict_apart(bundle, precision, sample, tmp_path)[0] for precision in ("int8", "f32"))
    assert np.corrcoef(small.ravel(), plain.ravel())[0, 1] > 0.95
    assert not np.array_equal(small, plain)
    assert str(cts.parent) not in (bundle / INT8_NAME).read_text()
    assert {path.name for path in bundle.parent.iterdir()} == {"model", "cts", "patches.npy", "logits.npy"}


@pytest.mark.slow
def test_every_member_of_an_ensemble_gets_an_8_bit_network(tiny_ensemble: Path, cts: Path, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    bundle = Path(shutil.copytree(tiny_ensemble, tmp_path / "model"))
    options = ["--model", str(bundle), "--cts", "1", "--windows", "2"]
    subprocess.run([sys.executable, "-m", "training.quantise", str(cts), *options], check=True, cwd=ROOT)
    spec = ModelSpec.load(bundle)
    added = {f"model-int8{number}.{end}" for number in ("", "-2", "-3") for end in ("xml", "bin")}
    assert set(spec.sha256) - set(ModelSpec.load(tiny_ensemble).sha256) == added and spec.members == 3
    code = "import sys; from lnq.inference.backends import load_model as load; from pathlib import Path; "
    code += "print(*(len(load(Path(sys.argv[1]), 'cpu', 1, 'int8', members=n).networks) for n in (None, 2)))"
    run = subprocess.run(
        [sys.executable, "-c", code, str(bundle)], check=True, cwd=ROOT, capture_output=True, text=True
    )
    assert run.stdout == "3 2\n"


def test_folders_without_cts_are_said(tmp_path: Path, bundle: Path, capfd) -> None:
    (tmp_path / "none").mkdir()
    assert main([str(tmp_path / "none"), "--model", str(bundle)]) == 2
    assert "No CT named <case>-ct in" in capfd.readouterr().err
    with pytest.raises(ValueError, match="is no folder"):
        find_cts([tmp_path / "missing"], 1)
