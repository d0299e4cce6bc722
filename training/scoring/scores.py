"""Scores of a set of masks against their truths: per case, over the set, and per node by size (METHOD section 8)."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from lnq.files import replace_atomically, write_text
from lnq.image.resample import reorient_to_lps
from lnq.image.volume import Volume
from lnq.nodes.metrics import NodeResult, assd_mm, dice, false_components, node_detection
from lnq.text import in_cell

LARGE_NODE_MM = 8.0  # short axis from which a node should be found
SIZE_BINS_MM = (0.0, 5.0, 8.0, 10.0, 15.0, math.inf)
EMPTY_RULE = (
    "Where one of two masks is empty there is no ASSD: the largest of the set stands in, as in the paper. "
    "Where both are, Dice is 1 and ASSD 0."
)


@dataclass(frozen=True)
class CaseResult:
    """Scores of one case at one threshold."""

    case: str
    dice: float
    assd_mm: float  # NaN where only one of the two masks is empty, until it is replaced
    assd_replaced: bool
    nodes: int
    large_nodes: int
    large_found: int
    components: int  # 26-connected components of the prediction
    false_components: int  # those of them that touch no node
    predicted_mm3: float
    true_mm3: float
    seconds: float  # NaN for masks made elsewhere
    node_results: tuple[NodeResult, ...] = field(repr=False)


def score(case: str, mask: Volume, instances: Volume, seconds: float) -> CaseResult:
    """Score a mask on the grid of `instances`, the truth with a label per node.

    Both are first turned to LPS axes, as nodes are measured in axial slices.
    """
    mask, instances = reorient_to_lps(mask)[0], reorient_to_lps(instances)[0]
    nodes = tuple(node_detection(mask.array, instances.array, instances.spacing_mm))
    large = [node for node in nodes if node.short_axis_mm >= LARGE_NODE_MM]
    truth = instances.with_array((instances.array > 0).astype(np.uint8))
    return CaseResult(
        case=case,
        dice=dice(mask.array, truth.array),
        assd_mm=assd_mm(mask, truth),
        assd_replaced=False,
        nodes=len(nodes),
        large_nodes=len(large),
        large_found=sum(node.found for node in large),
        components=false_components(mask.array, np.zeros_like(instances.array)),
        false_components=false_components(mask.array, instances.array),
        predicted_mm3=float(np.count_nonzero(mask.array)) * mask.voxel_volume_mm3,
        true_mm3=float(np.count_nonzero(truth.array)) * truth.voxel_volume_mm3,
        seconds=seconds,
        node_results=nodes,
    )


def replace_missing(assds_mm: Sequence[float]) -> list[float]:
    """Replace each NaN by the largest of the other values, as the paper does. Where all are NaN, they stay."""
    largest = max((a for a in assds_mm if not math.isnan(a)), default=math.nan)
    return [largest if math.isnan(a) else a for a in assds_mm]


def replace_missing_assd(results: Sequence[CaseResult]) -> list[CaseResult]:
    """Give cases without an ASSD the largest of the set, as the paper does."""
    replaced = replace_missing([r.assd_mm for r in results])
    return [
        dataclasses.replace(r, assd_mm=assd, assd_replaced=math.isnan(r.assd_mm))
        for r, assd in zip(results, replaced, strict=True)
    ]


def summary(results: Sequence[CaseResult]) -> dict[str, float]:
    """Means and medians over cases, and detection over all nodes."""
    large = sum(r.large_nodes for r in results)
    return {
        "cases": len(results),
        "mean_dice": float(np.mean([r.dice for r in results])),
        "median_dice": float(np.median([r.dice for r in results])),
        "mean_assd_mm": float(np.mean([r.assd_mm for r in results])),
        "median_assd_mm": float(np.median([r.assd_mm for r in results])),
        "replaced_assd": sum(r.assd_replaced for r in results),
        "both_empty": sum(r.predicted_mm3 == 0 and r.true_mm3 == 0 for r in results),
        "large_nodes": large,
        "large_nodes_found": sum(r.large_found for r in results) / large if large else math.nan,
        "node_f1": node_f1(results),
        "false_components_per_case": float(np.mean([r.false_components for r in results])),
        "mean_seconds": float(np.mean([r.seconds for r in results])),
    }


def node_f1(results: Sequence[CaseResult]) -> float:
    """Harmonic mean of recall (found nodes / nodes) and precision (components that touch a node / components).

    1 where there is neither a node nor a component.
    """
    nodes, components = sum(r.nodes for r in results), sum(r.components for r in results)
    found = sum(node.found for r in results for node in r.node_results)
    true = components - sum(r.false_components for r in results)
    if not (found and true):
        return 0.0 if nodes or components else 1.0
    recall, precision = found / nodes, true / components
    return 2 * recall * precision / (recall + precision)


def by_size(results: Sequence[CaseResult]) -> list[dict[str, float]]:
    """Count nodes and found nodes in each of SIZE_BINS_MM, by short axis."""
    nodes = [node for r in results for node in r.node_results]
    rows = []
    for low, high in pairwise(SIZE_BINS_MM):
        inside = [node for node in nodes if low <= node.short_axis_mm < high]
        rows.append({"from_mm": low, "to_mm": high, "nodes": len(inside), "found": sum(n.found for n in inside)})
    return rows


def bin_name(row: dict[str, float]) -> str:
    """The bin of a row of `by_size`, in mm."""
    if math.isinf(row["to_mm"]):
        return f"from {row['from_mm']:g}"
    return f"{row['from_mm']:g}-{row['to_mm']:g}"


def show(results: Sequence[CaseResult], title: str, console: Console) -> None:
    """Print the table of cases, the detection by size, the summary, and the rule for empty masks."""
    table = Table(title=title)
    for heading in ("case", "Dice", "ASSD mm", "nodes", "of 8 mm found", "false", "seconds"):
        table.add_column(heading, justify="left" if heading == "case" else "right", overflow="fold")
    for r in results:
        assd = f"{r.assd_mm:.2f}{'*' if r.assd_replaced else ''}"
        found, seconds = f"{r.large_found}/{r.large_nodes}", "" if math.isnan(r.seconds) else f"{r.seconds:.1f}"
        table.add_row(r.case, f"{r.dice:.3f}", assd, str(r.nodes), found, str(r.false_components), seconds)
    console.print(table)
    sizes = Table(title="Nodes by short axis")
    for heading in ("mm", "nodes", "found"):
        sizes.add_column(heading, justify="right")
    for row in by_size(results):
        sizes.add_row(bin_name(row), str(row["nodes"]), str(row["found"]))
    console.print(sizes)
    for name, value in summary(results).items():
        if not (name == "mean_seconds" and math.isnan(value)):
            console.print(f"{name}: {value:.4g}")
    mark = "* " if any(r.assd_replaced for r in results) else ""
    console.print(f"{mark}{EMPTY_RULE}")


def write_results(output: Path, results: Sequence[CaseResult], facts: dict[str, Any]) -> None:
    """Write cases.csv, nodes.csv and summary.json, which begins with `facts` about what was scored."""
    names = [f.name for f in dataclasses.fields(CaseResult) if f.name != "node_results"]
    _write_csv(output / "cases.csv", names, [[getattr(r, name) for name in names] for r in results])
    headings = ["case", "label", "short_axis_mm", "volume_mm3", "found"]
    nodes = [
        [r.case, n.label, round(n.short_axis_mm, 2), round(n.volume_mm3, 1), int(n.found)]
        for r in results
        for n in r.node_results
    ]
    _write_csv(output / "nodes.csv", headings, nodes)
    content = {**facts, **summary(results), "empty_masks": EMPTY_RULE, "by_size": by_size(results)}
    write_text(output / "summary.json", json.dumps(without_nan(content), indent=1) + "\n")


def _write_csv(path: Path, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with replace_atomically(path) as part, open(part, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(headings)
        writer.writerows([in_cell(value) if isinstance(value, str) else value for value in row] for row in rows)


def without_nan(value: Any) -> Any:
    """The same value with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(v) for key, v in value.items()}
    if isinstance(value, list):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
