"""The files of a synthetic case, under the challenge's names: `lnq2023-<split>-NNNN` and what each file holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from lnq.image.itk import write_volume
from lnq.image.names import CT, LABEL, NODES
from lnq.image.volume import Volume
from lnq.plain import to_plain
from phantom.annotate import HURRIED, Annotator
from phantom.domain import Domain
from phantom.make import make_phantom

SPLITS = ("train", "val", "test")


def case_name(split: str, number: int) -> str:
    """The challenge's name of a case. `split`: one of SPLITS. `number`: up to 9999."""
    return f"lnq2023-{split}-{number:04d}"


def write_phantom(
    folder: Path,
    split: str,
    number: int,
    seed: int,
    spacing_mm: tuple[float, float, float] | None = None,
    size: int | tuple[int, int, int] | None = None,
    phase: str | None = None,
    full: bool = False,
    annotator: Annotator = HURRIED,
    domain: Domain = "usual",
) -> None:
    """Make a phantom with `make_phantom` and write its files into `folder`, which exists.

    The label is the partial annotation of a training case, unless `full`. Else it holds all nodes, as the labels of the
    challenge's validation and test cases do.
    """
    phantom = make_phantom(seed, spacing_mm, size, phase, annotator, domain)
    full = full or split != "train"
    label = phantom.nodes.with_array((phantom.nodes.array > 0).astype(np.uint8)) if full else phantom.partial
    facts = {"full": full} | to_plain(phantom.info)
    write_case(folder, case_name(split, number), phantom.ct, label, phantom.nodes, facts)


def write_case(folder: Path, name: str, ct: Volume, label: Volume, nodes: Volume, facts: dict[str, object]) -> None:
    """Write a case. The CT comes last, so a case that has its CT is complete. `facts` become `<name>-info.json`."""
    write_volume(label, folder / f"{name}{LABEL}.nrrd")
    write_volume(nodes, folder / f"{name}{NODES}.nrrd")
    (folder / f"{name}-info.json").write_text(json.dumps(facts, indent=1) + "\n")
    write_volume(ct, folder / f"{name}{CT}.nrrd")
