"""Find where a network is wrong on the cases that it trains on, so that the next run can look there more often.

    python -m training.mine PREPARED --model MODEL
    python -m training.finetune --data PREPARED --init MODEL --sampling.wrong-every 4 -o RUN

Marks on background and missed nodes are written beside each case's arrays. Cases that this network saw are kept.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.progress import track

from lnq.inference.backends import load_model
from training.command import plain_console, run_over_cases
from training.data.mining import find_wrong
from training.data.prepared import case_folders


@dataclass(frozen=True)
class Mine:
    """Find a network's wrong marks and missed nodes on prepared cases, for `--sampling.wrong-every`."""

    data: tyro.conf.Positional[Path]  # folder that training.prepare wrote
    model: Path = Path("model")  # a bundle
    device: Literal["auto", "cpu", "cuda"] = "auto"


def mine(command: Mine) -> bool:
    """Look at all cases; returns whether each could be. Raises ValueError and BundleError where none could be."""
    console = plain_console()
    folders = case_folders(command.data)
    model = load_model(command.model, command.device)
    marks = missed = failed = 0
    for folder in track(folders, "Looking", console=console):
        try:
            facts = find_wrong(folder, model)
        except (ValueError, OSError, MemoryError) as error:
            failed += 1
            console.print(f"{folder.name} is left out: {error}")
            continue
        marks, missed = marks + facts.marks, missed + facts.missed
    if failed == len(folders):
        raise ValueError("No case could be looked at")
    console.print(f"{marks} wrong marks and {missed} missed nodes in {len(folders) - failed} cases")
    return not failed


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status, which is 1 where a case was left out."""
    command = tyro.cli(Mine, args=arguments, prog="python -m training.mine")
    return run_over_cases(lambda: mine(command))


if __name__ == "__main__":
    sys.exit(main())
