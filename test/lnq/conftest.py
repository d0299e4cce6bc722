"""Fixtures of what results are written from: CT series with labelled nodes, and a case with its table."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import generate_uid

from lnq.dicom.header import SliceFile
from lnq.image.volume import Volume, make_affine
from lnq.nodes.measure import Node
from lnq.results.dicom_common import Maker
from lnq.results.node_table import NodeRow

NO_DCIODVFY = "dciodvfy is not installed: apt-get install dicom3tools"
COLUMNS_ZYX = {  # where in (L, P, S) the labels' axes point
    "axial": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "from head to feet": ((0, 0, -1), (0, 1, 0), (1, 0, 0)),
    "feet first": ((0, 0, -1), (0, 1, 0), (-1, 0, 0)),
    "prone, feet first": ((0, 0, -1), (0, -1, 0), (1, 0, 0)),
    "coronal": ((0, 1, 0), (0, 0, -1), (1, 0, 0)),
}


def direction(name: str) -> np.ndarray:
    """Columns z, y, x; "oblique" is turned by 25 degrees about x and then by 15 about the patient's long axis."""
    if name != "oblique":
        return np.array(COLUMNS_ZYX[name], float).T
    a, b = np.radians([25, 15])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_s = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return (about_s @ about_x)[:, ::-1]


ORIENTATIONS = (*COLUMNS_ZYX, "oblique")


@pytest.fixture(params=ORIENTATIONS)
def orientation(request: pytest.FixtureRequest) -> str:
    return request.param


def _numbers() -> np.ndarray:
    """Two nodes without any symmetry on frames of 117 pixels, which fill no whole bytes: in slices 1, 2 and 5 of seven.

    Node 1 has two holes in slice 1, one of them of two pixels that touch at a corner, and an island in the other.
    """
    numbers = np.zeros((7, 9, 13), np.int16)
    numbers[1, 1:8, 1:10] = 1
    numbers[1, 3:6, 3:6] = 0
    numbers[1, 4, 4] = 1
    numbers[1, 3, 7] = numbers[1, 4, 8] = 0
    numbers[2, 2:5, 3:9] = 1
    numbers[2, 5, 9] = 1
    numbers[5, 6:, 11:] = 2
    return numbers


NODES = (
    Node(1, 712.53, 10.04, 15.75, 16.25, "10 to 15 mm", 41.26, 0.91234, (-12.34, 5.67, -300.1), "left", 12.0),
    Node(2, 56.25, 4.0, 5.5, 6.75, "below 10 mm", -3.04, 0.5, (8.0, 9.96, -290.0), "middle", None),
)
MAKER = Maker("lnq", "0.1.0", "0123456789abcdef" * 4)


@dataclass(frozen=True, eq=False)
class LabelledSeries:
    """A CT series and what was found in it; the arguments of all writers."""

    labels: Volume
    nodes: tuple[Node, ...]
    slices: list[Path]  # in the labels' order
    maker: Maker = MAKER

    def read(self) -> list[SliceFile]:
        """The slices' headers, as they are now."""
        return [SliceFile.read(path) for path in self.slices]

    def write(self, writer: Callable[..., None], path: Path, **changes: Any) -> Path:
        arguments = {"labels": self.labels, "nodes": self.nodes, "slices": self.read(), "maker": self.maker}
        writer(path, **(arguments | changes))
        return path

    def without_nodes(self) -> LabelledSeries:
        return LabelledSeries(self.labels.with_array(np.zeros_like(self.labels.array)), (), self.slices, self.maker)


@pytest.fixture
def make_series(write_dicom: Callable[..., Path], tmp_path: Path) -> Callable[..., LabelledSeries]:
    """A function (orientation, labels, tags of each slice) that writes a CT series with, by default, two nodes."""

    def make(name: str = "axial", numbers: np.ndarray | None = None, **tags: object) -> LabelledSeries:
        numbers = _numbers() if numbers is None else numbers
        labels = Volume(numbers, make_affine((2.5, 0.75, 0.5), (-10.0, 20.0, -300.25), direction(name)))
        study: dict[str, object] = {
            "PatientName": "Doe^Jane", "PatientID": "LNQ-001", "PatientBirthDate": "19500203", "PatientSex": "F",
            "AccessionNumber": "A1", "StudyID": "7", "StudyDate": "20230101", "StudyTime": "101112",
            "StudyDescription": "Chest", "ReferringPhysicianName": "Roe^Richard", "SliceThickness": 2.5,
            "FrameOfReferenceUID": generate_uid(),
        }  # fmt: skip
        kept = {tag: value for tag, value in (study | tags).items() if value is not None}
        folder = write_dicom(labels, tmp_path / "ct", **kept)
        return LabelledSeries(labels, NODES, [folder / f"{len(numbers) - z:04}.dcm" for z in range(len(numbers))])

    return make


@pytest.fixture
def series(make_series: Callable[..., LabelledSeries]) -> LabelledSeries:
    return make_series()


@pytest.fixture
def problems_of() -> Callable[[Path], list[str]]:
    """What dciodvfy finds wrong with a file."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip(NO_DCIODVFY)

    def find(path: Path) -> list[str]:
        said = subprocess.run([program, path], capture_output=True, text=True, errors="replace", check=False)
        return [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]

    return find


CHEST_NODES = {  # number: box on the chest's grid, short axis in mm
    1: ((slice(36, 38), slice(20, 22), slice(30, 32)), 8.4),
    2: ((slice(28, 32), slice(24, 28), slice(26, 29)), 12.3),
    3: ((slice(20, 26), slice(22, 27), slice(33, 38)), 24.0),
}


@pytest.fixture
def node_labels(thorax: Volume) -> Volume:
    """Each node's number, int16, on the chest's grid."""
    array = np.zeros(thorax.shape, np.int16)
    for number, (box, _) in CHEST_NODES.items():
        array[box] = number
    return thorax.with_array(array)


@pytest.fixture
def node_rows() -> list[NodeRow]:
    """The rows of the nodes' table; nothing is known of the third one's place."""
    rows = [
        NodeRow(
            case="chest", number=number, volume_mm3=1234.5, short_axis_mm=axis_mm, long_axis_mm=axis_mm + 2,
            diameter_mm=axis_mm + 3, short_axis_class="", mean_hu=-9.6, mean_probability=0.876, l_mm=1.0, p_mm=2.0,
            s_mm=80.0, side="left", above_carina_mm=-12.0,
        )
        for number, (_, axis_mm) in CHEST_NODES.items()
    ]  # fmt: skip
    rows[2] = dataclasses.replace(rows[2], side=None, above_carina_mm=None)
    return rows
