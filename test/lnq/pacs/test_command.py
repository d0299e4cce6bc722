"""`lnq node` as a process: from a folder to a folder, what it says, what it refuses, how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pynetdicom")
pytest.importorskip("highdicom")

from helpers.certificates import make_certificates
from helpers.pacs import RunningNode, free_port, send, wait_for, write_study
from pydicom import dcmread

from lnq import cli
from lnq.cli import main

SETTINGS = """
spool = "{folder}/spool"
watch = "{folder}/in"
quiet_seconds = 1
least_free_gb = 0.1
port = {port}
{more}
[[to]]
folder = "{folder}/out"
"""


def settings(folder: Path, more: str = "", port: int = 1) -> Path:
    path = folder / "node.toml"
    path.write_text(SETTINGS.format(folder=folder, port=port, more=more))
    for name in ("in", "out"):
        (folder / name).mkdir(exist_ok=True)
    return path


def test_from_a_folder_to_a_folder_without_a_port(tmp_path):
    node = RunningNode(settings(tmp_path))
    node.start()
    write_study(tmp_path / "in" / "study", 1)
    wait_for(lambda: node.said("is done"), 120)
    found = sorted(dcmread(path).Modality for path in (tmp_path / "out").glob("*/*.dcm"))
    assert found == ["SEG", "SR"] and node.stop() == 143
    assert not node.said("Listens") and not node.said("SECRET") and not node.said("Secret")
    assert node.lines[-1] == "Stopped by a signal: finished cases are kept"
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "spool").rglob("*")} == {0}


def test_two_nodes_do_not_share_a_spool(tmp_path):
    node = RunningNode(settings(tmp_path))
    node.start()
    assert main(["node", str(settings(tmp_path))]) == 2
    assert node.stop() == 143


def test_tls_lets_in_who_has_a_certificate_of_the_authority(tmp_path):
    made, port = make_certificates(tmp_path), free_port()
    own = made.own
    more = (
        f'[tls]\ncertificate = "{own.certificate}"\nkey = "{own.key}"\nca = "{own.ca}"\n[[from]]\nae_title = "SENDER"\n'
    )
    node = RunningNode(settings(tmp_path, more, port))
    node.start()
    paths = write_study(tmp_path / "ct", 1)[:1]
    assert send(paths, port, tls=own) == [0]
    assert send(paths, port, tls=made.strangers) == [] and send(paths, port) == []
    assert send(paths, port, tls=own) == [0]  # strangers did it no harm
    assert node.said(f"Listens on 127.0.0.1, port {port}, as LNQ, TLS") and node.stop() == 143


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("unknown = 1", "node.toml cannot be used: unknown entry 'unknown'"),
        ('[tls]\ncertificate = "a"\nkey = "b"\nca = "c"', "The certificates of [tls] cannot be used: "),
    ],
)
def test_settings_that_cannot_be_used_are_said(tmp_path, capsys, more, sentence):
    assert main(["node", str(settings(tmp_path, more))]) == 2
    assert sentence in capsys.readouterr().err


def test_folders_that_cannot_be_used_are_said(tmp_path, capsys):
    path = settings(tmp_path)
    assert main(["node", str(path), "--watch", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.strip() == f"The folder to watch, {tmp_path / 'none'}, is not there"
    assert main(["node", str(path), "--watch", str(tmp_path)]) == 2
    assert capsys.readouterr().err.strip() == "The spool lies in the folder that is watched"
    path.write_text(path.read_text().replace(f"{tmp_path}/out", f"{tmp_path}/in/out"))
    assert main(["node", str(path)]) == 2
    assert capsys.readouterr().err.strip() == f"The folder for results, {tmp_path}/in/out, is not there"
    (tmp_path / "in" / "out").mkdir()
    assert main(["node", str(path)]) == 2
    assert capsys.readouterr().err.strip() == "Results would go into the folder that is watched"


def test_a_bundle_that_is_not_there_is_said(tmp_path, capsys):
    assert main(["--model", str(tmp_path / "none"), "node", str(settings(tmp_path))]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_a_port_that_is_taken_is_said(tmp_path, capsys):
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]
        assert main(["node", str(settings(tmp_path, '[[from]]\nae_title = "A"', port))]) == 2
    assert f"Cannot listen on 127.0.0.1, port {port}: Address already in use" in capsys.readouterr().err


def test_without_its_packages_it_says_which_extra_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "pynetdicom" else object())
    assert main(["node", str(settings(tmp_path))]) == 2
    expected = "A DICOM node needs the package pynetdicom: install the extra lnq[node]"
    assert capsys.readouterr().err.strip() == expected
