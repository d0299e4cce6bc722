"""Take the code of the NiiVue viewer from an installed package, for pages that work offline.

No Python package offers NiiVue as a library. `jupyterlab-niivue` ships it in one JavaScript file, within a small
application, and has no dependencies of its own. This module knows that file by its hash. It cuts off the application
and exports the viewer's class instead. It refuses any other file, and pages then do without NiiVue.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import importlib.util
import logging
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

PACKAGE, PACKAGE_VERSION, NIIVUE_VERSION = "jupyterlab-niivue", "0.2.7", "0.68.1"
_SCRIPT = Path("labextension", "static", "niivue", "index.js")
_SHA256 = "92f79291f076cbe9327903b0d3a4fc4a59709fba30a52be1d16fcb3e1920a992"
_APPLICATION_START = '\nTw();\nwindow.addEventListener("DOMContentLoaded"'  # everything from here on is cut off
_EXPORT = "\nexport { As as Niivue };\n"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Code:
    """An ES module that exports the class `Niivue`. `module` is base64 of its gzip file, as text for a page."""

    module: str
    version: str
    licence: str


@functools.cache
def niivue_code() -> Code | None:
    """NiiVue's code. Where the package is missing or has another version: None, and a line in the log."""
    path = _script_path()
    if path is None:
        logger.info(f"{PACKAGE} is not installed: reports get the simple viewer")
        return None
    script = path.read_bytes()
    if hashlib.sha256(script).hexdigest() != _SHA256:
        logger.warning(f"{path} is not that of {PACKAGE} {PACKAGE_VERSION}: reports get the simple viewer")
        return None
    module = script.decode().partition(_APPLICATION_START)[0] + _EXPORT
    packed = gzip.compress(module.encode(), mtime=0)
    return Code(base64.b64encode(packed).decode(), NIIVUE_VERSION, _licence())


def _script_path() -> Path | None:
    """The file of NiiVue, found without importing the package, which would load parts of a server. None without it."""
    found = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    for folder in (found.submodule_search_locations or []) if found else []:
        if (Path(folder) / _SCRIPT).is_file():
            return Path(folder) / _SCRIPT
    return None


def _licence() -> str:
    try:
        return distribution(PACKAGE).read_text("licenses/LICENSE") or ""
    except PackageNotFoundError:
        return ""
