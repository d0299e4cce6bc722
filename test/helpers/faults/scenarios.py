"""The commands whose files are made to fail, each as a function of its arguments that returns an exit status.

    python -m helpers.faults.scenarios NAME

The network is replaced by a threshold, as its arithmetic writes no file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from helpers.faults.inject import serve

from lnq.archive.case import Case
from lnq.batch.settings import WorkerSettings
from lnq.inference.backends import Model, Network
from lnq.inference.spec import ModelSpec
from lnq.results.case_record import CaseRecord, Versions


def stub(bundle: Path) -> Model:
    """A model that takes what is a little brighter than the mean for node."""

    def window(image: np.ndarray, *_: object) -> tuple[np.ndarray, list[str]]:
        return ((image > 0.6) & (image < 1.0)).astype(np.float32), []

    spec = ModelSpec.load(bundle)
    return Model(spec, (Network(lambda patches: patches, window),), "stub", "cpu", bundle)


class InlinePool:
    """Works in this process, as a worker does in its own."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._model = stub(Path(settings.bundle))

    def start(self) -> Versions:
        return Versions.of(self._model)

    def run(self, cases: Sequence[Case]) -> Iterator[CaseRecord]:
        from lnq.batch.case import run_case

        for case in cases:
            yield run_case(case, self._model, self._settings, self.start())

    def close(self) -> None:
        pass


def batch(arguments: list[str]) -> int:
    from lnq import cli
    from lnq.batch import command
    from lnq.files import write_bytes
    from lnq.results import preview

    command._pool = lambda options, settings, workers, stop: InlinePool(settings)
    preview.preview = lambda image, labels, path, *_: write_bytes(path, bytes(20_000))  # drawing takes most of the time
    return cli.main(["batch", *arguments])


def container(arguments: list[str]) -> int:
    from lnq import cli

    cli._load = lambda options: stub(options.model)
    return cli.main(arguments, "process.py")


def prepare(arguments: list[str]) -> int:
    from training.prepare import main

    return main(arguments)


def checkpoint(arguments: list[str]) -> int:
    """Write a checkpoint over an earlier one."""
    import torch

    from training.command import run_command
    from training.engine.checkpoint import save_checkpoint

    def work() -> bool:
        save_checkpoint(Path(arguments[0]), {"model": {"weight": torch.full((20_000,), float(arguments[1]))}})
        return True

    return run_command(work)


def export(arguments: list[str]) -> int:
    """Export a checkpoint over an earlier bundle; the ONNX form is bytes, which nobody runs."""
    from training.bundle import write
    from training.command import run_command

    def work() -> bool:
        write.write_onnx = lambda network, spec, path: path.write_bytes(arguments[2].encode() * 1000)
        write.check_agreement = lambda *_: 0.0
        write.export([Path(arguments[0])], Path(arguments[1]), threshold=float(arguments[2]))
        return True

    return run_command(work)


SCENARIOS = {"batch": batch, "container": container, "prepare": prepare, "checkpoint": checkpoint, "export": export}


def _import(name: str) -> None:
    """Import what a run would import, but start no threads, which a forked process would not have."""
    if name in ("batch", "container"):
        import matplotlib.figure  # noqa: F401
        import SimpleITK  # noqa: F401

        import lnq.batch.case
        import lnq.report.pages
    if name == "container":
        import lnq.challenge.container  # noqa: F401
    if name in ("checkpoint", "export"):
        import torch

        import training.bundle.write

        torch.set_num_threads(1)
    if name == "prepare":
        import training.prepare  # noqa: F401


if __name__ == "__main__":
    _import(sys.argv[1])
    serve(SCENARIOS[sys.argv[1]])
