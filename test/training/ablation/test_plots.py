from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import pytest

from training.ablation.plots import plot_rows, plot_sweeps
from training.ablation.table import CellRow

MakeRow = Callable[..., CellRow]


@pytest.mark.parametrize("plot", [plot_rows, plot_sweeps])
def test_picture_is_drawn_while_cells_are_missing(
    plot: Callable[[list[CellRow], Path], None], tmp_path: Path, make_row: MakeRow
) -> None:
    cells = [make_row(), make_row(seed=1), make_row(row="e-integer"), make_row(parameter="tau", tau=0.1)]
    for number, chosen in enumerate(([], cells)):
        plot(chosen, tmp_path / f"{number}.png")
    nothing, something = (matplotlib.image.imread(tmp_path / f"{number}.png") for number in (0, 1))
    assert something.shape[-1] == 4 and something.std() > 0
    assert nothing.shape == something.shape and (nothing != something).any()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png"]
