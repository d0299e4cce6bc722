"""Whether there is a GPU that PyTorch can use, and if one is there that it cannot use, why not."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

DRIVERS = ("/dev/nvidiactl", "/dev/dxg")  # without these files there is no GPU, and torch need not be imported
_ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")


@dataclass(frozen=True)
class Gpu:
    """What was found. `problem`, the end of a sentence, is there where a GPU is there that cannot be used."""

    usable: bool
    problem: str | None = None


def find_gpu() -> Gpu:
    """Look for a GPU. PyTorch is imported only where there is a driver.

    A GPU that CUDA_VISIBLE_DEVICES hides is not there. Nothing is raised: what goes wrong is the problem.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or not any(Path(driver).exists() for driver in DRIVERS):
        return Gpu(False)
    if find_spec("torch") is None:
        return Gpu(False, "PyTorch is not installed")
    try:
        return _try_cuda()
    except (RuntimeError, OSError, ImportError) as error:  # of a library that is missing, or a GPU that others fill
        return Gpu(False, f"PyTorch cannot use it: {_first_sentence(str(error))}")


def _try_cuda() -> Gpu:
    """Whether PyTorch can compute on the GPU, for which a little memory is taken. Raises what PyTorch raises."""
    import torch

    if torch.version.cuda is None:
        return Gpu(False, "this PyTorch is a build for CPUs")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        reason = _first_sentence(str(told[0].message)) if told else "its driver does not answer, or has no device"
        return Gpu(False, f"CUDA {torch.version.cuda} cannot use it: {reason}")
    capability, built_for = torch.cuda.get_device_capability(), torch.cuda.get_arch_list()
    if not has_code_for(capability, built_for):
        name, version = torch.cuda.get_device_name(), ".".join(map(str, capability))
        return Gpu(False, f"this PyTorch has no code for {name}, compute capability {version}")
    torch.zeros(1, device="cuda")
    return Gpu(True)


def has_code_for(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Whether a build for some CUDA architectures runs on a GPU of a compute capability.

    Machine code (`sm_86`) runs on its generation from its own revision on, that with a letter on its own alone. Code
    for the driver's compiler (`compute_90`) runs on all later ones. Source: CUDA C++ Programming Guide, compatibility.
    """
    for match in map(_ARCHITECTURE.fullmatch, architectures):
        if match is None:
            continue
        kind, letter, built = match[1], match[4], (int(match[2]), int(match[3]))
        if letter:
            runs = built == capability
        elif kind == "sm":
            runs = built[0] == capability[0] and built[1] <= capability[1]
        else:
            runs = built <= capability
        if runs:
            return True
    return False


def _first_sentence(text: str) -> str:
    """The first sentence of a library's warning, on one line and without what stands before its last colon's words."""
    sentence = re.split(r"\.\s", " ".join(text.split()), maxsplit=1)[0]
    return sentence.removeprefix("CUDA initialization: ").rstrip(".")
