import csv

import numpy as np
import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import GpuTimes, PreparedImage


@pytest.fixture
def image() -> PreparedImage:
    rng = np.random.default_rng(0)
    region = np.zeros((24, 40, 48), bool)
    region[4:14, 10:30, 8:40] = True
    return PreparedImage(rng.normal(size=region.shape).astype(np.float32), region)


def test_contenders_take_turns_and_are_held_against_single_precision(tiny_bundle, image, monkeypatch):
    def peer(_network, _spec, _device, _precision, batch):
        return lambda image: np.full(image.array.shape, float(batch))

    monkeypatch.setattr(gpu, "monai", peer)
    results = gpu.take_turns(tiny_bundle, "cpu", image, repeats=2)
    own, peers = [r for r in results if "ours" in r.name], [r for r in results if "MONAI" in r.name]
    assert len(own) == len(gpu.BATCHES) + 2
    assert len(peers) == len(gpu.BATCHES)
    assert all(len(result.seconds) == 3 for result in results)
    assert all(result.difference < 1e-5 for result in own)
    assert [result.difference for result in peers] == [0, 3, 7]  # from one at a time
    assert (
        own[0].windows < own[-1].windows == peers[0].windows == 2 * 2 * 2
    )  # patches of 16 x 32 x 32, half of it apart


def test_monai_computes_the_same(tiny_bundle, image):
    pytest.importorskip("monai")
    found = {measured.name: contender(image) for measured, contender, _ in gpu.contenders(tiny_bundle, "cpu", image)}
    own = found["ours, the whole crop, step 0.5, 8 at a time"]
    for batch in gpu.BATCHES:  # the middle of its Gaussian lies half a voxel off
        assert np.abs(found[f"MONAI, {batch} at a time"] - own).mean() < 0.01


def test_contender_that_fails_is_left_out_with_the_reason(image):
    def short(_image):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    measured = GpuTimes("it", 3)
    for _ in range(2):
        assert gpu.run_once(measured, short, image) is None
    assert measured.seconds == []
    assert gpu.window_table([measured])[2] == "| it | 3 | CUDA out of memory. | | |"


def test_first_run_does_not_count(image):
    measured = GpuTimes("it", 3, [9.0, 1.0, 3.0, 2.0], 5 * 2**20, 0.01)
    assert gpu.window_table([measured])[2] == "| it | 3 | 2.000 (1.000 to 3.000) | 5 | 1.0e-02 |"


@pytest.mark.slow
def test_command_writes_table_and_runs(tiny_bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "monai", lambda *_: lambda image: np.ones(image.array.shape))
    monkeypatch.setattr(gpu, "version", lambda package: "1")
    monkeypatch.setattr(gpu, "BATCHES", (4,))
    options = ["--bundles", str(tiny_bundle), "-o", str(tmp_path), "--device", "cpu-torch", "--repeats", "1"]
    assert gpu.main([*options, "--size", "64"]) == 0
    rows = list(csv.DictReader((tmp_path / f"gpu-{tiny_bundle.name}.csv").read_text().splitlines()))
    assert [row["run"] for row in rows[:2]] == ["0", "1"]
    assert len(rows) == 2 * (2 * len(gpu.BATCHES) + 2)
    text = (tmp_path / f"gpu-{tiny_bundle.name}.md").read_text()
    assert "seconds by stage" in text and "prepare" in text
    assert text.strip() == capsys.readouterr().out.strip()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_without_a_gpu_it_says_so(tiny_bundle, tmp_path, capsys):
    assert gpu.main(["--bundles", str(tiny_bundle), "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "Error: there is no GPU that PyTorch can use\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output", ["out", "file"])
def test_what_is_missing_is_said(tmp_path, capsys, output):
    (tmp_path / "file").touch()
    options = ["--bundles", str(tmp_path / "nothing"), "--device", "cpu-torch", "--size", "64"]
    assert gpu.main([*options, "-o", str(tmp_path / output)]) == 2
    said = capsys.readouterr().err
    wanted = "No model bundle in" if output == "out" else "[Errno 17] File exists"
    assert said.startswith(f"Error: {wanted}") and said.count("\n") == 1
