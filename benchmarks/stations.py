"""How often the station of a node is told right, on phantoms, whose nodes are placed by station.

    python -m phantom data/stations --count 40 --first-seed 6000 --size 256
    python -m benchmarks.stations data/stations -o OUT

The true nodes are asked for, so the network plays no part; the carina is found in the image. Interlobar nodes (11)
count as hilar ones, 5 and 6 as one. Writes stations.md, with a row per station, and stations.csv, with one per node.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.progress import track

from benchmarks.machine import caption
from benchmarks.output import markdown_table, write_csv
from lnq.files import write_text
from lnq.image.itk import read_volume
from lnq.image.names import stem
from lnq.image.resample import reorient_to_lps
from lnq.inference.bundle import default_bundle
from lnq.inference.spec import ModelSpec
from lnq.nodes.measure import measure_nodes
from lnq.nodes.stations import STATIONS, UNCERTAIN
from lnq.pipeline import landmarks_of, prepare
from lnq.version import __version__
from training.command import plain_console, run_over_cases

MERGED = {"5": "5/6", "6": "5/6", "11R": "10R", "11L": "10L"}


@dataclass(frozen=True)
class Told:
    """One true node: its station, and what was said of it, None where the carina was not found."""

    case: str
    station: str
    said: str | None


@dataclass(frozen=True)
class StationsOfPhantoms:
    """Measure the stations on phantoms."""

    folder: tyro.conf.Positional[Path]  # that `python -m phantom` wrote
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]


def told_in(folder: Path, case: str) -> list[Told]:
    """What is said of the true nodes of one phantom."""
    spec = ModelSpec.load(default_bundle())
    volume = read_volume(folder / f"{case}-ct.nrrd")
    ready = prepare(volume, spec.spacing_mm, spec.crop)
    landmarks = landmarks_of(ready)
    labels = reorient_to_lps(read_volume(folder / f"{case}-nodes.nrrd"))[0]
    found = []
    for node in json.loads((folder / f"{case}-info.json").read_text())["nodes"]:
        own = (labels.array == node["label"]).astype(np.uint8)
        hu = np.zeros(own.shape, np.float32)
        measured, _ = measure_nodes(labels.with_array(own), hu, hu, landmarks)
        if measured:
            largest = max(measured, key=lambda one: one.volume_mm3)
            found.append(Told(case, MERGED.get(node["station"], node["station"]), largest.station))
    return found


def lines_of_stations(told: Sequence[Told]) -> list[str]:
    """The table in Markdown: how many nodes of each station are called right, uncertain, or something else."""
    rows = []
    for name in (*STATIONS, "all"):
        own = [one for one in told if name in (one.station, "all") and one.said is not None]
        sure = [one for one in own if one.said != UNCERTAIN]
        right = sum(one.said == one.station for one in sure)
        if own:
            share = f"{100 * right / len(sure):.0f} %" if sure else ""
            rows.append((name, str(len(own)), share, f"{100 * (1 - len(sure) / len(own)):.0f} %"))
    return markdown_table(("station", "nodes", "right where one is told", "uncertain"), rows)


def measure_stations(command: StationsOfPhantoms) -> bool:
    """Run the command. Raises ValueError where there is no phantom."""
    cases = sorted(stem(path).removesuffix("-ct") for path in command.folder.glob("*-ct.nrrd"))
    if not cases:
        raise ValueError(f"{command.folder} holds no phantom")
    command.output.mkdir(parents=True, exist_ok=True)
    told = [one for case in track(cases, "Looking", console=plain_console()) for one in told_in(command.folder, case)]
    missing = sum(one.said is None for one in told)
    head = [
        "# Stations of nodes in phantoms", "",
        f"{len(cases)} phantoms, {len(told)} nodes; of {missing} the carina was not found. Phantoms are synthetic: "
        "this says nothing about patients.", "",
    ]  # fmt: skip
    text = [*head, *lines_of_stations(told), *caption("benchmarks.stations", None, {"lnq": __version__})]
    write_text(command.output / "stations.md", "\n".join(text))
    write_csv(
        command.output / "stations.csv", ("case", "station", "said"), [(t.case, t.station, t.said or "") for t in told]
    )
    print("\n".join(text))
    return True


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = tyro.cli(StationsOfPhantoms, args=arguments, prog="python -m benchmarks.stations")
    return run_over_cases(lambda: measure_stations(command))


if __name__ == "__main__":
    sys.exit(main())
