import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT
from helpers.records import DONE_RECORD, changed, failed, scored

from lnq.image.volume import Volume, make_affine
from lnq.report import pages as report
from lnq.report import render
from lnq.report.pages import MOST_BYTES, write_case_page, write_index
from lnq.results.case_record import Versions
from lnq.results.preview import FOUND_COLOUR

pytest.importorskip("jinja2")
HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(1)">\'{{ 7 * 7 }}&amp;'


def text_of(path: Path) -> str:
    return path.read_text("utf-8")


def about(page: str) -> dict:
    return json.loads(re.search(r'id="about">(.*?)</script>', page, re.DOTALL)[1])


def figures(page: str) -> dict[str, str]:
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))


def test_case_page_tells_what_was_found(tmp_path, thorax, node_labels, node_rows):
    (tmp_path / "segmentation.mha").touch()
    write_case_page(tmp_path / "report.html", DONE_RECORD, node_rows, thorax, node_labels)
    page = text_of(tmp_path / "report.html")
    assert "<h1>chest</h1>" in page
    assert "3 nodes found · short axis: 2 ≥ 10 mm, 1 ≥ 15 mm · 3.70 cm³ in all" in page
    assert "<li>No contrast was found.</li>" in page
    assert "lnq 0.1.0, model 55d9555c3bab, weights c0ffeec0ffee, backend openvino, device cpu in 7.7 s" in page
    assert "Not for clinical use" in page
    assert '<a href="segmentation.mha">' in page
    assert "nodes.csv</a>" not in page  # there is none
    assert [node["size"] for node in about(page)["nodes"]] == ["small", "medium", "large"]
    assert '<td class="number" data-value="-9.6">−10</td>' in page
    assert page.count("<tr data-node=") == 3
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".html"] == ["report.html"]


def test_case_page_says_what_its_pictures_are(tmp_path, thorax, node_labels, node_rows):
    write_case_page(tmp_path / "a.html", DONE_RECORD, node_rows, thorax, node_labels)
    assert "in steps of 2 HU from −160 to 240 HU, voxels of 5 × 5 × 5 mm as in the CT" in text_of(tmp_path / "a.html")


def test_neither_page_shows_where_the_input_lay(tmp_path, thorax, node_labels, node_rows):
    write_case_page(tmp_path / "a.html", DONE_RECORD, node_rows, thorax, node_labels)
    write_index(tmp_path, [DONE_RECORD], node_rows)
    assert not any("Doe^John" in text_of(tmp_path / name) for name in ("a.html", "report.html"))


def test_hostile_text_stays_text(tmp_path, thorax, node_labels, node_rows):
    versions = Versions(*[HOSTILE] * 5)
    entry = changed(case=HOSTILE, warnings=(HOSTILE,), versions=versions, mask=HOSTILE)
    rows = [dataclasses.replace(row, case=HOSTILE, side=HOSTILE) for row in node_rows]
    write_case_page(tmp_path / "a.html", entry, rows, thorax, node_labels, title=HOSTILE)
    write_index(tmp_path, [entry, failed(HOSTILE + "2", HOSTILE)], rows, title=HOSTILE)
    for name, scripts in (("a.html", 5), ("report.html", 1)):
        page = text_of(tmp_path / name)
        assert "alert(1)" in page and "<img src=x" not in page and "<script>alert" not in page
        assert page.count("</script>") == scripts
        assert "{{ 7 * 7 }}" in page


def test_no_script_but_the_pages_own_is_allowed(tmp_path):
    write_index(tmp_path, [DONE_RECORD], [])
    page = text_of(tmp_path / "report.html")
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', page)[1].replace("&#39;", "'")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert render._hash(re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]) in policy
    assert render._hash(re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]) in policy
    assert not re.search(r"\s(style|on\w+)=", page.split("<body>")[1].split("<script>")[0])


def test_the_same_run_gives_the_same_bytes(tmp_path, thorax, node_labels, node_rows):
    for name in "ab":
        (tmp_path / name).mkdir()
        write_case_page(tmp_path / name / "case.html", DONE_RECORD, node_rows, thorax, node_labels)
        write_index(tmp_path / name, [DONE_RECORD, failed("x", "It is broken.")], node_rows)
    for name in ("case.html", "report.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(("shape", "box"), [((120, 512, 512), None), ((130, 175, 175), (slice(None),) * 3)])
def test_a_large_noisy_ct_stays_below_the_limit(tmp_path, node_rows, shape, box):
    hu = np.random.default_rng(0).integers(-160, 240, shape, np.int16)  # noise that no compression makes smaller
    labels = np.zeros(shape, np.int16)
    labels[10:14, 100:110, 100:110], labels[60, 30, 30], labels[-20:-10, -20:, -20:] = 1, 2, 3
    volume = Volume(hu, make_affine((2.5, 0.7, 0.7)))
    write_case_page(tmp_path / "a.html", DONE_RECORD, node_rows, volume, volume.with_array(labels), box)
    page = text_of(tmp_path / "a.html")
    assert 2_000_000 < (tmp_path / "a.html").stat().st_size <= MOST_BYTES
    assert "made coarser: voxels of " in page and "instead of 0.7 × 0.7 × 2.5 mm" in page
    assert [node["number"] for node in about(page)["nodes"]] == [1, 2, 3]


def test_so_many_nodes_that_the_ct_does_not_fit(tmp_path, thorax, node_labels, node_rows, monkeypatch):
    monkeypatch.setattr(report, "MOST_BYTES", 60_000)
    monkeypatch.setattr(report, "_MOST_ROWS", 2)
    write_case_page(tmp_path / "a.html", DONE_RECORD, node_rows, thorax, node_labels)
    page = text_of(tmp_path / "a.html")
    assert about(page) is None
    assert "too large for this page" in page
    assert "1 more nodes are in nodes.csv" in page


def test_a_case_without_nodes(tmp_path, thorax):
    entry = changed(nodes=0, volume_mm3=0.0, warnings=())
    none = thorax.with_array(np.zeros(thorax.shape, np.uint8))
    write_case_page(tmp_path / "a.html", entry, [], thorax, none)
    write_index(tmp_path, [entry], [])
    page = text_of(tmp_path / "a.html")
    assert "No nodes found" in page and "<table" not in page
    assert about(page)["nodes"] == []
    assert "done, without nodes (1)" in text_of(tmp_path / "report.html")


def test_without_niivue_a_page_has_the_simple_viewer(tmp_path, thorax, node_labels, node_rows, monkeypatch):
    monkeypatch.setattr(report, "niivue_code", lambda: None)
    write_case_page(tmp_path / "a.html", DONE_RECORD, node_rows, thorax, node_labels)
    assert 'id="niivue"' not in text_of(tmp_path / "a.html")
    assert (tmp_path / "a.html").stat().st_size < 500_000


def test_index_sums_up_and_has_failures_on_top(tmp_path, node_rows):
    folder = tmp_path / "chest"
    folder.mkdir()
    (folder / "report.html").touch()
    (folder / "preview.png").touch()
    skipped = failed("scout", "It is a scout.", "skipped", 0.0)
    done = changed(scores=scored(0.83478, None))
    write_index(tmp_path, [done, failed("broken", "It is truncated."), skipped], node_rows)
    page = text_of(tmp_path / "report.html")
    assert figures(page) == {
        "cases done": "1", "failed": "1", "skipped": "1", "cases with warnings": "1", "nodes": "3",
        "nodes ≥ 10 mm short axis": "2", "nodes ≥ 15 mm short axis": "1", "computing time": "8.2 s",
    }  # fmt: skip
    assert page.index("<li><strong>broken</strong>: It is truncated.</li>") < page.index("<table")
    assert "<strong>scout</strong>: It is a scout." in page
    assert '<a href="chest/report.html">chest</a>' in page and 'src="chest/preview.png"' in page
    assert 'href="broken' not in page
    assert '<td class="number" data-value="24.0">24.0</td>' in page
    assert '<td class="number" data-value="0.83478">0.835</td>' in page
    assert "with a node ≥ 10 mm (1)" in page


def test_an_empty_run_and_one_in_which_all_failed(tmp_path):
    write_index(tmp_path, [], [])
    assert "No case was found." in text_of(tmp_path / "report.html")
    write_index(tmp_path, [failed(f"case {i}", "It is truncated.") for i in range(3)], [])
    page = text_of(tmp_path / "report.html")
    assert "Failed (3)" in page and figures(page)["cases done"] == "0"


def test_a_record_with_little_in_it_and_an_unknown_status(tmp_path):
    write_index(tmp_path, [failed("a", "", "running", None)], [])
    assert figures(text_of(tmp_path / "report.html"))["of another status"] == "1"


def test_names_lead_to_their_folder_whatever_they_are(tmp_path):
    names = ["a b#c?d%20", "javascript:alert(1)", "caf\u00e9", "bad\udcff"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.html").touch()
    write_index(tmp_path, [changed(case=name) for name in [*names, "..", "a/../a b#c?d%20"]], [])
    page = text_of(tmp_path / "report.html")
    addresses = re.findall(r'href="([^"]*)/report.html"', page)
    assert addresses == ["a%20b%23c%3Fd%2520", "javascript%3Aalert%281%29", "caf%C3%A9", "bad%FF"]
    assert "bad\\udcff" in page


def test_versions_that_differ_are_told_apart(tmp_path):
    versions = Versions("0.2.0", "1" * 64, "2" * 64, "torch", "Tesla T4")
    write_index(tmp_path, [DONE_RECORD, changed(case="c"), changed(case="b", versions=versions)], [])
    page = text_of(tmp_path / "report.html")
    assert "2 cases made by lnq 0.1.0, model" in page
    assert "1 case made by lnq 0.2.0, model 111111111111, weights 222222222222, backend torch, device Tesla T4." in page


def test_the_colour_of_what_is_found_is_that_of_the_preview():
    assert FOUND_COLOUR.lower() in (ROOT / "lnq" / "report" / "assets" / "page.css").read_text()


def test_inference_does_not_import_what_only_reports_need():
    code = (
        "import sys, lnq.pipeline; assert 'lnq.report.pages' not in sys.modules; "
        "import lnq.report.pages; sys.exit(int('jinja2' in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
