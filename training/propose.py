"""Propose what nobody has marked: candidates in training CTs, ranked by what a judgement on them would teach.

    python -m training.propose SOURCE... --models model -o CANDIDATES

Sources are those of `training.prepare`. Every network looks at every CT, plain and mirrored. What the looks mark on
average, and no annotation touches, is a candidate. Each case gets a folder: the list, the candidates' numbers and the
probability, both on the CT's grid, and a page on which a reader judges them. `candidates.csv` has all candidates,
`review.html` all pages. With --mined, `mined` holds decisions that accept the surest. Cases that are done are kept.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import track

from lnq.files import write_text
from lnq.inference.backends import Model, load_model
from lnq.inference.spec import WEIGHTS_NAME
from lnq.plain import to_plain
from lnq.results.case_record import Versions
from training.command import plain_console, run_over_cases
from training.data.sources.find import find_cases, read_states
from training.data.sources.raw_case import Annotation, RawCase
from training.review.candidates import FLIPS, WIDE, Limits, find_candidates, looks
from training.review.decisions import ENDING, digest_of_ct
from training.review.mining import MINED, SURE_AND_ALIKE, Mining, mine_labels, with_score
from training.review.page import review_page, write_worklist
from training.review.write import CANDIDATES_CSV, REVIEW_HTML, list_of, read_found, write_found, write_table


@dataclass(frozen=True)
class Propose:
    """Find candidates in training CTs: what networks mark and no annotation touches. Writes pages to judge them on."""

    sources: tyro.conf.Positional[tuple[Path, ...]]  # as of training.prepare
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets a folder per case, candidates.csv and review.html
    models: tuple[Path, ...] = ()  # bundles; the shipped one where neither these nor checkpoints are given
    checkpoints: tuple[Path, ...] = ()  # of fine-tuning
    flips: int = 2  # how often each network looks, plain first: 1 to 4
    threshold: float | None = None  # of the mean probability; by default half of the first network's
    levels: int = 3  # each halves the threshold, for what the levels above it have not found
    limits: Limits = WIDE
    mined: bool = (
        False  # also write decisions that take for nodes what networks mark surely and alike; nobody sees them
    )
    mining: Mining = SURE_AND_ALIKE  # which candidates those are
    annotation: Annotation = "auto"  # as of training.prepare
    device: Literal["auto", "cpu", "cuda"] = "auto"


@contextmanager
def opened(command: Propose) -> Iterator[list[Model]]:
    """The networks, those of checkpoints from temporary bundles that are deleted afterwards."""
    from training.bundle.write import export  # imports ONNX

    bundles = list(command.models or (() if command.checkpoints else (Path("model"),)))
    with ExitStack() as stack:
        for checkpoint in command.checkpoints:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lnq-propose-"))
            export([checkpoint], Path(folder) / "model")
            bundles.append(Path(folder) / "model")
        yield [load_model(bundle, command.device) for bundle in bundles]


def propose(command: Propose, console: Console) -> bool:
    """Find the candidates of all cases; returns whether every case could be looked at.

    Raises ValueError where no case could be, and for options that make no sense.
    """
    if not 1 <= command.flips <= len(FLIPS):
        raise ValueError(f"--flips must be 1 to {len(FLIPS)}, not {command.flips}")
    if command.threshold is not None and not 0 < command.threshold < 1:
        raise ValueError(f"--threshold must lie between 0 and 1, not {command.threshold:g}")
    if command.levels < 1:
        raise ValueError(f"--levels must be 1 or more, not {command.levels}")
    cases = [case for case in find_cases(command.sources, command.annotation, console) if not case.full]
    if not cases:
        raise ValueError("Every node of these cases is annotated: there is nothing to propose")
    lists: list[dict[str, Any]] = []
    failed = 0
    with opened(command) as models:
        threshold = command.threshold or models[0].spec.threshold / 2
        members = [look for model in models for look in looks(model, command.flips)]
        for case in track(cases, "Looking", console=console):
            try:
                lists.append(_of_case(case, command, members, threshold))
            except (ValueError, OSError, MemoryError) as error:
                failed += 1
                console.print(f"{case.name} is left out: {error}")
    if failed == len(cases):
        raise ValueError("No case could be looked at")
    rows = [row for content in lists for row in content["candidates"]]
    write_table(command.output / CANDIDATES_CSV, rows)
    if command.mined:
        rules = with_score(command.mining, [score for content in lists for score in content["annotated"]])
        accepted = sum(_write_mined(command.output, content["case"], rules) for content in lists)
        console.print(f"{accepted} of them were taken for nodes in {command.output / MINED}: nobody has seen them")
    console.print(f"{len(rows)} candidates in {len(lists)} cases are in {command.output}, {failed} are left out")
    if find_spec("jinja2"):
        write_worklist(command.output, lists)
        console.print(f"Open {command.output / REVIEW_HTML} in a browser to judge them")
    else:
        console.print("jinja2 is not installed: there are no pages to judge them on")
    return not failed


def _of_case(case: RawCase, command: Propose, members: Sequence[Model], threshold: float) -> dict[str, Any]:
    """A case's list of candidates, from its folder where it was done before."""
    folder = command.output / case.name
    made_from = {
        "case": case.provenance(members[0].spec.spacing_mm),
        "models": sorted({Versions.of(model).model for model in members}),
        "weights": sorted({model.spec.joint_sha256(WEIGHTS_NAME) for model in members}),
        "flips": command.flips,
        "threshold": threshold,
        "levels": command.levels,
        "limits": to_plain(command.limits),
    }
    found = read_found(folder)
    has_page = (folder / REVIEW_HTML).is_file() or not find_spec("jinja2")
    if found.get("made_from") != _as_read(made_from) or "annotated" not in found or not has_page:
        image, state = read_states(case)
        candidates = find_candidates(image, state, members, threshold, command.limits, command.levels)
        found = list_of(case.name, candidates, made_from, digest_of_ct(image))
        page = review_page(found, image, state, candidates) if find_spec("jinja2") else None
        write_found(folder, found, candidates, page)
    return found


def _write_mined(output: Path, case: str, rules: Mining) -> int:
    """Write the decisions on a case that need no reader; returns how many nodes there are."""
    decisions = mine_labels(output / case, rules)
    path = output / MINED / f"{case}.mined{ENDING}"
    path.parent.mkdir(exist_ok=True)
    write_text(path, json.dumps(to_plain(decisions), indent=1) + "\n")
    return len(decisions.judged)


def _as_read(content: dict[str, Any]) -> Any:
    """Plain data as JSON gives it back."""
    return json.loads(json.dumps(content))


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status, which is 1 where a case was left out."""
    command = tyro.cli(Propose, args=arguments, prog="python -m training.propose")
    return run_over_cases(lambda: propose(command, plain_console()))


if __name__ == "__main__":
    sys.exit(main())
