"""Checkpoints: tensors and plain values in one dict, replaced atomically, read with nothing unpickled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from lnq.files import replace_atomically

FORMAT_VERSION = 2  # 1 had the generators of one process, and sums without counts

Checkpoint = dict[str, Any]
"""`format`, `stage`, `complete`, `step`, `config`, `facts`, `model`, `average` (None, or the averaged weights), and
what resuming needs: `optimizer`, `precision`, `rng` (a row per process), `sums`, `history`."""

FREE_TO_CHANGE = (
    "config.workers",
    "config.threads",
    "config.devices",
    "config.picture_every",
    "config.sampling.cache",
    "facts.dataset.provenance",
)
"""What a resumed run may differ in: it changes the speed, or who wrote the data, not the result."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the file at once. Raises OSError with a sentence where it cannot be written; the old one stays."""
    try:
        with replace_atomically(path) as part, open(part, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: BaseException) -> OSError:
    """The sentence for a full disk and the like, from the error or from the one that led to it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else error
    return OSError(f"Cannot write {path}: {reason}. The last good checkpoint is kept.")


def remove_unfinished(output: Path) -> None:
    """Remove the files that a run, killed while it wrote them, has left in its folder."""
    for part in output.glob(".*.part-*"):  # as `replace_atomically` names them
        part.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises ValueError where the file is missing, no checkpoint, or of a newer format."""
    try:
        checkpoint: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"There is no checkpoint at {path}") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ValueError(f"{path} is not a readable checkpoint: {type(error).__name__}") from None
    read: Checkpoint = checkpoint if isinstance(checkpoint, dict) else {}
    version = read.get("format")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ValueError(f"{path} is not a checkpoint that this program reads: format {version}")
    return read


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Names of the settings in which two nested dicts differ, less those that a resumed run may change."""
    names = []
    for key in sorted(old.keys() | new.keys()):
        name = f"{prefix}{key}"
        a, b = old.get(key), new.get(key)
        if name in FREE_TO_CHANGE:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            names += differences(a, b, f"{name}.")
        elif a != b:
            names.append(name)
    return names
