"""The one training loop. Pre-training and fine-tuning hand it a network, a data set and a step function.

A run writes to its output folder: `<stage>.pt` (the checkpoint, replaced after each epoch), `config.json`,
`metrics.csv`, `tensorboard/` and `progress.png`. The same command resumes it, with the same losses as a run without
interruption. Several processes, on one node or many, form one run, in which only process 0 writes. One process can
also take several runs side by side, on the same samples.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from training.data.dataset import Sample, StepSampler
from training.engine.active import ActiveRun, Job
from training.engine.distributed import in_any_process, leave
from training.engine.machine import StopSignal, loader_processes, loader_worker
from training.engine.picture import Look
from training.engine.record import Display, Record
from training.engine.run import TrainingRun
from training.method.step import Step


def train(run: TrainingRun, network: nn.Module, dataset: Dataset[Sample], step: Step, look: Look | None = None) -> bool:
    """Train, or resume, until the run is complete (True) or a signal stopped it after a checkpoint (False).

    `look` draws the network's output on one fixed patch for the picture of the progress. Raises ValueError where the
    folder holds a run with other settings, RuntimeError where the loss is not finite, and OSError where something
    cannot be written. The last checkpoint stays.
    """
    active = _train([ActiveRun(Job(run, network, step, look))], dataset)[0]
    if active.error is not None:
        raise active.error
    complete = active.state.step == run.steps
    del active  # the network goes before the process group
    leave()
    return complete


def train_together(jobs: Sequence[Job], dataset: Dataset[Sample]) -> list[bool | Exception]:
    """Train several runs in this process. All see the same samples, so they need one loader, and on a GPU they overlap.

    Each ends with the weights that it would have alone. The outcome of each is as from `train`: an error that ends one
    does not end the others. Raises ValueError where runs differ in what their samples depend on.
    """
    settings = [(job.run.stage.batch, job.run.config.devices) for job in jobs]
    if len(set(settings)) > 1 or settings[0][1] != 1:
        raise ValueError("Runs that are trained together have one device and one size of batch")
    active = _train([ActiveRun(job, alone=len(jobs) == 1) for job in jobs], dataset)
    return [one.error or one.state.step == one.run.steps for one in active]


def _train(active: Sequence[ActiveRun], dataset: Dataset[Sample]) -> Sequence[ActiveRun]:
    """Take the steps of all runs, batch by batch. A run that is ahead waits for the others."""
    first = active[0]
    begin, end = min(one.state.step for one in active), max(one.run.steps for one in active)
    batches = iter(_loader(first, dataset, begin, end))
    display = Display(first.run.name, end, begin, first.fabric.is_global_zero)
    with StopSignal() as stop, display, ExitStack() as stack:
        records = [stack.enter_context(one.record()) for one in active]
        for step in range(begin, end):
            if not any(one.going for one in active):
                break
            batch, waited = _next(batches)
            taking = [one for one in active if one.going and one.state.step == step]
            for one in taking:
                _step(one, batch, waited)
            _show(display, taking)
            stopped = in_any_process(stop.received, first.fabric.device)
            for one, record in zip(active, records, strict=True):
                if one in taking and one.error is None and (one.at_end_of_epoch or stopped):
                    _end(one, record, display)
            if stopped:
                break
        if any(one.going for one in active):
            display.say(f"Stopped at step {first.state.step} of {end}; the same command goes on from there.")
    return active


def _next(batches: Iterator[Sample]) -> tuple[Sample, float]:
    """The next batch, and the seconds that it took to come."""
    begun = time.perf_counter()
    return next(batches), time.perf_counter() - begun


def _step(active: ActiveRun, batch: Sample, waited: float) -> None:
    """Take a step of a run. An error ends the run, not those beside it."""
    try:
        active.take(batch, waited)
    except (RuntimeError, ValueError) as error:
        active.error = error


def _end(active: ActiveRun, record: Record | None, display: Display) -> None:
    """Save a run at the end of an epoch, or where it is stopped."""
    try:
        active.pause()
        if active.at_end_of_epoch:
            display.epoch(active.finish_epoch(), active.run.stage.epochs)
        active.save(record)
    except (RuntimeError, OSError) as error:
        active.error = error


def _show(display: Display, active: Sequence[ActiveRun]) -> None:
    """Show that a step of these runs is done, and what has become of how steps are taken."""
    for one in active:
        if sentence := one.news():
            display.say(sentence)
    shown = next((one for one in active if one.error is None), None)
    if shown is not None:
        display.step((shown.state.step - 1) // shown.run.stage.iterations, shown.run.stage.epochs, shown.mean_loss)


def _loader(first: ActiveRun, dataset: Dataset[Sample], begin: int, end: int) -> DataLoader[Sample]:
    """This process's part of the batches of all remaining steps, so that workers need no restart between epochs."""
    fabric, run = first.fabric, first.run
    part = run.stage.batch // fabric.world_size
    workers = loader_processes(run.config.workers, fabric.device)
    return DataLoader(
        dataset,
        batch_sampler=StepSampler(begin, end, part, fabric.global_rank, fabric.world_size),
        num_workers=workers,
        worker_init_fn=loader_worker,
        prefetch_factor=4 if workers else None,
        pin_memory=fabric.device.type == "cuda",
        generator=torch.Generator(),  # drawing from the global one would change a resumed run's dropout
    )
