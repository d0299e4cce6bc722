"""What benchmarks that train share: the project's commands as a user runs them, and tables of cases."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.output import write_csv

Row = tuple[str, Path, Path, str]
"""Case, image, label, and `partial` or `full`."""


def run(module: str, *arguments: object) -> None:
    """Run one of the project's commands as a user does. Raises RuntimeError where it fails."""
    done = subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=False)
    if done.returncode:
        raise RuntimeError(f"{module} ended with status {done.returncode}")


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write a table of cases, as a source of `training.prepare`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, ("case", "image", "label", "annotation"), rows)
