"""Names of image files: their extensions, and the challenge's endings that tell a CT from its labels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

EXTENSIONS = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr", ".hdr")  # of the files that can be read
HEADERS = (".mhd", ".nhdr", ".hdr")  # of them, those whose voxels lie in a file of their own
WRITABLE = (".mha", ".nrrd", ".nii", ".nii.gz")  # formats of a single file, which can be replaced atomically
VOXEL_FILES = (".raw", ".zraw", ".img", ".img.gz", ".raw.gz")  # voxel data of a header file beside them
CT, LABEL, NODES = "-ct", "-seg", "-nodes"  # endings of a case's files: CT, label, label with a value per node


def stem(path: Path) -> str:
    """A file's name without its image extension, of which `.nii.gz` is one. A folder's name stays as it is."""
    if path.is_dir():
        return path.name
    known = extension_of(path.name) or path.suffix
    name = path.name[: len(path.name) - len(known)]
    return path.name if name in ("", ".", "..") else name  # such a name would put a result into another folder


def extension_of(name: str) -> str:
    """The image extension that a file's name ends with, in lower case; empty where it has none."""
    lower = name.lower()
    return next((e for e in EXTENSIONS if lower.endswith(e)), "")


def case_of(name: str) -> str:
    """The case that a file belongs to: `name`, given without extension, less its ending `-ct`, `-seg` or `-nodes`."""
    return next((name.removesuffix(end) for end in (CT, LABEL, NODES) if name.endswith(end)), name)


def is_label_file(name: str, names: Iterable[str]) -> bool:
    """Whether a file holds the labels of a CT in the same folder, whose files are `names`: `x-seg` beside `x-ct`."""
    extension = extension_of(name)
    own = name[: len(name) - len(extension)]
    base = next((own.removesuffix(end) for end in (LABEL, NODES) if own.endswith(end)), None)
    return bool(extension) and base is not None and f"{base}{CT}{name[len(own) :]}" in names
