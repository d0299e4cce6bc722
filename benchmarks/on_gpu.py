"""All that is measured on a GPU, in one sitting of limited length.

    python -m benchmarks.on_gpu -o OUT --minutes 9

Each part is a command of its own. One that fails, or takes longer than its share, ends alone: its log and what it wrote
stay in OUT, and session.md tells how each part ended. `--try` does the same in small on a machine without a GPU.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.machine import caption
from benchmarks.output import markdown_table
from lnq.files import write_text
from training.engine.machine import environment

ROOT = Path(__file__).resolve().parents[1]
GPU_TESTS = tuple(  # by name: other modules import what the benchmarks' environment lacks
    f"test/{name}.py"
    for name in ("lnq/inference/test_gpu_windows", "training/engine/test_loop", "training/engine/test_stepper")
)
UNCOMPILED = ("plain", "channels-last", "graph", "channels-last, graph")  # ways of benchmarks.training_step
_LEAST_SECONDS = 5.0  # with less time left a part is not begun


@dataclass(frozen=True)
class Part:
    """A command to run, the longest that it may take, and the parts without which it has nothing to work on."""

    name: str
    command: tuple[str, ...]  # arguments of Python
    seconds: float
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ended:
    """How a part ended."""

    name: str
    outcome: str
    seconds: float


def parts(output: Path, in_small: bool) -> list[Part]:
    """What is measured, the most wanted first."""
    data, raw, out = str(output / "data"), str(output / "raw"), ("-o", str(output))
    size, count = ("64", "1") if in_small else ("256", "2")
    preset = ("--preset", "tiny") if in_small else ("--preset", "paper")
    small = ("--preset", "tiny") if in_small else ("--preset", "compact")
    steps = ("--steps", "2", "--warm-up", "5") if in_small else ("--steps", "40", "--warm-up", "12")
    short = ("--ways", "plain", "channels-last, graph")
    compiled = ("--ways", "compile, channels-last", "compile, channels-last, graph")
    nnunet = ("--patch", "32", "32", "32", "--features", "4", "8", "--repeats", "1") if in_small else ()
    window = ("--device", "cpu-torch", "--size", "64", "--repeats", "1") if in_small else ("--repeats", "3")
    tests = ("--collect-only",) if in_small else ()
    step, after = "benchmarks.training_step", ("prepare",)
    return [
        Part("facts", ("-c", FACTS), 60),
        Part("phantoms", ("-m", "phantom", raw, "--count", count, "--size", size), 90),
        Part("prepare", ("-m", "training.prepare", raw, "-o", data, *preset), 60, ("phantoms",)),
        Part("tests", ("-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *GPU_TESTS, *tests), 120),
        Part("paper", ("-m", step, "--data", data, *out, *preset, *steps, "--ways", *UNCOMPILED), 120, after),
        Part("compact", ("-m", step, "--data", data, *out, *small, *steps, *short), 60, after),
        Part("nnunet", ("-m", "benchmarks.peers.step_nnunet", *out, *nnunet), 60),
        Part("windows", ("-m", "benchmarks.gpu", "--bundles", "model", *(() if in_small else ("paper",)), *out,
                         *window), 120),
        Part("norm", ("-m", "benchmarks.norm", *out, *preset, "--repeats", "3" if in_small else "20"), 60),
        Part("together", ("-m", step, "--data", data, *out, *small, *steps, "--stages", "finetune", *short,
                          "--together", "2" if in_small else "8"), 90, after),
        Part("compiled", ("-m", step, "--data", data, "-o", str(output / "compiled"), *preset, *steps, *compiled), 150,
             after),
    ]  # fmt: skip


FACTS = """
import torch
print("torch", torch.__version__, "cuDNN", torch.backends.cudnn.version(), "CUDA", torch.version.cuda)
print(torch.cuda.get_device_properties(0) if torch.cuda.is_available() else "no GPU")
"""


def run(part: Part, output: Path, seconds: float) -> Ended:
    """Run a part for so long at most. Its output goes to a log."""
    begun = time.perf_counter()
    with open(output / f"{part.name}.log", "w") as log:
        try:
            command = [sys.executable, *part.command]
            done = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, timeout=seconds)
            outcome = "done" if done.returncode == 0 else f"exit status {done.returncode}, see {part.name}.log"
        except subprocess.TimeoutExpired:
            outcome = f"stopped after {seconds:.0f} s, see {part.name}.log"
        except OSError as error:
            outcome = f"not begun: {error}"
    return Ended(part.name, outcome, time.perf_counter() - begun)


def session(wanted: Sequence[Part], output: Path, minutes: float, head: Sequence[str]) -> list[Ended]:
    """Run parts one after the other while there is time; session.md is written after each."""
    begun, ended = time.monotonic(), list[Ended]()
    for part in wanted:
        left = 60 * minutes - (time.monotonic() - begun)
        failed = {one.name for one in ended if one.outcome != "done"}
        missing = [name for name in part.needs if name in failed]  # one that was not asked for may have run before
        if missing:
            ended.append(Ended(part.name, f"not begun: without {missing[0]}", 0.0))
        elif left < _LEAST_SECONDS:
            ended.append(Ended(part.name, "not begun: no time left", 0.0))
        else:
            ended.append(run(part, output, min(part.seconds, left)))
        print(f"{part.name}: {ended[-1].outcome}, {ended[-1].seconds:.0f} s", file=sys.stderr, flush=True)
        rows = [(e.name, e.outcome, f"{e.seconds:.0f}") for e in ended]
        write_text(output / "session.md", "\n".join([*head, *markdown_table(("part", "outcome", "s"), rows, left=2)]))
    return ended


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status, which is 1 where a part was not done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.on_gpu", description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0, help="for all parts (default 9)")
    parser.add_argument("--only", nargs="+", help="these parts alone, on what others left in OUT")
    parser.add_argument("--try", dest="in_small", action="store_true", help="in small, also without a GPU")
    options = parser.parse_args(arguments)
    if not (options.in_small or torch.cuda.is_available()):
        print("Error: there is no GPU that PyTorch can use", file=sys.stderr)
        return 2
    output = options.output.resolve()
    wanted = parts(output, options.in_small)
    if options.in_small:  # what a processor does takes longer
        wanted = [replace(part, seconds=5 * part.seconds) for part in wanted]
    unknown = set(options.only or ()) - {part.name for part in wanted}
    if unknown:
        parser.error(f"A part is one of {', '.join(part.name for part in wanted)}, not {unknown.pop()}")
    try:
        output.mkdir(parents=True, exist_ok=True)
        facts = environment()
        head = ["# What was measured on a GPU", ""]
        head += caption("benchmarks.on_gpu", arguments, {"torch": facts["torch"]}, facts["device"])
        chosen = [part for part in wanted if not options.only or part.name in options.only]
        ended = session(chosen, output, options.minutes, head)
    except OSError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return int(any(one.outcome != "done" for one in ended))


if __name__ == "__main__":
    sys.exit(main())
