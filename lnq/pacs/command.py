"""The command `lnq node`."""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path

from lnq.batch.key import read_key
from lnq.batch.lock import alone
from lnq.errors import StartError
from lnq.inference.spec import ModelSpec
from lnq.pacs.node import DicomNode
from lnq.pacs.settings import NodeSettings, client_context, read_settings
from lnq.pacs.spool import QUEUE, Spool
from lnq.pacs.work import Segmenting


def run(options: argparse.Namespace, bundle: Path) -> None:
    """Run a node until a signal comes, which is raised. Raises StartError or BundleError where it cannot start."""
    settings = read_settings(options.settings, options.watch)
    _refuse(settings)
    ModelSpec.load(bundle)
    before = os.umask(0o077)
    try:
        spool = Spool(settings.spool, settings.least_free_gb, settings.keep_hours)
        spool.make()
        with alone(spool.folder, secrets.token_hex(8)):
            spool.tidy()
            key = read_key(spool.folder / "key", spool.folder / QUEUE)
            how = Segmenting(
                bundle,
                settings.options,
                key,
                options.device,
                options.precision,
                options.mirror,
                options.members,
                settings.time_limit,
            )
            DicomNode(settings, how, spool).run()
    finally:
        os.umask(before)


def _refuse(settings: NodeSettings) -> None:
    """Raise StartError for what would only fail later."""
    if settings.watch is not None and not settings.watch.is_dir():
        raise StartError(f"The folder to watch, {settings.watch}, is not there")
    if settings.watch is not None and _is_below(settings.spool, settings.watch):
        raise StartError("The spool lies in the folder that is watched")
    for to in settings.to:
        if to.folder is not None and not to.folder.is_dir():
            raise StartError(f"The folder for results, {to.folder}, is not there")
        if to.folder is not None and settings.watch is not None and _is_below(to.folder, settings.watch):
            raise StartError("Results would go into the folder that is watched")
    if settings.tls is not None:
        client_context(settings.tls)


def _is_below(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
