"""Whatever operation on the disk fails: no result is called done that is not whole, and no earlier one is lost.

`helpers/faults/faults.c` makes each write, flush, rename and new folder of a command fail in turn, in whatever library
it happens.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.batch_runs import contents, shifted
from helpers.faults.inject import KINDS, Injector, Outcome, check_all, start_again

from lnq.files import file_sha256
from lnq.image.itk import write_volume
from lnq.image.volume import Volume

OPTIONS = ("--workers", "1", "--quiet", "--probability")


class Batch:
    """Runs over a case with an earlier result and one without."""

    scenario = "batch"

    def __init__(self, folder: Path, thorax: Volume, bundle: Path) -> None:
        self.inputs, self.output, self.before = folder / "in", folder / "out", folder / "before"
        self.inputs.mkdir()
        for index, name in enumerate(("a", "new")):
            write_volume(shifted(thorax, index), self.inputs / f"{name}.mha")
        self._bundle = bundle

    def run(self, made: Injector, *options: str, inputs: tuple[str, ...] = ("",), at: int = 0, kind: str = "full disk"):
        given = [self.inputs / name for name in inputs]
        where = ("-o", self.output, "--model", self._bundle)
        return made.run(*given, *where, *OPTIONS, *options, at=at, kind=kind)

    def prepare(self, made: Injector) -> int:
        assert self.run(made, inputs=("a.mha",)).status == 0
        shutil.copytree(self.output, self.before)
        outcome = self.run(made, "--overwrite")
        assert outcome.status == 0, outcome.said
        self.whole = {name: data for name, data in contents(self.output).items() if not name.endswith("html")}
        return outcome.operations

    def faulty(self, made: Injector, at: int, kind: str) -> Outcome:
        start_again(self.output, self.before)
        return self.run(made, "--overwrite", at=at, kind=kind)

    def check(self, outcome: Outcome) -> None:
        cases = {folder.name for folder in self.output.iterdir() if (folder / "case.json").is_file()}
        aside = {json.loads(p.read_text())["case"] for p in self.output.glob(".lnq-work/*/*/*/replaced/case.json")}
        assert {"a"} <= cases | aside <= {"a", "new"}
        for case in cases:
            record = json.loads((self.output / case / "case.json").read_text())
            assert record["status"] == "done"
            assert record["mask_sha256"] == file_sha256(self.output / record["mask"])
            for name, data in self.whole.items():
                if (
                    name.startswith(f"{case}/")
                    and name != f"{case}/case.json"
                    and Path(name).name not in record["left_out"]
                ):
                    assert (self.output / name).read_bytes() == data, name
        manifest = [json.loads(line) for line in (self.output / "manifest.jsonl").read_text().splitlines() if line]
        done = {line["case"] for line in manifest if line["status"] == "done"}
        assert done <= cases | aside
        if outcome.status == 0:
            assert done == {"a", "new"}
            assert not aside
            assert not [p for p in self.output.rglob("*") if ".part-" in p.name]

    def again(self, made: Injector) -> None:
        outcome = self.run(made)
        assert outcome.status == 0, outcome.said
        assert contents(self.output).keys() == {*self.whole, *(n for n in contents(self.output) if n.endswith("html"))}
        for name in ("a", "new"):
            mask = f"{name}/segmentation.mha"
            assert (self.output / mask).read_bytes() == self.whole[mask]


class Container:
    """Two CTs of the challenge's interface."""

    scenario = "container"

    def __init__(self, folder: Path, thorax: Volume, bundle: Path) -> None:
        self.inputs, self.output = folder / "in", folder / "out"
        images = self.inputs / "images" / "mediastinal-ct"
        images.mkdir(parents=True)
        for index, name in enumerate(("a", "b")):
            write_volume(shifted(thorax, index), images / f"{name}.mha")
        self._bundle = bundle

    def run(self, made: Injector, at: int = 0, kind: str = "full disk") -> Outcome:
        shutil.rmtree(self.output, ignore_errors=True)
        self.output.mkdir()
        return made.run("--input", self.inputs, "--output", self.output, "--model", self._bundle, at=at, kind=kind)

    def prepare(self, made: Injector) -> int:
        outcome = self.run(made)
        assert outcome.status == 0, outcome.said
        self.whole = {p.name: p.read_bytes() for p in self.output.rglob("*.mha")}
        assert sorted(self.whole) == ["a.mha", "b.mha"]
        return outcome.operations

    def faulty(self, made: Injector, at: int, kind: str) -> Outcome:
        return self.run(made, at, kind)

    def check(self, outcome: Outcome) -> None:
        masks = {p.name: p.read_bytes() for p in self.output.rglob("*.mha") if not p.name.startswith(".")}
        assert masks.items() <= self.whole.items()
        results = self.output / "results.json"
        if not results.exists():  # nothing could start, or be written at all
            assert outcome.status
            assert not masks
            return
        entries = json.loads(results.read_text())
        named = [image["filename"] for entry in entries for image in entry["inputs"]]
        if outcome.status != 2:
            assert named == ["a.mha", "b.mha"]
        for entry in entries:
            assert bool(entry["outputs"]) != bool(entry["error_messages"])
            assert {output["filename"] for output in entry["outputs"]} <= masks.keys()
        assert (outcome.status == 0) <= (len(masks) == 2 and all(entry["outputs"] for entry in entries))
        assert not (self.output / ".reserve").exists()

    def again(self, made: Injector) -> None:
        assert self.run(made).status == 0


@pytest.fixture(params=[Batch, Container], ids=lambda cls: cls.scenario)
def command(request, tmp_path, thorax, tiny_bundle):
    return request.param(tmp_path, thorax, tiny_bundle)


def test_a_few_faults_harm_no_result(command, faults_library, tmp_path):
    check_all(command, faults_library, tmp_path, "full disk", few=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_fault_harms_a_result(command, faults_library, tmp_path, kind):
    check_all(command, faults_library, tmp_path, kind, few=False)
