"""Calibrations are fitted and judged by counts whose answers are known."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from lnq.inference.calibration import Calibration
from training.scoring.calibrate import (
    BINS,
    VoxelCounts,
    calibration_error,
    fit,
    plot_reliability,
    reliability,
    write_reliability,
)

CENTRES = (np.arange(BINS) + 0.5) * 0.05 - 16


def counts_of(slope: float, offset: float) -> VoxelCounts:
    """So many voxels in each bin that Platt's prior is nothing. As many are node as the calibration says."""
    p = 1 / (1 + np.exp(-(slope * CENTRES + offset)))
    return VoxelCounts(1e10 * p, 1e10 * (1 - p))


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.4, -3.0), (2.5, 1.5)])
def test_the_calibration_that_made_the_counts_is_found(slope: float, offset: float) -> None:
    found = fit(counts_of(slope, offset))
    assert (found.slope, found.offset) == (pytest.approx(slope, abs=1e-6), pytest.approx(offset, abs=1e-6))


def sparse(**bins: tuple[int, int]) -> VoxelCounts:
    """Counts of (node, other) in bins named by their logit's index."""
    node, other = np.zeros(BINS), np.zeros(BINS)
    for name, (a, b) in bins.items():
        node[int(name[1:])], other[int(name[1:])] = a, b
    return VoxelCounts(node, other)


def test_levels_and_error_by_hand() -> None:
    """Bin 320 is at logit 0.025 (p = 0.50625), bin 376 at 2.825 (p = 0.94400), bin 0 at -15.975."""
    counts = sparse(b0=(10, 990), b320=(1, 3), b376=(2, 0)) + sparse(b320=(0, 4))
    levels = reliability(counts, Calibration())
    assert [one.voxels for one in levels] == [1000, 0, 0, 0, 0, 8, 0, 0, 0, 2]
    assert levels[0].node_fraction == 0.01 and np.isnan(levels[1].mean_probability)
    assert levels[5].mean_probability == pytest.approx(0.50625, abs=1e-5) and levels[5].node_fraction == 0.125
    assert calibration_error(levels) == pytest.approx(((0.50625 - 0.125) + (1 - 0.94400)) / 2, abs=1e-4)
    assert np.isnan(calibration_error(reliability(sparse(b0=(1, 9)), Calibration())))


def test_what_cannot_be_fitted_is_said() -> None:
    with pytest.raises(ValueError, match="^A calibration needs cases with nodes, and something beside them$"):
        fit(sparse(b300=(0, 10)))
    with pytest.raises(ValueError, match="^The bundle gives nodes no higher probability than all else"):
        fit(sparse(b300=(9, 1), b340=(1, 9)))


def test_table_and_picture(tmp_path: Path) -> None:
    levels = reliability(sparse(b320=(1, 3)), Calibration()), reliability(sparse(b320=(1, 3)), Calibration(1.0, -1.0))
    write_reliability(tmp_path / "a.csv", *levels)
    with open(tmp_path / "a.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["voxels"] != "0"]
    assert [(row["when"], row["from_probability"], row["voxels"]) for row in rows] == [
        ("before", "0.5", "4"), ("after", "0.2", "4"),
    ]  # fmt: skip
    plot_reliability(*levels, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
