"""Fill a page's template: one HTML file with its styles and scripts, which works from the disk and fetches nothing.

All text is treated as hostile: Jinja escapes it, and a policy in the page lets only the page's own scripts run.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnq.report.tables import number

if TYPE_CHECKING:
    import jinja2

_ASSETS = Path(__file__).with_name("assets")


def render(
    template: str,
    styles: Sequence[str],
    scripts: Sequence[str],
    context: Mapping[str, Any],
    folder: Path = _ASSETS,
) -> bytes:
    """A page in UTF-8 with its styles and scripts, and a policy that allows only these.

    Template, styles and scripts are files of `folder`, or of this package's assets where that has none of their name.
    Raises ImportError without jinja2.
    """
    found = _templates(folder).get_template(template)
    from markupsafe import Markup  # comes with jinja2

    style, script = _joined(tuple(styles), folder), _joined(tuple(scripts), folder)
    policy = {
        "default-src": "'none'",
        "script-src": f"{_hash(script)} blob:",  # the blob is NiiVue, unpacked from the page
        "style-src": _hash(style),
        "img-src": "'self' file: data: blob:",
        "connect-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    text = found.render(
        context,
        style=Markup(style),
        script=Markup(script),
        policy="; ".join(f"{name} {value}" for name, value in policy.items()),
    )
    return text.encode("utf-8", "backslashreplace")  # a file's name may hold bytes that are not text


@functools.cache
def _templates(folder: Path) -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, _ASSETS]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = number
    return environment


@functools.cache
def _joined(names: tuple[str, ...], folder: Path) -> str:
    files = ((folder / name) if (folder / name).is_file() else (_ASSETS / name) for name in names)
    return "".join(file.read_text("utf-8") for file in files)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
