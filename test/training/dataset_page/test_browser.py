"""Opens a data set's page from the disk in Chromium, as a reader does; `pytest -m browser`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.prepared_cases import fake_dataset
from helpers.shown_cases import marked, measured

from training.data.measures.record import write_measures
from training.dataset_page.page import PAGE, write_dataset_page

pytestmark = pytest.mark.browser
sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("jinja2")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.parametrize("width", [1440, 820])
def test_the_page_opens_sorts_and_filters(tmp_path: Path, width: int) -> None:
    if BROWSER is None:
        pytest.skip("Chromium is not installed")
    data = fake_dataset(tmp_path / "set", partial=2, full=1)
    write_measures(data / "case-01", measured(nodes=(marked(air=0.9),)))
    write_dataset_page(data)
    troubles: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 1000})
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or troubles.append(request.url))
        page.goto((data / PAGE).as_uri())
        page.get_by_role("button", name="Nodes").click()
        first = page.locator("#cases tbody tr").first.inner_text()
        page.select_option("#kind", "suspect")
        count = page.inner_text("#count")
        shown = page.locator(".spots img").evaluate("image => image.naturalWidth")
        fits = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        browser.close()
    assert troubles == [] and fits and shown == 288
    assert "case-02" in first and count == "1 of 3 cases shown"
