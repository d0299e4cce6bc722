from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from training.ablation.report import percent, write_report
from training.ablation.rows import ROWS, SWEEPS
from training.ablation.table import CellRow, write_table

MakeRow = Callable[..., CellRow]


def test_empty_table_gives_a_report_that_says_so(tmp_path: Path) -> None:
    path = write_report(tmp_path / "new")
    assert path.read_text().endswith("No cell is finished yet.\n")
    assert "the largest of the set stands in, as in the paper" in path.read_text()
    assert [p.name for p in path.parent.iterdir()] == ["ablation.md"]


def test_partly_filled_table_says_what_is_missing(tmp_path: Path, make_row: MakeRow) -> None:
    cells = [
        make_row(row="baseline", dice_best=(0.1, 0.2), assd_half_mm=(float("nan"),) * 2, marked_half=1.0),
        make_row(row="f"),
        make_row(row="f", seed=1, dice_best=(0.7, 0.9), machine="a GPU"),
        make_row(row="e", settings="ffff0000", changes="--finetune.epochs 9", steps=900, ramp_steps=300),
    ]
    write_table(tmp_path, cells)
    text = write_report(tmp_path).read_text()
    first, second = text.split("## ")[1:]
    assert first.startswith("Small: 100 steps, ramp over the first 30\n")  # the settings of most cells come first
    assert second.startswith("Small: 900 steps, ramp over the first 300\n")
    assert "python -m training.ablation --size small --output OUT --finetune.epochs 9\n" in second
    assert (
        "| baseline | one decoder, CE | 0 | 30.0 ± 14.1 | 20.0 ± 14.1 | none | 100 | 19.0 ± 19.4 | 18.2 ± 10.1 |"
        in first
    )
    assert "| baseline | 0 | 0.75 | 15.0 ± 7.1 | 3.0 ± 1.4 | 1 of 1 seeds mark more than half of the volume" in first
    assert "| f | 0, 1 | 0.75, 0.75 | 70.0 ± 14.1 (60.0 to 80.0) |" in first
    assert "| c | two decoders, CE + Tversky, consensus | missing |" in first
    assert "| f less baseline | 45.0 ± 7.1 | 37.1 |" in first
    assert "| f less c | missing | 15.8 |" in first
    assert "a CPU, 2 threads (2 cells), a GPU (1 cells)" in first
    assert "Missing: row baseline: seed 1, 2; row a: seed 0, 1, 2;" in first
    pictures = sorted(p.name for p in tmp_path.glob("*.png"))
    assert pictures == ["ablation-small-0123abcd-rows.png", "ablation-small-ffff0000-rows.png"]
    assert all(f"({name})" in text for name in pictures)


def test_whole_table_is_said_to_be_whole(tmp_path: Path, make_row: MakeRow) -> None:
    cells = [make_row(row=row, seed=seed) for row in ROWS for seed in (0, 1, 2)]
    for parameter, values in SWEEPS.items():
        usual = make_row().of(parameter)
        field = "final" if parameter == "lambda" else parameter
        cells += [make_row(parameter=parameter, **{field: v}) for v in values if v != usual]
    write_table(tmp_path, cells)
    text = write_report(tmp_path).read_text()
    assert text.endswith("No cell is missing.\n")
    rows = [line for line in text.splitlines() if line.startswith(("| tau |", "| gamma |", "| alpha |", "| lambda |"))]
    assert len(rows) == 18
    assert "| tau | 0.3 | 0 | 30.0 ± 14.1 |" in text
    assert (tmp_path / "ablation-small-0123abcd-sweeps.png").read_bytes()[:4] == b"\x89PNG"


def test_a_row_that_is_not_the_papers_stands_in_the_tables_only_where_it_was_run(
    tmp_path: Path, make_row: MakeRow
) -> None:
    write_table(tmp_path, [make_row(row="e")])
    assert "e-integer" not in write_report(tmp_path).read_text()
    write_table(tmp_path, [make_row(row="e"), make_row(row="e-integer")])
    text = write_report(tmp_path).read_text()
    assert "| e-integer | two decoders, PCE + Tversky, consensus with a pseudo label cast to integers | 0 |" in text
    assert "Missing: row baseline: seed 0, 1, 2;" in text and "row e-integer" not in text


def test_percent_is_of_the_mean() -> None:
    assert percent((0.25, 0.5)) == "37.5"
