"""Opening pages from the disk in Chromium, as a reader does."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
from PIL import Image

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
SOFTWARE_WEBGL = ["--no-sandbox", "--enable-unsafe-swiftshader", "--use-gl=angle", "--use-angle=swiftshader"]
WIDTHS = {1440: 900, 820: 1180}
VIEWERS = {"": "niivue", "#simple": "simple"}


def pixels(page, selector: str) -> np.ndarray:
    """What is seen of an element, int [Y, X, RGB]."""
    page.wait_for_timeout(300)
    return np.asarray(Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB")).astype(int)


def count_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture - colour).max(axis=-1) < 12).sum())


def make_opener(browser, folder, troubles: list[str]):
    """A function that opens a page below `folder`; `troubles` gets errors, and requests for anything outside."""

    def open_(address: str, width: int = 1440, browser=browser, **options):
        page = browser.new_page(viewport={"width": width, "height": WIDTHS[width]}, **options)
        watch(page, folder, troubles)
        page.goto(f"{folder.as_uri()}/{address}")
        return page

    return open_


def watch(page, folder, troubles: list[str]) -> None:
    page.on("console", lambda message: message.type == "error" and troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    here = ("data:", "blob:", folder.as_uri())
    page.on("request", lambda request: request.url.startswith(here) or troubles.append(request.url))


def skip_without_browser() -> None:
    pytest.importorskip("playwright.sync_api")
    if BROWSER is None:
        pytest.skip("Chromium is not installed")
