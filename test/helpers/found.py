"""Folders to search, and what was found in them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pydicom

from lnq.archive.case import DicomSeries
from lnq.archive.discovery import Found, SetAside, ToSegment
from lnq.image.volume import Volume, make_affine


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0")


def ct(slices: int = 12, distance_mm: float = 3.0, direction: np.ndarray | None = None) -> Volume:
    return Volume(np.zeros((slices, 4, 5), np.int16), make_affine((distance_mm, 1.0, 1.0), direction=direction))


def segmented(found: list[Found]) -> list[str]:
    return [f.case.name for f in found if isinstance(f, ToSegment)]


def reasons(found: list[Found], failed: bool) -> dict[str, str]:
    return {f.case.name: str(f.reason) for f in found if isinstance(f, SetAside) and f.failed == failed}


def pack(folder: Path, archive: Path) -> Path:
    """A zip archive of a folder's files, under their paths below it."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder))
    return archive


def edit(path: Path, **tags: object) -> None:
    dataset = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


def slices_of(found: Found) -> tuple[Path, ...]:
    assert isinstance(found.case, DicomSeries)
    return found.case.slices
