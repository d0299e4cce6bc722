"""What is done with one case of a batch: segment it, and fill a folder with its results."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lnq.archive.case import Case, attempt, identity, plain_name
from lnq.archive.open import Source, content_sha256, file_state, open_case
from lnq.errors import ImageError
from lnq.files import file_sha256, write_text
from lnq.image.itk import read_volume, write_volume
from lnq.image.names import EXTENSIONS, stem
from lnq.image.resample import resample_label_to
from lnq.image.volume import Volume
from lnq.inference.spec import INT8_WEIGHTS_NAME, WEIGHTS_NAME
from lnq.nodes.metrics import assd_mm, dice
from lnq.pipeline import Segmentation, segment
from lnq.results.node_table import Entry, rows_of, write_case_table
from lnq.version import __version__

if TYPE_CHECKING:
    from lnq.inference.backends import Model
    from lnq.nodes.measure import Node

IMAGE_FORMATS = {"mha": ".mha", "nifti": ".nii.gz", "nrrd": ".nrrd"}
DICOM_FORMATS = {"dicom-seg": ".dcm", "rtstruct": ".dcm"}
FORMATS = IMAGE_FORMATS | DICOM_FORMATS
CASE_JSON = "case.json"  # a finished case's line of the manifest; a folder with it is a result
WORK_FOLDER = ".lnq-work"  # below the output: cases that are not finished


@dataclass(frozen=True)
class Options:
    """What is written of a case. One done with other options is done again."""

    format: str = "mha"
    sr: bool = False  # also the nodes as a DICOM structured report
    probability: bool = False  # also a map of the probability of node
    preview: bool = True  # a picture
    page: bool = True  # a page with a viewer

    @property
    def wants_dicom(self) -> bool:
        """Whether any result is a DICOM object, which refers to the slices of its series."""
        return self.sr or self.format in DICOM_FORMATS


@dataclass(frozen=True)
class Settings:
    """All that a worker process needs to know, as plain values."""

    output: str
    bundle: str
    device: str = "auto"
    threads: int = 0  # of the network on a CPU; 0: all that may be used
    precision: str = "f32"  # of the network on a CPU
    mirror: int | None = None  # instead of the bundle's
    truth: str | None = None  # a folder of masks named as their cases
    private: bool = False  # no path or file name in what is written
    options: Options = Options()


def settings_from_plain(data: dict[str, Any]) -> Settings:
    """Undo `dataclasses.asdict`."""
    return Settings(**(data | {"options": Options(**data["options"])}))


def failed_entry(case: Case, settings: Settings, error: str) -> Entry:
    """The line of the manifest of a case that has no result."""
    entry = blank_entry(case, settings) | {"error": error}
    return without_names(entry, case, settings) if settings.private else entry


def blank_entry(case: Case, settings: Settings) -> Entry:
    """A case's line of the manifest before anything is known of it."""
    return {
        "case": case.name,
        "id": identity(case),
        "input": None if settings.private else str(case.path),
        "series_uid": case.series_uid,
        "status": "failed",
        "error": None,
        "mask": None,
        "warnings": [],
    }


def versions_of(model: Model) -> dict[str, str]:
    """What makes results: hashes of the loaded model's specification and of its weights, the program, the device; and
    mirroring, where there is any."""
    plain = json.dumps(dataclasses.asdict(model.spec), sort_keys=True)
    return {
        "lnq": __version__,
        "model": hashlib.sha256(plain.encode()).hexdigest(),
        "weights": model.spec.sha256[WEIGHTS_NAME if model.precision == "f32" else INT8_WEIGHTS_NAME],
        "backend": model.backend if model.precision == "f32" else f"{model.backend} {model.precision}",
        "device": model.device,
        **({"mirror": str(model.spec.mirror)} if model.spec.mirror else {}),
    }


def run_case(case: Case, model: Model, settings: Settings, versions: dict[str, str]) -> Entry:
    """Segment a case and put its folder into the output, whole; returns its line of the manifest.

    A case that fails leaves nothing, and what an earlier run left of it stays.
    """
    start = time.perf_counter()
    entry = blank_entry(case, settings) | {"versions": versions}

    def work() -> None:
        with _scratch(Path(settings.output)) as scratch:
            result, unpacked = scratch / "result", scratch / "unpacked"
            result.mkdir()
            unpacked.mkdir()
            _segment_into(entry, case, model, settings, result, unpacked)
            entry["status"] = "done"
            entry["seconds"] = round(time.perf_counter() - start, 2)
            if settings.private:
                entry.update(without_names(entry, case, settings))
            write_text(result / CASE_JSON, json.dumps(entry, indent=1) + "\n")
            publish(result, Path(settings.output) / case.name)

    error = attempt(case.path, work)
    if error is None:
        return entry
    seconds = round(time.perf_counter() - start, 2)
    return failed_entry(case, settings, error) | {"seconds": seconds, "versions": entry["versions"]}


@contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """A folder of this process's own on the output's file system, gone afterwards."""
    folder = output / WORK_FOLDER / f"{os.uname().nodename}-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(result: Path, target: Path) -> None:
    """Put a finished folder in the place of an earlier result. Raises FileExistsError where something else is there."""
    _sync(result)
    if target.exists():
        is_result = read_entry(target.parent, target.name) is not None
        if not is_result and not (target.is_dir() and not any(target.iterdir())):
            raise FileExistsError(f"{target} is in the way: it is no result of an earlier run")
        old = result.with_name("old")
        os.rename(target, old)
    os.rename(result, target)


def _sync(folder: Path) -> None:
    """Have a folder's files on the disk, so that they are whole under their final names after a power cut too."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _segment_into(entry: Entry, case: Case, model: Model, settings: Settings, folder: Path, scratch: Path) -> None:
    """Segment one case, write its files and note the outcome in `entry`."""
    options = settings.options
    state, digest = file_state(case), content_sha256(case)
    source = open_case(case, scratch)
    if options.wants_dicom and not source.slices:
        raise ImageError(f"{case.path.name} is no DICOM series: its result cannot be DICOM, choose another --format")
    truth = _find_truth(case, settings.truth, source.volume)
    segmentation = segment(source.volume, model)
    entry["warnings"] = list(segmentation.warnings)
    found = segmentation.mask
    entry["volume_mm3"] = round(float(found.array.sum(dtype=np.int64)) * found.voxel_volume_mm3, 1)
    if truth is not None:
        entry |= _scores(found, truth) | {"truth_sha256": truth_sha256(case, settings.truth)}
    elif settings.truth is not None:
        entry["warnings"].append("No truth of this name was found.")
    entry["mask"] = f"{case.name}/segmentation{FORMATS[options.format]}"
    entry["options"] = dataclasses.asdict(options)
    _write_results(entry, case, source, segmentation, truth, options, folder)
    if file_state(case) != state:
        raise ImageError(f"{case.path.name} cannot be used: its files changed while it was segmented")
    entry["input_sha256"], entry["input_state"] = digest, state


def _write_results(
    entry: Entry,
    case: Case,
    source: Source,
    segmentation: Segmentation,
    truth: Volume | None,
    options: Options,
    folder: Path,
) -> None:
    """Write the mask and what goes beside it."""
    nodes, labels = segmentation.nodes, segmentation.labels
    entry["nodes"] = len(nodes)
    rows = rows_of(case.name, nodes)
    write_case_table(folder, rows)
    if options.format in IMAGE_FORMATS:
        write_volume(segmentation.mask, folder / f"segmentation{FORMATS[options.format]}")
    if options.wants_dicom:
        _write_dicom(entry, source, nodes, labels, options, folder)
    if options.probability:
        write_volume(segmentation.probability, folder / f"probability{IMAGE_FORMATS.get(options.format, '.nii.gz')}")
    if options.preview:
        from lnq.results.preview import FILE_NAME, preview

        title = case.name if truth is None else f"{case.name}, Dice {entry['dice']:.2f}"
        preview(source.volume, labels, folder / FILE_NAME, truth, title)
    if options.page:
        from lnq.report.pages import PAGE, write_case_page

        write_case_page(folder / PAGE, entry | {"status": "done"}, rows, source.volume, labels, segmentation.region_box)


def _write_dicom(
    entry: Entry, source: Source, nodes: list[Node], labels: Volume, options: Options, folder: Path
) -> None:
    """Write the DICOM objects asked for, derived from the case's series."""
    from lnq.results.dicom_common import Maker

    maker = Maker("lnq", entry["versions"]["lnq"], entry["versions"]["weights"])
    if options.format == "dicom-seg":
        from lnq.results.write_seg import write_seg

        write_seg(folder / "segmentation.dcm", labels, nodes, source.slices, maker)
    if options.format == "rtstruct":
        from lnq.results.write_rtstruct import write_rtstruct

        write_rtstruct(folder / "segmentation.dcm", labels, nodes, source.slices, maker)
    if options.sr:
        from lnq.results.write_sr import write_sr

        write_sr(folder / "nodes.dcm", labels, nodes, source.slices, maker)


def truth_path(case: Case, folder: str | None) -> Path | None:
    """The mask in `folder` that bears the case's name (or `x-seg` for a CT `x-ct`)."""
    if folder is None:
        return None
    name = plain_name(case)
    names = [name, name.removesuffix("-ct") + "-seg"] if name.endswith("-ct") else [name]
    paths = (Path(folder) / f"{n}{extension}" for n in names for extension in EXTENSIONS)
    return next((p for p in paths if p.is_file()), None)


def truth_sha256(case: Case, folder: str | None) -> str | None:
    """Hex SHA-256 of the case's truth; None where there is none."""
    path = truth_path(case, folder)
    return None if path is None else file_sha256(path)


def _find_truth(case: Case, folder: str | None, grid: Volume) -> Volume | None:
    """The case's truth, on the CT's grid."""
    path = truth_path(case, folder)
    if path is None:
        return None
    truth = read_volume(path)
    if truth.shape == grid.shape and np.allclose(truth.affine, grid.affine, atol=1e-3):
        return truth
    return resample_label_to(truth, grid)


def _scores(mask: Volume, truth: Volume) -> Entry:
    """Dice and ASSD as the manifest holds them: no ASSD (null) where one of both masks is empty."""
    distance = assd_mm(mask, truth)
    overlap = dice(mask.array, truth.array)
    return {"dice": round(overlap, 4), "assd_mm": round(distance, 3) if math.isfinite(distance) else None}


def without_names(entry: Entry, case: Case, settings: Settings) -> Entry:
    """The entry with the case's name in the place of all paths and file names, which may be the patient's."""
    paths = [case.path, *(Path(file) for file in case.files)]
    truth = truth_path(case, settings.truth)
    paths += [truth] if truth is not None else []
    names = {text for path in paths for text in (str(path), path.name, stem(path))}
    telling = sorted((name for name in names if _tells(name)), key=len, reverse=True)
    anywhere = "|".join(map(re.escape, telling)) or "(?!)"
    pattern = re.compile(rf"^{re.escape(case.path.name)}(?!\w)|(?<!\w)(?:{anywhere})(?!\w)")

    def clean(text: str) -> str:
        return pattern.sub(case.name, text)

    error = entry["error"]
    return entry | {"error": error and clean(error), "warnings": [clean(w) for w in entry["warnings"]]}


def _tells(name: str) -> bool:
    """Whether a name may be somebody's, and no number of a slice."""
    return len(name) > 2 and not (name.isdigit() and len(name) < 5)


def read_entry(output: Path, case: str) -> Entry | None:
    """The line of the manifest that lies in a finished case's folder; None where there is none."""
    try:
        entry = json.loads((output / case / CASE_JSON).read_text())
    except (OSError, ValueError):
        return None
    return entry if isinstance(entry, dict) and entry.get("case") == case else None
