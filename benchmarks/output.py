"""How benchmarks write what they found: CSV, tables in Markdown, pictures."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lnq.files import replace_atomically

if TYPE_CHECKING:  # not every benchmark draws
    from matplotlib.figure import Figure

MIB = 2**20  # bytes


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as CSV, which appears complete or not at all."""
    with replace_atomically(path) as part, open(part, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a table in Markdown, with a blank line after it. All but the first `left` columns are aligned right."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return ["|" + "|".join(f" {cell} " if cell else " " for cell in row) + "|" for row in (head, rule, *rows)] + [""]


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, which appears complete or not at all."""
    with replace_atomically(path) as part:
        figure.savefig(part, dpi=120, format="png")
