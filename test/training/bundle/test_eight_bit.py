from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lnq.inference.spec import ModelSpec
from training.bundle.eight_bit import check_numbers, draw_windows, find_cts


def test_ranges_are_taken_from_cts_alone_evenly_spaced(cts: Path) -> None:
    assert [path.name for path in find_cts([cts], 2)] == ["a-ct.mha", "c-ct.mha"]
    assert [path.name for path in find_cts([cts], 9)] == ["a-ct.mha", "b-ct.mha", "c-ct.mha"]


def test_windows_are_drawn_again_with_the_same_seed(tiny_bundle: Path, cts: Path) -> None:
    spec = ModelSpec.load(tiny_bundle)
    one, other = (draw_windows(cts / "a-ct.mha", spec, 3, np.random.default_rng(0)) for _ in range(2))
    assert [window.shape for window in one] == [(1, 1, *spec.patch)] * 3
    np.testing.assert_array_equal(one, other)


def test_a_network_that_gives_no_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="gives no finite numbers: nothing was written"):
        check_numbers(np.array([0.0, np.nan]))
