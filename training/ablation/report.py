"""Write the ablation's report from its table: `ablation.md` and its pictures. Cells may still be missing."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from lnq.files import write_text
from training.ablation.plots import plot_rows, plot_sweeps
from training.ablation.rows import ALL_ROWS, ROWS, SWEEPS, TableRow
from training.ablation.summary import (
    COMPARED,
    assd_spread,
    dice_spread,
    difference,
    missing,
    of_row,
    of_sweep,
    remarks,
)
from training.ablation.table import CellRow, read_table
from training.scoring.scores import EMPTY_RULE

REPORT_NAME = "ablation.md"

INTRODUCTION = f"""# Ablation

What each part of the method is worth: the rows of the paper's Table 1 and the sweeps of its Fig. 3, on phantoms. The
phantoms to train on are annotated in part, those that choose thresholds and those that are scored wholly; all are
others. `python -m training.ablation report` writes this page from [ablation.csv](ablation.csv), in which every finished
cell is a row.

Each row is scored at threshold 0.5, as in the paper, and at its own best threshold: what a loss does to the
calibration is another matter than what it does to the order of the voxels. Dice and ASSD are computed at the prepared
spacing, after the post-processing but without the mediastinal region. {EMPTY_RULE} `±` is the deviation over phantoms
(means over seeds), the range in brackets that of the seeds' means. "Marked" is the part of the volume that is
above 0.5 before post-processing, which deletes what hangs together with the crop's border: a row that marks too much
may end with empty masks. The paper's numbers are of the LNQ2023 test set, other data at another spacing: compare
orders and differences, not values.
"""

HALF_HEADINGS = ("Dice %", "Dice % before post-processing", "ASSD mm", "marked %")
BEST_HEADINGS = ("best threshold", "Dice % there", "ASSD mm there", "remarks")
PSEUDO = {
    "dice": "pseudo label by Dice",
    "consensus": "consensus",
    "integer": "consensus with a pseudo label cast to integers",
}
TERMS = {"ce": "CE", "sce": "SCE", "pce": "PCE", "tversky": "Tversky"}


def write_report(results: Path) -> Path:
    """Write the report and its pictures beside the table; returns the report's path."""
    rows = read_table(results)
    results.mkdir(parents=True, exist_ok=True)
    count = Counter((row.size, row.settings) for row in rows)
    parts = [INTRODUCTION]
    for size, settings in sorted(count, key=lambda key: -count[key]):
        parts.append(_group([row for row in rows if (row.size, row.settings) == (size, settings)], results))
    if not rows:
        parts.append("No cell is finished yet.\n")
    write_text(results / REPORT_NAME, "\n".join(parts))
    return results / REPORT_NAME


def percent(values: Iterable[float]) -> str:
    """The mean of fractions, in %, as text."""
    return f"{100 * statistics.fmean(values):.1f}"


def _group(cells: Sequence[CellRow], results: Path) -> str:
    """The report's section on the cells of one size and configuration. Its pictures are written to `results`."""
    first = cells[0]
    name = f"ablation-{first.size}-{first.settings}"
    lacking = missing(cells)
    lines = [
        f"## {first.size.capitalize()}: {first.steps} steps, ramp over the first {first.ramp_steps}",
        "",
        *_provenance(cells),
        "",
        "At threshold 0.5, as the paper scores:",
        "",
        *_table_at_half(cells),
        "",
        "At each row's best threshold:",
        "",
        *_table_at_best(cells),
        "",
        f"![Dice of each row]({name}-rows.png)",
        "",
        *_difference_table(cells),
        "",
    ]
    plot_rows(cells, results / f"{name}-rows.png")
    if any(cell.parameter for cell in cells):
        plot_sweeps(cells, results / f"{name}-sweeps.png")
        lines += [*_sweep_table(cells), "", f"![Dice of each sweep]({name}-sweeps.png)", ""]
    lines.append(f"Missing: {'; '.join(lacking)}." if lacking else "No cell is missing.")
    return "\n".join(lines) + "\n"


def _provenance(cells: Sequence[CellRow]) -> list[str]:
    """Lines on how the cells were made: commands, machines and times."""
    first = cells[0]
    options = f" {first.changes}" if first.changes else ""
    train, score = (sum(getattr(c, kind) for c in cells) for kind in ("train_minutes", "score_minutes"))
    machines = ", ".join(f"{machine} ({count} cells)" for machine, count in Counter(c.machine for c in cells).items())
    commits = ", ".join(sorted({c.commit[:10] for c in cells}))
    dates = sorted({c.date for c in cells})
    return [
        "```",
        f"python -m training.ablation --size {first.size} --output OUT{options}",
        *(f"python -m training.ablation --size {first.size} --output OUT{options} --sweep {name}" for name in SWEEPS),
        "```",
        "",
        f"{len(cells)} cells, {(train + score) / 60:.1f} hours: {train / len(cells):.1f} minutes to train a cell and "
        f"{score / len(cells):.1f} to score it, on {len(first.dice_half)} phantoms. Machine: {machines}. "
        f"{dates[0]} to {dates[-1]}, commit {commits}, settings {first.settings}.",
    ]


def _table_at_half(cells: Sequence[CellRow]) -> list[str]:
    lines = _head("row", "trained with", "seeds", *HALF_HEADINGS, "the paper's Dice %", "its ASSD mm")
    for name, row in ALL_ROWS.items():
        chosen = of_row(cells, name)
        if not chosen and name not in ROWS:
            continue
        scores = [_seeds(chosen), *_at_half(chosen)] if chosen else ["missing", *[""] * len(HALF_HEADINGS)]
        paper = ((row.paper_dice, row.paper_dice_spread), (row.paper_assd_mm, row.paper_assd_spread_mm))
        of_paper = ["" if math.isnan(mean) else f"{mean:.1f} ± {spread:.1f}" for mean, spread in paper]
        lines.append(_line(name, _losses(row), *scores, *of_paper))
    return lines


def _table_at_best(cells: Sequence[CellRow]) -> list[str]:
    lines = _head("row", "seeds", *BEST_HEADINGS)
    for name in ALL_ROWS:
        chosen = of_row(cells, name)
        if not chosen and name not in ROWS:
            continue
        scores = [_seeds(chosen), *_at_best(chosen)] if chosen else ["missing", *[""] * len(BEST_HEADINGS)]
        lines.append(_line(name, *scores))
    return lines


def _seeds(cells: Sequence[CellRow]) -> str:
    return ", ".join(str(c.seed) for c in cells)


def _at_half(cells: Sequence[CellRow]) -> list[str]:
    """The columns of HALF_HEADINGS."""
    return [
        dice_spread([c.dice_half for c in cells]).text(),
        dice_spread([c.raw_dice_half for c in cells]).text(),
        assd_spread([c.assd_half_mm for c in cells]).text(),
        ", ".join(f"{float(f'{100 * c.marked_half:.2g}'):g}" for c in cells),
    ]


def _at_best(cells: Sequence[CellRow]) -> list[str]:
    """The columns of BEST_HEADINGS."""
    return [
        ", ".join(f"{c.threshold:.3g}" for c in cells),
        dice_spread([c.dice_best for c in cells]).text(),
        assd_spread([c.assd_best_mm for c in cells]).text(),
        remarks(cells),
    ]


def _losses(row: TableRow) -> str:
    """What a row trains with, as text: `two decoders, CE + Tversky, consensus`."""
    words = [
        "two decoders" if row.objective.both else "one decoder",
        " + ".join(TERMS[term] for term in row.supervised),
    ]
    if row.pseudo != "none":
        words.append(PSEUDO[row.pseudo])
    if row.trust == "certain":
        words.append("certain background alone")
    if row.pretrained:
        words.append("pre-trained")
    return ", ".join(words)


def _difference_table(cells: Sequence[CellRow]) -> list[str]:
    """The paper's main findings: differences of rows, paired by seed and phantom."""
    lines = _head("Dice points at the best thresholds", "here", "the paper, at 0.5")
    for row, other in COMPARED:
        here = difference(cells, row, other)
        paper = ROWS[row].paper_dice - ROWS[other].paper_dice
        lines.append(_line(f"{row} less {other}", here.text() if here.seeds else "missing", f"{paper:.1f}"))
    return lines


def _sweep_table(cells: Sequence[CellRow]) -> list[str]:
    lines = _head("parameter", "value", "seeds", *(f"{heading} at 0.5" for heading in HALF_HEADINGS), *BEST_HEADINGS)
    for parameter in sorted({cell.parameter for cell in cells if cell.parameter}, key=list(SWEEPS).index):
        for value, chosen in of_sweep(cells, parameter).items():
            lines.append(_line(parameter, f"{value:g}", _seeds(chosen), *_at_half(chosen), *_at_best(chosen)))
    return lines


def _head(*headings: str) -> list[str]:
    return [_line(*headings), _line(*["---"] * len(headings))]


def _line(*columns: str) -> str:
    return "| " + " | ".join(columns) + " |"
