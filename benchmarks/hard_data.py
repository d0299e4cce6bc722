"""The hard set: phantoms of which few nodes are annotated, with borders that are off, and others to score on.

The CTs are made once. Each share of annotated nodes has labels of its own, those that `python -m phantom --annotated
SHARE --off-voxels 2` gives the same seeds. Phantoms to score on are of the shifted domain: anatomy, contrast, slices
and kernels that no phantom to train on has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.commands import Row, run, write_table
from lnq.image.itk import read_volume, write_volume
from lnq.image.names import CT, LABEL, NODES
from phantom.annotate import Annotator
from phantom.make import streams_of
from training.ablation.sizes import TEST_SEED, TRAIN_SEED, TUNE_SEED

OFF_VOXELS = 2  # borders of annotations are off by one or two
COMPLETE = 1.0  # the share of labels that miss no node and have no border off


@dataclass(frozen=True)
class HardSet:
    """The phantoms below a folder, and how many there are."""

    folder: Path
    train: int = 60
    tune: int = 8
    test: int = 12
    pixels: int = 256

    @property
    def cases(self) -> list[str]:
        """Names of the cases to train on."""
        return [f"lnq2023-train-{number:04d}" for number in range(1, self.train + 1)]

    def make(self, workers: int) -> None:
        """Make the phantoms that are missing. Raises RuntimeError where that fails."""
        for name, split, seed, count, more in (
            ("train", "train", TRAIN_SEED, self.train, ()),
            ("tune", "val", TUNE_SEED, self.tune, ()),
            ("test", "test", TEST_SEED, self.test, ("--domain", "shifted")),
        ):
            target, part = self.folder / name, self.folder / f"{name}.part"
            if not target.is_dir():  # one that is there is complete
                options = ("--split", split, "--first-seed", seed, "--count", count, "--size", self.pixels, *more)
                run("phantom", part, *options, "--workers", workers)
                part.rename(target)

    def table(self, share: float, full: int = 0) -> Path:
        """The table of the cases with a share of their nodes annotated, the last `full` of them wholly.

        Labels that are missing are made.
        """
        path = self.folder / f"annotated-{share:g}{f'-full-{full}' if full else ''}.csv"
        first_full = len(self.cases) - full if share < COMPLETE else 0
        rows = [
            self._row(case, self._partial(case, share) if number < first_full else None)
            for number, case in enumerate(self.cases)
        ]
        write_table(path, rows)
        return path

    def _row(self, case: str, partial: Path | None) -> Row:
        raw = (self.folder / "train").resolve()
        ct, nodes = raw / f"{case}{CT}.nrrd", raw / f"{case}{NODES}.nrrd"
        return (case, ct, nodes, "full") if partial is None else (case, ct, partial.resolve(), "partial")

    def annotated(self, case: str, share: float) -> list[bool]:
        """Which nodes of a case to choose thresholds on are annotated, in the order of their labels."""
        facts = json.loads((self.folder / "tune" / f"{case}-info.json").read_text())
        sizes = [node["short_axis_mm"] for node in facts["nodes"]]
        chosen = set(Annotator(share, OFF_VOXELS).choose(streams_of(facts["seed"])["partial"], sizes))
        return [index in chosen for index in range(len(sizes))]

    def _partial(self, case: str, share: float) -> Path:
        path = self.folder / f"labels-{share:g}" / f"{case}{LABEL}.nrrd"
        if not path.is_file():
            raw = self.folder / "train"
            facts = json.loads((raw / f"{case}-info.json").read_text())
            nodes = read_volume(raw / f"{case}{NODES}.nrrd")
            partial = annotate(nodes.array, facts["nodes"], facts["seed"], Annotator(share, OFF_VOXELS))
            path.parent.mkdir(exist_ok=True)
            write_volume(nodes.with_array(partial), path)
        return path


def annotate(nodes: np.ndarray, facts: Sequence[dict[str, float]], seed: int, annotator: Annotator) -> np.ndarray:
    """What `make_phantom` with this annotator gives as the partial annotation of the phantom of a seed.

    `nodes` [Z, Y, X]: a value per node. `facts`: each node's `label` and `short_axis_mm`, as the phantom tells them.
    """
    rng = streams_of(seed)["partial"]
    chosen = annotator.choose(rng, [node["short_axis_mm"] for node in facts])
    return annotator.outline(rng, nodes, [int(facts[i]["label"]) for i in sorted(chosen)])
