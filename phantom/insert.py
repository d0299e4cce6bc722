"""`python -m phantom.insert DIR -o OUT`: insert synthetic nodes into real CTs, as cases of the challenge's names.

Their shapes are those of real nodes with --shapes (phantom.insertion.collection describes the folder), else parametric.
All inserted nodes are annotated, and the CT's own are not. Training on the cases is training on partial annotation.
Testing on them tells whether inserted nodes are found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lnq.dicom.read import is_dicom_folder, read_dicom_series
from lnq.errors import ImageError
from lnq.image.itk import read_volume
from lnq.image.names import extension_of
from lnq.image.resample import reorient_to_lps
from lnq.plain import to_plain
from phantom.insertion.background import study_background
from phantom.insertion.collection import CREDIT, CollectedNode, read_collection
from phantom.insertion.draw import PARAMETRIC
from phantom.insertion.insert import insert_nodes
from phantom.write import SPLITS, case_name, write_case


def find_backgrounds(folder: Path) -> list[Path]:
    """DICOM series folders and image files directly in `folder`, or `folder` itself where it is a series."""
    if is_dicom_folder(folder):
        return [folder]
    return sorted(p for p in folder.iterdir() if (p.is_dir() and is_dicom_folder(p)) or extension_of(p.name))


def write_cases(
    source: Path,
    out: Path,
    split: str,
    first_number: int,
    copies: int,
    count: int,
    seed: int,
    collection: Sequence[CollectedNode] = (),
) -> None:
    """Write `copies` cases of one real CT, each with up to `count` other nodes.

    Their shapes are those of `collection`, or parametric where it is empty. Raises ImageError where the CT cannot be
    read or has no place for nodes.
    """
    volume = read_dicom_series(source).volume if source.is_dir() else read_volume(source)
    background = study_background(reorient_to_lps(volume)[0])
    for copy in range(copies):
        ct, labels, nodes = insert_nodes(background, seed + copy, count, collection)
        facts = {"full": False, "background": source.name, "seed": seed + copy, "phase": background.phase}
        if any(node.source != PARAMETRIC for node in nodes):
            facts["credit"] = CREDIT
        label = labels.with_array((labels.array > 0).astype(np.uint8))
        write_case(out, case_name(split, first_number + copy), ct, label, labels, facts | {"nodes": to_plain(nodes)})


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m phantom.insert", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with DICOM series folders or image files")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="names in the folder to use (default: all)")
    parser.add_argument("--copies", type=int, default=8, help="cases per CT")
    parser.add_argument("--nodes", type=int, default=16, help="nodes per case, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shapes", type=Path, help="folder of real nodes' masks (default: parametric shapes)")
    parser.add_argument("--first-number", type=int, default=9001, help="number of the first case")
    parser.add_argument("--split", choices=SPLITS, default="train", help="part of the file names")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command. Returns 0 if all CTs were used, 1 if some could not be, 2 if there is none or not one asked for."""
    options = parse(argv)
    sources = find_backgrounds(options.folder) if options.folder.is_dir() else []
    unknown = sorted(set(options.only or ()) - {s.name for s in sources})
    if unknown:
        print(f"{options.folder} holds no CT named {', '.join(unknown)}", file=sys.stderr)
        return 2
    if options.only:
        sources = [s for s in sources if s.name in options.only]
    if not sources:
        print(f"{options.folder} holds no CT to insert nodes into", file=sys.stderr)
        return 2
    try:
        collection = read_collection(options.shapes) if options.shapes else ()
    except ImageError as error:
        print(error, file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for index, source in enumerate(sources):
        first = options.first_number + index * options.copies
        try:
            seed = options.seed + index * options.copies
            write_cases(source, options.output, options.split, first, options.copies, options.nodes, seed, collection)
            print(f"{source.name}: {options.copies} cases from {first:04d}", flush=True)
        except ImageError as error:
            failed += 1
            print(f"{source.name} is left out: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
