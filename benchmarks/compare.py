"""Whole-case inference on a CPU, file to file: this project beside MONAI and nnU-Net, with the same weights.

    python -m benchmarks.compare --ct CT... [--truth T...] --bundle DIR|paper -o docs/results

The contenders take turns, each in a process of its own. docs/speed.md says what is compared and what favours whom.
Writes compare-BUNDLE.csv, .md and .png.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.bundles import PAPER, add_arguments, find_bundle
from benchmarks.compare_plot import plot
from benchmarks.compare_table import Verdicts, comparison_table, rows_of, write_runs
from benchmarks.judge import JudgedCase, Verdict
from benchmarks.machine import caption
from benchmarks.output import MIB
from benchmarks.peers.contenders import OURS, PROBABILITY
from benchmarks.peers.launch import MALLOC, ContenderRun, check_name, launch
from benchmarks.peers.stages import ContenderJob
from lnq.errors import BundleError
from lnq.files import write_text
from lnq.image.itk import read_volume
from lnq.inference.spec import ModelSpec

DEFAULT = (OURS, "monai", "nnunet")


@dataclass
class Comparison:
    """All runs of all contenders, and the verdicts on their results."""

    bundle: Path
    spec: ModelSpec
    folder: Path  # holds temporary files
    timeout_s: float  # of one run
    runs: list[ContenderRun] = field(default_factory=list)
    verdicts: dict[tuple[str, str], Verdict] = field(default_factory=dict)  # by contender and case
    ours: dict[str, np.ndarray] = field(default_factory=dict)  # our probability, by case

    def run(self, name: str, compared: JudgedCase, repeat: int) -> None:
        """Run a contender once. The first result of a contender on a CT is judged."""
        with tempfile.TemporaryDirectory(dir=self.folder) as output:
            job = ContenderJob(self.bundle.resolve(), compared.ct.resolve(), compared.crop, Path(output))
            run = launch(name, compared.case, repeat, job, self.timeout_s)
            self.runs.append(run)
            said = run.error or f"{run.total_s:.1f} s, {run.windows} windows, {run.peak_bytes / MIB:.0f} MiB"
            print(f"{compared.case}, run {repeat}, {name}: {said}", file=sys.stderr)
            key = (name, compared.case)
            if run.error or run.mask is None or key in self.verdicts:
                return
            if name == OURS:
                self.ours[compared.case] = read_volume(job.output / PROBABILITY).array
            self.verdicts[key] = compared.judge(run, job.output, self.ours.get(compared.case), self.spec)


def plan(names: Sequence[str], once: Sequence[str]) -> tuple[list[str], list[str]]:
    """Contenders of each repeat, ours first, and those of the first repeat alone. Raises ValueError as `check_name`."""
    every = list(dict.fromkeys((OURS, *names))) if OURS in names else list(dict.fromkeys(names))
    first = [name for name in dict.fromkeys(once) if name not in every]
    for name in (*every, *first):
        check_name(name)
    return every, first


def comparison_page(comparison: Comparison, arguments: Sequence[str] | None) -> str:
    """The result in Markdown: the command, the mean over CTs, and each CT."""
    runs, verdicts = comparison.runs, comparison.verdicts
    versions: dict[str, str] = {}
    for run in runs:
        versions |= run.versions
    lines = [f"# Whole case on a CPU, file to file: {label(comparison)}", ""]
    lines += caption("benchmarks.compare", arguments, versions)
    cases = list(dict.fromkeys(run.case for run in runs))
    repeats = max(run.repeat for run in runs)
    lines += [
        f"Medians over {repeats} run{'s' if repeats > 1 else ''}, in turns. `difference` is the mean absolute one of "
        "the probability from ours, where our windows lie.",
        "",
    ]
    if len(cases) > 1:
        lines += [f"Mean over {len(cases)} CTs:", "", *comparison_table(rows_of(runs, verdicts))]
    for case in cases:
        lines += [f"{case}:", "", *comparison_table(rows_of(runs, verdicts, case))]
    return "\n".join(lines)


def label(comparison: Comparison) -> str:
    """The network's size in words."""
    spec = comparison.spec
    sizes = " x ".join(map(str, spec.patch)), " x ".join(f"{s:g}" for s in spec.spacing_mm)
    return f"channels {spec.network.channels}, patch {sizes[0]}, spacing {sizes[1]} mm"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.splitlines()[0])
    parser.add_argument("--ct", type=Path, nargs="+", required=True)
    parser.add_argument("--truth", type=Path, nargs="+", help="masks of the nodes, one per CT, on their grids")
    add_arguments(parser)
    parser.add_argument("--repeats", type=int, default=3)
    names = f"default: {' '.join(DEFAULT)}; with {MALLOC} at a peer's name glibc keeps memory"
    parser.add_argument("--contenders", nargs="+", default=list(DEFAULT), help=names)
    parser.add_argument("--once", nargs="+", default=[], help="contenders of the first repeat alone")
    parser.add_argument("--timeout", type=float, default=7200.0, metavar="S", help="of one run (default 7200)")
    options = parser.parse_args(arguments)
    if options.truth and len(options.truth) != len(options.ct):
        parser.error(f"--truth takes as many files as --ct, {len(options.ct)}, not {len(options.truth)}")
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, not {options.repeats}")
    return options


def compare(options: argparse.Namespace, folder: Path) -> Comparison:
    """Run all contenders on all CTs. `folder` holds temporary files."""
    bundle = find_bundle(options.bundle, folder)
    every, first = plan(options.contenders, options.once)
    comparison = Comparison(bundle, ModelSpec.load(bundle), folder, options.timeout)
    real = options.bundle != PAPER  # random weights have no Dice
    truths = options.truth if options.truth and real else [None] * len(options.ct)
    for ct, truth in zip(options.ct, truths, strict=True):
        compared = JudgedCase.load(ct, truth, comparison.spec, folder)
        for repeat in range(1, options.repeats + 1):
            for name in every + (first if repeat == 1 else []):
                comparison.run(name, compared, repeat)
    return comparison


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status."""
    options = parse(arguments)
    name = f"compare-{Path(options.bundle).resolve().name if options.bundle != PAPER else PAPER}"
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="lnq-compare-") as folder:
            comparison = compare(options, Path(folder))
    except (ValueError, OSError, BundleError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    verdicts: Verdicts = comparison.verdicts
    write_runs(options.output / f"{name}.csv", comparison.runs, verdicts)
    text = comparison_page(comparison, arguments)
    write_text(options.output / f"{name}.md", text)
    rows = rows_of(comparison.runs, verdicts)
    if any(not row.error for row in rows):
        plot(options.output / f"{name}.png", rows, label(comparison))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
