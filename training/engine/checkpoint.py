"""Checkpoints: tensors and plain values in one dict, written atomically and read without unpickling objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lnq.files import replace_atomically

FORMAT_VERSION = 2  # format 1 held the generators of one process only, and sums without counts

Checkpoint = dict[str, Any]
"""Keys: `format`, `stage`, `complete`, `step`, `config`, `facts`, `environment`, `model`, `average` (None, or the
averaged weights).
Only resuming needs `optimizer`, `precision`, `rng` (a row per process), `sums` and `history`."""

FREE_TO_CHANGE = (
    "config.workers",
    "config.threads",
    "config.devices",
    "config.picture_every",
    "config.graph",
    "config.channels_last",
    "config.sampling.cache",
    "facts.dataset.provenance",
)
"""Settings that a resumed run may change: they concern the speed, or who wrote the data. Of the result, they can change
the last bits alone."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the file atomically. Where that fails, raises OSError with a sentence, and the old file stays."""
    try:
        with replace_atomically(path) as part, open(part, "wb") as file:
            torch.save(checkpoint, file)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: BaseException) -> OSError:
    """An OSError that says why `path` cannot be written, by the OSError that `error` is or came from."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else error
    return OSError(f"Cannot write {path}: {reason}. The last good checkpoint is kept.")


def remove_unfinished(output: Path) -> None:
    """Remove the partial files that a killed run has left in its folder."""
    for part in output.glob(".*.part-*"):  # names given by `replace_atomically`
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
    """Names of the settings in which two nested dicts differ, without those in FREE_TO_CHANGE."""
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
