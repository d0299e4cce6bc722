"""Unusual CTs are segmented, and results.json and the manifest say what is unusual about them."""

import json

import pytest
from helpers.unusual_files import UNUSUAL

from lnq import cli
from lnq.image.itk import write_volume


@pytest.fixture
def folder(tmp_path, make_thorax):
    path = tmp_path / "input" / "images" / "mediastinal-ct"
    path.mkdir(parents=True)
    for name, (make, _) in UNUSUAL.items():
        write_volume(make(make_thorax), path / f"{name}.mha")
    write_volume(make_thorax(), path / "usual.mha")
    return path


def check(warnings: dict[str, list[str]]) -> None:
    assert warnings.pop("usual") == []
    for name, (_, start) in UNUSUAL.items():
        assert [w for w in warnings[name] if w.startswith(start)], f"{name}: {warnings[name]}"
        assert len(set(warnings[name])) == len(warnings[name])


def test_container_warns_in_results_json(tmp_path, folder, tiny_bundle):
    output = tmp_path / "output"
    assert cli.main(["--input", f"{tmp_path}/input", "--output", f"{output}", "--model", f"{tiny_bundle}"]) == 0
    results = json.loads((output / "results.json").read_text())
    assert all(r["error_messages"] == [] for r in results)
    check({r["inputs"][0]["filename"].removesuffix(".mha"): r["warnings"] for r in results})
    masks = output / "images" / "mediastinal-lymph-node-segmentation"
    assert sorted(p.stem for p in masks.iterdir()) == sorted([*UNUSUAL, "usual"])


def test_batch_warns_in_the_manifest(tmp_path, folder, tiny_bundle, capfd):
    command = [
        "batch",
        f"{folder}",
        "-o",
        f"{tmp_path}/output",
        "--model",
        f"{tiny_bundle}",
        "--no-preview",
        "--no-report",
    ]
    assert cli.main(command) == 0
    lines = (tmp_path / "output" / "manifest.jsonl").read_text().splitlines()
    check({entry["case"]: entry["warnings"] for entry in map(json.loads, lines)})
    assert "warning: Slices are 10 mm apart" in capfd.readouterr().out
