import csv
import dataclasses

import pytest
import torch

from benchmarks import training_step
from benchmarks.training_step import TimedSteps, TrainingStep, kind_of, profile_table, step_table, time_steps
from training.config import TINY
from training.engine import loop
from training.engine.active import ActiveRun


@pytest.fixture
def command(prepared, tmp_path) -> TrainingStep:
    return TrainingStep(prepared, tmp_path / "out", steps=3, warm_up=2, preset="tiny", config=TINY)


@pytest.mark.parametrize("stage", ["finetune", pytest.param("pretrain", marks=pytest.mark.slow)])
def test_timed_are_the_steps_between_warm_up_and_profile(command, stage):
    step = loop._step
    measured = time_steps(command, stage, "channels-last")
    assert not measured.error
    assert len(measured.ms) == len(measured.waited_ms) == 3
    assert all(0 < waited < whole for waited, whole in zip(measured.waited_ms, measured.ms, strict=True))
    assert measured.start_s > 0
    assert measured.by_kind()["convolutions"] > 0
    assert loop._step is step


@pytest.mark.slow
def test_runs_side_by_side_count_as_one_step(command):
    several = dataclasses.replace(command, together=2)
    measured = time_steps(several, "finetune", "channels-last")
    assert not measured.error and len(measured.ms) == 3
    assert time_steps(several, "pretrain", "plain").error == ""  # takes one alone


@pytest.mark.slow
def test_checkpoint_of_the_end_is_not_profiled(command, monkeypatch):
    running = []
    save = ActiveRun.save

    def watched(*given):
        running.append(torch.autograd.profiler._is_profiler_enabled)
        save(*given)

    monkeypatch.setattr(ActiveRun, "save", watched)
    time_steps(command, "finetune", "plain")
    assert running == [False]


def test_stopped_run_ends_the_command(command, monkeypatch, capsys):
    monkeypatch.setattr(training_step, "finetune", lambda *_: False)
    options = ["--data", str(command.data), "-o", str(command.output), "--preset", "tiny"]
    assert training_step.main(options) == 143
    assert list(command.output.iterdir()) == []


def test_way_that_cannot_be_run_says_why(command, monkeypatch):
    def short(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr(loop, "_step", short)
    measured = time_steps(command, "finetune", "plain")
    assert measured.error == "CUDA out of memory."
    assert step_table([measured])[2] == "| finetune | plain | CUDA out of memory. | | | |"
    assert profile_table([measured])[0] == "| ms a step |"


def test_figures_of_the_table():
    measured = TimedSteps(
        "finetune", "plain", [10.0, 30.0], [1.0, 0.0], 2.5, 3 * 2**20, {"ampere_sgemm": 7.0, "add": 1.0}
    )
    assert step_table([measured])[2] == "| finetune | plain | 20.0 | 2.5% | 3 | 2.5 |"
    assert "| convolutions | 7.0 |" in profile_table([measured])
    assert profile_table([measured])[-2] == "| all kernels | 8.0 |"


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("sm90_xmma_fprop_implicit_gemm_bf16", "convolutions"),
        ("void cudnn::ops::nchwToNhwcKernel<...>", "copies, casts and changes of memory layout"),
        ("void at::native::batch_norm_backward_kernel<...>", "norms"),
        ("triton_red_fused_native_batch_norm_3", "fused by the compiler"),
        ("multi_tensor_apply_kernel<... LpNormFunctor<...>>", "optimiser, clipping and averaged weights"),
        ("aten::convolution_transpose", "convolutions"),
        ("Memcpy HtoD (Pinned -> Device)", "copies, casts and changes of memory layout"),
        ("void at::native::vectorized_elementwise_kernel<...>", training_step.REST),
    ],
)
def test_kinds_of_kernels(kernel, kind):
    assert kind_of(kernel) == kind


def test_command_writes_a_table_and_the_longest_kernels(command):
    options = ["--data", str(command.data), "-o", str(command.output), "--preset", "tiny", "--steps", "2"]
    options += ["--warm-up", "1", "--stages", "finetune", "--ways", "plain"]
    assert training_step.main(options) == 0
    text = (command.output / "training-step-tiny.md").read_text()
    assert "| finetune | plain | " in text and "| convolutions |" in text
    rows = list(csv.DictReader((command.output / "training-step-tiny.csv").read_text().splitlines()))
    assert rows and {row["network"] for row in rows} == {"plain"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--ways", "fast"], f"A way is one of {'; '.join(training_step.WAYS)}, not 'fast'"),
        (["--steps", "0"], "Steps, warm-up and runs together must be at least 1"),
    ],
)
def test_what_cannot_be_measured_is_said(command, capsys, options, sentence):
    given = ["--data", str(command.data), "-o", str(command.output), "--preset", "tiny"]
    assert training_step.main([*given, *options]) == 2
    assert capsys.readouterr().err == f"Error: {sentence}\n"
    assert not command.output.exists()


def test_every_way_is_a_choice_of_the_configuration():
    names = {field.name for field in dataclasses.fields(TINY)}
    assert all(names >= changes.keys() for changes in training_step.WAYS.values())
