from __future__ import annotations

import base64
import builtins
import dataclasses
import json
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from helpers.chests import (
    AORTA_MM,
    AXILLA_MM,
    LUNG_MM,
    SPINE_MM,
    draw_chest,
    grid,
    moved,
    swapped,
    with_ball,
    write_chest,
)
from helpers.prepared_cases import fake_case, fake_dataset
from helpers.raw_pairs import prepare_tiny
from helpers.shown_cases import marked, measured, source
from rich.console import Console

from lnq.image.volume import Volume
from lnq.plain import to_plain
from phantom.make import make_phantom
from training.data.certain import add_certain
from training.data.dataset_info import read_dataset_info, write_dataset_info
from training.data.measures.record import NAME, Sliver, write_measures
from training.data.prepared import CaseInfo
from training.data.splits import SPLITS_NAME, SplitRow, write_splits
from training.dataset_page import page as module
from training.dataset_page.cases import read_cases
from training.dataset_page.page import PAGE, report_dataset, write_dataset_page
from training.dataset_page.suspicions import find_suspicions

pytest.importorskip("jinja2")
HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(1)">\'{{ 7 * 7 }}&amp;'
LPS, RAS, CORONAL = np.eye(3)[::-1], np.eye(3)[::-1] * [1, -1, -1], np.eye(3)[:, [1, 2, 0]]
SLANTED_RAD = np.deg2rad(9.0)
OBLIQUE = (
    np.array([[np.cos(SLANTED_RAD), -np.sin(SLANTED_RAD), 0], [np.sin(SLANTED_RAD), np.cos(SLANTED_RAD), 0], [0, 0, 1]])
    @ LPS
)
LEFT_MM = (6.0, 0.0, 0.0)


def one_slice(label: Volume) -> Volume:
    """With a disc in one slice of the axial label, below its nodes."""
    array = label.array.copy()
    _, rows, columns = array.shape
    y, x = np.ogrid[:rows, :columns]
    array[33] |= (np.hypot(y - rows / 2, x - columns / 2) <= 3).astype(np.uint8)
    return label.with_array(array)


Fault = Callable[[Volume, Volume], tuple[Volume, Volume]]
FAULTS: dict[str, tuple[np.ndarray, Fault, str, str]] = {  # case: axes, what is done to CT and label, kind, text
    "air": (LPS, lambda ct, label: (ct, with_ball(label, LUNG_MM)), "air", "has the HU of air or lung"),
    "bone": (RAS, lambda ct, label: (ct, with_ball(label, (*SPINE_MM, 50.0))), "bone", "as bright as bone"),
    "vessel": (LPS, lambda ct, label: (ct, with_ball(label, (*AORTA_MM, 50.0))), "vessel", "as bright and even as"),
    "axilla": (LPS, lambda ct, label: (ct, with_ball(label, AXILLA_MM)), "outside", "outside the mediastinal region"),
    "sliver": (LPS, lambda ct, label: (ct, one_slice(label)), "sliver", "in a single slice of 4.0 mm"),
    "swapped": (LPS, lambda ct, label: (swapped(ct), swapped(label)), "mirrored", "mirror image of this chest"),
    "swapped-ras": (RAS, lambda ct, label: (swapped(ct), swapped(label)), "mirrored", "mirror image of this chest"),
    **{
        f"shifted-{name}": (axes, lambda ct, label: (ct, moved(label, LEFT_MM)), "shifted", "6 mm to the right")
        for name, axes in (("lps", LPS), ("ras", RAS), ("coronal", CORONAL), ("oblique", OBLIQUE))
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder: eight clean chests of all orientations, and one for each fault."""
    folder = tmp_path_factory.mktemp("chests")
    clean = [*((f"clean-{n}", axes) for n, axes in enumerate((LPS, RAS, CORONAL, OBLIQUE) * 2))]
    for seed, (name, axes) in enumerate(clean):
        write_chest(folder / "raw", name, *draw_chest(grid(axes), seed))
    for seed, (name, (axes, change, _, _)) in enumerate(FAULTS.items(), start=len(clean)):
        write_chest(folder / "raw", name, *change(*draw_chest(grid(axes), seed)))
    prepare_tiny(folder / "raw", folder / "out")
    return folder / "out"


def text_of(data: Path) -> str:
    return (data / PAGE).read_text("utf-8")


def said_of(data: Path) -> str:
    said = StringIO()
    report_dataset(data, Console(file=said, width=300))
    return said.getvalue()


def test_each_fault_is_found_where_it_was_planted_and_nowhere_else(chests: Path) -> None:
    found = {(one.case.name, one.kind): one.text for one in find_suspicions(read_cases(chests))}
    assert found.keys() == {(name, kind) for name, (_, _, kind, _) in FAULTS.items()}
    for name, (_, _, kind, text) in FAULTS.items():
        assert text in found[name, kind]


def test_the_page_shows_each_suspicion_with_a_picture(chests: Path) -> None:
    assert write_dataset_page(chests) == len(FAULTS)
    page = text_of(chests)
    assert f"What looks wrong: {len(FAULTS)} suspicions in {len(FAULTS)} of {8 + len(FAULTS)} cases" in page
    assert page.index("What looks wrong") < page.index("nodes annotated") < page.index("All cases")
    figures = re.findall(
        r"<figure>\s*<img src=\"data:image/jpeg;base64,([^\"]+)\".*?<strong>(.*?)</strong>", page, re.DOTALL
    )
    assert sorted(name for _, name in figures) == sorted(FAULTS)
    assert all(base64.b64decode(picture).startswith(b"\xff\xd8") for picture, _ in figures)
    assert page.count("<tr data-kinds=") == 8 + len(FAULTS)
    assert "it is a suspicion about the data, and no statement about a patient" in page
    assert page.count("Not for clinical use") == 2


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two partial cases and a full one, of which the first was measured and has a sliver."""
    data = fake_dataset(tmp_path / "set", partial=2, full=1)
    sliver = Sliver(((5, 10, 8), (6, 15, 13)), 2.5, 9.0, 14.0)
    write_measures(data / "case-00", measured(source=source(slivers=(sliver,))))
    for name in ("case-00", "case-01"):
        add_certain(data / name, (-140.0, 120.0))
    write_splits(data / SPLITS_NAME, [SplitRow(f"case-{n:02d}", f"case-{n:02d}", "train", n) for n in range(3)])
    return data


def test_the_page_of_a_small_set(small: Path) -> None:
    assert said_of(small) == f"{small / PAGE}: one thing looks wrong\n"
    page = text_of(small)
    figures = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert figures["cases"] == "3" and figures["annotated in part"] == "2" and figures["annotated in full"] == "1"
    assert figures["nodes annotated"] == "5" and figures["for training"] == "3" and figures["left out"] == "0"
    assert "Training data: set" in page and "Only one slice thick?" in page
    assert "2 cases are not measured: run training.prepare again." in page
    assert "Left and right are compared among 6 patients or more; here are 1." in page
    assert "is 85 or more with it" in page


def test_a_set_without_suspicions_says_what_was_looked_for(small: Path) -> None:
    for name in ("case-00", "case-01", "case-02"):
        write_measures(small / name, measured())
    assert said_of(small) == f"{small / PAGE}: nothing looks wrong\n"
    page = text_of(small)
    assert "Nothing looks wrong to the rules" in page and "Looked for: Left and right swapped?" in page
    assert "not measured" not in page


def test_what_could_not_be_judged_is_said(small: Path) -> None:
    write_measures(small / "case-00", measured(source=None))
    write_measures(small / "case-01", measured(sides=None, nodes=(marked(side=None, above_carina_mm=None),)))
    write_measures(small / "case-02", measured(source=source(oriented=False)))
    write_dataset_page(small)
    page = text_of(small)
    for sentence in (
        "1 case is not measured on the source&#39;s own grid: slivers, short axes and spacings are missing.",
        "1 case is without two lungs or a region between them: sides, places and the region are not judged.",
        "1 case is of a file that does not tell left from right.",
    ):
        assert sentence in page


def test_hostile_names_stay_text(small: Path) -> None:
    folder = small / "case-00"
    info = dataclasses.replace(CaseInfo.read(folder), case=HOSTILE, patient=HOSTILE, notes=(HOSTILE,))
    (folder / "case.json").write_text(json.dumps(to_plain(info)))
    whole = read_dataset_info(small)
    write_dataset_info(small, dataclasses.replace(whole, failed=(HOSTILE,), provenance={"sources": [HOSTILE]}))
    write_dataset_page(small)
    page = text_of(small)
    assert page.count("<script>") == page.count("</script>") == 1 and "<img src=x" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 5
    assert "7 * 7" in page


def test_the_page_fetches_nothing(small: Path) -> None:
    write_dataset_page(small)
    page = text_of(small)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert not re.search(r"(?:src|href)=\"(?!data:)", page) and "style=" not in page


def test_a_case_that_cannot_be_read_has_no_picture(small: Path) -> None:
    (small / "case-00" / "image.b2nd").write_bytes(b"")
    write_dataset_page(small)
    page = text_of(small)
    assert "no picture" in page and page.count("data:image/jpeg") == 2


def test_pictures_are_limited(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("case-00", "case-01", "case-02"):
        write_measures(small / name, measured(nodes=(marked(air=0.9),)))
    monkeypatch.setattr(module, "MOST_SPOTS", 1)
    monkeypatch.setattr(module, "MOST_CASES", 2)
    assert write_dataset_page(small) == 3
    page = text_of(small)
    assert page.count("data:image/jpeg") == 1 + 2 and "The last 1 cases have no picture" in page
    assert page.count("has the HU of air or lung (below") == 3


def test_four_hundred_cases_stay_small(tmp_path: Path) -> None:
    """Each picture of 24 suspicions of 7 kinds and of 400 cases counts; real ones have up to 25 and 15 KB."""
    assert (24 * 7 * 25_000 + 400 * 15_000) * 4 / 3 < 15_000_000


def test_without_jinja_a_line_says_so(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.partition(".")[0] in ("jinja2", "markupsafe"):
            raise ImportError(f"No module named {name!r}", name=name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    assert said_of(small) == "dataset.html is not written: it needs jinja2\n"
    assert not (small / PAGE).exists()


def test_a_damaged_set_is_told_in_a_line(small: Path) -> None:
    fake_case(small, "late", 9)
    (small / "late" / "case.json").write_text("{")
    assert said_of(small).startswith("dataset.html is not written: ") and "is damaged" in said_of(small)
    (small / "dataset.json").unlink()
    assert "run python -m training.prepare to its end first" in said_of(small)


def test_a_page_is_written_from_small_files_and_pictures_alone(small: Path) -> None:
    """No case is measured for it."""
    write_dataset_page(small)
    assert not (small / "case-01" / NAME).exists()


@pytest.mark.slow
def test_phantoms_raise_nothing_but_the_mirrored_one(tmp_path: Path) -> None:
    for seed in range(6):
        phantom = make_phantom(seed, size=96)
        change = swapped if seed == 3 else (lambda volume: volume)
        write_chest(tmp_path / "raw", f"phantom-{seed}", change(phantom.ct), change(phantom.partial))
    prepare_tiny(tmp_path / "raw", tmp_path / "out")
    found = find_suspicions(read_cases(tmp_path / "out"))
    assert [(one.case.name, one.kind) for one in found] == [("phantom-3", "mirrored")]
