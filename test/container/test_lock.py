from __future__ import annotations

import re

import pytest
from helpers.paths import ROOT

from container import lock

LINE = re.compile(r"([\w.-]+)==([\w.]+)((?: --hash=sha256:[0-9a-f]{64})+)")


def entry(name: str, *requires: str, asked_for: bool = False) -> dict:
    """As in pip's report."""
    hashes = {"hashes": {"sha256": "0" * 64}}
    metadata = {"name": name, "version": "1.0", "requires_dist": list(requires)}
    return {"metadata": metadata, "requested": asked_for, "download_info": {"archive_info": hashes}}


def test_only_what_is_reached_without_the_left_out_is_needed():
    entries = {
        "evalutils": entry("evalutils", "cookiecutter", "imageio[tifffile]>=2", "Pan_das", asked_for=True),
        "cookiecutter": entry("cookiecutter", "requests"),
        "requests": entry("requests"),
        "imageio": entry("imageio", "tifffile ; extra == 'tifffile'", "av ; extra == 'video'"),
        "tifffile": entry("tifffile", "imageio"),
        "av": entry("av"),
        "pan-das": entry("Pan_das", "tzdata ; sys_platform == 'win32'"),
        "tzdata": entry("tzdata"),
    }
    assert lock._needed(entries) == {"evalutils", "imageio", "tifffile", "pan-das"}


def pins(name: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes of each package of a committed list, every line of which must be one."""
    text = (ROOT / "container" / f"{name}.lock").read_text().replace(" \\\n   ", "")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    matches = [LINE.fullmatch(line) for line in lines]
    assert all(matches)
    return {m[1]: (m[2], m[3].count("--hash")) for m in matches if m}


@pytest.mark.parametrize(
    ("name", "source"),
    [("cpu", "requirements-cpu.txt"), ("gpu", "requirements.txt"), ("dicom", "requirements-node.txt")],
)
def test_committed_list_holds_the_versions_that_are_asked_for(name, source):
    text = (ROOT / source).read_text()
    for included in ("requirements-batch.txt", "requirements-cpu.txt"):
        text = text.replace(f"-r {included}", (ROOT / included).read_text())
    asked = dict(line.split("==") for line in text.splitlines() if "==" in line and not line.startswith("#"))
    locked = pins(name)
    assert {n: locked[n.lower()][0] for n in asked} == asked
    assert not lock.LEFT_OUT & locked.keys()


def test_torch_may_be_the_cuda_or_the_cpu_build_and_is_in_one_list_only():
    assert pins("gpu")["torch"][1] == 2
    assert "torch" not in pins("cpu") and all(lock.CUDA.match(name) for name in pins("cuda"))
    assert not any(lock.CUDA.match(name) for name in pins("gpu"))
