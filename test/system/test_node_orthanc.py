"""`lnq node` and a real Orthanc: studies come from it and results go to it, whatever is killed meanwhile."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pynetdicom")

from helpers.orthanc import PROGRAM, Orthanc
from helpers.pacs import RunningNode, free_port, wait_for, write_study
from helpers.paths import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path(PROGRAM).exists(), reason="Orthanc is not installed (Debian: orthanc, orthanc-dicomweb)"
    ),
]

SETTINGS = """
spool = "{spool}"
port = {port}
quiet_seconds = 2
results = {results}
least_free_gb = 0.1
[[from]]
ae_title = "ORTHANC"
[[to]]
{to}
"""


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path / "orthanc", free_port())
    server.start()
    yield server
    server.stop()


def node_for(orthanc: Orthanc, folder: Path, to: str = "", results: str = '["seg", "sr"]') -> RunningNode:
    settings = folder / "node.toml"
    to = to or f'store = "ORTHANC@127.0.0.1:{orthanc.port}"\ncommitment = true'
    settings.write_text(SETTINGS.format(spool=folder / "spool", port=orthanc.node_port, to=to, results=results))
    return RunningNode(settings)


def queue_of(folder: Path) -> list[Path]:
    return [*(folder / "spool" / "queue").iterdir(), *(folder / "spool" / "arriving").iterdir()]


def test_of_twenty_studies_two_broken_and_one_sent_twice_eighteen_results_come_once(orthanc, tmp_path):
    sources = [write_study(tmp_path / f"ct{n}", n, leave_out=range(20, 40) if n in (7, 13) else ()) for n in range(20)]
    studies = [orthanc.upload(paths) for paths in sources]
    node = node_for(orthanc, tmp_path)
    node.start()
    jobs = [orthanc.send(study) for study in (*studies, studies[3])]
    wait_for(lambda: all(orthanc.get(f"jobs/{job}")["State"] == "Success" for job in jobs), 120)
    wait_for(lambda: sum("is done" in line or " failed: " in line for line in node.lines) >= 20, 400)
    time.sleep(5)  # for what should not come
    assert [orthanc.results(study) for n, study in enumerate(studies) if n not in (7, 13)] == [["SEG", "SR"]] * 18
    assert [orthanc.results(studies[n]) for n in (7, 13)] == [[], []]
    failures = [line for line in node.lines if " failed: " in line]
    assert len(failures) == 2 and all("slices are missing" in line for line in failures), failures
    assert not queue_of(tmp_path) and node.stop() == 143
    assert not any("SECRET" in line or "Secret" in line for line in node.lines)


def test_ten_kills_lose_and_double_nothing(orthanc, tmp_path):
    studies = [orthanc.upload(write_study(tmp_path / f"ct{n}", n)) for n in range(6)]
    node = node_for(orthanc, tmp_path)
    node.start()
    sending = [threading.Thread(target=orthanc.resend, args=(study,)) for study in studies]
    for thread in sending:
        thread.start()
    moments = random.Random(5)
    for _ in range(10):
        time.sleep(moments.uniform(0.2, 6))
        node.kill()
        node.start()
    for thread in sending:
        thread.join()
    wait_for(lambda: all(orthanc.results(study) for study in studies) and not queue_of(tmp_path), 300)
    assert [orthanc.results(study) for study in studies] == [["SEG", "SR"]] * 6
    assert node.stop() == 143


def test_a_pacs_that_is_away_for_a_minute_gets_its_results(orthanc, tmp_path):
    study = orthanc.upload(write_study(tmp_path / "ct", 1))
    node = node_for(orthanc, tmp_path)
    node.start()
    job = orthanc.send(study)
    wait_for(lambda: orthanc.get(f"jobs/{job}")["State"] == "Success")
    orthanc.stop()
    wait_for(lambda: node.said("is tried again in 5 s: no connection"))
    time.sleep(60)
    assert node.said("is tried again in 40 s: no connection")
    orthanc.start()
    wait_for(lambda: node.said("is done"), 120)
    assert orthanc.results(study) == ["SEG", "SR"] and not queue_of(tmp_path)
    assert node.stop() == 143


def test_all_results_go_to_a_dicomweb_service_which_opens_them(orthanc, tmp_path):
    study = orthanc.upload(write_study(tmp_path / "ct", 1))
    node = node_for(orthanc, tmp_path, f'stow = "{orthanc.dicom_web}"', '["seg", "sr", "captures", "pdf"]')
    node.start()
    orthanc.send(study)
    wait_for(lambda: node.said("is done"), 120)
    by_modality = orthanc.instances(study)
    assert by_modality.keys() == {"CT", "SEG", "SR", "OT", "DOC"} and len(by_modality["OT"]) >= 3
    [report], [page], [masks] = (by_modality[modality] for modality in ("SR", "DOC", "SEG"))
    assert orthanc.raw(f"instances/{page}/pdf").startswith(b"%PDF-")
    pictures = [orthanc.raw(f"instances/{one}/preview") for one in (*by_modality["OT"], masks)]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    template = orthanc.get(f"instances/{report}/simplified-tags")["ContentTemplateSequence"]
    assert template[0]["TemplateIdentifier"] == "1500"
    series = orthanc.get("dicom-web/studies?PatientID=SECRET1&includefield=ModalitiesInStudy")
    assert set(series[0]["00080061"]["Value"]) == by_modality.keys()
    assert node.stop() == 143


def test_the_recipes_route_sends_each_study_once(tmp_path):
    more = {"LuaScripts": [str(ROOT / "container" / "orthanc" / "route.lua")], "StableAge": 5}
    orthanc = Orthanc(tmp_path / "orthanc", free_port(), more)
    orthanc.start()
    try:
        node = node_for(orthanc, tmp_path)
        node.start()
        study = orthanc.upload(write_study(tmp_path / "ct", 1))
        wait_for(lambda: node.said("is done"), 120)
        time.sleep(10)  # the results have made the study stable once more
        assert orthanc.results(study) == ["SEG", "SR"] and not node.said("came again")
        assert node.stop() == 143
    finally:
        orthanc.stop()
