"""Steps that never wait for the device, and steps that are recorded and replayed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.training_runs import RESUMED, assert_same_run, metrics, weights
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from training.ablation.rows import ALL_ROWS
from training.config import TINY, Stage
from training.data.dataset import FinetuneDataset, Sample
from training.engine import active as active_module
from training.engine.finetuning import finetune
from training.engine.run import Facts, State, TrainingRun
from training.engine.stepper import WARM_UP, RecordedStepper, Stepper, make_stepper
from training.method.network import DualBranchNet
from training.method.step import CROSS_ENTROPY, DBDMP, Objective, Position, Step, finetuning_step, pretraining_step

LONG = dataclasses.replace(RESUMED, finetune=Stage(epochs=4, iterations=5, ema=0.9), picture_every=0)


def compute(step: Step, full: tuple[bool, ...] = (), heads: int | None = None) -> tuple[str, ...]:
    """A whole step on tensors without values: whatever asks for a value fails."""
    config = dataclasses.replace(TINY, channels_last=False)
    with FakeTensorMode():
        network = DualBranchNet(config.network, heads).train()
        optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, nesterov=True, fused=True)
        fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
        model, wrapped = fabric.setup(network, optimizer, move_to_device=False)
        average = {name: value.clone() for name, value in network.state_dict().items()}
        state = State(network, optimizer, average, torch.device("cpu"), rate=torch.full((), 0.1))
        run = TrainingRun("finetune", config.finetune, config, Path(), Facts(()))
        shape = (2, *config.patch)
        batch = {"image": torch.randn(shape)[:, None], "clean": torch.randn(shape)[:, None]}
        batch["label"] = torch.zeros(shape, dtype=torch.uint8)
        share = sum(full) / len(full) if full else 0.0
        position = Position(0, 0, torch.full((), 0.3, dtype=torch.float64), torch.full((), 2.0), full, share)
        stepper = Stepper(run, state, fabric, model, wrapped, step)
        stepper._set_numbers()
        stepper._compute(batch, position)  # momentum begins
        return stepper._compute(batch, position)


@pytest.mark.parametrize("objective", [DBDMP, CROSS_ENTROPY, *(row.objective for row in ALL_ROWS.values())])
def test_no_step_waits_for_the_device(objective: Objective) -> None:
    assert "loss" in compute(finetuning_step(objective, TINY), (False, False))


@pytest.mark.parametrize("full", [(True, True), (True, False), (False, True)])
def test_no_step_waits_for_the_device_to_find_full_cases(full: tuple[bool, bool]) -> None:
    assert "full_main" in compute(finetuning_step(DBDMP, TINY), full)


def test_no_step_of_pre_training_waits_for_the_device() -> None:
    assert compute(pretraining_step, heads=1) == ("loss", "mse_main", "mse_aux")


@pytest.mark.parametrize("read", [lambda x: x * float(x.detach()), lambda x: x[x > 0].mean()])
def test_a_step_that_reads_a_value_would_be_noticed(read: Callable[[Tensor], Tensor]) -> None:
    def step(model: nn.Module, batch: Sample, _position: Position) -> dict[str, Tensor]:
        return {"loss": read(model(batch["image"])[0].mean())}

    with pytest.raises(Exception, match="aten"):
        compute(step)


class Replayed:
    """Stands for a CUDA graph on a CPU: it notes what is computed, and computes it again when it is replayed."""

    def __init__(self, stepper: RecordedStepper, work: Callable[[], None]) -> None:
        self.work = work
        state = stepper.state
        momenta = [s["momentum_buffer"] for s in state.optimizer.state.values()]
        tensors = [
            *state.network.state_dict().values(),
            *(state.average or {}).values(),
            *state.sums.values(),
            *momenta,
        ]
        before, rng = [t.clone() for t in tensors], torch.get_rng_state()
        work()  # a graph runs the program, but not what it launches
        torch.set_rng_state(rng)
        for tensor, value in zip(tensors, before, strict=True):
            tensor.data.copy_(value)

    def replay(self) -> None:
        self.work()


@pytest.fixture
def half_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third sample counts as wholly annotated."""
    get = FinetuneDataset.__getitem__

    def some(self: FinetuneDataset, index: int) -> Sample:
        return get(self, index) | {"full": torch.tensor(index % 3 == 0)}

    monkeypatch.setattr(FinetuneDataset, "__getitem__", some)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[RecordedStepper]:
    """Let all runs record their steps; the list grows by the stepper of each run."""
    steppers: list[RecordedStepper] = []

    def make(*given: Any) -> Stepper:
        stepper = RecordedStepper(*given, record=lambda work: Replayed(stepper, work))
        steppers.append(stepper)
        return stepper

    monkeypatch.setattr(active_module, "make_stepper", make)
    return steppers


def test_recorded_steps_train_the_same_weights(prepared: Path, tmp_path: Path, half_full, recorded) -> None:
    assert finetune(prepared, tmp_path / "recorded", LONG)
    ways = recorded[0]._recordings.keys()
    assert {sum(way) for way in ways} == {0, 1} and len(ways) == 3  # of two samples, each third is full
    assert sum(recorded[0]._taken.values()) == WARM_UP
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(active_module, "make_stepper", make_stepper)
        assert finetune(prepared, tmp_path / "plain", LONG)
    assert_same_run(tmp_path / "recorded", tmp_path / "plain")


def test_recorded_run_resumes_at_any_step(prepared: Path, tmp_path: Path, half_full, recorded, monkeypatch) -> None:
    assert finetune(prepared, tmp_path / "whole", LONG)
    get = FinetuneDataset.__getitem__
    for stop in (3, 13, 28):

        def failing(self: FinetuneDataset, index: int, stop: int = stop) -> Sample:
            if index == stop:
                raise KeyboardInterrupt
            return get(self, index)

        monkeypatch.setattr(FinetuneDataset, "__getitem__", failing)
        with pytest.raises(KeyboardInterrupt):
            finetune(prepared, tmp_path / "parts", LONG)
    monkeypatch.setattr(FinetuneDataset, "__getitem__", get)
    assert finetune(prepared, tmp_path / "parts", LONG)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_where_recording_fails_steps_are_taken_one_by_one_and_the_reason_is_said_once(
    prepared: Path, tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def make(*given: Any) -> Stepper:
        def fails(_work: Callable[[], None]) -> Any:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

        return RecordedStepper(*given, record=fails)

    monkeypatch.setattr(active_module, "make_stepper", make)
    assert finetune(prepared, tmp_path / "run", RESUMED)
    assert_same_run(tmp_path / "run", uninterrupted)
    said = "Steps are not recorded as a CUDA graph: operation not permitted when stream is capturing\n"
    assert capsys.readouterr().err.count(said) == 1


def test_a_processor_records_nothing_and_says_nothing(prepared: Path, tmp_path: Path, capsys) -> None:
    assert finetune(prepared, tmp_path / "run", dataclasses.replace(RESUMED, finetune=Stage(epochs=1, iterations=1)))
    assert "recorded" not in capsys.readouterr().err


@pytest.mark.gpu
def test_a_gpu_trains_the_same_weights_from_a_graph(prepared: Path, tmp_path: Path, half_full) -> None:
    config = dataclasses.replace(LONG, precision="32-true")
    assert finetune(prepared, tmp_path / "graph", config)
    assert finetune(prepared, tmp_path / "plain", dataclasses.replace(config, graph=False))
    for row, wanted in zip(metrics(tmp_path / "graph"), metrics(tmp_path / "plain"), strict=True):
        assert float(row["loss"]) == pytest.approx(float(wanted["loss"]), rel=1e-3)
    a, b = (weights(tmp_path / name / "finetune.pt") for name in ("graph", "plain"))
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=1e-2, atol=1e-4)
