from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from training.ablation.table import TABLE_NAME, CellRow, add_row, read_table

MakeRow = Callable[..., CellRow]


def test_rows_survive_the_file(tmp_path: Path, make_row: MakeRow) -> None:
    assert read_table(tmp_path) == []
    row = make_row(machine='a "fast" CPU, 2 threads', changes="--finetune.epochs 3", threshold=0.999876605)
    add_row(tmp_path / "results", row)
    (got,) = read_table(tmp_path / "results")
    assert np.isnan(got.assd_half_mm[0]) and got.assd_half_mm[1] == 8.0
    assert got.threshold == pytest.approx(row.threshold, rel=1e-5)
    for name in ("machine", "changes", "row", "seed", "dice_half", "dice_best", "train_minutes", "key"):
        assert getattr(got, name) == getattr(row, name), name


def test_cell_is_replaced_by_its_later_row(tmp_path: Path, make_row: MakeRow) -> None:
    for row in (make_row(steps=1), make_row(seed=1), make_row(parameter="tau", tau=0.1), make_row(steps=2)):
        add_row(tmp_path, row)
    rows = read_table(tmp_path)
    assert [(r.seed, r.parameter, r.value, r.steps) for r in rows] == [
        (1, "", 0.0, 100),
        (0, "tau", 0.1, 100),
        (0, "", 0.0, 2),
    ]


def test_values_of_parameters_are_told_apart(make_row: MakeRow) -> None:
    row = make_row(parameter="lambda", final=1.4)
    assert row.value == 1.4 and (row.of("tau"), row.of("gamma"), row.of("alpha")) == (0.3, 0.8, 0.4)
    assert row.key != make_row(parameter="lambda", final=1.6).key


@pytest.mark.parametrize(("old", "new"), [("0123abcd", "0123abcd,x,y"), (",0.75,", ",much,"), (",0.75,", ",inf,")])
def test_damaged_row_is_named(tmp_path: Path, make_row: MakeRow, old: str, new: str) -> None:
    add_row(tmp_path, make_row())
    add_row(tmp_path, make_row(seed=1))
    path = tmp_path / TABLE_NAME
    head, first, second = path.read_text().splitlines()
    path.write_text("\n".join([head, first, second.replace(old, new)]) + "\n")
    with pytest.raises(ValueError, match=rf"^{path}, line 3, is no row of this table: mend or delete it$"):
        read_table(tmp_path)
