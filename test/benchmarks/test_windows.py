import csv

import numpy as np
import pytest

from benchmarks import windows
from benchmarks.windows import settings_of
from lnq.image.itk import write_volume
from lnq.inference.spec import ModelSpec


def test_every_step_and_every_mirroring_is_tried_once(tiny_bundle):
    spec = ModelSpec.load(tiny_bundle)
    assert (spec.window_step, spec.mirror) == (0.5, 0)
    assert settings_of(spec, (0.5, 1.0), (0, 4)) == [(0.5, 0), (1.0, 0), (0.5, 4)]


def test_a_row_per_ct_and_setting(tiny_bundle, tmp_path, thorax, capsys):
    nodes = np.zeros(thorax.shape, np.int16)
    nodes[20:26, 24:30, 28:34] = 1
    for case in ("a", "b"):
        write_volume(thorax, tmp_path / f"{case}-ct.mha")
        write_volume(thorax.with_array(nodes), tmp_path / f"{case}-nodes.mha")
    options = ["-o", str(tmp_path / "out"), "--model", str(tiny_bundle), "--steps", "1", "--mirrorings", "0", "1", "4"]
    assert windows.main([str(tmp_path), *options]) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "windows.csv").read_text().splitlines()))
    assert [(row["case"], row["step"], row["mirror"]) for row in rows] == [
        (case, *setting) for case in "ab" for setting in (("1.0", "0"), ("0.5", "0"), ("0.5", "1"), ("0.5", "4"))
    ]
    passes = [int(row["passes"]) for row in rows]
    assert 0 < passes[0] < passes[1] == passes[2] == passes[3] / 4
    assert all(0 <= float(row["dice"]) <= 1 for row in rows)
    assert (tmp_path / "out" / "windows.png").stat().st_size > 1000
    assert "passes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--steps", "1.5"], "Window step must be at least 0.1 and at most 1, not 1.5"),
        ([], "nowhere is no folder"),
        (["--model", "nothing"], "No model bundle in nothing: spec.json is missing"),
    ],
)
def test_what_cannot_be_run_is_said_and_leaves_nothing(tiny_bundle, tmp_path, capsys, options, sentence):
    arguments = ["nowhere", "-o", str(tmp_path / "out"), "--model", str(tiny_bundle), *options]
    assert windows.main(arguments) == 2
    assert capsys.readouterr().err == f"Error: {sentence}\n"
    assert not (tmp_path / "out").exists()
