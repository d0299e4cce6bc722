"""The documentation: what it links to exists, its commands have the options it names, its Python runs."""

import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.paths import ROOT

PAGES = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "model/MODEL_CARD.md")]
    + list((ROOT / "docs").rglob("*.md"))
    + [ROOT / "test/input/README.md"]
)
GUIDES = [page for page in PAGES if page.parent.name not in ("results", "test-phantoms", "reference")]
README = ROOT / "README.md"
MOST_WORDS = 900
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MODULE = re.compile(r"-m ((?:training|phantom|benchmarks)[\w.]*)(.*)")
COMMAND = re.compile(r"(?:\blnq|process\.py) (batch|compare|info)\b(.*)")
OPTION = re.compile(r"(?<=\s)--[a-z][\w.-]*")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose_of(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", text_of(page))


def commands_of(page: Path) -> list[str]:
    """Lines of fenced blocks, where a backslash joins two, and pieces of code within the prose."""
    blocks = [body.replace("\\\n", " ") for language, body in FENCE.findall(text_of(page)) if not language]
    lines = [line for body in blocks for line in body.splitlines()]
    return lines + [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose_of(page))]


def place_of(heading: str) -> str:
    """What a link to a heading ends with, on the site and on a repository's page alike."""
    return re.sub(r"[^\w -]", "", heading.replace("`", "").lower()).strip().replace(" ", "-")


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


@cache
def help_of(module: str, *words: str) -> str:
    """The help text of `python -m module words`."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    name = f"{module}.__main__" if spec.submodule_search_locations else module
    command = f"import sys; sys.argv = ['x', *{words!r}, '--help']; import {name} as m; sys.exit(m.main())"
    environment = os.environ | {"COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def named_modules() -> dict[str, set[str]]:
    """Modules that the guides run, each with the options that they name for it."""
    found: dict[str, set[str]] = {}
    for page in GUIDES:
        for module, rest in (match for line in commands_of(page) for match in MODULE.findall(line)):
            found.setdefault(module, set()).update(OPTION.findall(rest))
    return found


def test_the_readme_is_short():
    """Words are counted outside fenced blocks; tables and links count."""
    words = [word for word in prose_of(README).split() if re.search(r"\w", word)]
    assert len(words) <= MOST_WORDS


def test_the_readme_says_before_all_figures_that_it_is_not_for_clinical_use():
    text = text_of(README)
    warning = text.index("**Not for clinical use.**")
    assert warning < text.index("0.812") and warning < text.index("```")


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links_lead_to_files_and_headings_that_exist(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"", prose_of(page)):
        path, _, place = "".join(target).partition("#")
        if path.startswith("http"):
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.is_file(), f"{page.name}: {path}"
        if place:
            headings = re.findall(r"^#+ (.+)$", prose_of(file), re.MULTILINE)
            assert place in [place_of(heading) for heading in headings], f"{page.name}: #{place}"


@pytest.mark.parametrize("page", GUIDES, ids=names(GUIDES))
def test_files_that_the_prose_names_exist(page: Path):
    named = re.findall(r"`((?:lnq|phantom|training|benchmarks|container|test|docs|model)/[^`\s]*)`", prose_of(page))
    for path in named:
        assert list(ROOT.glob(path.rstrip("/"))), f"{page.name} names {path}"


@pytest.mark.parametrize("page", GUIDES, ids=names(GUIDES))
def test_targets_of_make_exist(page: Path):
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    for line in commands_of(page):
        for target in re.findall(r"^make ([a-z-]+)", line):
            assert target in targets, f"{page.name}: make {target}"


def test_commands_of_the_packages_exist_and_have_the_options_named():
    modules = named_modules()
    assert modules.keys() >= {"phantom", "phantom.insert", "training.prepare", "training.finetune", "training.evaluate"}
    for module in modules:
        assert importlib.util.find_spec(module), module


@pytest.mark.slow
@pytest.mark.parametrize("module", sorted(named_modules()))
def test_a_command_has_the_options_that_the_guides_name(module: str):
    options = named_modules()[module]
    shown = set(re.findall(r"--[a-z][\w.-]*", help_of(module))) if options else set()
    assert options <= shown


def test_the_command_has_the_options_that_the_guides_name(capsys: pytest.CaptureFixture[str]):
    from lnq.cli import main

    shown = {}
    for command in ("batch", "compare", "info"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shown[command] = set(re.findall(r"--[a-z][\w.-]*", capsys.readouterr().out))
    for page in GUIDES:
        for command, rest in (match for line in commands_of(page) for match in COMMAND.findall(line)):
            assert set(OPTION.findall(rest)) <= shown[command], f"{page.name}: {command}{rest}"
    described = set(re.findall(r"`(--[a-z][\w-]*)", prose_of(ROOT / "docs/segment.md")))
    assert {"--series-list", "--format", "--sr", "--mirror"} <= described <= shown["batch"]


def test_extras_that_the_guides_name_exist():
    extras = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"].get("optional-dependencies", {})
    for page in GUIDES:
        for group in re.findall(r"pip install \"?\.\[([\w,]+)\]", text_of(page)):
            assert set(group.split(",")) <= set(extras), f"{page.name}: {group}"


def python_of(page: Path) -> list[str]:
    return [body for language, body in FENCE.findall(text_of(page)) if language == "python"]


def test_the_ten_lines_of_python_find_the_nodes_of_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (lines,) = python_of(README)
    assert len([line for line in lines.splitlines() if line]) <= 10
    sample = ROOT / "test/input/images/mediastinal-ct/phantom-8000.mha"
    sitk.WriteImage(sitk.ReadImage(sample), tmp_path / "ct.nii.gz")
    monkeypatch.chdir(tmp_path)

    exec(compile(lines, "README.md", "exec"), {})

    found = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "nodes.nii.gz"))
    truth = sitk.GetArrayFromImage(sitk.ReadImage(ROOT / "test/expected/phantom-8000.mha"))
    dice = 2 * np.count_nonzero(found & truth) / (np.count_nonzero(found) + np.count_nonzero(truth))
    assert dice == pytest.approx(0.855, abs=0.003)  # as docs/results.md says; processors differ
    printed = capsys.readouterr().out.splitlines()
    count = sitk.ConnectedComponent(sitk.GetImageFromArray(found), True)
    assert len(printed) == int(sitk.GetArrayFromImage(count).max()) + 1  # a line per node, and the warnings
    assert all(line.split()[0] == str(number) for number, line in enumerate(printed[:-1], start=1))


@pytest.mark.parametrize("lines", python_of(ROOT / "docs/python.md"))
def test_python_of_the_guide_runs(lines: str):
    exec(compile(lines, "docs/python.md", "exec"), {})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it: a broken link or an unknown name fails."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_pages_of_the_site_fetch_nothing_from_elsewhere(site: Path):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        html = text_of(page)
        assert not re.findall(r"src=\"(?:https?:)?//[^\"]*\"|<link[^>]*href=\"(?:https?:)?//[^\"]*\"", html), page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\"?(?:https?:)?//", text_of(sheet)), sheet.name


def test_every_package_has_a_page_of_reference(site: Path):
    packages = [
        folder.relative_to(ROOT)
        for top in ("lnq", "training")
        for folder in (ROOT / top).iterdir()
        if (folder / "__init__.py").is_file()
    ]
    shown = "".join(text_of(page) for page in (site / "reference").glob("*.html"))
    assert len(packages) > 10
    for package in packages:
        assert f'id="{".".join(package.parts)}"' in shown, package


def test_the_public_names_are_described(site: Path):
    import lnq

    shown = text_of(site / "reference/lnq.html")
    for name in set(lnq.__all__) - {"__version__"}:
        assert f'id="lnq.{name}"' in shown, name


@pytest.mark.parametrize(
    ("link", "source", "page", "expected"),
    [
        ("docs/training.md", "README.md", "index.md", "training.md"),
        ("docs/result.png", "README.md", "index.md", "result.png"),
        ("../docs/results.md", "model/MODEL_CARD.md", "model-card.md", "results.md"),
        ("../model/MODEL_CARD.md", "docs/results.md", "results.md", "model-card.md"),
        ("../python.md", "docs/reference/lnq.md", "reference/lnq.md", "../python.md"),
        ("ablation.csv", "docs/results/ablation.md", "results/ablation.md", "ablation.csv"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(link: str, source: str, page: str, expected: str):
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs/hooks.py")
    assert spec is not None and spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    assert hooks.page_link(link, source, page) == expected


def test_tools_of_the_documentation_are_pinned():
    lines = [line for line in text_of(ROOT / "requirements-docs.txt").splitlines() if not line.startswith("#")]
    assert lines and all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in lines)
    assert "-r requirements-docs.txt" in text_of(ROOT / "requirements-dev.txt").splitlines()
