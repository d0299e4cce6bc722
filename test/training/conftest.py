"""What the tests of training share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.prepared_cases import fake_dataset
from helpers.training_runs import SHORT
from pydicom.uid import generate_uid
from safetensors.torch import save
from torch import nn

from lnq.image.itk import write_volume
from lnq.image.volume import Volume
from lnq.inference.spec import ModelSpec
from training.bundle import write
from training.bundle.write import export
from training.engine.finetuning import finetune


@pytest.fixture(scope="session", autouse=True)
def _each_network_becomes_onnx_once() -> Iterator[None]:
    """A network that this process has written as ONNX before is copied: writing one takes seconds."""
    written: dict[str, bytes] = {}
    original = write.write_onnx

    def write_once(network: nn.Module, spec: ModelSpec, path: Path) -> None:
        key = hashlib.sha256(f"{spec.network} {spec.patch}".encode() + save(network.state_dict())).hexdigest()
        if key in written:
            path.write_bytes(written[key])
        else:
            original(network, spec, path)
            written[key] = path.read_bytes()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "write_onnx", write_once)
        yield


@pytest.fixture(scope="session")
def make_prepared() -> Callable[..., Path]:
    """A function (folder, partial, full) that writes a prepared data set and returns the folder."""
    return fake_dataset


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A prepared data set of two partial cases and a full one."""
    return fake_dataset(tmp_path / "prepared")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a short fine-tuning."""
    folder = tmp_path_factory.mktemp("run")
    assert finetune(fake_dataset(folder / "data"), folder, SHORT)
    return folder / "finetune.pt"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """The checkpoint's, exported into a folder with other files."""
    output = tmp_path_factory.mktemp("bundle") / "model"
    output.mkdir()
    (output / "MODEL_CARD.md").write_text("kept")
    (output / "model-int8.xml").write_text("of other weights")
    export([checkpoint], output, threshold=0.7, window_step=0.75, mirror=4)
    return output


@pytest.fixture
def cts(thorax: Volume, tmp_path: Path) -> Path:
    """A folder with three CTs and a label."""
    folder = tmp_path / "cts"
    folder.mkdir()
    for name in ("a-ct.mha", "b-ct.mha", "c-ct.mha", "a-seg.mha"):
        write_volume(thorax, folder / name)
    return folder


@pytest.fixture
def write_series(write_dicom: Callable[..., Path]) -> Callable[..., Path]:
    """A function (volume, folder, patient) that writes a CT series a SEG object can refer to."""

    def write(volume: Volume, folder: Path, patient: str = "LNQ-001", **tags: object) -> Path:
        study = {"PatientName": "", "PatientBirthDate": "", "PatientSex": "", "AccessionNumber": "", "StudyID": ""}
        study |= {"StudyDate": "20230101", "StudyTime": "000000", "ReferringPhysicianName": "", "InstanceNumber": 1}
        study |= {"SliceThickness": volume.spacing_mm[0]}
        return write_dicom(volume, folder, PatientID=patient, FrameOfReferenceUID=generate_uid(), **study, **tags)

    return write
