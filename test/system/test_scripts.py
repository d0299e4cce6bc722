"""The scripts around the container, as far as they can be tested without Docker."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT

from lnq.image.itk import write_volume
from lnq.image.volume import Volume, make_affine

MASKS = "images/mediastinal-lymph-node-segmentation"


def mask(marked: int = 10, origin_mm: float = 0.0, value: int = 1) -> Volume:
    """A bar of voxels in a 4 x 5 x 20 volume."""
    array = np.zeros((4, 5, 20), np.uint8)
    array[2, 2, :marked] = value
    return Volume(array, make_affine((3, 1, 1), (origin_mm, 0, 0)))


@pytest.fixture
def compare(tmp_path):
    """Compares an output with what is expected; returns exit status, standard output and error."""

    def compare(output: Volume, listed: str = "ct.mha", errors: tuple[str, ...] = ()) -> tuple[int, str, str]:
        (tmp_path / "out" / MASKS).mkdir(parents=True)
        (tmp_path / "expected").mkdir()
        write_volume(output, tmp_path / "out" / MASKS / "ct.mha")
        write_volume(mask(), tmp_path / "expected" / "ct.mha")
        entry = {"outputs": [{"filename": listed}], "inputs": [{"filename": "ct.mha"}], "error_messages": errors}
        (tmp_path / "out" / "results.json").write_text(json.dumps([entry]))
        command = [sys.executable, f"{ROOT}/test/check_output.py", f"{tmp_path}/out", f"{tmp_path}/expected"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        return run.returncode, run.stdout, run.stderr

    return compare


def test_output_that_agrees_passes_with_its_dice(compare):
    status, out, err = compare(mask(marked=6))  # Dice 2 x 6 / (6 + 10)
    assert (status, err) == (0, "The container's output is as expected\n")
    assert out == "ct.mha: geometry exact, Dice 0.750 (at least 0.5 wanted)\n"


@pytest.mark.parametrize(
    ("output", "options", "sentence"),
    [
        (mask(marked=2), {}, "ct.mha: Dice 0.333 is below 0.5"),
        (mask(origin_mm=1e-4), {}, "ct.mha: its size, spacing, origin or direction is not the expected mask's"),
        (mask(value=2), {}, "ct.mha: its voxels are not 8-bit 0 and 1"),
        (mask(), {"listed": "x.mha"}, "Expected ['ct.mha'], written are ['ct.mha'], results.json lists ['x.mha']"),
        (mask(), {"errors": ("broken",)}, "[{'filename': 'ct.mha'}]: ['broken']"),
    ],
)
def test_output_that_differs_fails_with_the_reason(compare, output, options, sentence):
    status, _, err = compare(output, **options)
    assert (status, err) == (1, sentence + "\n")


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("test.sh", "or, on Debian with podman, runc and debootstrap: make container-check"),
        (
            "export.sh",
            "export.sh needs Docker, and 'docker info' fails here: install or start it, or use --weights-only.",
        ),
    ],
)
def test_script_without_docker_says_so(tmp_path, script, sentence):
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexit 1\n")
    docker.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    run = subprocess.run([ROOT / script], capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1] == sentence
