"""The one training loop. Pre-training and fine-tuning hand it a network, a data set and a step function.

A run writes to its output folder: `<stage>.pt` (the checkpoint, replaced after each epoch), `config.json`,
`metrics.csv`, `tensorboard/` and `progress.png`. The same command resumes it, with the same losses as a run without
interruption. Several processes, on one node or many, form one run, in which only process 0 writes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lnq.plain import to_plain
from training.config import Config, Stage
from training.data.dataset import Sample, StepSampler
from training.engine.checkpoint import remove_unfinished, save_checkpoint
from training.engine.distributed import gather, in_any_process, leave
from training.engine.machine import StopSignal, choose_precision, loader_worker, process_layout, tune_cpu_memory
from training.engine.picture import Look
from training.engine.record import Display, Record, write_config
from training.engine.run import State, TrainingRun, capture, resume
from training.method.step import Position, Step


def train(run: TrainingRun, network: nn.Module, dataset: Dataset[Sample], step: Step, look: Look | None = None) -> bool:
    """Train, or resume, until the run is complete (True) or a signal stopped it after a checkpoint (False).

    `look` draws the network's output on one fixed patch for the picture of the progress. Raises ValueError where the
    folder holds a run with other settings, RuntimeError where the loss is not finite, and OSError where something
    cannot be written. The last checkpoint stays.
    """
    complete = _train(run, network, dataset, step, look)
    leave()
    return complete


def _train(run: TrainingRun, network: nn.Module, dataset: Dataset[Sample], step: Step, look: Look | None) -> bool:
    stage = run.stage
    fabric, model, stepper, state = _start(run, network)
    batches = iter(_loader(run, dataset, state.step, fabric))
    display = Display(run.name, run.steps, state.step, fabric.is_global_zero)
    stopped = False
    with StopSignal() as stop, display, _record(run, state, fabric) as record:
        while state.step < run.steps and not stopped:
            epoch = state.step // stage.iterations
            _set_lr(state.optimizer, stage, epoch)
            _step(run, state, fabric, model, stepper, batches, step)
            display.step(epoch, stage.epochs, _mean(*state.sums["loss"]))
            stopped = in_any_process(stop.received, fabric.device)
            finished = state.step % stage.iterations == 0
            if finished or stopped:
                _refuse_infinite(state, epoch)
            if finished:
                _finish_epoch(state, epoch)
                display.epoch(state.history[-1], stage.epochs)
            if finished or stopped:
                _save(run, state, fabric, record, look)
        if state.step < run.steps:
            display.say(f"Stopped at step {state.step} of {run.steps}; the same command goes on from there.")
    return state.step == run.steps


def _start(run: TrainingRun, network: nn.Module) -> tuple[Fabric, nn.Module, Any, State]:
    """Set up machine, network and optimiser, new or from the run's checkpoint, and write config.json."""
    config, stage = run.config, run.stage
    precision = choose_precision() if config.precision == "auto" else config.precision
    fabric = _launch(config, precision)
    if stage.batch % fabric.world_size:
        raise ValueError(f"A batch of {stage.batch} cannot be shared out evenly to {fabric.world_size} processes")
    if config.threads:
        torch.set_num_threads(config.threads)
    if fabric.device.type == "cpu":
        tune_cpu_memory()
    torch.backends.cudnn.benchmark = True  # finds the fastest convolutions once, as all patches have one size
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        network.parameters(), stage.lr, stage.momentum, weight_decay=stage.weight_decay, nesterov=True
    )
    forward: nn.Module = network
    if config.compile:
        forward = torch.compile(network)  # type: ignore[assignment]  # shares the weights
    model, stepper = fabric.setup(forward, optimizer)
    network.train()
    state = State(network, optimizer, _copy_weights(network) if stage.ema > 0 else None)
    torch.manual_seed(config.seed + fabric.global_rank)  # each process has its own dropout
    run.output.mkdir(parents=True, exist_ok=True)
    if run.checkpoint.is_file():
        resume(run, state, fabric)
    if len(set(gather(torch.tensor(state.step), fabric.device).tolist())) > 1:
        raise ValueError(f"Not all processes find {run.checkpoint}: the output folder must be one that all nodes share")
    if fabric.is_global_zero:
        remove_unfinished(run.output)
        given = {**to_plain(run.facts), "precision": precision, "processes": fabric.world_size}
        write_config(run.output, run.name, to_plain(config), given)
    return fabric, model, stepper, state


def _launch(config: Config, precision: Any) -> Fabric:
    """Join the run as one of its processes. With `devices` above 1 and no torchrun, start the others too."""
    per_node, nodes = process_layout(config.devices)
    strategy = "ddp" if per_node * nodes > 1 else "auto"
    fabric = Fabric(accelerator="auto", devices=per_node, num_nodes=nodes, strategy=strategy, precision=precision)
    fabric.launch()
    return fabric


def _step(
    run: TrainingRun,
    state: State,
    fabric: Fabric,
    model: nn.Module,
    stepper: Any,
    batches: Iterator[Sample],
    step: Step,
) -> None:
    """Do one optimiser step, and add its terms and times to the sums."""
    begun = time.perf_counter()
    batch = {name: value.to(fabric.device, non_blocking=True) for name, value in next(batches).items()}
    if run.config.channels_last:
        batch["image"] = batch["image"].to(memory_format=torch.channels_last_3d)
    waited = time.perf_counter() - begun
    terms = step(model, batch, Position(state.step // run.stage.iterations, state.step))
    stepper.zero_grad(set_to_none=True)
    fabric.backward(terms["loss"])
    fabric.clip_gradients(model, stepper, max_norm=run.stage.clip_norm, error_if_nonfinite=False)
    stepper.step()
    state.step += 1
    if state.average is not None:
        _update_average(state.average, state.network, run.stage.ema, state.step)
    times = {"seconds": torch.tensor(time.perf_counter() - begun), "loader_seconds": torch.tensor(waited)}
    for name, value in (terms | times).items():
        total, count = state.sums.get(name, (torch.zeros(()), 0))
        state.sums[name] = (total + value.detach().double(), count + 1)


def _mean(total: Tensor, count: int) -> Tensor:
    return total / count


def _finish_epoch(state: State, epoch: int) -> None:
    """Turn the ended epoch's sums into a row of `history`: means over the steps with that term, but sums of times."""
    row = {"epoch": float(epoch), "lr": state.optimizer.param_groups[0]["lr"]}
    for name, (total, count) in state.sums.items():
        row[name] = float(total if name.endswith("seconds") else _mean(total, count))
    state.history.append(row)
    state.sums = {}


def _refuse_infinite(state: State, epoch: int) -> None:
    """Raise RuntimeError where the running epoch's loss is NaN or infinite, before such weights are saved."""
    if not math.isfinite(float(state.sums["loss"][0])):
        raise RuntimeError(f"The loss was not finite in epoch {epoch}: start again with a lower rate")


def _record(run: TrainingRun, state: State, fabric: Fabric) -> AbstractContextManager[Record | None]:
    return Record(run.output, run.name, len(state.history)) if fabric.is_global_zero else nullcontext()


def _save(run: TrainingRun, state: State, fabric: Fabric, record: Record | None, look: Look | None) -> None:
    """Let process 0 record a finished epoch and replace the checkpoint. On failure all processes raise OSError.

    The checkpoint comes last. An epoch that was recorded but not saved is then recorded again.
    """
    checkpoint = capture(run, state, fabric)
    problem = ""
    if record is not None:
        try:
            if not state.sums:
                _record_epoch(run, state, fabric, record, look)
            save_checkpoint(run.checkpoint, checkpoint)
        except OSError as error:
            problem = str(error)
    problem = fabric.broadcast(problem)
    if problem:
        raise OSError(problem)


def _record_epoch(run: TrainingRun, state: State, fabric: Fabric, record: Record, look: Look | None) -> None:
    """Add the last epoch to metrics.csv and TensorBoard, and draw the progress picture when it is due."""
    done, every = len(state.history), run.config.picture_every
    panels = None
    if every and (done % every == 0 or done in (1, run.stage.epochs)):
        state.network.eval()
        with fabric.autocast():
            panels = look(state.network) if look is not None else []
        state.network.train()
    record.epoch(state.history, panels)


def _loader(run: TrainingRun, dataset: Dataset[Sample], first_step: int, fabric: Fabric) -> DataLoader[Sample]:
    """This process's part of the batches of all remaining steps, so that workers need no restart between epochs."""
    part = run.stage.batch // fabric.world_size
    sampler = StepSampler(first_step, run.steps, part, fabric.global_rank, fabric.world_size)
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=run.config.workers,
        worker_init_fn=loader_worker,
        prefetch_factor=4 if run.config.workers else None,
        pin_memory=fabric.device.type == "cuda",
        generator=torch.Generator(),  # drawing from the global one would change a resumed run's dropout
    )


def _set_lr(optimizer: torch.optim.Optimizer, stage: Stage, epoch: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = stage.lr * (1.0 - epoch / stage.epochs) ** stage.poly_power


def _copy_weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


@torch.no_grad()
def _update_average(average: dict[str, Tensor], network: nn.Module, decay: float, step: int) -> None:
    """Update the exponential moving average. Early on it spans fewer steps, so that the initial weights fade."""
    decay = min(decay, (1.0 + step) / (10.0 + step))
    own = network.state_dict()
    torch._foreach_lerp_(list(average.values()), [own[name] for name in average], 1.0 - decay)
