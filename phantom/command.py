"""`python -m phantom OUT`: write a data set of synthetic chest CTs under the challenge's names."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from lnq.processes import side_by_side
from phantom.annotate import Annotator
from phantom.domain import DOMAINS
from phantom.patient import PHASES
from phantom.write import SPLITS, write_phantom


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m phantom", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to (made if absent)")
    parser.add_argument("--count", type=int, default=10, help="number of phantoms (default 10)")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first; the others follow (default 0)")
    parser.add_argument("--first-number", type=int, default=1, help="number in the first file's name (default 1)")
    parser.add_argument("--split", choices=SPLITS, default="train", help="part of the file names")
    parser.add_argument("--size", type=int, nargs="+", metavar="N", help="pixels of a side, or Z Y X (default 512)")
    parser.add_argument("--spacing", type=float, nargs=3, metavar=("Z", "Y", "X"), help="mm (default: drawn by seed)")
    parser.add_argument("--phase", choices=PHASES, help="contrast phase (default: drawn by seed)")
    parser.add_argument(
        "--domain",
        choices=DOMAINS,
        default="usual",
        help="mimics: with more that looks like nodes; shifted: to test on",
    )
    parser.add_argument("--full", action="store_true", help="-seg holds all nodes, not the partial annotation")
    parser.add_argument("--annotated", type=float, default=0.2, help="part of the nodes that -seg holds (default 0.2)")
    parser.add_argument("--off-voxels", type=int, default=0, help="borders of -seg are off by 1 to so many (default 0)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    args = parser.parse_args(argv)
    if args.count < 1 or args.workers < 1:
        parser.error(f"--count and --workers must be at least 1, not {args.count} and {args.workers}")
    try:
        Annotator(args.annotated, args.off_voxels)
    except ValueError as error:
        parser.error(str(error))
    if args.size is not None and (len(args.size) not in (1, 3) or min(args.size) < 1):
        parser.error(f"--size takes one or three positive numbers, not {args.size}")
    return args


def write_one(args: argparse.Namespace, index: int) -> None:
    """Write the files of phantom `index`, which counts from 0."""
    size = None if args.size is None else args.size[0] if len(args.size) == 1 else tuple(args.size)
    number, seed = args.first_number + index, args.first_seed + index
    annotator = Annotator(args.annotated, args.off_voxels)
    write_phantom(args.out, args.split, number, seed, args.spacing, size, args.phase, args.full, annotator, args.domain)


def main(argv: list[str] | None = None) -> None:
    """The command."""
    from rich.progress import Progress

    args = parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    with Progress() as bar:
        task = bar.add_task("phantoms", total=args.count)
        for _ in side_by_side(partial(write_one, args), range(args.count), args.workers):
            bar.advance(task)
