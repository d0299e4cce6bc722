"""What bundles find of nodes that were inserted into real CTs, and what else they mark there.

    python -m benchmarks.inserted data/inserted --models model runs/other/model -o OUT

DIR is one of `phantom.insert`. A mark that touches no inserted node is only called another mark: nobody knows the CT's
own nodes. Where the CT was reviewed (`phantom.insert --labels`), marks on its own nodes and on what the reader was
unsure of do not count. Each CT is segmented once, and marked at the bundle's own thresholds and at a grid of others.
Writes inserted.csv, with a row per bundle, case and pair of thresholds, and inserted.md. The same command, run again,
goes on where it was stopped.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from benchmarks.inserted_table import COLUMNS, LINE, Cut, InsertedCase, InsertedScore, Mark, lines_of, report, rows_of
from benchmarks.output import markdown_table, write_csv
from lnq.files import file_sha256, write_text
from lnq.image.itk import read_volume
from lnq.image.names import LABEL, case_of, extension_of, stem
from lnq.image.resample import reorient_to_lps
from lnq.image.volume import Volume
from lnq.inference.backends import Model, load_model
from lnq.inference.spec import WEIGHTS_NAME, ModelSpec
from lnq.nodes.measure import Node, measure_nodes
from lnq.nodes.metrics import dice, node_detection
from lnq.nodes.postprocess import peaks
from lnq.pipeline import infer, landmarks_of, mark_nodes
from lnq.plain import to_plain
from training.command import plain_console, run_over_cases
from training.data.sources.states import NODE, UNKNOWN
from training.scoring.evaluation import read_ct
from training.scoring.once import once
from training.scoring.truths import Truth, find_truths, read_instances

MOST_UNSURE = 0.01  # of a CT's voxels: where more is unknown, nobody said what the rest is
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
PEAKS = (0.0, 0.6, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99)


@dataclass(frozen=True)
class Inserted:
    """Compare bundles on nodes that were inserted into real CTs."""

    folders: tyro.conf.Positional[tuple[Path, ...]]  # of phantom.insert
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets inserted.csv, inserted.md and a file per case
    models: tuple[Path, ...] = (Path("model"),)  # bundles
    thresholds: tuple[float, ...] = THRESHOLDS  # beside each bundle's own
    peaks: tuple[float, ...] = PEAKS  # likewise, of a mark's highest probability
    only: tuple[str, ...] = ()  # names of the CTs to use, as their -info.json has them; by default all
    device: Literal["auto", "cpu", "cuda"] = "auto"


def score_case(truth: Truth, model: Model, cuts: Sequence[Cut]) -> tuple[InsertedScore, ...]:
    """Scores of a bundle in a case at pairs of thresholds. Raises ValueError where the case cannot be read."""
    instances = read_instances(truth.path)
    volume, instances = reorient_to_lps(read_ct(truth, instances))[0], reorient_to_lps(instances)[0]
    inferred = infer(volume, model)
    landmarks = landmarks_of(inferred.ready)
    open_places = read_open_places(truth, instances)
    scores = []
    for threshold, of_threshold in groupby(cuts, key=lambda cut: cut[0]):
        spec = dataclasses.replace(model.spec, threshold=threshold, peak_threshold=0.0)
        reached, marked = mark_nodes(inferred, spec)
        chest = inferred.ready.cropped.crop(reached.box)
        nodes, numbers = measure_nodes(chest.with_array(marked), chest.array, reached.probability, landmarks)
        inside = numbers > 0
        highest = np.concatenate([[0.0], peaks(numbers[inside], len(nodes), reached.probability[inside])])
        labels = inferred.ready.paste(numbers, reached.box)
        for cut in of_threshold:
            kept = highest >= cut[1]
            left = labels.with_array(np.where(kept[labels.array], labels.array, 0))
            scores.append(score_marks(cut, [node for node in nodes if kept[node.number]], left, instances, open_places))
    return tuple(scores)


def label_of(truth: Truth) -> Path | None:
    """The label of the whole CT beside the truth, which holds inserted nodes alone; None where there is none."""
    path = truth.path.with_name(f"{truth.case}{LABEL}{extension_of(truth.path.name)}")
    return path if path != truth.path and path.is_file() else None


def read_open_places(truth: Truth, instances: Volume) -> np.ndarray:
    """Where a mark is neither right nor wrong, bool [Z, Y, X] on the grid of `instances`, in LPS axes.

    These are the CT's own nodes, and what is unknown where a reader said that all else is background.
    """
    path = label_of(truth)
    if path is None:
        return np.zeros(instances.shape, bool)
    label = reorient_to_lps(read_volume(path))[0].array
    places: np.ndarray = (label == NODE) & (instances.array == 0)
    unknown = label == UNKNOWN
    if unknown.mean() < MOST_UNSURE:
        places |= unknown
    return places


def score_marks(
    cut: Cut, marks: Sequence[Node], labels: Volume, instances: Volume, open_places: np.ndarray
) -> InsertedScore:
    """Score marks against inserted nodes: each one's number on the CT's own grid, in LPS axes.

    Marks that touch one of the `open_places` [Z, Y, X] do not count as others.
    """
    hit = np.unique(labels.array[instances.array > 0])
    known = {*hit.tolist(), *np.unique(labels.array[open_places]).tolist()}
    touching = np.isin(labels.array, hit[hit > 0])
    nodes = node_detection(labels.array, instances.array, instances.spacing_mm)
    return InsertedScore(
        cut,
        tuple(node.short_axis_mm for node in nodes),
        tuple(node.found for node in nodes),
        dice(touching, instances.array),
        tuple(Mark(one.short_axis_mm, one.above_carina_mm) for one in marks if one.number not in known),
    )


def score_once(truth: Truth, model: Model, command: Inserted, folder: Path) -> InsertedCase:
    """As `score_case`, but scores that lie in `folder`, of the same files and bundle, are read."""
    assert truth.ct is not None  # find_truths has checked it
    background = background_of(truth.ct)
    cuts = cuts_of(command, model.spec)
    files = [file_sha256(file) for file in (truth.ct, truth.path, label_of(truth)) if file is not None]
    made_from = {"files": files, "model": to_plain(model.spec), "cuts": cuts}

    def work() -> InsertedCase:
        return InsertedCase(truth.case, background, score_case(truth, model, cuts))

    return once(folder / f"{truth.case}.json", made_from, InsertedCase, work)


def own_cut(spec: ModelSpec) -> Cut:
    """A bundle's own thresholds."""
    return spec.threshold, spec.peak_threshold


def cuts_of(command: Inserted, spec: ModelSpec) -> list[Cut]:
    """The pairs of thresholds, each once, that a bundle is scored at. A peak below the threshold changes nothing."""
    of_command = product(command.thresholds, command.peaks)
    pairs = {(threshold, peak if peak > threshold else 0.0) for threshold, peak in of_command}
    return sorted({*pairs, own_cut(spec)})


def background_of(ct: Path) -> str:
    """The CT that a case's nodes were inserted into. Raises ValueError where the case does not tell."""
    path = ct.with_name(f"{case_of(stem(ct))}-info.json")
    try:
        return str(json.loads(path.read_text())["background"])
    except (OSError, ValueError, KeyError):
        raise ValueError(f"{path} does not tell which CT nodes were inserted into") from None


def score_all(
    command: Inserted, truths: Sequence[Truth], console: Console
) -> tuple[dict[Path, list[InsertedCase]], set[str]]:
    """The scores of every bundle in the cases that all could be scored in, and the cases that are left out."""
    scored: dict[Path, list[InsertedCase]] = {}
    failed: set[str] = set()
    for bundle in command.models:
        model = load_model(bundle, command.device)
        folder = command.output / "cases" / model.spec.joint_sha256(WEIGHTS_NAME)[:12]
        scored[bundle] = []
        for truth in track(truths, str(bundle), console=console):
            try:
                scored[bundle].append(score_once(truth, model, command, folder))
            except (ValueError, OSError, MemoryError) as error:
                failed.add(truth.case)
                console.print(f"{truth.case} is left out: {error}")
    kept = {bundle: [case for case in cases if case.case not in failed] for bundle, cases in scored.items()}
    return kept, failed


def run(command: Inserted, console: Console) -> bool:
    """Score all bundles in all cases, and write the tables; returns whether no case was left out.

    Raises ValueError where no case can be scored.
    """
    truths = [truth for truth in find_truths(command.folders)[0] if not command.only or _is_of(truth, command.only)]
    if not truths:
        raise ValueError(f"No case has nodes inserted into {' or '.join(command.only)}")
    scored, failed = score_all(command, truths, console)
    if len(failed) == len(truths):
        raise ValueError("No case could be scored")
    table = [
        row for bundle, cases in scored.items() for row in rows_of(str(bundle), cases, own_cut(ModelSpec.load(bundle)))
    ]
    lines = [row for bundle, cases in scored.items() for case in cases for row in lines_of(str(bundle), case)]
    write_csv(command.output / "inserted.csv", LINE, lines)
    write_text(command.output / "inserted.md", "\n".join(report(table, scored[command.models[0]])))
    print("\n".join(markdown_table(COLUMNS, table)))
    return not failed


def _is_of(truth: Truth, backgrounds: Sequence[str]) -> bool:
    return truth.ct is not None and background_of(truth.ct) in backgrounds


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status, which is 1 where a case was left out."""
    command = tyro.cli(Inserted, args=arguments, prog="python -m benchmarks.inserted")
    return run_over_cases(lambda: run(command, plain_console()))


if __name__ == "__main__":
    sys.exit(main())
