"""Compile the image's lists of packages, with versions and hashes, from the short lists that people edit.

    make lock          needs Linux on x86-64 and Python 3.11, as in the image

requirements.txt becomes gpu.lock, and cuda.lock with what only the CUDA build of torch needs. requirements-cpu.txt
becomes cpu.lock, requirements-node.txt dicom.lock. torch has two hashes: for the CUDA build on PyPI, and for the CPU
build on PyTorch's own index.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LEFT_OUT = {
    "openvino-telemetry",  # reports home; openvino runs without
    "cookiecutter",  # used only by evalutils' command line, which the image does not need
    "pip-tools",
    "scikit-learn",  # used only by evalutils' scores of detections, which `lnq.challenge` does without
}
CUDA = re.compile(r"nvidia-|cuda-|triton$")  # packages that only torch's CUDA build needs
CPU_TORCH = {  # SHA-256 of the wheels `torch-<version>+cpu-cp311-cp311-manylinux_2_28_x86_64.whl`
    "2.7.1": "a1684793e352f03fa14f78857e55d65de4ada8405ded1da2bf4f452179c4b779",
}
Pins = dict[str, tuple[str, list[str]]]
"""Package name -> version, and SHA-256 of the wheels that may be installed."""


def resolve(requirements: Path) -> Pins:
    """What pip would install for a list of requirements into an empty environment, without downloading it."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--only-binary", ":all:", "--use-feature=fast-deps", "--report", str(report)]
        subprocess.run([*command, "-r", str(requirements)], check=True)
        entries = json.loads(report.read_text())["install"]
    by_name: dict[str, dict[str, Any]] = {canonicalize_name(e["metadata"]["name"]): e for e in entries}
    return {name: _pin(by_name[name]) for name in sorted(_needed(by_name))}


def _needed(by_name: dict[str, dict[str, Any]]) -> set[str]:
    """Names of the requested packages and their dependencies, without LEFT_OUT and what only those need."""
    seen = set[tuple[str, frozenset[str]]]()
    waiting = {(name, frozenset[str]()) for name, entry in by_name.items() if entry["requested"]}
    while waiting:
        name, extras = waiting.pop()
        seen.add((name, extras))
        for wanted in map(Requirement, by_name[name]["metadata"].get("requires_dist", [])):
            applies = not wanted.marker or any(wanted.marker.evaluate({"extra": e}) for e in ("", *extras))
            other = (canonicalize_name(wanted.name), frozenset(wanted.extras))
            if applies and other[0] not in LEFT_OUT and other not in seen:
                waiting.add(other)
    return {name for name, _ in seen}


def _pin(entry: dict[str, Any]) -> tuple[str, list[str]]:
    version = entry["metadata"]["version"].split("+")[0]
    return version, [entry["download_info"]["archive_info"]["hashes"]["sha256"]]


def with_cpu_torch(pins: Pins) -> Pins:
    """Add the hash of torch's CPU build to that of the CUDA build. Raises KeyError for a version not in CPU_TORCH."""
    version, hashes = pins["torch"]
    return pins | {"torch": (version, sorted({*hashes, CPU_TORCH[version]}))}


def write(path: Path, source: str, pins: Pins) -> None:
    """Write a list for `pip install --no-deps --require-hashes`."""
    lines = [f"# Made by container/lock.py from {source}: edit that, not this."]
    for name, (version, hashes) in pins.items():
        lines.append(" \\\n    ".join([f"{name}=={version}", *(f"--hash=sha256:{value}" for value in hashes)]))
    path.write_text("\n".join(lines) + "\n")
    print(f"{path.relative_to(ROOT)}: {len(pins)} packages")


def main() -> None:
    """Write all lists."""
    gpu = with_cpu_torch(resolve(ROOT / "requirements.txt"))
    write(HERE / "gpu.lock", "requirements.txt", {n: p for n, p in gpu.items() if not CUDA.match(n)})
    write(HERE / "cuda.lock", "requirements.txt", {n: p for n, p in gpu.items() if CUDA.match(n)})
    for flavour, name in (("cpu", "requirements-cpu.txt"), ("dicom", "requirements-node.txt")):
        write(HERE / f"{flavour}.lock", name, resolve(ROOT / name))


if __name__ == "__main__":
    main()
