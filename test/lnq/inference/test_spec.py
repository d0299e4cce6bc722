"""A specification that is read from disk is checked before anything is run with it."""

import dataclasses
import hashlib
import json

import pytest
from helpers.paths import ROOT

from lnq.errors import BundleError
from lnq.inference import spec as module
from lnq.inference.calibration import Calibration
from lnq.inference.spec import INT8_WEIGHTS_NAME, SPEC_NAME, WEIGHTS_NAME, ModelSpec, kind_of_file, member_file


@pytest.mark.parametrize("mirror", [True, 2.0, "2", 3, None])
def test_mirroring_that_there_is_not_is_refused(tmp_path, tiny_bundle, mirror):
    plain = json.loads((tiny_bundle / SPEC_NAME).read_text())
    (tmp_path / SPEC_NAME).write_text(json.dumps(plain | {"mirror": mirror}))
    with pytest.raises(BundleError) as caught:
        ModelSpec.load(tmp_path)
    assert str(caught.value).endswith(f"specification: Mirroring must be one of 0, 1, 2, 4, 8, not {mirror!r}")


def test_an_older_specification_is_read_and_written_anew(tmp_path, tiny_bundle):
    plain = json.loads((tiny_bundle / SPEC_NAME).read_text())
    del plain["peak_threshold"], plain["mirror"]
    (tmp_path / SPEC_NAME).write_text(json.dumps(plain | {"format_version": 1}))
    spec = ModelSpec.load(tmp_path)
    assert (spec.peak_threshold, spec.mirror) == (0.0, 0)
    spec.save(tmp_path)
    assert json.loads((tmp_path / SPEC_NAME).read_text())["format_version"] == 2


@pytest.mark.parametrize(
    "entry",
    [
        {"spacing_mm": "x"},
        {"spacing_mm": [0, 1, 1]},
        {"spacing_mm": [0.02, 0.02, 0.02]},
        {"patch": [0, 0, 0]},
        {"patch": [1024, 1024, 1024]},
        {"patch": [32.0, 64, 64]},
        {"postprocess": {"hu_range": 3}},
        {"window_step": 1e-6},
    ],
)
def test_sizes_that_no_network_has_are_refused(tmp_path, tiny_bundle, entry):
    plain = json.loads((tiny_bundle / SPEC_NAME).read_text())
    (tmp_path / SPEC_NAME).write_text(json.dumps(plain | entry))
    with pytest.raises(BundleError, match="is not a valid model specification: .*must be"):
        ModelSpec.load(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("channels", 10**6), ("channels", 0), ("in_channels", 10**9), ("classes", 2.5), ("kernels", [99, 3, 3])],
)
def test_a_network_that_would_take_all_memory_is_refused(tmp_path, tiny_bundle, field, value):
    plain = json.loads((tiny_bundle / SPEC_NAME).read_text())
    network = plain["network"]
    network[field] = [value, *network[field][1:]] if isinstance(network[field], list) else value
    (tmp_path / SPEC_NAME).write_text(json.dumps(plain))
    with pytest.raises(BundleError, match="A network has 1 to 4096 channels, and kernels and strides of 1 to 16"):
        ModelSpec.load(tmp_path)


def test_hashes_that_are_none_are_refused(tmp_path, tiny_bundle):
    plain = json.loads((tiny_bundle / SPEC_NAME).read_text())
    plain["sha256"] = dict.fromkeys(plain["sha256"], "abc")
    (tmp_path / SPEC_NAME).write_text(json.dumps(plain))
    with pytest.raises(BundleError, match="sha256 must hold 64 hex digits for each file"):
        ModelSpec.load(tmp_path)


@pytest.mark.parametrize(("bundle", "version"), [("model", 4), ("tiny_bundle", 2)])  # calibrated, and not
def test_the_specification_of_one_network_stays_as_it_was(tmp_path, request, bundle, version):
    folder = ROOT / "model" if bundle == "model" else request.getfixturevalue(bundle)
    spec = ModelSpec.load(folder)
    assert (spec.members, spec.format_version) == (1, version)
    spec.save(tmp_path)
    assert (tmp_path / SPEC_NAME).read_bytes() == (folder / SPEC_NAME).read_bytes()


def test_older_programs_refuse_an_ensemble_with_the_reason(tiny_ensemble, monkeypatch):
    assert ModelSpec.load(tiny_ensemble).format_version == 3
    monkeypatch.setattr(module, "CALIBRATED_VERSION", 2)
    sentence = "^The model bundle has format version 3, this program reads up to 2: update it$"
    with pytest.raises(BundleError, match=sentence):
        ModelSpec.load(tiny_ensemble)


def test_a_calibration_is_kept_and_older_programs_refuse_it(tiny_bundle, tmp_path, monkeypatch):
    spec = dataclasses.replace(ModelSpec.load(tiny_bundle), calibration=Calibration(0.5, -1.0))
    spec.save(tmp_path)
    assert ModelSpec.load(tmp_path) == dataclasses.replace(spec, format_version=4)
    monkeypatch.setattr(module, "CALIBRATED_VERSION", 3)
    with pytest.raises(BundleError, match=r"^The model bundle has format version 4, this program reads up to 3: "):
        ModelSpec.load(tmp_path)


def test_files_of_members_are_numbered_from_the_second_on(tiny_ensemble):
    assert [member_file(WEIGHTS_NAME, n) for n in (1, 2)] == ["weights.safetensors", "weights-2.safetensors"]
    assert kind_of_file(member_file(INT8_WEIGHTS_NAME, 12)) == INT8_WEIGHTS_NAME == kind_of_file(INT8_WEIGHTS_NAME)
    assert kind_of_file("MODEL_CARD.md") is kind_of_file("weights-old.safetensors") is None
    spec = ModelSpec.load(tiny_ensemble)
    assert spec.members == 3
    assert list(spec.sha256) == [
        "weights.safetensors", "model.onnx", "weights-2.safetensors", "model-2.onnx", "weights-3.safetensors",
        "model-3.onnx",
    ]  # fmt: skip


def test_a_gap_in_the_members_is_refused(tmp_path, tiny_ensemble):
    plain = json.loads((tiny_ensemble / SPEC_NAME).read_text())
    del plain["sha256"]["weights-2.safetensors"]
    (tmp_path / SPEC_NAME).write_text(json.dumps(plain))
    with pytest.raises(BundleError, match="specification: The 2 members must be numbered without a gap$"):
        ModelSpec.load(tmp_path)


def test_the_first_members_are_a_specification_of_their_own(tiny_ensemble):
    spec = ModelSpec.load(tiny_ensemble)
    assert spec.first_members(3) == spec
    assert list(spec.first_members(1).sha256) == ["weights.safetensors", "model.onnx"]
    for count in (0, 4):
        with pytest.raises(ValueError, match=f"^The number of members must be 1 to 3, not {count}$"):
            spec.first_members(count)


def test_the_hash_of_several_is_that_of_their_hashes(tiny_bundle, tiny_ensemble):
    spec = ModelSpec.load(tiny_ensemble)
    one, two, three = (spec.sha256[name] for name in spec.files(WEIGHTS_NAME))
    assert spec.joint_sha256(WEIGHTS_NAME) == hashlib.sha256((one + two + three).encode()).hexdigest()
    assert spec.first_members(2).joint_sha256(WEIGHTS_NAME) == hashlib.sha256((one + two).encode()).hexdigest()
    assert spec.first_members(1).joint_sha256(WEIGHTS_NAME) == one
    assert ModelSpec.load(tiny_bundle).joint_sha256(WEIGHTS_NAME) == one


def test_what_can_have_one_network_alone_refuses_an_ensemble(tiny_bundle, tiny_ensemble):
    assert ModelSpec.load_single(tiny_bundle) == ModelSpec.load(tiny_bundle)
    with pytest.raises(BundleError, match="holds 3 networks: one of a single is needed$"):
        ModelSpec.load_single(tiny_ensemble)
