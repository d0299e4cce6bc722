"""A reader judges candidates and moves outlines, by every key and click; `pytest -m browser`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.pages import VIEWERS, WIDTHS, count_colour, pixels
from helpers.review_pages import (
    ANNOTATED_MM,
    BEFORE,
    MISSED_MM,
    NO,
    OPEN,
    PLACES_MM,
    RADIUS_MM,
    UNSURE,
    YES,
    click_at,
    opened,
    outline_ml,
    state_of,
    verdicts,
    wait,
)
from helpers.reviews import bump, write_candidates

from lnq.image.volume import Volume
from training.data.sources.states import UNKNOWN
from training.review.page import write_worklist
from training.review.write import read_found

pytestmark = pytest.mark.browser
pytest.importorskip("jinja2")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("viewer", VIEWERS)
def test_verdicts_are_given_by_keys_and_by_buttons(open_page, shown, viewer: str, width: int) -> None:
    page = opened(open_page, viewer, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.text_content("#title") == "Candidate 1 of 3"
    assert count_colour(pixels(page, "#stage"), OPEN) > 40
    for key, verdict, colour in (("y", "node", YES), ("n", "no node", NO), ("u", "unsure", UNSURE)):
        page.click('#list tr[data-key="1"] button')
        page.keyboard.press(key)
        assert verdicts(page)[0] == verdict
        assert page.text_content("#title") == "Candidate 2 of 3"  # the next without a verdict
        page.keyboard.press("ArrowLeft")
        assert page.text_content("#title") == "Candidate 1 of 3"
        assert count_colour(pixels(page, "#stage"), colour) > 40
        page.keyboard.press("Backspace")
        assert verdicts(page) == ["", "", ""]
        page.click(f'[data-verdict="{verdict}"]')
        assert verdicts(page)[0] == verdict
        page.keyboard.press("z")
        assert verdicts(page) == ["", "", ""]
    assert page.text_content("#counts") == "0 of 3 judged · 0 nodes · 0 added"


@pytest.mark.parametrize("viewer", VIEWERS)
def test_a_reader_goes_through_all_candidates(open_page, shown, viewer: str) -> None:
    page = opened(open_page, viewer)
    for key in ("ArrowRight", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    assert page.text_content("#title") == "Candidate 1 of 3"  # round and round
    for key in "ynu":
        page.keyboard.press(key)
    assert verdicts(page) == ["node", "no node", "unsure"]
    assert page.text_content("#said") == "All candidates are judged. Save the decisions."
    assert page.text_content("#counts") == "3 of 3 judged · 1 node · 0 added"
    assert page.evaluate("document.getElementById('progress').position") == 1
    for _ in range(3):
        page.click("#undo")
    assert verdicts(page) == ["", "", ""] and page.is_disabled("#undo")
    page.click("#next")
    assert page.text_content("#title") == "Candidate 1 of 3"  # from the last one
    page.click("#previous")
    assert page.text_content("#title") == "Candidate 3 of 3"


def test_what_is_annotated_is_shown_and_named(open_page, shown) -> None:
    page = opened(open_page)
    click_at(page, ANNOTATED_MM)
    assert page.text_content("#where").endswith("annotated")
    assert count_colour(pixels(page, "#stage"), BEFORE) > 10  # a thin line
    click_at(page, PLACES_MM[1])
    assert page.text_content("#where").endswith("candidate 2")


@pytest.mark.parametrize("viewer", VIEWERS)
def test_the_outline_follows_the_slider(open_page, shown, viewer: str) -> None:
    page = opened(open_page, viewer)
    proposed = outline_ml(page)
    own = shown.numbers.array == 1
    assert proposed == pytest.approx(own.sum() * shown.numbers.voxel_volume_mm3 / 1000, abs=0.006)
    page.fill("#outline", "64")
    wider = shown.probability.array >= 64 / 255
    near = bump(shown.numbers, PLACES_MM[0], 30.0) > 0.4
    assert outline_ml(page) == pytest.approx((wider & near).sum() * 0.125, abs=0.006)
    assert page.text_content("#outline-name") == "Outline from score 0.25"
    page.keyboard.press("0")
    assert outline_ml(page) == proposed and page.text_content("#outline-name") == "Outline as proposed"
    page.keyboard.press("-")
    assert outline_ml(page) >= proposed
    for _ in range(9):
        page.keyboard.press("+")
    assert outline_ml(page) < proposed
    page.click("#reset")
    assert outline_ml(page) == proposed
    stage = page.locator("#stage").bounding_box()
    page.mouse.move(stage["x"] + 200, stage["y"] + 200)
    before = page.input_value("#slice")
    page.keyboard.down("Shift")
    for _ in range(4):
        page.mouse.wheel(0, 100)
    page.keyboard.up("Shift")
    page.wait_for_timeout(200)
    assert outline_ml(page) > proposed and page.input_value("#slice") == before


@pytest.mark.parametrize("viewer", VIEWERS)
def test_the_slider_of_a_faint_candidate_starts_at_its_own_level(
    open_page, thorax: Volume, tmp_path: Path, viewer: str
) -> None:
    state = thorax.with_array(np.full(thorax.shape, UNKNOWN, np.uint8))
    found = write_candidates(tmp_path / "case", thorax, PLACES_MM[:1], RADIUS_MM, state, faint_mm=(MISSED_MM,))
    page = opened(open_page, viewer)
    assert page.input_value("#outline") == "128"
    page.keyboard.press("ArrowRight")
    assert page.input_value("#outline") == "51"  # 0.2; the first one's 0.5 is above all of it
    proposed = outline_ml(page)
    own = (found.numbers.array == 2).sum() * found.numbers.voxel_volume_mm3 / 1000
    assert proposed == pytest.approx(own, abs=0.006)
    page.keyboard.press("+")
    assert 0 < outline_ml(page) < proposed
    page.keyboard.press("0")
    for _ in range(5):
        page.keyboard.press("-")
    assert outline_ml(page) > proposed
    page.keyboard.press("y")
    assert state_of(page)["judged"]["2"]["threshold"] < 0.2


def test_a_moved_outline_belongs_to_the_verdict_and_is_undone_as_one(open_page, shown) -> None:
    page = opened(open_page)
    page.fill("#outline", "100")
    page.keyboard.press("y")
    assert state_of(page)["judged"]["1"]["threshold"] == pytest.approx(100 / 255)
    page.click('#list tr[data-key="1"] button')
    page.focus("#outline")
    for _ in range(3):
        page.keyboard.press("Home")  # a range's own key
    assert state_of(page)["judged"]["1"]["threshold"] == pytest.approx(5 / 255)
    page.keyboard.press("z")
    assert state_of(page)["judged"]["1"]["threshold"] == pytest.approx(100 / 255)


def test_a_key_that_is_held_down_judges_once(open_page, shown) -> None:
    page = opened(open_page)
    for _ in range(3):
        page.keyboard.down("y")  # the second and third are repeats
    page.keyboard.up("y")
    assert verdicts(page) == ["node", "", ""]
    page.focus("#outline")
    page.keyboard.press("ArrowRight")
    assert page.text_content("#title") == "Candidate 2 of 3"  # a slider keeps its arrows


def test_keys_of_the_viewer_itself_do_nothing(open_page, shown) -> None:
    page = opened(open_page, "")
    page.locator("#stage canvas").first.click()
    seen = "() => [window.reviewPage.viewer.position, window.reviewPage.viewer.niivue.opts.dragMode]"
    before = page.evaluate(seen)
    for key in "hjklmcv":
        page.keyboard.press(key)
    assert page.evaluate(seen) == before


@pytest.mark.parametrize("viewer", VIEWERS)
def test_zoom_shows_more_of_less(open_page, shown, viewer: str) -> None:
    page = opened(open_page, viewer)
    counts = []
    for zoom in ("1", "2", "4"):
        page.select_option("#zoom", zoom)
        page.click('#list tr[data-key="1"] button')
        counts.append(count_colour(pixels(page, "#stage"), OPEN))
    assert counts[0] < counts[1] < counts[2]


def test_a_hundred_candidates_are_all_shown_and_judged(open_page, thorax: Volume, tmp_path: Path) -> None:
    places = [
        (float(x), float(y), float(z))
        for z in range(-20, 120, 15)
        for y in range(-45, 50, 30)
        for x in range(-30, 31, 30)
    ][:100]
    write_candidates(
        tmp_path / "case",
        thorax,
        [tuple(map(float, p)) for p in places],
        6.0,
        thorax.with_array(np.full(thorax.shape, UNKNOWN, np.uint8)),
    )
    page = opened(open_page)
    for number in range(100):
        page.keyboard.press("ynu"[number % 3])
    assert page.text_content("#counts") == "100 of 100 judged · 34 nodes · 0 added"
    assert json.loads(page.evaluate("JSON.stringify(window.reviewPage.book.file('x').judged.length)")) == 100


def test_hostile_names_are_shown_as_text(open_page, thorax: Volume, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>"
    state = thorax.with_array(np.full(thorax.shape, UNKNOWN, np.uint8))
    write_candidates(tmp_path / name, thorax, PLACES_MM, RADIUS_MM, state)
    page = wait(open_page(f"{name.replace('<', '%3C').replace('>', '%3E').replace(' ', '%20')}/review.html#simple"))
    assert page.text_content("h1") == name
    write_worklist(tmp_path, [read_found(tmp_path / name)])
    page = open_page("review.html")
    assert page.text_content("tbody a") == name
