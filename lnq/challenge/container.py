"""One run of the grand-challenge interface: CTs in /input, one mask for each in /output.

evalutils' SegmentationAlgorithm gives the frame: load, validate, process the cases, save. It skips unreadable files,
reads every image twice and refuses equal ones. It saves with the input's extension, and leaves no results.json after
an error. This module therefore redefines these steps.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

# evalutils would import scikit-learn to score detections, which takes longer than all else that it needs.
if "evalutils.scorers" not in sys.modules:
    sys.modules["evalutils.scorers"] = ModuleType("evalutils.scorers")
    vars(sys.modules["evalutils.scorers"])["score_detection"] = None

from evalutils import SegmentationAlgorithm
from evalutils.io import ImageLoader
from pandas import DataFrame

from lnq.archive.case import Subject, name_cases
from lnq.archive.open import read_ct
from lnq.dicom.header import is_dicom_file
from lnq.errors import StartError, attempt
from lnq.files import prepare_output, write_bytes, write_text
from lnq.image.itk import write_volume
from lnq.image.names import EXTENSIONS, VOXEL_FILES, stem
from lnq.image.volume import Volume
from lnq.pipeline import segment
from lnq.results.case_record import Versions
from lnq.signals import signals_held

if TYPE_CHECKING:
    from lnq.inference.backends import Model

INPUT = Path("/input")
OUTPUT = Path("/output")
INPUT_SLUG = "mediastinal-ct"
SOCKETS = "inputs.json"  # today's platform lists the mounted files in it; the platform of 2023 wrote none
OUTPUT_SLUG = "mediastinal-lymph-node-segmentation"
RESULTS = "results.json"
_RESERVE = ".reserve"  # a file that holds the space of results.json
_BYTES_FOR_A_CASE = 2048  # of results.json
_STOPPED = "Stopped before this CT was segmented"

logger = logging.getLogger(__name__)


class CTLoader(ImageLoader):
    """Reads and checks a CT when its case's turn comes, so that one bad file does not stop the other cases."""

    @staticmethod
    def load_image(fname: Path) -> Volume:
        return read_ct(fname)


class LymphNodeAlgorithm(SegmentationAlgorithm):
    """Segments every CT of the input folder. `failures` holds one sentence for each CT that failed."""

    def __init__(self, cases: list[Subject], model: Model, output: Path) -> None:
        super().__init__(
            file_loaders={"input_image": CTLoader()},
            validators={},
            output_path=output / "images" / OUTPUT_SLUG,
            output_file=output / RESULTS,
        )
        self.failures: list[str] = []
        self.unsaved: str | None = None  # why results.json does not hold the last state
        self._inputs = cases
        self._case_results = [_result(case.path, _STOPPED) for case in cases]
        self._model = model
        self._versions = Versions.of(model).plain()

    def load(self) -> None:
        self._cases = {"input_image": DataFrame([{"name": c.name, "path": c.path} for c in self._inputs])}

    def process_cases(self, file_loader_key: str | None = None) -> None:
        for index, case in self._cases[file_loader_key or self._index_key].iterrows():
            self.process_case(idx=index, case=case)
            self.save()  # every CT is named at any time, also where the container is killed

    def process_case(self, *, idx: int, case: Any) -> dict[str, Any]:
        result = self._case_results[idx]  # kept up to date, as a signal may end this at any time
        result["versions"] = self._versions
        result["warnings"] += [self._model.note] if self._model.note else []
        reason = attempt(case["path"].name, lambda: self._segment_into(result, case["name"], case["path"]))
        if reason is not None:
            error = str(reason)
            logger.error("%s", error)
            self.failures.append(error)
            result["error_messages"] = [error]
        return result

    def _segment_into(self, result: dict[str, Any], name: str, path: Path) -> None:
        volume = self._file_loaders["input_image"].load_image(path)
        mask, warnings = self.predict(input_image=volume)
        result["warnings"] += warnings
        for warning in warnings:
            logger.warning("%s: %s", path.name, warning)
        self._output_path.mkdir(parents=True, exist_ok=True)
        with signals_held():  # a mask that is there is named
            write_volume(mask, self._output_path / f"{name}.mha")
            result["outputs"].append({"type": "metaio_image", "filename": f"{name}.mha"})
            result["error_messages"] = []
        logger.info("%s: segmented, %d voxels marked", path.name, int(mask.array.sum()))

    def predict(self, *, input_image: Volume) -> tuple[Volume, list[str]]:
        """The mask, on the CT's own grid, and the warnings. `load_image` has checked the CT."""
        segmentation = segment(input_image, self._model)
        return segmentation.mask, list(segmentation.warnings)

    def save(self) -> None:
        """Write results.json. Where the disk is full, the space that was kept for it is used."""
        path = Path(self._output_file)
        reserve = path.with_name(_RESERVE)
        self.unsaved = None
        try:
            _write_results(path, self._case_results)
            if not reserve.exists():
                write_bytes(reserve, bytes(len(self._case_results) * _BYTES_FOR_A_CASE))
        except OSError:
            reserve.unlink(missing_ok=True)
            try:
                _write_results(path, self._case_results)
            except OSError as error:
                self.unsaved = f"{path.name} could not be written: {error.strerror or error}"

    def process(self) -> None:
        """Segment all CTs. A signal that comes in between leaves results.json as things stand."""
        try:
            super().process()
        except BaseException:  # errors of a case do not come here
            self.save()
            raise
        finally:
            Path(self._output_file).with_name(_RESERVE).unlink(missing_ok=True)


def run_container(load_model: Callable[[], Model], source: Path = INPUT, output: Path = OUTPUT) -> list[str]:
    """Segment every CT that is mounted below `source`. Returns one sentence for each CT that failed.

    results.json holds the same sentences, even after an error. Errors before the first CT are raised, for example
    StartError where there is none.
    """
    prepare_output(output)
    cases: list[Subject] = []
    try:
        folder = input_folder(source)
        cases = find_inputs(folder)
        if not cases:
            raise StartError(f"No CT found in {folder}: one image file is needed there")
        algorithm = LymphNodeAlgorithm(cases, load_model(), output)
        algorithm.save()
    except BaseException as error:
        (output / _RESERVE).unlink(missing_ok=True)
        sentence = str(error) or "Stopped before the first CT was segmented"
        _write_results(output / RESULTS, [_result(c.path, sentence) for c in cases] or [_result(None, sentence)])
        raise
    algorithm.process()
    return algorithm.failures + ([algorithm.unsaved] if algorithm.unsaved else [])


def input_folder(source: Path) -> Path:
    """Where the CT lies: at its socket in `source`/inputs.json, or in the usual place where there is no such file.

    The platform also called sockets interfaces.

    Raises StartError where the file is not a list of sockets, lacks this algorithm's, or sends it out of `source`.
    """
    path = source / SOCKETS
    if not path.is_file():
        return source / "images" / INPUT_SLUG
    try:
        listed = [value.get("socket") or value["interface"] for value in json.loads(path.read_bytes())]
        sockets = {socket["slug"]: socket["relative_path"] for socket in listed}
        place = {slug: Path(relative) for slug, relative in sockets.items()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise StartError(f"{path} is not a list of sockets with slug and relative_path: {error!r}") from None
    if INPUT_SLUG not in place:
        raise StartError(f"{path} has no socket {INPUT_SLUG}, only {', '.join(sorted(map(str, place))) or 'none'}")
    if place[INPUT_SLUG].is_absolute() or ".." in place[INPUT_SLUG].parts:
        raise StartError(f"{path} sends socket {INPUT_SLUG} out of {source}, to {place[INPUT_SLUG]}")
    return source / place[INPUT_SLUG]


def find_inputs(folder: Path) -> list[Subject]:
    """The cases below `folder`: every file, except hidden ones and voxel files with a header beside them.

    DICOM files of one folder are one case, and its path is that folder.
    """
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    images = {p for p in files if p.name.lower().endswith(EXTENSIONS)}
    headers = {p.with_name(stem(p)) for p in images}
    found: dict[Path, None] = {}
    for path in files:
        if path not in images and is_dicom_file(path):
            found[path.parent] = None
        elif not _is_voxel_file(path, headers):
            found[path] = None
    return name_cases(Subject("", path) for path in found)


def _is_voxel_file(path: Path, headers: set[Path]) -> bool:
    """Whether a file belongs to a header beside it; `headers` are the images' paths without extension."""
    name = path.name.lower()
    return any(name.endswith(e) and path.with_name(path.name[: -len(e)]) in headers for e in VOXEL_FILES)


def _result(path: Path | None, *errors: str) -> dict[str, Any]:
    """An entry of results.json for an input, with its errors and nothing else yet."""
    inputs = [] if path is None else [{"type": "metaio_image", "filename": path.name}]
    return {"outputs": [], "inputs": inputs, "error_messages": list(errors), "warnings": []}


def _write_results(path: Path, results: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(results, indent=2) + "\n")
