"""Score a model bundle on CTs with complete truth, or choose its threshold on them (METHOD section 8).

    python -m training.evaluate DIR... --model model -o RESULTS
    python -m training.evaluate DIR... --model model -o RESULTS --tune-threshold

A DIR holds `<case>-ct.nrrd` with `<case>-nodes.nrrd` (every node its own label) or a complete `<case>-seg.nrrd`.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import ndimage

from lnq.backends import Model, load_model
from lnq.files import write_text
from lnq.metrics import NodeResult, assd_mm, dice, false_components, node_detection
from lnq.pipeline import infer, to_mask
from lnq.resample import reorient_to_lps
from lnq.spec import ModelSpec
from lnq.volume import Volume, read_volume
from training.command import run_command

LARGE_NODE_MM = 8.0  # short axis from which a node should be found
SIZE_BINS_MM = (0.0, 5.0, 8.0, 10.0, 15.0, math.inf)
THRESHOLDS = (*np.round(np.arange(0.05, 0.96, 0.05), 2).tolist(), 0.97, 0.98, 0.99)
CONNECTIVITY = np.ones((3, 3, 3))


@dataclass(frozen=True)
class Evaluate:
    """Score a model bundle on CTs with complete truth."""

    sources: tyro.conf.Positional[tuple[Path, ...]]  # folders with <case>-ct.nrrd and -nodes.nrrd or -seg.nrrd
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets cases.csv, nodes.csv and summary.json
    model: Path = Path("model")  # bundle
    device: Literal["auto", "cpu", "cuda", "cpu-torch"] = "auto"
    mirror: bool = False  # average over eight flips, at eight times the time
    threshold: float | None = None  # instead of the bundle's
    tune_threshold: bool = False  # choose the one of best mean Dice and write it into the bundle's spec.json


@dataclass(frozen=True)
class CaseResult:
    """Scores of one case at one threshold."""

    case: str
    dice: float
    assd_mm: float  # NaN where the prediction is empty and the truth is not, until it is replaced
    assd_replaced: bool
    nodes: int
    large_nodes: int
    large_found: int
    false_components: int
    predicted_mm3: float
    true_mm3: float
    seconds: float
    node_results: tuple[NodeResult, ...] = field(repr=False)


def find_truths(sources: Sequence[Path]) -> list[tuple[str, Path, Path]]:
    """Name, CT and truth of each case. Raises ValueError where there is none or a truth is missing."""
    found = []
    for source in sources:
        for image in sorted(source.glob("*-ct.nrrd")):
            name = image.name.removesuffix("-ct.nrrd")
            truths = [image.with_name(f"{name}-{kind}.nrrd") for kind in ("nodes", "seg")]
            truth = next((path for path in truths if path.is_file()), None)
            if truth is None:
                raise ValueError(f"{image} has neither {truths[0].name} nor {truths[1].name} beside it")
            found.append((name, image, truth))
    if not found:
        raise ValueError(f"No file named *-ct.nrrd in {', '.join(map(str, sources))}")
    return found


def read_instances(path: Path) -> Volume:
    """Truth with one label per node; the components (26-connected) where the file has no instances."""
    truth = read_volume(path)
    array = truth.array.astype(np.int32)
    if not path.name.endswith("-nodes.nrrd"):
        array = ndimage.label(array > 0, CONNECTIVITY)[0]
    return truth.with_array(array)


def score(case: str, mask: Volume, instances: Volume, seconds: float) -> CaseResult:
    """Scores of a mask on the truth's grid, both brought to LPS so that axial slices are axial."""
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
        false_components=false_components(mask.array, instances.array),
        predicted_mm3=float(np.count_nonzero(mask.array)) * mask.voxel_volume_mm3,
        true_mm3=float(np.count_nonzero(truth.array)) * truth.voxel_volume_mm3,
        seconds=seconds,
        node_results=nodes,
    )


def replace_missing_assd(results: Sequence[CaseResult]) -> list[CaseResult]:
    """Give cases without an ASSD (empty prediction) the largest of the set, as the paper does."""
    known = [r.assd_mm for r in results if not math.isnan(r.assd_mm)]
    largest = max(known, default=math.nan)
    return [
        dataclasses.replace(r, assd_mm=largest, assd_replaced=True) if math.isnan(r.assd_mm) else r for r in results
    ]


def summary(results: Sequence[CaseResult]) -> dict[str, float]:
    """Means over cases, and detection over all nodes."""
    large = sum(r.large_nodes for r in results)
    return {
        "cases": len(results),
        "mean_dice": float(np.mean([r.dice for r in results])),
        "median_dice": float(np.median([r.dice for r in results])),
        "mean_assd_mm": float(np.mean([r.assd_mm for r in results])),
        "replaced_assd": sum(r.assd_replaced for r in results),
        "large_nodes": large,
        "large_nodes_found": sum(r.large_found for r in results) / large if large else math.nan,
        "false_components_per_case": float(np.mean([r.false_components for r in results])),
        "mean_seconds": float(np.mean([r.seconds for r in results])),
    }


def by_size(results: Sequence[CaseResult]) -> list[dict[str, float]]:
    """Nodes and found nodes per bin of short axis."""
    nodes = [node for r in results for node in r.node_results]
    rows = []
    for low, high in pairwise(SIZE_BINS_MM):
        inside = [node for node in nodes if low <= node.short_axis_mm < high]
        rows.append({"from_mm": low, "to_mm": high, "nodes": len(inside), "found": sum(n.found for n in inside)})
    return rows


def evaluate(command: Evaluate, console: Console) -> dict[float, list[CaseResult]]:
    """Results per threshold: the bundle's (or the given) one, or all of THRESHOLDS when it is to be chosen."""
    model = load_model(command.model, command.device)
    chosen = model.spec.threshold if command.threshold is None else command.threshold
    thresholds = THRESHOLDS if command.tune_threshold else (chosen,)
    results: dict[float, list[CaseResult]] = {threshold: [] for threshold in thresholds}
    for name, image, truth in track(find_truths(command.sources), "Scoring", console=console):
        for threshold, result in _score_case(name, image, truth, model, command.mirror, thresholds):
            results[threshold].append(result)
    return {threshold: replace_missing_assd(list_) for threshold, list_ in results.items()}


def _score_case(
    name: str, image: Path, truth: Path, model: Model, mirror: bool, thresholds: Sequence[float]
) -> list[tuple[float, CaseResult]]:
    volume, instances = read_volume(image), read_instances(truth)
    if instances.shape != volume.shape or not np.allclose(instances.affine, volume.affine, atol=1e-3):
        raise ValueError(f"{truth.name} is not on the grid of {image.name}")
    inferred = infer(volume, model, mirror)
    seconds = sum(inferred.seconds.values())
    return [(t, score(name, to_mask(inferred, volume, model.spec, t), instances, seconds)) for t in thresholds]


def write_results(output: Path, results: Sequence[CaseResult], threshold: float, model: Path) -> None:
    """Write cases.csv, nodes.csv and summary.json."""
    output.mkdir(parents=True, exist_ok=True)
    with open(output / "cases.csv", "w", newline="") as file:
        names = [f.name for f in dataclasses.fields(CaseResult) if f.name != "node_results"]
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([getattr(r, name) for name in names] for r in results)
    with open(output / "nodes.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "label", "short_axis_mm", "volume_mm3", "found"])
        for r in results:
            writer.writerows(
                [r.case, n.label, round(n.short_axis_mm, 2), round(n.volume_mm3, 1), int(n.found)]
                for n in r.node_results
            )
    content = {"model": str(model), "threshold": threshold, **summary(results), "by_size": by_size(results)}
    write_text(output / "summary.json", json.dumps(_without_nan(content), indent=1) + "\n")


def _without_nan(value: Any) -> Any:
    """The same with None for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_sweep(output: Path, results: dict[float, list[CaseResult]]) -> None:
    """Write thresholds.csv: the summary at every threshold."""
    output.mkdir(parents=True, exist_ok=True)
    rows = [{"threshold": threshold, **summary(list_)} for threshold, list_ in results.items()]
    with open(output / "thresholds.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def store_threshold(bundle: Path, threshold: float, results: Sequence[CaseResult]) -> None:
    """Write the threshold into the bundle's spec.json, with what it was chosen on."""
    spec = ModelSpec.load(bundle)
    chosen = {"by": "best mean Dice", "cases": [r.case for r in results], "mean_dice": summary(results)["mean_dice"]}
    provenance = spec.provenance | {"threshold": chosen}
    dataclasses.replace(spec, threshold=threshold, provenance=provenance).save(bundle)


def show(results: Sequence[CaseResult], threshold: float, console: Console) -> None:
    """Print the table of cases, the summary and the detection by size."""
    table = Table(title=f"Threshold {threshold}")
    for heading in ("case", "Dice", "ASSD mm", "nodes", "of 8 mm found", "false", "seconds"):
        table.add_column(heading, justify="left" if heading == "case" else "right")
    for r in results:
        assd = f"{r.assd_mm:.2f}{'*' if r.assd_replaced else ''}"
        found = f"{r.large_found}/{r.large_nodes}"
        table.add_row(r.case, f"{r.dice:.3f}", assd, str(r.nodes), found, str(r.false_components), f"{r.seconds:.1f}")
    console.print(table)
    if any(r.assd_replaced for r in results):
        console.print("* nothing was found in these cases: the largest ASSD of the set stands in, as in the paper")
    for name, value in summary(results).items():
        console.print(f"{name}: {value:.4g}", highlight=False)
    for row in by_size(results):
        console.print(
            f"short axis {row['from_mm']:g} to {row['to_mm']:g} mm: {row['found']} of {row['nodes']} nodes found",
            highlight=False,
        )


def run(command: Evaluate) -> bool:
    """The whole command."""
    results = evaluate(command, Console(stderr=True))
    best = max(results, key=lambda threshold: summary(results[threshold])["mean_dice"])
    if command.tune_threshold:
        write_sweep(command.output, results)
        store_threshold(command.model, best, results[best])
    write_results(command.output, results[best], best, command.model)
    show(results[best], best, Console())
    return True


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = tyro.cli(Evaluate, args=arguments)
    return run_command(lambda: run(command))


if __name__ == "__main__":
    sys.exit(main())
