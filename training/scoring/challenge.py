"""Read a submission as the challenge's platform hands it to the organisers' evaluator, and write their metrics.json.

predictions.json lists a job per CT. The job's mask lies beside that file. It is the only file in
`<pk>/output/images/mediastinal-lymph-node-segmentation/`, and has any name that ends in .mha.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lnq.files import write_text
from lnq.image.itk import read_volume
from lnq.image.names import case_of, stem
from lnq.image.volume import Volume
from training.scoring.scores import CaseResult, without_nan
from training.scoring.truths import Truth

SUCCEEDED = "Succeeded"
GRID_TOLERANCE = 1e-6  # ITK's tolerance for two images, in voxel widths for lengths
_DURATION = re.compile(r"P(?:(\d+)D)?T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?")  # ISO 8601, up to days
_SECONDS = (86400, 3600, 60, 1)
_KINDS = {str: "text", list: "list", dict: "object"}

T = TypeVar("T", str, list[Any], dict[str, Any])


@dataclass(frozen=True)
class ChallengeJob:
    """One job of predictions.json, which segmented one CT."""

    case: str  # the CT's name without extension and `-ct`
    pk: str
    status: str
    output: Path | None  # folder of the mask; None where the job names no mask
    seconds: float  # NaN where unknown


def read_jobs(path: Path) -> list[ChallengeJob]:
    """The jobs of predictions.json, in its order.

    Raises ValueError where the file is missing, is not JSON or has another layout than the platform's.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    try:
        entries = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} is no list of jobs")
    return [_job(entry, path.parent, f"Job {number} of {path}") for number, entry in enumerate(entries, start=1)]


def _job(entry: Any, folder: Path, where: str) -> ChallengeJob:
    from lnq.challenge.container import INPUT_SLUG, OUTPUT_SLUG  # imports pandas

    pk, status = _field(entry, "pk", str, where), _field(entry, "status", str, where)
    ct = _value(entry, "inputs", f"images/{INPUT_SLUG}", where)
    if ct is None:
        raise ValueError(f"{where} has no input images/{INPUT_SLUG}")
    name = _field(_field(ct, "image", dict, where), "name", str, where)
    place = f"images/{OUTPUT_SLUG}"
    output = folder / pk / "output" / place if _value(entry, "outputs", place, where) is not None else None
    return ChallengeJob(case_of(stem(Path(name))), pk, status, output, _seconds(entry.get("exec_duration")))


def _value(entry: Any, key: str, place: str, where: str) -> Any:
    """The entry of a job's inputs or outputs (`key`) with relative path `place`, or None."""
    for value in _field(entry, key, list, where):
        # In 2023 the key was `interface`.
        kind = "interface" if isinstance(value, dict) and "socket" not in value else "socket"
        if _field(_field(value, kind, dict, where), "relative_path", str, where) == place:
            return value
    return None


def _field(value: Any, key: str, kind: type[T], where: str) -> T:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, kind) or found == "":
        raise ValueError(f"{where} lacks the {_KINDS[kind]} `{key}`")
    return found


def _seconds(duration: Any) -> float:
    """Seconds of an ISO 8601 duration as the platform writes it, `P0DT00H01M02S`; NaN for anything else."""
    match = _DURATION.fullmatch(duration) if isinstance(duration, str) else None
    if match is None:
        return math.nan
    return sum(float(part or 0) * unit for part, unit in zip(match.groups(), _SECONDS, strict=True))


def without_truth(jobs: Sequence[ChallengeJob], truths: Sequence[Truth], folder: Path) -> dict[str, str]:
    """For each case with a job and no truth, why it cannot be scored."""
    known = {truth.case for truth in truths}
    return {job.case: f"Job {job.pk} has no truth in {folder}" for job in jobs if job.case not in known}


def mask_of_job(jobs: Sequence[ChallengeJob], truth: Truth, instances: Volume) -> tuple[Volume, float]:
    """The case's mask, with values 0 and 1, and how many seconds its job took.

    Raises ValueError (or ImageError, which is one) where the platform or the organisers' evaluator would refuse it.
    """
    own = [job for job in jobs if job.case == truth.case]
    if not own:
        raise ValueError("No job has its CT as input, so the prediction is missing")
    if len(own) > 1:
        raise ValueError(f"{len(own)} jobs have its CT as input")
    path = mask_file(own[0])
    mask = read_volume(path)
    problems = [*_other_grid(mask, instances, truth.path.name), *_other_values(mask)]
    if problems:
        raise ValueError(f"{path.name} of job {own[0].pk} has {' and '.join(problems)}")
    return mask, own[0].seconds


def mask_file(job: ChallengeJob) -> Path:
    """The one .mha file of a job. Raises ValueError where the job failed, or has no file, two, or another format."""
    if job.status != SUCCEEDED:
        raise ValueError(f"Job {job.pk} has the status {job.status}, not {SUCCEEDED}")
    if job.output is None:
        raise ValueError(f"Job {job.pk} has no output that is the mask")
    files = sorted(path for path in job.output.glob("*") if not path.name.startswith("."))
    if not files:
        raise ValueError(f"{job.output} holds no mask")
    if len(files) > 1:
        raise ValueError(f"{job.output} holds {len(files)} files where one mask should be")
    if files[0].suffix != ".mha":
        raise ValueError(f"{files[0].name} of job {job.pk} is not .mha")
    return files[0]


def _other_grid(mask: Volume, truth: Volume, name: str) -> Iterator[str]:
    """Yield each way in which a mask's grid differs from the truth's. `name` is the truth's file name."""
    length_mm = GRID_TOLERANCE * truth.spacing_mm[2]
    for title, own, wanted, tolerance in (
        ("size [z y x]", mask.shape, truth.shape, 0.0),
        ("spacing [z y x]", mask.spacing_mm, truth.spacing_mm, length_mm),
        ("origin [L P S]", mask.affine[:3, 3], truth.affine[:3, 3], length_mm),
        ("direction", mask.direction, truth.direction, GRID_TOLERANCE),
    ):
        if not np.allclose(own, wanted, rtol=0, atol=tolerance):
            yield f"the {title} {_numbers(own)} ({name}: {_numbers(wanted)})"


def _other_values(mask: Volume) -> Iterator[str]:
    others = np.unique(mask.array[(mask.array != 0) & (mask.array != 1)])
    if others.size:
        yield f"values other than 0 and 1, such as {_numbers(others[:3])}"


def _numbers(values: Any) -> str:
    return " ".join(f"{value:.10g}" for value in np.ravel(values))


def metrics(jobs: Sequence[ChallengeJob], results: Sequence[CaseResult]) -> dict[str, Any]:
    """The content of metrics.json as the organisers' evaluator writes it: scores in the jobs' order, and their means.

    The key of a case is the number in its name, `0001` of `lnq2023-val-0001`. Where these are not all different, keys
    are the whole names. There must be one job and one result per case.
    """
    scores = {r.case: {"DiceCoefficient": r.dice, "AverageSymmetricSurfaceDistance": r.assd_mm} for r in results}
    numbers = [number for job in jobs for number in job.case.split("-")[2:3]]
    keys = numbers if len(set(numbers)) == len(jobs) else [job.case for job in jobs]
    cases = {key: scores[job.case] for key, job in zip(keys, jobs, strict=True)}
    means = {column: statistics.mean(case[column] for case in cases.values()) for column in next(iter(cases.values()))}
    return {"case": cases, "aggregates": means}


def write_metrics(path: Path, content: dict[str, Any]) -> None:
    """Write metrics.json, with null for the ASSD where no case has one: JSON has no NaN."""
    write_text(path, json.dumps(without_nan(content), allow_nan=False))
