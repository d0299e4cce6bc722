"""`python -m phantom.insert DIR -o OUT`: insert synthetic nodes into real CTs, as cases of the challenge's names.

Their shapes are those of real nodes with --shapes (phantom.insertion.collection describes the folder), else parametric.
All inserted nodes are annotated, and the CT's own are not: what else the CT holds is unknown. With --labels it is what
a label of three states says (0 background, 1 node, 2 unknown), as `training.convert` writes it. Testing on the cases
tells whether inserted nodes are found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lnq.dicom.read import is_dicom_folder, read_dicom_series
from lnq.errors import ImageError
from lnq.image.itk import read_volume
from lnq.image.names import EXTENSIONS, extension_of, stem
from lnq.image.resample import reorient_to_lps
from lnq.image.volume import Volume
from lnq.plain import to_plain
from phantom.insertion.background import study_background
from phantom.insertion.collection import CREDIT, CollectedNode, read_collection
from phantom.insertion.draw import PARAMETRIC
from phantom.insertion.insert import insert_nodes
from phantom.write import SPLITS, case_name, write_case

BACKGROUND, NODE, UNKNOWN = 0, 1, 2
"""Values of a label of three states."""


def find_backgrounds(folder: Path) -> list[Path]:
    """DICOM series folders and image files directly in `folder`, or `folder` itself where it is a series."""
    if is_dicom_folder(folder):
        return [folder]
    return sorted(p for p in folder.iterdir() if (p.is_dir() and is_dicom_folder(p)) or extension_of(p.name))


@dataclass(frozen=True)
class CasesWanted:
    """The cases to be made of each CT."""

    out: Path
    split: str  # one of SPLITS
    copies: int
    count: int  # of nodes in a case, at most
    collection: Sequence[CollectedNode] = ()  # whose shapes nodes have; parametric where it is empty
    labels: Path | None = None  # folder with a label of three states per CT, of its name


def write_cases(source: Path, wanted: CasesWanted, first_number: int, seed: int) -> None:
    """Write the cases of one CT, each with other nodes.

    Raises ImageError where the CT or its label cannot be read, or where there is no place for nodes.
    """
    volume = read_dicom_series(source).volume if source.is_dir() else read_volume(source)
    background = study_background(reorient_to_lps(volume)[0])
    states = read_states(source, background.ct, wanted.labels)
    for copy in range(wanted.copies):
        ct, labels, nodes = insert_nodes(background, seed + copy, wanted.count, wanted.collection)
        label = np.where(labels.array > 0, NODE, states).astype(np.uint8)
        facts = {"full": UNKNOWN not in label and wanted.labels is not None, "background": source.name}
        if wanted.labels is not None:
            facts["unknown"] = UNKNOWN
        facts |= {"seed": seed + copy, "phase": background.phase}
        if any(node.source != PARAMETRIC for node in nodes):
            facts["credit"] = CREDIT
        name = case_name(wanted.split, first_number + copy)
        write_case(wanted.out, name, ct, labels.with_array(label), labels, facts | {"nodes": to_plain(nodes)})


def read_states(source: Path, ct: Volume, folder: Path | None) -> np.ndarray:
    """What the CT's own label says, on the grid of `ct`: 0 wherever there is no folder of labels.

    Raises ImageError where the folder has no label of the CT, or one on another grid or with other values.
    """
    if folder is None:
        return np.zeros(ct.shape, np.uint8)
    name = stem(source)
    candidates = (folder / f"{name}{extension}" for extension in EXTENSIONS)
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise ImageError(f"{folder} has no label named {name}")
    label = reorient_to_lps(read_volume(path))[0]
    if label.shape != ct.shape or not np.allclose(label.affine, ct.affine, atol=1e-2):
        raise ImageError(f"{path.name} lies on another grid than its CT")
    if not np.isin(label.array, (BACKGROUND, NODE, UNKNOWN)).all():
        raise ImageError(f"{path.name} has other values than 0 background, 1 node and 2 unknown")
    return label.array


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m phantom.insert", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with DICOM series folders or image files")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="names in the folder, with or without extension (default: all)")
    parser.add_argument("--copies", type=int, default=8, help="cases per CT")
    parser.add_argument("--nodes", type=int, default=16, help="nodes per case, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shapes", type=Path, help="folder of real nodes' masks (default: parametric shapes)")
    parser.add_argument("--labels", type=Path, help="folder of labels of the CTs' names (default: all is unknown)")
    parser.add_argument("--first-number", type=int, default=9001, help="number of the first case")
    parser.add_argument("--split", choices=SPLITS, default="train", help="part of the file names")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command. Returns 0 if all CTs were used, 1 if some could not be, 2 if there is none or not one asked for."""
    options = parse(argv)
    sources = find_backgrounds(options.folder) if options.folder.is_dir() else []
    names = {name for s in sources for name in (s.name, stem(s))}
    unknown = sorted(set(options.only or ()) - names)
    if unknown:
        print(f"{options.folder} holds no CT named {', '.join(unknown)}", file=sys.stderr)
        return 2
    if options.only:
        sources = [s for s in sources if {s.name, stem(s)} & set(options.only)]
    if not sources:
        print(f"{options.folder} holds no CT to insert nodes into", file=sys.stderr)
        return 2
    try:
        collection = read_collection(options.shapes) if options.shapes else ()
    except ImageError as error:
        print(error, file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    wanted = CasesWanted(options.output, options.split, options.copies, options.nodes, collection, options.labels)
    failed = 0
    for index, source in enumerate(sources):
        before = index * options.copies
        try:
            write_cases(source, wanted, options.first_number + before, options.seed + before)
            print(f"{source.name}: {options.copies} cases from {options.first_number + before:04d}", flush=True)
        except ImageError as error:
            failed += 1
            print(f"{source.name} is left out: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
