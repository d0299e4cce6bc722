"""Find the cases under what a user points at, name them, and segment one."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from lnq.dicom.read import read_dicom_series
from lnq.errors import ImageError
from lnq.image.itk import read_volume
from lnq.image.names import EXTENSIONS, stem
from lnq.image.plausible import check_image
from lnq.image.volume import Volume

ARCHIVE = ".zip"


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Case:
    """A CT: an image file, a folder with a DICOM series, or chosen files of a folder or of a zip archive."""

    name: str
    path: Path  # the file, folder or archive
    files: tuple[str, ...] = ()  # a series' paths, or members of the archive, the image file first; else all
    dicom: bool = False  # whether `files` are a DICOM series
    series_uid: str | None = None


def name_cases(cases: Iterable[Case], hash_names: bool = False, taken: Iterable[str] = ()) -> list[Case]:
    """The cases with their names: the path's stem, with `-` and 8 hex digits where two agree or one is taken.

    With `hash_names` 16 hex digits of the series' UID or of the path, which tell nothing of the patient.
    """
    cases = list(cases)
    plain = [plain_name(case) for case in cases]
    used = {name.lower() for name in taken}  # file systems may not tell cases apart
    count = Counter(name.lower() for name in (*plain, *used))
    named = []
    for case, name in zip(cases, plain, strict=True):
        if hash_names:
            name = identity(case)[:16]
        elif count[name.lower()] > 1:
            name = hashed_name(case)
        named.append(replace(case, name=free_name(case, name, used)))
    return named


def free_name(case: Case, name: str, used: set[str]) -> str:
    """`name`, or where it is among `used` (lower case) with a hash of where the files are; then it is used too.

    Objects of one series may be two cases: in two archives, or a scan and its scout view.
    """
    if name.lower() in used:
        name = f"{name}-{_sha256(_place(case))[:8]}"
    used.add(name.lower())
    return name


def plain_name(case: Case) -> str:
    """The path's stem; of an image file within an archive that file's."""
    inner = case.files[0] if case.files and not case.dicom else ""
    if inner.lower().endswith(EXTENSIONS):
        return stem(Path(inner))
    whole = case.dicom and not case.path.name.lower().endswith(ARCHIVE)  # a folder's name has no extension
    return (case.path.name if whole else stem(case.path)) or f"series-{identity(case)[:8]}"


def hashed_name(case: Case) -> str:
    """The case's plain name with digits of what it is known by."""
    return f"{plain_name(case)}-{identity(case)[:8]}"


def identity(case: Case) -> str:
    """Hex SHA-256 of what a case is known by from run to run: its SeriesInstanceUID, or else its place."""
    return _sha256(case.series_uid or _place(case))


def _place(case: Case) -> str:
    return "\0".join([str(case.path), *case.files[:1]])


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def read_case(path: Path) -> Volume:
    """Read the CT of a file or of a DICOM folder and check it. Raises ImageError where it cannot be used."""
    volume = read_dicom_series(path) if path.is_dir() else read_volume(path)
    check_image(volume, path.name)
    return volume


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
