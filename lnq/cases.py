"""Find the cases under what a user points at, name them, and segment one."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lnq.checks import check_image, warnings_for
from lnq.dicom import is_dicom_folder, read_dicom_series
from lnq.files import write_text
from lnq.volume import ImageError, Volume, read_volume

if TYPE_CHECKING:
    from lnq.backends import Model
    from lnq.pipeline import Segmentation

EXTENSIONS = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")
VOXEL_FILES = (".raw", ".zraw", ".img", ".raw.gz")  # belong to a header file beside them


logger = logging.getLogger(__name__)


class StartError(Exception):
    """Nothing could start; the message is one sentence for the user."""


def prepare_output(output: Path) -> None:
    """Make the output folder. Raises StartError where that, or writing into it, fails."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_text(output / ".writable", "")
        (output / ".writable").unlink()
    except OSError as error:
        raise StartError(f"The output folder {output} cannot be written: {error.strerror or error}") from None


@dataclass(frozen=True)
class Case:
    """A CT: an image file, or a folder with a DICOM series."""

    name: str
    path: Path


def stem(path: Path) -> str:
    """A file's name without its image extension (`.nii.gz` is one); a folder's name as it is."""
    if path.is_dir():
        return path.name
    lower = path.name.lower()
    known = next((e for e in EXTENSIONS if lower.endswith(e)), path.suffix)
    name = path.name[: len(path.name) - len(known)]
    return path.name if name in ("", ".", "..") else name  # a result is to stay in its folder


def find_cases(inputs: Sequence[Path], leave_out: Path | None = None) -> list[Case]:
    """Image files and DICOM folders among `inputs` and in folders below them, but not below `leave_out`.

    Label files of the challenge's data (`x-seg.nrrd` beside `x-ct.nrrd`) are no cases. Raises StartError
    where an input does not exist or there is no case at all.
    """
    paths: list[Path] = []
    for given in inputs:
        if not given.exists():
            raise StartError(f"{given} does not exist: check the path")
        paths += _cases_below(given, set()) if given.is_dir() else [given]
    resolved = {p.resolve(): None for p in paths}  # a path given twice is one case
    if leave_out is not None:
        outside = leave_out.resolve()
        resolved = {p: None for p in resolved if not p.is_relative_to(outside)}
    if not resolved:
        names = ", ".join(str(i) for i in inputs)
        raise StartError(f"No CT found in {names}: give {', '.join(EXTENSIONS)} files or DICOM series folders")
    return name_cases(resolved)


def _cases_below(folder: Path, seen: set[Path]) -> list[Path]:
    """Cases of a folder and of those below it; `seen` keeps links that lead back from being followed for ever."""
    if folder.resolve() in seen:
        return []
    seen.add(folder.resolve())
    try:
        found = [folder] if is_dicom_folder(folder) else []
        entries = sorted(folder.iterdir())
    except OSError as error:
        logger.warning(f"{folder} is left out: {error.strerror}")
        return []
    for path in entries:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found += _cases_below(path, seen)
        elif path.name.lower().endswith(EXTENSIONS) and not _is_label_file(path):
            found.append(path)
    return found


def _is_label_file(path: Path) -> bool:
    name, extension = stem(path), path.name[len(stem(path)) :]
    base = next((name.removesuffix(end) for end in ("-seg", "-nodes") if name.endswith(end)), None)
    return base is not None and path.with_name(f"{base}-ct{extension}").exists()


def name_cases(paths: Iterable[Path]) -> list[Case]:
    """Each path's case name: its stem; where two agree, with `-` and 8 hex digits of its path's SHA-256."""
    paths = list(paths)
    count = Counter(stem(p).lower() for p in paths)  # file systems may not tell cases apart
    return [Case(stem(p) if count[stem(p).lower()] == 1 else hashed_name(p), p) for p in paths]


def hashed_name(path: Path) -> str:
    """A case name that no other path has."""
    return f"{stem(path)}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def read_case(path: Path) -> Volume:
    """Read a case's CT and check it. Raises ImageError with the reason where it cannot be used."""
    volume = read_dicom_series(path) if path.is_dir() else read_volume(path)
    check_image(volume, path.name)
    return volume


def segment_case(volume: Volume, model: Model) -> tuple[Segmentation, list[str]]:
    """The segmentation of a checked CT and all that is to be said about it, each warning once."""
    from lnq.pipeline import segment

    segmentation = segment(volume, model)
    warnings = dict.fromkeys((*segmentation.warnings, *warnings_for(volume, segmentation.crop)))
    return segmentation, list(warnings)


def attempt(path: Path, work: Callable[[], None]) -> str | None:
    """Run one case's work; None where it succeeded, else one sentence that says why it failed.

    An unforeseen error is also logged with its traceback.
    """
    try:
        work()
    except ImageError as error:
        return str(error)
    except MemoryError:
        return f"{path.name} could not be segmented: there is not enough memory for it"
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        return f"{path.name} could not be segmented: {error.strerror or error}{place}"
    except Exception as error:
        logger.exception("Unforeseen error with %s", path)
        return f"{path.name} could not be segmented: {type(error).__name__}: {error}".replace("\n", " ")
    return None
