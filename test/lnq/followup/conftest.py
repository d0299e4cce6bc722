"""Two results of one patient: of image files, and of DICOM series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.followups import chest, of_radius, write_result
from pydicom.uid import generate_uid

from lnq.image.itk import write_volume
from lnq.results.case_record import ResultOptions

STAYS, GROWS, GOES, COMES = (-18.0, -12.0, 66.0), (16.0, 4.0, 59.0), (-4.0, -26.0, 42.0), (12.0, -26.0, 84.0)
FIRST = [*of_radius(STAYS), *of_radius(GROWS, radius_mm=10.0), *of_radius(GOES, radius_mm=5.0)]
SECOND = [*of_radius(STAYS), *of_radius(GROWS, radius_mm=13.0), *of_radius(COMES, radius_mm=6.0)]
DATES = ("20260105", "20260402")


@pytest.fixture
def image_results(tmp_path: Path) -> tuple[Path, Path]:
    """The folders of the earlier and the later result."""
    return _image_results(tmp_path)


@pytest.fixture
def image_results_again(tmp_path: Path) -> tuple[Path, Path]:
    """The same, beside other results."""
    (tmp_path / "images").mkdir()
    return _image_results(tmp_path / "images")


def _image_results(folder: Path) -> tuple[Path, Path]:
    folders = []
    for name, nodes in (("first", FIRST), ("second", SECOND)):
        ct, mask = chest(*nodes)
        write_volume(ct, folder / f"{name}.nrrd")
        folders.append(write_result(folder / "results", name, folder / f"{name}.nrrd", mask))
    return folders[0], folders[1]


@pytest.fixture
def dicom_results(tmp_path: Path, write_dicom: Callable[..., Path]) -> Callable[..., tuple[Path, Path]]:
    """Makes both results of DICOM series; `tags` replace those of the later one."""
    pytest.importorskip("highdicom")

    def make(format: str = "mha", **tags: object) -> tuple[Path, Path]:
        folders = []
        for name, nodes, date in zip(("first", "second"), (FIRST, SECOND), DATES, strict=True):
            ct, mask = chest(*nodes)
            own = {
                "PatientID": "P1", "PatientName": "Doe^Jane", "PatientBirthDate": "19500203", "PatientSex": "F",
                "StudyDate": date, "StudyTime": "101112", "StudyInstanceUID": generate_uid(entropy_srcs=[date]),
                "FrameOfReferenceUID": generate_uid(entropy_srcs=[date, "frame"]), "SliceThickness": 4.0,
            }  # fmt: skip
            path = write_dicom(ct, tmp_path / name, **(own | (tags if name == "second" else {})))
            options = ResultOptions(format=format, sr=True, preview=False, page=False)
            folders.append(write_result(tmp_path / "results", name, path, mask, options))
        return folders[0], folders[1]

    return make
