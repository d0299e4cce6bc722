import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lnq.image.itk import read_volume
from phantom.command import main, parse

ROOT = Path(__file__).resolve().parents[2]
GRID = ["--size", "34", "96", "96", "--spacing", "8", "4", "4"]


def test_files_have_the_challenge_names_and_one_geometry(tmp_path):
    given = [str(tmp_path), "--count", "2", "--first-seed", "40", "--split", "val", "--workers", "2", *GRID]
    subprocess.run([sys.executable, "-m", "phantom", *given], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    names = {
        f"lnq2023-val-000{i}-{part}" for i in (1, 2) for part in ("ct.nrrd", "seg.nrrd", "nodes.nrrd", "info.json")
    }
    assert {p.name for p in tmp_path.iterdir()} == names
    ct, seg, nodes = (read_volume(tmp_path / f"lnq2023-val-0002-{part}.nrrd") for part in ("ct", "seg", "nodes"))
    for volume in (seg, nodes):
        np.testing.assert_allclose(volume.affine, ct.affine, atol=1e-6)
        assert volume.shape == ct.shape == (34, 96, 96)
    np.testing.assert_array_equal(seg.array > 0, nodes.array > 0)
    info = json.loads((tmp_path / "lnq2023-val-0002-info.json").read_text())
    assert info["full"] and info["seed"] == 41 and len(info["nodes"]) == nodes.array.max()


def test_partial_annotation_is_the_default(tmp_path, venous, monkeypatch):
    monkeypatch.setattr("phantom.write.make_phantom", lambda *_: venous)
    main([str(tmp_path), "--count", "1", "--first-seed", "40", *GRID])
    seg, nodes = (read_volume(tmp_path / f"lnq2023-train-0001-{part}.nrrd").array for part in ("seg", "nodes"))
    assert 0 < (seg > 0).sum() < (nodes > 0).sum()
    assert not (seg[nodes == 0] > 0).any()
    assert json.loads((tmp_path / "lnq2023-train-0001-info.json").read_text())["full"] is False


def test_bad_options_are_refused(capsys):
    for options in (["--count", "0"], ["--size", "1", "2"], ["--workers", "0"]):
        with pytest.raises(SystemExit):
            parse(["out", *options])
    assert "must be at least 1" in capsys.readouterr().err
