import base64
import gzip
import subprocess
import sys

import pytest
from helpers.paths import ROOT

from lnq.report import niivue


@pytest.fixture(autouse=True)
def forget():
    niivue.niivue_code.cache_clear()
    yield
    niivue.niivue_code.cache_clear()


def test_code_is_a_module_of_the_viewer_without_the_application_around_it():
    code = niivue.niivue_code()
    if code is None:
        pytest.skip("jupyterlab-niivue is not installed")
    module = gzip.decompress(base64.b64decode(code.module)).decode()
    assert module.endswith("export { As as Niivue };\n")
    assert 'addEventListener("DOMContentLoaded"' not in module
    assert "As = class extends EventTarget" in module
    assert "Redistribution and use" in code.licence
    assert len(code.module) < 1_000_000


def test_another_version_is_refused(tmp_path, monkeypatch, caplog):
    script = tmp_path / "index.js"
    script.write_text("another")
    monkeypatch.setattr(niivue, "_script_path", lambda: script)
    assert niivue.niivue_code() is None
    assert "is not that of jupyterlab-niivue 0.2.7" in caplog.text


def test_without_the_package_there_is_none(monkeypatch):
    monkeypatch.setattr(niivue.importlib.util, "find_spec", lambda name: None)
    assert niivue.niivue_code() is None


def test_the_package_is_read_without_being_imported():
    code = (
        "import sys, lnq.report.niivue; lnq.report.niivue.niivue_code(); "
        "sys.exit('imported' if 'jupyterlab_niivue' in sys.modules else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
