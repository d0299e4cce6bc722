"""Runs over a few CTs, and what they leave."""

from __future__ import annotations

import re
from pathlib import Path

from lnq.image.itk import write_volume
from lnq.image.volume import Volume


def shifted(volume: Volume, index: int) -> Volume:
    """Another CT."""
    return volume.with_array(volume.array + index)


def command(folder: Path, output: Path, bundle: Path, *options: str) -> list[str]:
    return ["batch", str(folder), "-o", str(output), "--model", str(bundle), "--no-preview", "--no-report", *options]


def contents(output: Path) -> dict[str, bytes]:
    """All files by their path, without what tells times."""
    files = {str(p.relative_to(output)): p.read_bytes() for p in output.rglob("*") if p.is_file()}
    return {name: re.sub(rb'"seconds": [0-9.]+', b"", data) for name, data in files.items()}


def write_cases(folder: Path, volume: Volume) -> Path:
    """Four CTs and a broken one."""
    folder.mkdir()
    for index in range(4):
        write_volume(shifted(volume, index), folder / f"ct{index}.mha")
    (folder / "broken.mha").write_text("no image")
    return folder
