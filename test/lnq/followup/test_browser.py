"""Opens a comparison's page from the disk in Chromium, as a reader does; `pytest -m browser`."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.pages import BROWSER, make_opener, skip_without_browser

from lnq.cli import main

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("width", [1440, 820])
def test_the_page_opens_fits_and_sorts(dicom_results, tmp_path: Path, width: int) -> None:
    skip_without_browser()
    from playwright.sync_api import sync_playwright

    assert main(["compare", *map(str, dicom_results()), "-o", str(tmp_path / "out")]) == 0
    troubles: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = make_opener(browser, tmp_path, troubles)("out/comparison.html", width)
        cells = page.locator("#nodes tbody tr:first-child td")
        before = cells.nth(1).inner_text()
        page.get_by_role("button", name="Short axis").click()
        after = cells.nth(1).inner_text()
        fits = page.evaluate(
            "[...document.querySelectorAll('section, body')].every((part) => part.scrollWidth <= part.clientWidth)"
        )
        shown = page.locator("#nodes img").evaluate_all("images => images.map((image) => image.naturalWidth)")
        browser.close()
    assert troubles == [] and fits and shown == [400] * 4
    assert (before, after) == ("Lymph node 4", "Lymph node 2, target")  # the largest in either CT comes first
