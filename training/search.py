"""Choose the losses' parameters, and the thresholds, by what partial labels tell of held-out cases.

    python -m training.search --data PREPARED --init RUN/pretrain.pt --finetune.epochs 10 -o OUT

One fold of the training cases is held out. Each trial fine-tunes on the others, the first with the given parameters,
and is judged by the recall of the held-out cases' annotated nodes at the thresholds that mark no more than `--marks`
per CT. Writes a folder per trial, search.csv, search.md and search.png. The same command goes on where it was stopped.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console

from lnq.files import replace_atomically, write_text
from lnq.inference.backends import load_model
from lnq.plain import to_plain
from training.command import plain_console, run_command
from training.config import COMPACT, Config, ConfigArguments, Losses, parse
from training.data.mining import probability_of
from training.data.prepared import CaseInfo, PreparedCase
from training.data.splits import SPLITS_NAME, Selection, cases_for, read_splits
from training.engine.active import LossNotFiniteError
from training.engine.finetuning import finetune
from training.method.step import OBJECTIVES, Method
from training.scoring.once import once
from training.scoring.partial_labels import Recall, best_recall, mark_at_all
from training.scoring.search_table import Complete, SearchTrial, report, write_trials
from training.scoring.tune import THRESHOLDS, Marked, choose, try_cut

if TYPE_CHECKING:
    import optuna

RANGES: dict[str, tuple[float, float]] = {
    "gamma": (0.2, 1.6), "alpha": (0.2, 0.8), "tau": (0.1, 0.6), "final": (0.5, 4.0),
}  # fmt: skip
"""What is searched, fields of `Losses`: about half to twice the paper's values."""
_RANDOM_TRIALS = 6  # before the sampler has seen enough to choose


@dataclass(frozen=True)
class Search:
    """Choose gamma, alpha, tau, lambda and the thresholds on partial labels. Run again, the same command goes on."""

    data: Path  # folder that training.prepare wrote
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets a folder per trial, search.csv, search.md, search.png
    init: Path | None = None  # as of training.finetune
    method: Method = "dbdmp"  # as of training.finetune
    trials: int = 20
    marks: float = 10.0  # per CT: trials are compared at the thresholds that mark no more
    fold: int = 0  # of the training cases, held out
    complete: Path | None = None  # the same cases, prepared with every node annotated: shown beside, chooses nothing
    device: Literal["auto", "cpu", "cuda"] = "auto"  # of the scoring
    preset: str = "compact"  # paper, compact or tiny
    config: ConfigArguments = COMPACT


class _StoppedError(Exception):
    """A signal ended a trial's training after its checkpoint."""


def search(command: Search, console: Console) -> bool:
    """Do the trials that are not done yet; returns False where a signal stopped one.

    Raises ValueError where no trial can be judged, and what `finetune` raises.
    """
    held_out = read_held_out(command)
    trials: list[SearchTrial] = []
    for number in range(command.trials):
        losses = next_losses(command.config.losses, trials, command.config.seed)
        try:
            trials.append(_trial_once(command, number, losses, held_out))
        except _StoppedError:
            return False
        found = trials[-1].recall
        console.print(
            f"Trial {number + 1} of {command.trials}: {found.found} of {found.nodes} annotated nodes at "
            f"{found.marks_per_case:.1f} marks per CT"
        )
    write_trials(command.output / "search.csv", trials)
    text = report(trials, command.marks, len(held_out))
    write_text(command.output / "search.md", text)
    draw(trials, command.output / "search.png")
    console.print(text)
    return True


def read_held_out(command: Search) -> list[Path]:
    """The folders of the held-out cases. Raises ValueError for what would only show after a training."""
    if command.trials < 1:
        raise ValueError(f"--trials must be at least 1, not {command.trials}")
    if not OBJECTIVES[command.method].both:
        raise ValueError(f"Method {command.method} has none of the parameters that are searched")
    OBJECTIVES[command.method].refuse_unread(command.config.losses)
    names = cases_for("validation", read_splits(command.data / SPLITS_NAME).values(), command.fold)
    held_out = [command.data / name for name in names if (command.data / name / "case.json").is_file()]
    infos = [CaseInfo.read(path) for path in held_out]
    if not any(info.node_centres for info in infos):
        raise ValueError("None of the held-out cases has an annotated node: nothing tells good from bad")
    for info in infos if command.complete is not None else ():
        assert command.complete is not None
        path = command.complete / info.case
        if not path.is_dir() or CaseInfo.read(path).shape != info.shape:
            raise ValueError(f"{command.complete} does not hold {info.case} as {command.data} does")
    return held_out


def next_losses(given: Losses, trials: Sequence[SearchTrial], seed: int) -> Losses:
    """The parameters of the next trial: the given ones, then what Optuna's TPE suggests after the trials so far.

    The same trials give the same suggestion, so a search that was stopped goes on as if it had not been.
    """
    if not trials:
        return given
    return dataclasses.replace(given, **_study(trials, seed).ask(_distributions()).params)


def _distributions() -> dict[str, optuna.distributions.BaseDistribution]:
    from optuna.distributions import FloatDistribution

    return {name: FloatDistribution(low, high) for name, (low, high) in RANGES.items()}


def _study(trials: Sequence[SearchTrial], seed: int) -> optuna.Study:
    """The trials as a study. Parameters outside the ranges, as given ones may be, are not told to the sampler."""
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed + len(trials), n_startup_trials=_RANDOM_TRIALS)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in trials:
        values = {name: getattr(trial.losses, name) for name in RANGES}
        if all(RANGES[name][0] <= value <= RANGES[name][1] for name, value in values.items()):
            value = trial.recall.recall + trial.recall.covered / 1000.0  # a tie is broken as by `Recall.rank`
            study.add_trial(optuna.trial.create_trial(params=values, distributions=_distributions(), value=value))
    return study


def _trial_once(command: Search, number: int, losses: Losses, held_out: Sequence[Path]) -> SearchTrial:
    """A trial, from its folder where it was done before."""
    config = dataclasses.replace(command.config, losses=losses)
    folder = command.output / f"trial-{number:03d}"
    made_from = {
        "config": to_plain(config),
        "data": str(command.data),
        "init": str(command.init),
        "method": command.method,
        "marks": command.marks,
        "held_out": [path.name for path in held_out],
        "complete": str(command.complete),
    }
    return once(folder / "trial.json", made_from, SearchTrial, lambda: _trial(command, config, folder, held_out))


def _trial(command: Search, config: Config, folder: Path, held_out: Sequence[Path]) -> SearchTrial:
    from training.bundle.write import export  # imports ONNX

    selection = Selection(fold=command.fold)
    try:
        if not finetune(command.data, folder, config, command.init, OBJECTIVES[command.method], selection):
            raise _StoppedError
    except LossNotFiniteError:  # parameters as bad as any
        nodes = sum(len(CaseInfo.read(path).node_centres) for path in held_out)
        return SearchTrial(config.losses, Recall(1.0, 0.0, nodes, 0, 0.0, 0.0))
    with tempfile.TemporaryDirectory(prefix="lnq-search-") as temporary:
        bundle = Path(temporary) / "model"
        export([folder / "finetune.pt"], bundle)
        model = load_model(bundle, command.device)
        least = model.spec.postprocess.min_volume_mm3
        partial: list[list[Marked]] = []
        whole: list[list[Marked]] = []
        for path in held_out:
            case = PreparedCase(path)
            probability = probability_of(case, model)
            z, y, x = case.info.spacing_mm
            partial.append(mark_at_all(probability, case.whole("label"), z * y * x, least))
            if command.complete is not None:
                label = PreparedCase(command.complete / path.name).whole("label")
                whole.append(mark_at_all(probability, label, z * y * x, least))
    found = best_recall(partial, command.marks)
    return SearchTrial(config.losses, found, of_complete(whole, found) if whole else None)


def of_complete(cases: Sequence[Sequence[Marked]], chosen: Recall) -> Complete:
    """What complete labels say of the chosen thresholds, and which they would have chosen."""
    _, tried = choose(cases, THRESHOLDS)
    at = THRESHOLDS.index(chosen.threshold)
    here = try_cut([levels[at] for levels in cases], chosen.threshold, chosen.peak_threshold)
    return Complete(here.mean_dice, max(here.mean_dice, *(one.mean_dice for one in tried)))


def draw(trials: Sequence[SearchTrial], path: Path) -> None:
    """Write a PNG: the recall over each parameter, by Optuna. Nothing where there are fewer than two trials."""
    from matplotlib import pyplot
    from optuna.exceptions import ExperimentalWarning
    from optuna.visualization.matplotlib import plot_slice

    if len(trials) < 2:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        plot_slice(_study(trials, 0), target_name="recall of annotated nodes")
    figure = pyplot.gcf()
    figure.set_size_inches(13, 3.6)
    with replace_atomically(path) as part:
        figure.savefig(part, dpi=120, format="png", bbox_inches="tight")
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status, 143 where it was stopped."""
    command = parse(Search, arguments)
    return run_command(lambda: search(command, plain_console()))


if __name__ == "__main__":
    sys.exit(main())
