import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.apart import predict_apart
from helpers.bundles import constant, write_bundle
from helpers.paths import ROOT

from lnq.errors import BundleError
from lnq.files import file_sha256
from lnq.inference import backends
from lnq.inference.backends import available_cpus, load_model
from lnq.inference.gpu import Gpu
from lnq.inference.spec import INT8_NAME, INT8_WEIGHTS_NAME, ONNX_NAME, SPEC_NAME, WEIGHTS_NAME, ModelSpec


@pytest.fixture
def copied(tiny_bundle, tmp_path) -> Path:
    """A bundle that a test may spoil."""
    for file in tiny_bundle.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def patches(bundle: Path, count: int) -> np.ndarray:
    patch = ModelSpec.load(bundle).patch
    return np.random.default_rng(0).normal(size=(count, 1, *patch)).astype(np.float32)


def test_openvino_and_torch_agree(tiny_bundle):
    cpu, torch_cpu = load_model(tiny_bundle, "cpu", threads=1), load_model(tiny_bundle, "cpu-torch", threads=1)
    assert (cpu.backend, cpu.device) == ("openvino", "cpu")
    assert (torch_cpu.backend, torch_cpu.device) == ("torch", "cpu")
    batch = patches(tiny_bundle, 2)
    a, b = cpu.networks[0].predict(batch), torch_cpu.networks[0].predict(batch)
    assert a.shape == b.shape == (2, 2, *batch.shape[2:])
    assert a.dtype == b.dtype == np.float32
    assert np.abs(a - b).max() < 1e-3


def test_a_signal_is_survived_after_two_models_were_dropped_in_their_order(tiny_bundle):
    """Where each had a `Core` of its own, the process ended with a segmentation fault."""
    code = """
import gc, signal, sys
from lnq.inference.backends import load_model
models = [load_model(sys.argv[1], "cpu", threads=1) for _ in range(2)]
while models:
    del models[0]
    gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("told"))
signal.raise_signal(signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tiny_bundle)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "told\n")


def test_windows_of_a_batch_do_not_influence_each_other(tiny_bundle):
    model = load_model(tiny_bundle, "cpu", threads=1)
    batch = patches(tiny_bundle, 2)
    together = model.networks[0].predict(batch)
    np.testing.assert_array_equal(model.networks[0].predict(batch[1:]), together[1:])
    np.testing.assert_array_equal(model.networks[0].predict(batch[:1]), together[:1])  # and results are not overwritten


@pytest.mark.parametrize(("device", "name"), [("cpu", ONNX_NAME), ("cpu-torch", WEIGHTS_NAME)])
def test_altered_weights_are_refused(copied, device, name):
    (copied / name).write_bytes((copied / name).read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=f"{name} was altered: its SHA-256 is not the one in spec.json"):
        load_model(copied, device)


@pytest.mark.parametrize("name", [WEIGHTS_NAME, ONNX_NAME])
def test_a_file_that_the_specification_does_not_list_is_said(copied, name):
    plain = json.loads((copied / SPEC_NAME).read_text())
    del plain["sha256"][name]
    (copied / SPEC_NAME).write_text(json.dumps(plain))
    with pytest.raises(BundleError, match=f"does not list {name}: export the model again"):
        load_model(copied, "cpu")


def test_a_network_cannot_name_further_files(copied):
    """Weights outside the ONNX file would be in no hash: even beside it they are not loaded."""
    network = onnx.load(copied / ONNX_NAME)
    onnx.save(network, copied / ONNX_NAME, save_as_external_data=True, location="more.bin", size_threshold=0)
    assert (copied / "more.bin").stat().st_size > 1000
    plain = json.loads((copied / SPEC_NAME).read_text())
    plain["sha256"][ONNX_NAME] = file_sha256(copied / ONNX_NAME)
    (copied / SPEC_NAME).write_text(json.dumps(plain))
    with pytest.raises(BundleError, match="model.onnx is not a network that OpenVINO can run"):
        load_model(copied, "cpu")


def test_missing_weights_are_refused(copied):
    (copied / ONNX_NAME).unlink()
    with pytest.raises(BundleError, match="is incomplete: model.onnx is missing"):
        load_model(copied, "cpu")


@pytest.mark.parametrize("device", ["cpu", "cpu-torch"])
def test_weights_of_another_network_are_refused(copied, device):
    data = json.loads((copied / "spec.json").read_text())
    data["network"]["channels"] = [4, 6]
    if device == "cpu":
        data["network"]["in_channels"] = 3
    (copied / "spec.json").write_text(json.dumps(data))
    with pytest.raises(BundleError, match="do not fit the network|not a network that OpenVINO can run"):
        load_model(copied, device)


@pytest.fixture
def with_int8(copied) -> Path:
    """A bundle that lists an 8-bit network; a stand-in that computes in float."""
    openvino = pytest.importorskip("openvino")
    network = openvino.Core().read_model(copied / ONNX_NAME)
    openvino.save_model(network, copied / INT8_NAME, compress_to_fp16=False)
    sums = {name: file_sha256(copied / name) for name in (INT8_NAME, INT8_WEIGHTS_NAME)}
    spec = ModelSpec.load(copied)
    dataclasses.replace(spec, sha256=spec.sha256 | sums).save(copied)
    return copied


def test_the_8_bit_network_is_run_where_asked_for(with_int8, tmp_path):
    plain = load_model(with_int8, "cpu", 1)
    assert plain.precision == "f32"
    batch = patches(with_int8, 2)
    wanted = plain.networks[0].predict(batch)
    (with_int8 / ONNX_NAME).unlink()  # it is not the other file that is run
    found, what = predict_apart(with_int8, "int8", batch, tmp_path)
    assert what == "openvino cpu int8"
    np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [("fpu avx2", "f32"), ("fpu avx512_vnni", "int8"), ("avx2 avx_vnni fma", "int8"), ("avx512_vnnix", "f32")],
)
def test_by_itself_the_8_bit_network_is_run_where_the_cpu_has_instructions_for_it(
    with_int8, tiny_bundle, tmp_path, monkeypatch, flags, chosen
):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"model name\t: AMD EPYC\nflags\t\t: {flags}\n")
    monkeypatch.setattr(backends._pays_in_8_bits, "__defaults__", (cpuinfo,))
    assert load_model(with_int8, "cpu", 1, "auto").precision == chosen
    assert load_model(with_int8, "cpu", 1).precision == "f32"
    assert load_model(tiny_bundle, "cpu", 1, "auto").precision == "f32"  # which has no 8-bit network
    cpuinfo.unlink()
    assert load_model(with_int8, "cpu", 1, "auto").precision == "f32"


def test_a_bundle_without_an_8_bit_network_is_said(tiny_bundle):
    with pytest.raises(BundleError, match="has no 8-bit network: leave out --precision int8, or add one"):
        load_model(tiny_bundle, "cpu", precision="int8")


@pytest.mark.parametrize("name", [INT8_NAME, INT8_WEIGHTS_NAME])
def test_an_altered_8_bit_network_is_refused(with_int8, name):
    (with_int8 / name).write_bytes((with_int8 / name).read_bytes() + b"x")
    with pytest.raises(BundleError, match=f"{name} was altered"):
        load_model(with_int8, "cpu", precision="int8")
    load_model(with_int8, "cpu")


def test_8_bit_is_for_the_cpu(with_int8):
    with pytest.raises(ValueError, match="Precision int8 is for the CPU, with OpenVINO installed"):
        load_model(with_int8, "cpu-torch", precision="int8")
    with pytest.raises(ValueError, match="one of auto, f32, int8, not 'int4'"):
        load_model(with_int8, "cpu", precision="int4")


def test_an_unknown_device_is_refused(tiny_bundle):
    with pytest.raises(ValueError, match="one of auto, cpu, cuda, cpu-torch, not 'tpu'"):
        load_model(tiny_bundle, "tpu")


def test_a_gpu_that_is_not_there_is_said(tiny_bundle, monkeypatch):
    monkeypatch.setattr(backends, "find_gpu", lambda: Gpu(False))
    with pytest.raises(ValueError, match="^A GPU was asked for, but there is none that PyTorch can use$"):
        load_model(tiny_bundle, "cuda")
    model = load_model(tiny_bundle, "auto")
    assert (model.device, model.note) == ("cpu", None)


def test_a_gpu_that_cannot_be_used_is_said_with_the_reason(tiny_bundle, monkeypatch):
    monkeypatch.setattr(backends, "find_gpu", lambda: Gpu(False, "it is too old"))
    with pytest.raises(ValueError, match="none that PyTorch can use: it is too old$"):
        load_model(tiny_bundle, "cuda")
    for device in ("auto", "cpu"):
        model = load_model(tiny_bundle, device)
        wanted = "A GPU is there, but it is too old: running on the CPU" if device == "auto" else None
        assert (model.device, model.note) == ("cpu", wanted)
    assert model.runs_on == f"{model.backend} on cpu"


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, np.inf),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, np.inf),
        ({}, np.inf),
    ],
)
def test_a_container_s_cpu_quota_is_read(tmp_path, files, cpus):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert backends._cgroup_cpus(tmp_path) == cpus


def test_a_quota_bounds_the_threads(monkeypatch):
    monkeypatch.setattr(backends, "_cgroup_cpus", lambda: 0.5)
    assert available_cpus() == 1
    monkeypatch.setattr(backends, "_cgroup_cpus", lambda: np.inf)
    assert 1 <= available_cpus() <= (os.cpu_count() or 1)


def test_a_cpu_run_imports_no_torch_and_sends_nothing(tiny_bundle, tmp_path):
    code = f"""
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("a connection was opened")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from lnq.inference.backends import load_model
import lnq.pipeline
model = load_model({str(tiny_bundle)!r}, "cpu", threads=1)
assert "torch" not in sys.modules
assert not [m for m in sys.modules if m.startswith("openvino_telemetry.")]
"""
    environment = {**os.environ, "HOME": str(tmp_path)}
    for name in ("CI", "TF_BUILD", "JENKINS_URL"):  # where the telemetry would keep quiet by itself
        environment.pop(name, None)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)
    assert not (tmp_path / "intel").exists()


def test_the_mean_of_constant_networks_is_that_of_their_probabilities(tmp_path):
    bundle = write_bundle(tmp_path, [constant(0.25), constant(0.75), constant(0.875)])
    image = np.random.default_rng(0).normal(size=(20, 40, 36)).astype(np.float32)
    for device in ("cpu", "cpu-torch"):
        model = load_model(bundle, device, threads=1)
        found = model.probabilities(image)
        assert found.mean.dtype == np.float32
        np.testing.assert_allclose(found.mean, (0.25 + 0.75 + 0.875) / 3, rtol=1e-6)
        assert [own.dtype for own in found.members] == [np.float16] * 3
        for own, wanted in zip(found.members, (0.25, 0.75, 0.875), strict=True):
            np.testing.assert_allclose(own.astype(float), wanted, rtol=1e-3)
        assert found.warnings == ()
        two = load_model(bundle, device, threads=1, members=2).probabilities(image)
        np.testing.assert_allclose(two.mean, 0.5, rtol=1e-6)
        assert len(two.members) == 2


@pytest.mark.parametrize("device", ["cpu", "cpu-torch"])
def test_the_first_member_alone_is_the_bundle_of_one_bit_for_bit(tiny_bundle, tiny_ensemble, device):
    image = np.random.default_rng(0).normal(size=(20, 40, 36)).astype(np.float32)
    single = load_model(tiny_bundle, device, threads=1).probabilities(image)
    first = load_model(tiny_ensemble, device, threads=1, members=1).probabilities(image)
    np.testing.assert_array_equal(first.mean, single.mean)
    assert first.members == single.members == ()
    assert np.abs(load_model(tiny_ensemble, device, threads=1).probabilities(image).mean - single.mean).max() > 1e-3


def test_one_network_is_ready_at_a_time(tiny_ensemble):
    """Compiled networks take far more memory than their files."""
    batch = patches(tiny_ensemble, 1)
    first, _, third = load_model(tiny_ensemble, "cpu", threads=1).networks
    runner = first.predict.func.__self__
    assert runner.ready == 1
    before = first.predict(batch)
    assert np.abs(third.predict(batch) - before).max() > 1e-3
    assert runner.ready == 3
    np.testing.assert_array_equal(first.predict(batch), before)


def test_each_change_of_plan_is_told_once(tiny_ensemble):
    model = load_model(tiny_ensemble, "cpu", threads=1)
    plans = (["Slow."], ["Slow.", "Coarse."], [])
    networks = tuple(
        dataclasses.replace(network, own_sliding_window=lambda image, *_, told=told: (image.copy(), told))
        for network, told in zip(model.networks, plans, strict=True)
    )
    found = dataclasses.replace(model, networks=networks).probabilities(np.ones((2, 2, 2), np.float32))
    assert found.warnings == ("Slow.", "Coarse.") and (found.mean == 1).all()


@pytest.mark.parametrize(("device", "name"), [("cpu", "model-2.onnx"), ("cpu-torch", "weights-2.safetensors")])
def test_an_altered_second_member_is_refused_where_it_is_run(tiny_ensemble, tmp_path, device, name):
    for file in tiny_ensemble.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=f"{name} was altered: its SHA-256 is not the one in spec.json"):
        load_model(tmp_path, device)
    load_model(tmp_path, device, members=1)


def test_members_that_there_are_not_are_refused(tiny_bundle, tiny_ensemble):
    with pytest.raises(ValueError, match="^The number of members must be 1 to 3, not 4$"):
        load_model(tiny_ensemble, "cpu", members=4)
    with pytest.raises(ValueError, match="^The number of members must be 1 to 1, not 2$"):
        load_model(tiny_bundle, "cpu", members=2)


def test_8_bit_networks_are_run_where_every_member_has_one(tiny_ensemble, tmp_path):
    spec = ModelSpec.load(tiny_ensemble)
    some = dataclasses.replace(spec, sha256=spec.sha256 | {INT8_NAME: "0" * 64, INT8_WEIGHTS_NAME: "0" * 64})
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags: avx_vnni\n")
    assert not backends._pays_in_8_bits(some, cpuinfo)
    assert backends._pays_in_8_bits(some.first_members(1), cpuinfo)
