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
    [{"spacing_mm": "x"}, {"spacing_mm": [0, 1, 1]}, {"patch": [0, 0, 0]}, {"postprocess": {"hu_range": 3}}],
)
def test_sizes_that_are_no_positive_numbers_are_refused(tmp_path, tiny_bundle, entry):
    plain = json.loads((tiny_bundle / SPEC_NAME).read_text())
    (tmp_path / SPEC_NAME).write_text(json.dumps(plain | entry))
    with pytest.raises(BundleError, match="is not a valid model specification: .*must be"):
        ModelSpec.load(tmp_path)
