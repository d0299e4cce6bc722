from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from phantom.insertion.background import Background, study_background
from phantom.insertion.collection import COLUMNS

Place = tuple[float, float, float]


def ball(size: tuple[int, int, int], spacing_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    """A ball in the middle of a box."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(size, spacing_mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return z**2 + y**2 + x**2 <= radius_mm**2


@pytest.fixture(scope="session")
def background(without_contrast) -> Background:
    return study_background(without_contrast.ct)


@pytest.fixture(scope="session")
def write_shapes() -> Callable[..., Path]:
    """Write a made-up collection: masks by name, with centres (L, P, S) and spacings, axes to right and front."""

    def write(
        folder: Path, masks: dict[str, np.ndarray], centres: dict[str, Place], spacing_mm: Place = (1.0, 0.8, 0.8)
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        lines = [",".join((*COLUMNS, "volume_mm3"))]
        for name, mask in masks.items():
            volume = mask.sum() * np.prod(spacing_mm)
            numbers = (*mask.shape, *spacing_mm, *centres[name], -1, 0, 0, 0, -1, 0, 0, 0, 1, volume)
            lines.append(",".join([name, *map(str, numbers)]))
        (folder / "nodes.csv").write_text("\n".join(lines) + "\n")
        np.savez(folder / "masks.npz", **{name: np.packbits(mask) for name, mask in masks.items()})
        return folder

    return write


@pytest.fixture(scope="session")
def shapes(tmp_path_factory, write_shapes) -> Path:
    """Three balls of two patients, of 12, 8 and 24 mm. Two of patient 001 lie 11 mm apart."""
    sizes = {"001_01": ((16, 20, 20), 6.0), "001_02": ((12, 16, 16), 4.0), "002_01": ((30, 36, 36), 12.0)}
    masks = {name: ball(size, (1.0, 0.8, 0.8), radius) for name, (size, radius) in sizes.items()}
    centres = {"001_01": (10.0, 20.0, 30.0), "001_02": (21.0, 20.0, 30.0), "002_01": (0.0, 0.0, 0.0)}
    return write_shapes(tmp_path_factory.mktemp("shapes") / "shapes", masks, centres)
