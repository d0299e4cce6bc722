"""Raw cases as the challenge has them: the chest of the fixtures with one node, and its label."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lnq.image.itk import write_volume
from lnq.image.volume import Volume
from training.config import TINY
from training.data.preparation import Preparation, prepare_cases

NODE_MM = (0.0, 0.0, 40.0)  # L, P, S of the annotated node: in the fat between the lungs
RADIUS_MM = 11.0
NODE_HU = 75


def node_label(volume: Volume, radius_mm: float = RADIUS_MM, value: int = 1) -> np.ndarray:
    index = np.indices(volume.shape).reshape(3, -1)
    position = volume.affine[:3, :3] @ index + volume.affine[:3, 3:]
    inside = np.linalg.norm(position - np.array(NODE_MM)[:, None], axis=0) <= radius_mm
    return (inside.reshape(volume.shape) * value).astype(np.uint8)


def write_pair(folder: Path, name: str, ct: Volume, label: Volume | None = None, value: int = 1) -> None:
    folder.mkdir(exist_ok=True)
    hu = ct.array.copy()
    hu[node_label(ct) > 0] = NODE_HU
    write_volume(ct.with_array(hu), folder / f"{name}-ct.nrrd")
    write_volume(label or ct.with_array(node_label(ct, value=value)), folder / f"{name}-seg.nrrd")


def prepare_tiny(folder: Path, output: Path, **others: Any) -> list[str]:
    """Prepare a folder at the tiny preset's spacing; returns what was said."""
    said = StringIO()
    wanted = Preparation((folder,), output, TINY.spacing_mm, **others)
    assert prepare_cases(wanted, Console(file=said, width=300))
    return said.getvalue().splitlines()
