from __future__ import annotations

import dataclasses

import pytest

from training.ablation.rows import ROWS, SWEEPS, parameter_of, with_parameter
from training.config import Losses


def test_table_is_the_papers() -> None:
    dice = [19.04, 23.22, 45.10, 40.26, 39.34, 57.36, 56.10, 55.44]
    assd = [18.23, 25.41, 13.54, 15.19, 16.54, 9.85, 10.28, 9.35]
    assert list(ROWS) == ["baseline", "a", "b", "c", "d", "e", "f", "g"]
    assert [row.paper_dice for row in ROWS.values()] == dice
    assert [row.paper_assd_mm for row in ROWS.values()] == assd
    assert [name for name, row in ROWS.items() if row.pretrained] == ["g"]
    assert [name for name, row in ROWS.items() if row.pseudo == "dice"] == ["a", "b"]
    assert [name for name, row in ROWS.items() if not row.objective.both] == ["baseline"]
    assert {name: set(row.supervised) for name, row in ROWS.items()} == {
        "baseline": {"ce"},
        "a": {"ce"},
        "b": {"ce", "tversky"},
        "c": {"ce", "tversky"},
        "d": {"sce", "tversky"},
        "e": {"pce", "tversky"},
        "f": {"pce", "sce", "tversky"},
        "g": {"pce", "sce", "tversky"},
    }


def test_sweeps_change_one_parameter_and_hold_its_usual_value() -> None:
    usual = Losses()
    assert {name: parameter_of(usual, name) for name in SWEEPS} == {
        "tau": 0.3,
        "gamma": 0.8,
        "alpha": 0.4,
        "lambda": 2.0,
    }
    assert all(parameter_of(usual, name) in values for name, values in SWEEPS.items())
    assert with_parameter(usual, "lambda", 1.4) == dataclasses.replace(usual, final=1.4)
    assert with_parameter(usual, "tau", 0.1) == dataclasses.replace(usual, tau=0.1)
    with pytest.raises(ValueError, match="^Parameter must be one of tau, gamma, alpha, lambda, not 'ramp'$"):
        with_parameter(usual, "ramp", 0.5)
