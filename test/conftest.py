"""Shared fixtures: a simple chest drawn with ellipsoids, and a bundle of a tiny untrained network."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.faults.inject import build
from helpers.pages import BROWSER, SOFTWARE_WEBGL, make_opener, skip_without_browser
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from lnq.image.volume import Volume, make_affine

SPACING_MM = (5.0, 5.0, 5.0)
SIZE = (48, 56, 64)
ORIGIN_MM = (-157.5, -137.5, -80.0)  # L, P, S of voxel 0: the body's axis runs through (0, 0)


def draw_thorax(blood_hu: float = 160, lungs: int = 2, shift_s_mm: float = 0.0) -> Volume:
    """A chest in LPS, 240 x 280 x 320 mm (z, y, x): a body with `lungs` lungs and a heart."""
    affine = make_affine(SPACING_MM, ORIGIN_MM)
    index = np.indices(SIZE).reshape(3, -1)
    left, back, up = (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *SIZE)
    up = up - shift_s_mm

    def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        """Centre and radii in mm, in L, P, S order."""
        parts = zip((left, back, up), centre, radii, strict=True)
        return sum(((axis - c) / r) ** 2 for axis, c, r in parts) <= 1

    hu = np.full(SIZE, -1000.0)
    hu[(left / 140) ** 2 + (back / 105) ** 2 <= 1] = 50
    hu[ellipsoid((0, 0, 30), (100, 80, 110))] = -100
    for side in (1, -1)[:lungs]:
        hu[ellipsoid((70 * side, 0, 30), (46, 75, 100))] = -850
    hu[ellipsoid((0, -10, 20), (30, 50, 70))] = blood_hu
    noise = np.random.default_rng(0).normal(0, 8, SIZE)
    return Volume(np.clip(hu + noise, -1024, None).round().astype(np.int16), affine)


@pytest.fixture(autouse=True)
def _settings_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test makes a key among the settings of the person who runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "config"))


@pytest.fixture
def thorax() -> Volume:
    return draw_thorax()


@pytest.fixture
def make_thorax() -> Callable[..., Volume]:
    return draw_thorax


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete bundle around an untrained network of two levels: fast, and its masks mean nothing."""
    pytest.importorskip("torch")
    from helpers.bundles import untrained, write_bundle

    return write_bundle(tmp_path_factory.mktemp("bundle"), [untrained(0)])


@pytest.fixture(scope="session")
def tiny_ensemble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of three such networks. The first is that of `tiny_bundle`."""
    pytest.importorskip("torch")
    from helpers.bundles import untrained, write_bundle

    return write_bundle(tmp_path_factory.mktemp("ensemble"), [untrained(seed) for seed in range(3)])


@pytest.fixture
def write_dicom() -> Callable[..., Path]:
    """A function that writes a volume as a DICOM series, one file per slice, and returns the folder."""
    return _write_dicom


def _write_dicom(volume: Volume, folder: Path, modality: str = "CT", **tags: object) -> Path:
    """`tags` replace those of every slice. Files are named against their order in space."""
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    for z in range(len(volume.array)):
        _write_slice(volume, z, folder / f"{len(volume.array) - z:04}.dcm", modality, series, tags)
    return folder


def _write_slice(volume: Volume, z: int, path: Path, modality: str, series: str, tags: dict[str, object]) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = series, "1.2.3"
    dataset.Modality = modality
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    _, dataset.Rows, dataset.Columns = volume.shape
    dataset.PixelSpacing = [f"{s:.6g}" for s in volume.spacing_mm[1:]]
    dataset.ImageOrientationPatient = [f"{v:.8f}" for v in volume.direction[:, [2, 1]].T.ravel()]
    dataset.ImagePositionPatient = [f"{v:.6f}" for v in (volume.affine @ [z, 0, 0, 1])[:3]]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
    dataset.PixelData = (volume.array[z] + 1024).astype("<u2").tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture(scope="session")
def faults_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes operations on files fail; see `helpers.faults`."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler: apt-get install gcc")
    return build(tmp_path_factory.mktemp("faults"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--real-ct", metavar="DIR", help="folder of real chest CTs for the tests that look at some")
    parser.addoption("--fuzz-seed", type=int, default=0, metavar="N", help="first seed of the spoiled inputs")
    parser.addoption("--fuzz-count", type=int, default=1000, metavar="N", help="how many spoiled inputs are read")


@pytest.fixture(scope="module")
def chromium():
    skip_without_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium


@pytest.fixture(scope="module")
def browser(chromium):
    browser = chromium.launch(executable_path=BROWSER, args=SOFTWARE_WEBGL)
    yield browser
    browser.close()


@pytest.fixture
def open_page(browser, tmp_path):
    """Opens a page and checks, at the test's end, that it met no error and asked for nothing outside its folder."""
    troubles: list[str] = []
    yield make_opener(browser, tmp_path, troubles)
    assert troubles == []
