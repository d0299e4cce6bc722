"""Many cases into one output folder, with a manifest that says what became of each."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnq import __version__
from lnq.cases import EXTENSIONS, Case, StartError, attempt, hashed_name, read_case, segment_case, stem
from lnq.files import write_text
from lnq.spec import SPEC_NAME, file_sha256
from lnq.volume import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from lnq.backends import Model

FORMATS = {"mha": ".mha", "nifti": ".nii.gz", "nrrd": ".nrrd"}
MANIFEST = "manifest.jsonl"

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

    A case that an earlier run finished, from the same file and with the same model, is skipped. A failing
    case does not stop the others.
    """
    manifest = read_manifest(options.output)
    versions = {
        "lnq": __version__,
        "model": file_sha256(model.bundle / SPEC_NAME),
        "backend": model.backend,
        "device": model.device,
    }
    for case in cases:
        earlier = manifest.get(case.name)
        if earlier and earlier["input"] != str(case.path):  # the name is another case's
            case = Case(hashed_name(case.path), case.path)
            earlier = manifest.get(case.name)
        mask = Path(case.name) / f"segmentation{FORMATS[options.format]}"
        if not options.overwrite and earlier and _is_finished(earlier, mask, versions, options.output):
            entry = earlier | {"status": "skipped"}
        else:
            entry = _run_case(case, mask, model, options) | {"versions": versions}
        manifest[case.name] = entry
        _write_manifest(options.output, manifest)
        yield entry


def prepare_output(output: Path) -> None:
    """Make the output folder. Raises StartError where that, or writing into it, fails."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_text(output / ".writable", "")
        (output / ".writable").unlink()
    except OSError as error:
        raise StartError(f"The output folder {output} cannot be written: {error.strerror or error}") from None


def read_manifest(output: Path) -> dict[str, Entry]:
    """An earlier run's entries by case name; what is no entry is left out."""
    entries: dict[str, Entry] = {}
    path = output / MANIFEST
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
            entries[entry["case"]] = entry
        except (ValueError, KeyError, TypeError):
            continue
    return entries


def _write_manifest(output: Path, manifest: dict[str, Entry]) -> None:
    write_text(output / MANIFEST, "".join(json.dumps(entry) + "\n" for entry in manifest.values()))


def _is_finished(earlier: Entry, mask: Path, versions: dict[str, str], output: Path) -> bool:
    return (
        earlier.get("status") in ("done", "skipped")
        and earlier.get("mask") == mask.as_posix()
        and earlier.get("versions", {}).get("model") == versions["model"]
        and (output / mask).is_file()
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
    truth = _find_truth(case, options.truth)
    segmentation, entry["warnings"] = segment_case(volume, model)
    folder = options.output / case.name
    folder.mkdir(parents=True, exist_ok=True)
    write_volume(segmentation.mask, options.output / mask)
    if options.truth is not None:
        entry |= _scores(segmentation.mask, truth)
    if options.preview:
        from lnq.preview import preview

        preview(volume, segmentation.mask, folder / "preview.png", truth, title=case.name)
    entry |= {"status": "done", "mask": mask.as_posix()}


def _find_truth(case: Case, folder: Path | None) -> Volume | None:
    """The mask in `folder` that bears the case's name (or `x-seg` for a CT `x-ct`)."""
    if folder is None:
        return None
    name = stem(case.path)
    names = [name, name.removesuffix("-ct") + "-seg"] if name.endswith("-ct") else [name]
    paths = (folder / f"{n}{extension}" for n in names for extension in EXTENSIONS)
    path = next((p for p in paths if p.is_file()), None)
    return None if path is None else read_volume(path)


def _scores(mask: Volume, truth: Volume | None) -> Entry:
    """Dice and ASSD as the manifest holds them: null where there is no truth or no finite distance."""
    from lnq.metrics import assd_mm, dice

    if truth is None:
        return {"dice": None, "assd_mm": None}
    if truth.shape != mask.shape:
        from lnq.resample import resample_label_to

        truth = resample_label_to(truth, mask)
    distance = assd_mm(mask, truth)
    overlap = dice(mask.array, truth.array)
    return {"dice": round(overlap, 4), "assd_mm": round(distance, 3) if math.isfinite(distance) else None}
