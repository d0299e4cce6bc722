"""What pyproject.toml allows and what requirements*.txt pin, each read from its own file."""

import tomllib
from pathlib import Path
from typing import Any

from helpers.paths import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def project() -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def wanted(*extras: str) -> dict[str, Requirement]:
    """What lnq needs with these extras, by name; an extra that names others brings theirs."""
    found = [Requirement(line) for line in project()["dependencies"]]
    for extra in extras:
        found += [Requirement(line) for line in project()["optional-dependencies"][extra]]
    others = {extra for one in found if one.name == "lnq" for extra in one.extras}
    named = {canonicalize_name(one.name): one for one in found if one.name != "lnq"}
    return named | (wanted(*others) if others else {})


def pinned(file: str) -> dict[str, str]:
    """Versions by name in a list, and in the lists that it includes."""
    found: dict[str, str] = {}
    for line in (ROOT / file).read_text().splitlines():
        if line.startswith("-r "):
            found |= pinned(line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            name, _, version = line.partition(";")[0].strip().partition("==")
            found[canonicalize_name(name)] = version
    return found


def lowest(*extras: str) -> dict[str, str]:
    """The oldest version allowed of each requirement, by name."""
    bounds = {name: [s for s in one.specifier if s.operator in (">=", "==")] for name, one in wanted(*extras).items()}
    return {name: bound.version for name, [bound] in bounds.items()}


def write_constraints(path: Path, versions: dict[str, str]) -> Path:
    """A file for pip's option --constraint."""
    path.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()))
    return path
