"""Many cases into one output folder, with a manifest that says what became of each."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lnq import __version__
from lnq.cases import EXTENSIONS, Case, attempt, hashed_name, read_case, segment_case, stem
from lnq.files import write_text
from lnq.metrics import assd_mm, dice
from lnq.resample import resample_label_to
from lnq.spec import SPEC_NAME, file_sha256
from lnq.tables import NODES_CSV, NODES_JSON, read_case_table, rows_of, write_case_table, write_table
from lnq.volume import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from lnq.backends import Model

FORMATS = {"mha": ".mha", "nifti": ".nii.gz", "nrrd": ".nrrd"}
MANIFEST = "manifest.jsonl"

_FINISHED = ("done", "skipped")

Entry = dict[str, Any]  # one line of the manifest


@dataclass(frozen=True)
class BatchOptions:
    """Where results go and what they are."""

    output: Path
    format: str = "mha"
    truth: Path | None = None  # a folder of masks named as their cases
    overwrite: bool = False  # segment finished cases again
    preview: bool = True


def run_batch(cases: Sequence[Case], model: Model, options: BatchOptions) -> Iterator[Entry]:
    """Segment the cases one by one and yield each one's manifest entry; the manifest on disk keeps up.

    A case that an earlier run finished, from the same file, with the same model and, where a truth is given,
    with its scores, is skipped. A failing case does not stop the others. The table of all nodes keeps up too.
    """
    manifest = read_manifest(options.output)
    rows = {
        name: read_case_table(options.output / name) or []
        for name, entry in manifest.items()
        if entry["status"] in _FINISHED
    }
    versions = {
        "lnq": __version__,
        "model": file_sha256(model.bundle / SPEC_NAME),
        "backend": model.backend,
        "device": model.device,
    }
    for case in cases:
        earlier = manifest.get(case.name)
        if case.name in (MANIFEST, NODES_CSV) or (earlier and earlier["input"] != str(case.path)):  # a taken name
            case = Case(hashed_name(case.path), case.path)
            earlier = manifest.get(case.name)
        mask = Path(case.name) / f"segmentation{FORMATS[options.format]}"
        if earlier and not options.overwrite and _is_finished(earlier, case, mask, versions, options):
            entry = earlier | {"status": "skipped"}
        else:
            entry = _run_case(case, mask, model, options) | {"versions": versions}
            rows[case.name] = (read_case_table(options.output / case.name) or []) if entry["status"] == "done" else []
        manifest[case.name] = entry
        write_table(options.output, (row for of_case in rows.values() for row in of_case))
        _write_manifest(options.output, manifest)
        yield entry


def read_manifest(output: Path) -> dict[str, Entry]:
    """An earlier run's entries by case name; what is no entry is left out."""
    entries: dict[str, Entry] = {}
    path = output / MANIFEST
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
            if {"case", "input", "status"} <= entry.keys():
                entries[entry["case"]] = entry
        except (ValueError, AttributeError, TypeError):
            continue
    return entries


def _write_manifest(output: Path, manifest: dict[str, Entry]) -> None:
    write_text(output / MANIFEST, "".join(json.dumps(entry) + "\n" for entry in manifest.values()))


def _is_finished(earlier: Entry, case: Case, mask: Path, versions: dict[str, str], options: BatchOptions) -> bool:
    return (
        earlier.get("status") in _FINISHED
        and earlier.get("mask") == mask.as_posix()
        and earlier.get("versions", {}).get("model") == versions["model"]
        and (options.output / mask).is_file()
        and "nodes" in earlier
        and read_case_table(options.output / case.name) is not None
        and ("dice" in earlier or _truth_path(case, options.truth) is None)
    )


def _run_case(case: Case, mask: Path, model: Model, options: BatchOptions) -> Entry:
    start = time.perf_counter()
    entry: Entry = {
        "case": case.name,
        "input": str(case.path),
        "status": "failed",
        "error": None,
        "mask": None,
        "warnings": [],
    }
    entry["error"] = attempt(case.path, lambda: _segment_into(entry, case, mask, model, options))
    entry["seconds"] = round(time.perf_counter() - start, 2)
    return entry


def _segment_into(entry: Entry, case: Case, mask: Path, model: Model, options: BatchOptions) -> None:
    """Segment one case, write its files and note the outcome in `entry`."""
    volume = read_case(case.path)
    truth = _find_truth(case, options.truth, volume)
    segmentation, entry["warnings"] = segment_case(volume, model)
    found = segmentation.mask
    entry["volume_mm3"] = round(float(found.array.sum(dtype=np.int64)) * found.voxel_volume_mm3, 1)
    if truth is not None:
        entry |= _scores(found, truth)
    elif options.truth is not None:
        entry["warnings"].append(f"No truth of this name was found in {options.truth}.")
    folder = options.output / case.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NODES_JSON).unlink(missing_ok=True)  # written last: a case without it is not finished
    write_volume(found, options.output / mask)
    if options.preview:
        from lnq.preview import preview

        title = case.name if truth is None else f"{case.name}, Dice {entry['dice']:.2f}"
        preview(volume, found, folder / "preview.png", truth, title)
    nodes, _ = segmentation.nodes()
    write_case_table(folder, rows_of(case.name, nodes))
    entry["nodes"] = len(nodes)
    entry |= {"status": "done", "mask": mask.as_posix()}


def _truth_path(case: Case, folder: Path | None) -> Path | None:
    """The mask in `folder` that bears the case's name (or `x-seg` for a CT `x-ct`)."""
    if folder is None:
        return None
    name = stem(case.path)
    names = [name, name.removesuffix("-ct") + "-seg"] if name.endswith("-ct") else [name]
    paths = (folder / f"{n}{extension}" for n in names for extension in EXTENSIONS)
    return next((p for p in paths if p.is_file()), None)


def _find_truth(case: Case, folder: Path | None, grid: Volume) -> Volume | None:
    """The case's truth, on the CT's grid."""
    path = _truth_path(case, folder)
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
