"""A reader adds missed nodes; `pytest -m browser`."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.pages import VIEWERS, WIDTHS
from helpers.review_pages import (
    EMPTY_MM,
    MISSED_MM,
    PLACES_MM,
    click_at,
    opened,
    outline_ml,
    state_of,
)

pytestmark = pytest.mark.browser
pytest.importorskip("jinja2")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("viewer", VIEWERS)
def test_a_click_adds_a_missed_node(open_page, shown, viewer: str, width: int) -> None:
    page = opened(open_page, viewer, width)
    page.select_option("#zoom", "1")
    if width == 1440:
        page.click("#add")
    else:
        page.keyboard.press("a")
    assert page.text_content("#said").startswith("Click on a missed node to add it")
    click_at(page, MISSED_MM)
    (added,) = state_of(page)["added"]
    np.testing.assert_allclose(added["lps_mm"], MISSED_MM, atol=7.6)  # the most probable voxel beside the click
    assert added["radius_mm"] is None and added["threshold"] == pytest.approx(0.2, abs=0.05)  # half of the highest
    assert page.text_content("#title") == "Added node 1"
    assert outline_ml(page) > 3
    click_at(page, EMPTY_MM)
    assert state_of(page)["added"][1]["threshold"] is None and state_of(page)["added"][1]["radius_mm"] == 5
    assert page.text_content("#outline-name") == "Radius 5 mm"
    for _ in range(10):
        page.keyboard.press("+")
    assert state_of(page)["added"][1]["radius_mm"] == 10
    assert outline_ml(page) == pytest.approx(4.19, rel=0.15)
    page.keyboard.press("Escape")
    assert page.get_attribute("#add", "aria-pressed") == "false"
    click_at(page, PLACES_MM[0])
    assert len(state_of(page)["added"]) == 2  # clicks move the cross again
    page.click('#list tr[data-key="a0"] button')
    page.click("#reset")  # make it a ball
    assert state_of(page)["added"][0]["radius_mm"] == 5
    page.click("#reset")  # grow it
    assert state_of(page)["added"][0]["radius_mm"] is None
    page.keyboard.press("Delete")
    assert len(state_of(page)["added"]) == 1
    page.click('#list tr[data-key="a0"] button')
    page.keyboard.press("n")
    assert state_of(page)["added"] == []
    page.keyboard.press("z")
    assert len(state_of(page)["added"]) == 1


def test_a_node_is_added_at_the_cross_by_the_keyboard(open_page, shown) -> None:
    page = opened(open_page)
    page.keyboard.press("a")
    page.evaluate("lps => window.reviewPage.viewer.moveTo(window.reviewPage.scan.voxelOf(lps))", list(EMPTY_MM))
    page.focus("#stage")
    page.keyboard.press("Enter")
    (added,) = state_of(page)["added"]
    np.testing.assert_allclose(added["lps_mm"], EMPTY_MM, atol=2.6)


def test_clicks_add_where_they_hit_and_nowhere_else(open_page, shown) -> None:
    page = opened(open_page, "")
    page.keyboard.press("a")
    page.select_option("#tool", "measure")  # a click does not move the cross then
    page.select_option("#zoom", "1")
    click_at(page, EMPTY_MM)
    (added,) = state_of(page)["added"]
    np.testing.assert_allclose(added["lps_mm"], EMPTY_MM, atol=2.6)
    page = opened(open_page)
    page.keyboard.press("a")
    page.select_option("#zoom", "1")
    count = len(state_of(page)["added"])
    stage = page.locator("#stage").bounding_box()
    page.mouse.click(stage["x"] + 5, stage["y"] + 5)  # beside the pictures
    page.wait_for_timeout(150)
    assert len(state_of(page)["added"]) == count


def test_dragging_adds_nothing(open_page, shown) -> None:
    page = opened(open_page)
    page.keyboard.press("a")
    stage = page.locator("#stage").bounding_box()
    page.mouse.move(stage["x"] + 150, stage["y"] + 150)
    page.mouse.down()
    page.mouse.move(stage["x"] + 220, stage["y"] + 190)
    page.mouse.up()
    page.wait_for_timeout(150)
    assert state_of(page)["added"] == []
