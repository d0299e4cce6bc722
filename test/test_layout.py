"""The structure of the tree: sizes of folders, modules and functions, one meaning per name, a test for each module."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from helpers.paths import ROOT

PACKAGES = ("lnq", "phantom", "training", "benchmarks", "container")
MOST_MODULES, MOST_LINES, MOST_LINES_OF_A_FUNCTION = 12, 300, 45
MODULES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
TESTED_ELSEWHERE = {  # module: the file of its tests
    "lnq/version.py": "test/test_project.py",  # one line, which packaging reads
    "lnq/batch/settings.py": "test/lnq/batch/workers/test_worker.py",  # records without behaviour of their own
    "lnq/batch/workers/worker_process.py": "test/lnq/batch/workers/test_pool.py",  # a process that the pool starts
    "lnq/batch/messages.py": "test/lnq/batch/test_command.py",  # what the command says
    "lnq/batch/write.py": "test/lnq/batch/test_case.py",  # writes what a case's test looks at
    "lnq/inference/network.py": "test/training/method/test_network.py",  # beside the branch that only training has
}


def names(files: list[Path]) -> list[str]:
    return [str(file.relative_to(ROOT)) for file in files]


def definitions(file: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(file.read_text())))


@pytest.mark.parametrize(
    "folder", sorted({file.parent for file in MODULES if file.is_relative_to(ROOT / "lnq")}), ids=str
)
def test_a_folder_of_lnq_shows_few_modules(folder: Path):
    modules = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES


def test_modules_are_short():
    lines = {name: len(file.read_text().splitlines()) for name, file in zip(names(MODULES), MODULES, strict=True)}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_functions_are_short():
    long = {}
    for file in MODULES:
        for node in definitions(file):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = (node.end_lineno or 0) - node.lineno + 1
                if count > MOST_LINES_OF_A_FUNCTION:
                    long[f"{file.relative_to(ROOT)}:{node.name}"] = count
    assert long == {}


def test_a_class_name_means_one_thing():
    defined = Counter(node.name for file in MODULES for node in definitions(file) if isinstance(node, ast.ClassDef))
    assert {name: count for name, count in defined.items() if count > 1} == {}


def test_every_module_has_a_test_of_its_name_in_the_mirrored_place():
    untested = []
    for file in MODULES:
        place = file.relative_to(ROOT)
        if place.parts[0] in ("lnq", "training") and file.name != "__init__.py":
            own = ROOT / "test" / place.with_name(f"test_{file.stem.strip('_')}.py")
            if not own.is_file() and str(place) not in TESTED_ELSEWHERE:
                untested.append(str(place))
    assert untested == []


def test_what_is_tested_elsewhere_exists_and_has_no_test_of_its_own():
    for module, tests in TESTED_ELSEWHERE.items():
        assert (ROOT / module).is_file() and (ROOT / tests).is_file(), module
        place = Path(module)
        assert not (ROOT / "test" / place.with_name(f"test_{place.stem.strip('_')}.py")).is_file(), module


@pytest.mark.parametrize("module", ["lnq", "lnq.cli", "lnq.challenge.container", "lnq.batch.command"])
def test_the_program_starts_without_torch(module: str):
    code = (
        f"import sys, {module}; print(sorted(n for n in sys.modules if n.partition('.')[0] in ('torch', 'training')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
