"""Whatever operation on the disk fails: prepared cases, checkpoints and bundles are whole, and none is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.batch_runs import shifted
from helpers.faults.inject import KINDS, Injector, Outcome, check_all, start_again
from helpers.raw_pairs import write_pair

from lnq.image.volume import Volume
from lnq.inference.spec import ONNX_NAME, WEIGHTS_NAME, ModelSpec
from training.data.prepared import PreparedCase


class Prepare:
    """Two cases, of which one was prepared before."""

    scenario = "prepare"

    def __init__(self, folder: Path, thorax: Volume, checkpoint: Path) -> None:
        self.inputs, self.output, self.before = folder / "in", folder / "out", folder / "before"
        for index, name in enumerate(("a", "b")):
            write_pair(self.inputs, name, shifted(thorax, index))

    def run(self, made: Injector, at: int = 0, kind: str = "full disk") -> Outcome:
        return made.run(self.inputs, "-o", self.output, "--preset", "tiny", at=at, kind=kind)

    def prepare(self, made: Injector) -> int:
        outcome = self.run(made)
        assert outcome.status == 0, outcome.said
        self.whole = {name: self.arrays(name) for name in ("a", "b")}
        shutil.rmtree(self.output / "b")
        shutil.copytree(self.output, self.before)
        return self.run(made).operations

    def arrays(self, name: str) -> list[np.ndarray]:
        case = PreparedCase(self.output / name)
        return [*(case.whole(array) for array in ("image", "label", "region")), case.points]

    def faulty(self, made: Injector, at: int, kind: str) -> Outcome:
        start_again(self.output, self.before)
        return self.run(made, at, kind)

    def check(self, outcome: Outcome) -> None:
        names = {path.parent.name for path in self.output.glob("[!.]*/case.json")}
        assert {"a"} <= names <= {"a", "b"}
        assert outcome.status or (self.output / "dataset.json").is_file()
        for name in names:
            for found, wanted in zip(self.arrays(name), self.whole[name], strict=True):
                np.testing.assert_array_equal(found, wanted)

    def again(self, made: Injector) -> None:
        assert self.run(made).status == 0
        assert sorted(p.name for p in self.output.iterdir()) == ["a", "b", "dataset.html", "dataset.json", "splits.csv"]


class Checkpoint:
    """A checkpoint in the place of an earlier one."""

    scenario = "checkpoint"

    def __init__(self, folder: Path, thorax: Volume, checkpoint: Path) -> None:
        self.output, self.before = folder / "out", folder / "before"
        self.before.mkdir()

    def run(self, made: Injector, at: int = 0, kind: str = "full disk") -> Outcome:
        return made.run(self.output / "last.pt", 2.0, at=at, kind=kind)

    def prepare(self, made: Injector) -> int:
        assert made.run(self.before / "last.pt", 1.0).status == 0
        start_again(self.output, self.before)
        return self.run(made).operations

    def faulty(self, made: Injector, at: int, kind: str) -> Outcome:
        start_again(self.output, self.before)
        return self.run(made, at, kind)

    def check(self, outcome: Outcome) -> None:
        (value,) = torch.load(self.output / "last.pt", weights_only=True)["model"]["weight"].unique()
        assert value == (2.0 if outcome.status == 0 else 1.0)
        assert outcome.status == 0 or outcome.said.endswith("The last good checkpoint is kept.")

    def again(self, made: Injector) -> None:
        assert self.run(made).status == 0


class Export:
    """A bundle in the place of an earlier one."""

    scenario = "export"

    def __init__(self, folder: Path, thorax: Volume, checkpoint: Path) -> None:
        self.output, self.before = folder / "out", folder / "before"
        self.output.mkdir()
        self._checkpoint = checkpoint

    def run(self, made: Injector, threshold: float = 0.4, at: int = 0, kind: str = "full disk") -> Outcome:
        return made.run(self._checkpoint, self.output / "model", threshold, at=at, kind=kind)

    def prepare(self, made: Injector) -> int:
        outcome = self.run(made, 0.6)
        assert outcome.status == 0, outcome.said
        shutil.copytree(self.output, self.before)
        return self.run(made).operations

    def faulty(self, made: Injector, at: int, kind: str) -> Outcome:
        start_again(self.output, self.before)
        return self.run(made, at=at, kind=kind)

    def check(self, outcome: Outcome) -> None:
        bundle = self.output / "model"
        spec = ModelSpec.load(bundle)
        assert spec.threshold == (0.4 if outcome.status == 0 else 0.6)
        assert spec.verified_bytes(bundle, ONNX_NAME) == str(spec.threshold).encode() * 1000
        assert spec.verified_bytes(bundle, WEIGHTS_NAME)

    def again(self, made: Injector) -> None:
        assert self.run(made).status == 0


@pytest.fixture(params=[Prepare, Checkpoint, Export], ids=lambda cls: cls.scenario)
def command(request, tmp_path, thorax, checkpoint):
    return request.param(tmp_path, thorax, checkpoint)


def test_a_few_faults_harm_nothing(command, faults_library, tmp_path):
    check_all(command, faults_library, tmp_path, "full disk", few=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_fault_harms_anything(command, faults_library, tmp_path, kind):
    check_all(command, faults_library, tmp_path, kind, few=False)
