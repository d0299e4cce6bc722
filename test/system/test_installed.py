"""The wheel in empty environments outside the source tree. `make package-check` runs it; pip must find the packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.paths import ROOT
from helpers.requirements import lowest, pinned, write_constraints

import lnq
from lnq.image.itk import read_volume, write_volume
from lnq.nodes.metrics import dice

pytestmark = pytest.mark.slow
SAMPLE = ROOT / "test" / "input" / "images" / "mediastinal-ct" / "phantom-8000.mha"
TRUTH = ROOT / "test" / "expected" / SAMPLE.name
FILES = ("pyproject.toml", "README.md", "LICENSE", "process.py")
FOLDERS = ("lnq", "model", "phantom", "training", "benchmarks")
README_DICE = 0.855  # of the sample, as the documentation's table of results has it


@dataclass(frozen=True)
class Installed:
    """An environment that holds lnq, and an empty folder to work in."""

    environment: Path
    folder: Path

    def run(self, program: str, *arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in the empty folder, without what this test's process was given."""
        words = [str(self.environment / "bin" / program), *map(str, arguments)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
        done = subprocess.run(words, cwd=self.folder, env=kept, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        return done


def build(folder: Path) -> tuple[Path, Path]:
    """The source archive, and the wheel that is built from that archive alone."""
    source = folder / "source"
    source.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--outdir", folder, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


def install(wheel: Path, folder: Path, extras: str, versions: dict[str, str]) -> Installed:
    """A new environment with the wheel, at these versions; pip must find that all fit together."""
    installed = Installed(folder / "environment", folder / "work")
    installed.folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", installed.environment], check=True)
    constraints = write_constraints(folder / "constraints.txt", versions)
    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet")
    installed.run("python", *pip, "install", "--constraint", constraints, f"lnq{extras} @ {wheel.as_uri()}")
    installed.run("python", *pip, "check")
    return installed


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("distributions"))


@pytest.fixture(scope="module")
def with_pins(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Inference on a CPU with DICOM results, report and cluster, at the pinned versions."""
    folder = tmp_path_factory.mktemp("pins")
    return install(distributions[1], folder, "[batch,challenge]", pinned("requirements-batch.txt"))


@pytest.fixture(scope="module")
def without_extras(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """What `pip install .` alone brings."""
    return install(distributions[1], tmp_path_factory.mktemp("core"), "", pinned("requirements-cpu.txt"))


@pytest.fixture(scope="module")
def with_lowest(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The oldest version of everything that pyproject.toml allows."""
    if sys.version_info >= (3, 12):
        pytest.skip("the oldest versions have no wheels for Pythons that came after them")
    folder = tmp_path_factory.mktemp("lowest")
    return install(distributions[1], folder, "[batch,challenge]", lowest("batch", "challenge"))


@pytest.fixture(scope="module")
def mask_of_the_tree() -> np.ndarray:
    """The mask of the sample, computed by the source tree in this process."""
    found = lnq.segment(lnq.read_ct(SAMPLE), lnq.load_model(device="cpu"))
    return np.asarray(found.mask.array)


def test_the_wheel_holds_lnq_alone_and_all_of_it(distributions: tuple[Path, Path]):
    with zipfile.ZipFile(distributions[1]) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        same = all(wheel.read(f"lnq/model/{file.name}") == file.read_bytes() for file in (ROOT / "model").iterdir())
    code = {str(file.relative_to(ROOT)) for file in (ROOT / "lnq").rglob("*") if file.is_file()}
    bundle = {f"lnq/model/{file.name}" for file in (ROOT / "model").iterdir()}
    assert held == {name for name in code if "__pycache__" not in name} | bundle
    assert same


def test_the_source_archive_holds_what_the_wheel_holds_and_no_training(distributions: tuple[Path, Path]):
    with tarfile.open(distributions[0]) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    tops = {name.partition("/")[0] for name in held}
    assert {"lnq", "model", "pyproject.toml", "README.md", "LICENSE"} <= tops
    assert not tops & {"training", "phantom", "benchmarks", "process.py"}


def test_info_names_the_bundle_inside_the_package(with_pins: Installed):
    done = with_pins.run("lnq", "info")
    [bundle] = re.findall(r"^bundle +(.+)$", done.stdout, re.MULTILINE)
    assert Path(bundle).is_relative_to(with_pins.environment) and Path(bundle).parts[-2:] == ("lnq", "model")
    assert re.search(r"^torch +not installed$", done.stdout, re.MULTILINE)
    assert done.stderr == "The model bundle is complete and loads\n"


@pytest.mark.parametrize("environment", ["with_pins", "without_extras", "with_lowest"])
def test_batch_gives_the_mask_of_the_tree(
    environment: str, mask_of_the_tree: np.ndarray, request: pytest.FixtureRequest, tmp_path: Path
):
    installed: Installed = request.getfixturevalue(environment)
    installed.run("lnq", "batch", SAMPLE, "-o", tmp_path / "out")
    mask = read_volume(tmp_path / "out" / SAMPLE.stem / "segmentation.mha").array
    assert dice(mask, read_volume(TRUTH).array) == pytest.approx(README_DICE, abs=0.001)
    if environment != "with_lowest":  # an older OpenVINO adds in another order
        np.testing.assert_array_equal(mask, mask_of_the_tree)
    assert (tmp_path / "out" / "report.html").is_file() == (environment != "without_extras")


@pytest.mark.parametrize("environment", ["with_pins", "with_lowest"])
def test_extras_write_dicom_and_serve_the_challenge(
    environment: str, request: pytest.FixtureRequest, write_dicom: Callable[..., Path], tmp_path: Path
):
    installed: Installed = request.getfixturevalue(environment)
    series = write_dicom(read_volume(SAMPLE), tmp_path / "series")
    installed.run("lnq", "batch", series, "-o", tmp_path / "out", "--format", "dicom-seg", "--sr", "--no-report")
    modalities = {pydicom.dcmread(file).Modality for file in (tmp_path / "out").rglob("*.dcm")}
    assert modalities == {"SEG", "SR"}
    done = installed.run("lnq", "--input", ROOT / "test" / "input", "--output", tmp_path / "challenge")
    assert done.stderr.splitlines()[-1].startswith("All done: masks and results.json are in ")


@pytest.mark.parametrize("arguments", [("batch", "x", "-o", "y", "--sr"), ("--input", "x", "--output", "y")])
def test_a_missing_extra_is_named(without_extras: Installed, arguments: tuple[str, ...]):
    done = without_extras.run("lnq", *arguments, status=2)
    assert re.search(r"install the extra lnq\[(dicom|challenge)\]$", done.stderr.splitlines()[-1])


def test_the_lines_of_the_readme_run_without_torch_and_without_extras(without_extras: Installed):
    [lines] = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    write_volume(read_volume(SAMPLE), without_extras.folder / "ct.nii.gz")
    end = "import sys; assert 'torch' not in sys.modules; print(lnq.__file__)\n"
    (without_extras.folder / "lines.py").write_text(lines + end)
    done = without_extras.run("python", "lines.py")
    assert Path(done.stdout.splitlines()[-1]).is_relative_to(without_extras.environment)
    mask = read_volume(without_extras.folder / "nodes.nii.gz")
    assert dice(mask.array, read_volume(TRUTH).array) == pytest.approx(README_DICE, abs=0.001)


def test_nothing_of_training_can_be_imported_beside_lnq(without_extras: Installed):
    code = "from importlib.util import find_spec; print([n for n in %r if find_spec(n)])"
    names = ("lnq", "training", "phantom", "benchmarks", "process", "container", "model", "torch")
    assert without_extras.run("python", "-c", code % (names,)).stdout == "['lnq']\n"
