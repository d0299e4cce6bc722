"""Where model bundles lie: the one shipped with the program, or one mounted by the challenge's platform."""

from __future__ import annotations

from pathlib import Path

from lnq.errors import StartError

MOUNTED = Path("/opt/ml/model")  # where the platform puts a model that was uploaded separately
_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_bundle() -> Path:
    """The bundle shipped with the program: in the installed package, or at the top of the source tree."""
    installed = _PACKAGE / "model"
    return installed if installed.is_dir() else _PACKAGE.with_name("model")


def default_bundle() -> Path:
    """The mounted bundle if its folder holds anything, else the shipped one.

    Raises StartError where the mounted folder cannot be read.
    """
    try:
        mounted = MOUNTED.is_dir() and any(not p.name.startswith(".") for p in MOUNTED.iterdir())
    except OSError as error:
        raise StartError(f"{MOUNTED} cannot be read: {error.strerror}") from None
    return MOUNTED if mounted else shipped_bundle()
