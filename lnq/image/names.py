"""Names of image files: their extensions, and the challenge's ends that tell a CT from its labels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

EXTENSIONS = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")  # that are read
WRITABLE = (".mha", ".nrrd", ".nii", ".nii.gz")  # formats of one file, which can be put in place at once
VOXEL_FILES = (".raw", ".zraw", ".img", ".raw.gz")  # belong to a header file beside them
CT, LABEL, NODES = "-ct", "-seg", "-nodes"  # ends of a case's files: the CT, its label, and one value per node


def stem(path: Path) -> str:
    """A file's name without its image extension (`.nii.gz` is one); a folder's name as it is."""
    if path.is_dir():
        return path.name
    known = extension_of(path.name) or path.suffix
    name = path.name[: len(path.name) - len(known)]
    return path.name if name in ("", ".", "..") else name  # a result is to stay in its folder


def extension_of(name: str) -> str:
    """The image extension that a file's name ends with, in lower case; blank where it has none."""
    lower = name.lower()
    return next((e for e in EXTENSIONS if lower.endswith(e)), "")


def case_of(name: str) -> str:
    """The case of a file: its name, which has no extension, without what says which file of the case it is."""
    return next((name.removesuffix(end) for end in (CT, LABEL, NODES) if name.endswith(end)), name)


def is_label_file(name: str, names: Iterable[str]) -> bool:
    """Whether a file, of a folder with files `names`, holds the labels of a CT there: `x-seg` beside `x-ct`."""
    extension = extension_of(name)
    own = name[: len(name) - len(extension)]
    base = next((own.removesuffix(end) for end in (LABEL, NODES) if own.endswith(end)), None)
    return bool(extension) and base is not None and f"{base}{CT}{name[len(own) :]}" in names
