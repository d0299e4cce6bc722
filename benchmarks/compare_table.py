"""The tables of a comparison: medians over repeats, means over CTs, ratios to ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.judge import Verdict
from benchmarks.output import MIB, markdown_table, write_csv
from benchmarks.peers.contenders import OURS
from benchmarks.peers.launch import ContenderRun
from benchmarks.peers.stages import STAGES

Verdicts = Mapping[tuple[str, str], Verdict]  # by contender and case


@dataclass(frozen=True)
class ContenderRow:
    """The medians of a contender on one CT, or their means over several CTs."""

    contender: str
    runs: int
    total_s: float
    work_s: float  # without the start
    seconds: dict[str, float]  # by stage
    cpu_outside: float  # see `ContenderRun`
    windows: float
    peak_bytes: float
    verdict: Verdict
    error: str | None = None  # why one of its runs failed


def row_of(contender: str, runs: Sequence[ContenderRun], verdict: Verdict) -> ContenderRow:
    """Medians over the runs of one contender on one CT. If a run failed, the row has its error and no figures."""
    error = next((run.error for run in runs if run.error), None)
    if error:
        return ContenderRow(contender, len(runs), math.nan, math.nan, {}, math.nan, math.nan, math.nan, verdict, error)
    stages = [stage for stage in STAGES if stage in runs[0].seconds]
    return ContenderRow(
        contender,
        len(runs),
        float(np.median([run.total_s for run in runs])),
        float(np.median([run.work_s for run in runs])),
        {stage: float(np.median([run.seconds[stage] for run in runs])) for stage in stages},
        float(np.median([run.cpu_outside for run in runs])),
        float(np.median([run.windows for run in runs])),
        float(np.median([run.peak_bytes for run in runs])),
        verdict,
    )


def mean_row(rows: Sequence[ContenderRow]) -> ContenderRow:
    """The mean over CTs of one contender's rows, or the first row that failed."""
    failed = next((row for row in rows if row.error), None)
    if failed:
        return failed
    verdicts = [row.verdict for row in rows]
    return ContenderRow(
        rows[0].contender,
        rows[0].runs,
        float(np.mean([row.total_s for row in rows])),
        float(np.mean([row.work_s for row in rows])),
        {stage: float(np.mean([row.seconds[stage] for row in rows])) for stage in rows[0].seconds},
        float(np.mean([row.cpu_outside for row in rows])),
        float(np.mean([row.windows for row in rows])),
        float(np.mean([row.peak_bytes for row in rows])),
        Verdict(
            float(np.mean([v.difference for v in verdicts])),
            float(np.mean([v.dice_own for v in verdicts])),
            float(np.mean([v.dice_rules for v in verdicts])),
        ),
    )


def rows_of(runs: Sequence[ContenderRun], verdicts: Verdicts, case: str | None = None) -> list[ContenderRow]:
    """A row per contender, in the order of their first runs. None as `case` takes the mean over all CTs."""
    contenders = list(dict.fromkeys(run.contender for run in runs))
    cases = list(dict.fromkeys(run.case for run in runs)) if case is None else [case]
    table = []
    for contender in contenders:
        own = [[r for r in runs if (r.contender, r.case) == (contender, c)] for c in cases]
        judged = zip(cases, own, strict=True)
        table.append(mean_row([row_of(contender, r, verdicts.get((contender, c), Verdict())) for c, r in judged if r]))
    return table


def comparison_table(rows: Sequence[ContenderRow]) -> list[str]:
    """The lines of a table in Markdown. Columns that no contender fills are left out."""
    ours = next((row for row in rows if row.contender == OURS and not row.error), None)
    table = [cells(row, ours) for row in rows]
    names = [name for name in table[0] if any(line[name] for line in table)]
    return markdown_table([name.rstrip() for name in names], ([line[name] for name in names] for line in table))


def cells(row: ContenderRow, ours: ContenderRow | None) -> dict[str, str]:
    """The cells of a row by column. Three columns are called "to ours", so spaces tell their names apart."""

    def ratio(value: float, own: float) -> str:
        return "" if row is ours or row.windows == 0 else f"{value / own:.2f}"

    def shown(value: float, digits: int) -> str:
        return "" if math.isnan(value) else f"{value:.{digits}f}"

    entries = {
        "contender": row.contender,
        "total s": shown(row.total_s, 2) or f"failed: {row.error}".replace("|", "/"),
        "to ours": "",
        "without start s": shown(row.work_s, 2),
        "to ours ": "",
    }
    entries |= {f"{stage} s": shown(row.seconds.get(stage, math.nan), 2) for stage in STAGES}
    entries |= {
        "CPU time outside the network, %": shown(100 * row.cpu_outside if row.windows else math.nan, 1),
        "windows": shown(row.windows, 1).removesuffix(".0"),
        "peak MiB": shown(row.peak_bytes / MIB, 0),
        "to ours  ": "",
        "difference": shown(row.verdict.difference, 5),
        "Dice, own": shown(row.verdict.dice_own, 3),
        "Dice, our rules": shown(row.verdict.dice_rules, 3),
    }
    if ours and not row.error:
        entries["to ours"] = ratio(row.total_s, ours.total_s)
        entries["to ours "] = ratio(row.work_s, ours.work_s)
        entries["to ours  "] = ratio(row.peak_bytes, ours.peak_bytes)
    return entries


def write_runs(path: Path, runs: Sequence[ContenderRun], verdicts: Verdicts) -> None:
    """Write a CSV with a row per run."""
    names = ("contender", "case", "repeat", "total_s", *(f"{stage}_s" for stage in STAGES))
    names += ("cpu_outside", "windows", "base_mib", "peak_mib", "difference", "dice_own", "dice_rules", "error")
    rows = []
    for run in runs:
        verdict = verdicts.get((run.contender, run.case), Verdict())
        stages = (f"{run.seconds[stage]:.3f}" if stage in run.seconds else "" for stage in STAGES)
        judged = (verdict.difference, verdict.dice_own, verdict.dice_rules)
        scores = ("" if math.isnan(value) else f"{value:.6f}" for value in judged)
        memory = (f"{run.base_bytes / MIB:.1f}", f"{run.peak_bytes / MIB:.1f}")
        start = (run.contender, run.case, run.repeat, f"{run.total_s:.3f}", *stages, f"{run.cpu_outside:.4f}")
        rows.append((*start, run.windows, *memory, *scores, run.error or ""))
    write_csv(path, names, rows)
