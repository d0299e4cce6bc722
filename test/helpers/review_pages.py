"""The review page in Chromium: opening it, clicking in it, and what it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from helpers.pages import VIEWERS

from lnq.report.niivue import niivue_code
from training.review.decisions import Decisions, read_decisions

PLACES_MM = [(0.0, -40.0, 90.0), (-20.0, 30.0, 60.0), (25.0, -20.0, 20.0)]
MISSED_MM, EMPTY_MM, ANNOTATED_MM = (20.0, 40.0, 100.0), (0.0, 0.0, 20.0), (-30.0, -30.0, 10.0)
RADIUS_MM = 12.0
OPEN, YES, NO, UNSURE, BEFORE = (86, 180, 233), (47, 191, 113), (213, 94, 0), (240, 228, 66), (204, 121, 167)


def wait(page, viewer: str = "#simple"):
    page.wait_for_selector("body[data-viewer]", timeout=90_000)
    assert page.get_attribute("body", "data-viewer") == VIEWERS[viewer]
    return page


def opened(open_page, viewer: str = "#simple", width: int = 1440, **options):
    if VIEWERS[viewer] == "niivue" and niivue_code() is None:
        pytest.skip("jupyterlab-niivue is not installed")
    return wait(open_page(f"case/review.html{viewer}", width, **options), viewer)


def click_at(page, place_mm: tuple[float, float, float]) -> None:
    """Go to a place's axial slice, and click on it there."""
    where = page.evaluate(
        """(lps) => {
            const page = window.reviewPage, voxel = page.scan.voxelOf(lps);
            page.viewer.moveTo(voxel);
            const tile = page.viewer.tiles().find((one) => one.plane === "axial");
            return [tile.toPixel(2, voxel[2]), tile.toPixel(1, voxel[1])];
        }""",
        list(place_mm),
    )
    stage = page.locator("#stage").bounding_box()
    page.mouse.click(stage["x"] + where[0], stage["y"] + where[1])
    page.wait_for_timeout(150)


def state_of(page) -> dict[str, Any]:
    return page.evaluate("window.reviewPage.book.state")


def verdicts(page) -> list[str]:
    return page.locator("#list tr td:nth-child(2)").all_text_contents()


def outline_ml(page) -> float:
    return float(re.search(r"outline ([\d.]+) ml", page.text_content("#facts"))[1])


def saved(page, tmp_path: Path) -> tuple[Path, Decisions]:
    page.fill("#reader", "A. Reader")
    with page.expect_download() as download:
        page.click("#save")
    path = tmp_path / "saved" / download.value.suggested_filename
    download.value.save_as(path)
    return path, read_decisions(path)


def load(page, path: Path, selector: str = "#file") -> str:
    page.set_input_files(selector, path)
    page.wait_for_timeout(200)
    return page.text_content("#said")
