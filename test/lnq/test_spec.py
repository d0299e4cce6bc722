"""A specification that is read from disk is checked before anything is run with it."""

import json

import pytest

from lnq.spec import SPEC_NAME, BundleError, ModelSpec


@pytest.mark.parametrize(
    "entry",
    [{"spacing_mm": "x"}, {"spacing_mm": [0, 1, 1]}, {"patch": [0, 0, 0]}, {"postprocess": {"hu_range": 3}}],
)
def test_sizes_that_are_no_positive_numbers_are_refused(tmp_path, tiny_bundle, entry):
    plain = json.loads((tiny_bundle / SPEC_NAME).read_text())
    (tmp_path / SPEC_NAME).write_text(json.dumps(plain | entry))
    with pytest.raises(BundleError, match="is not a valid model specification: .*must be"):
        ModelSpec.load(tmp_path)
