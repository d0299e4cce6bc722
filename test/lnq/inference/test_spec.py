"""A specification that is read from disk is checked before anything is run with it."""

import json

import pytest

from lnq.errors import BundleError
from lnq.inference.spec import SPEC_NAME, ModelSpec


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
