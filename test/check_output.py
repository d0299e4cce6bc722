"""Compare what the container left in its output folder with the expected masks; exit 1 on any difference.

Geometry and voxel type must be exact, Dice at least `--least-dice`. Needs nothing but `lnq`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from lnq.image.itk import read_volume
from lnq.nodes.metrics import dice

MASKS = Path("images/mediastinal-lymph-node-segmentation")


def compare(output: Path, expected: Path, least_dice: float) -> list[str]:
    """Everything that is wrong, a sentence each; prints each mask's Dice."""
    wrong = [f"{e['inputs']}: {e['error_messages']}" for e in _results(output) if e["error_messages"]]
    names = sorted(p.name for p in expected.glob("*.mha"))
    written = sorted(p.name for p in (output / MASKS).glob("*"))
    listed = sorted(o["filename"] for e in _results(output) for o in e["outputs"])
    if not names:
        return [f"There is no expected mask in {expected}"]
    if not names == written == listed:
        return [*wrong, f"Expected {names}, written are {written}, results.json lists {listed}"]
    for name in names:
        wrong += _compare_masks(output / MASKS / name, expected / name, least_dice)
    return wrong


def _results(output: Path) -> list[dict]:
    return json.loads((output / "results.json").read_text())


def _compare_masks(path: Path, truth_path: Path, least_dice: float) -> list[str]:
    mask, truth = read_volume(path), read_volume(truth_path)
    if mask.shape != truth.shape or np.abs(mask.affine - truth.affine).max() > 1e-6:
        return [f"{path.name}: its size, spacing, origin or direction is not the expected mask's"]
    if mask.array.dtype != np.uint8 or not np.isin(mask.array, (0, 1)).all():
        return [f"{path.name}: its voxels are not 8-bit 0 and 1"]
    overlap = dice(mask.array, truth.array)
    print(f"{path.name}: geometry exact, Dice {overlap:.3f} (at least {least_dice} wanted)")
    return [] if overlap >= least_dice else [f"{path.name}: Dice {overlap:.3f} is below {least_dice}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("expected", type=Path)
    parser.add_argument("--least-dice", type=float, default=0.5)
    options = parser.parse_args()
    try:
        wrong = compare(options.output, options.expected, options.least_dice)
    except (OSError, ValueError, KeyError) as error:
        wrong = [f"The output cannot be read: {error}"]
    print("\n".join(wrong) if wrong else "The container's output is as expected", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
