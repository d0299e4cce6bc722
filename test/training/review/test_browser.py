"""A reader at work: every key and click of the review page in Chromium; `pytest -m browser`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.pages import VIEWERS, WIDTHS, count_colour, pixels, watch
from helpers.reviews import bump, decide, maps_of, write_candidates, write_decisions

from lnq.image.volume import Volume
from lnq.report.niivue import niivue_code
from training.data.sources.states import NODE, UNKNOWN
from training.review.candidates import Found
from training.review.decisions import Decisions, read_decisions, refuse_others
from training.review.page import write_worklist
from training.review.verdicts import tally, three_states
from training.review.write import read_found

pytestmark = pytest.mark.browser
pytest.importorskip("jinja2")

PLACES_MM = [(0.0, -40.0, 90.0), (-20.0, 30.0, 60.0), (25.0, -20.0, 20.0)]
MISSED_MM, EMPTY_MM, ANNOTATED_MM = (20.0, 40.0, 100.0), (0.0, 0.0, 20.0), (-30.0, -30.0, 10.0)
RADIUS_MM = 12.0
OPEN, YES, NO, UNSURE, BEFORE = (86, 180, 233), (47, 191, 113), (213, 94, 0), (240, 228, 66), (204, 121, 167)


@pytest.fixture
def found(thorax: Volume, tmp_path: Path) -> Found:
    """Three candidates, one place that networks see a little, and one annotated node."""
    state = np.full(thorax.shape, UNKNOWN, np.uint8)
    state[bump(thorax, ANNOTATED_MM, 8.0) >= 0.5] = NODE
    found = write_candidates(tmp_path / "case", thorax, PLACES_MM, RADIUS_MM, thorax.with_array(state), (MISSED_MM,))
    write_worklist(tmp_path, [read_found(tmp_path / "case")])
    return found


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


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("viewer", VIEWERS)
def test_verdicts_are_given_by_keys_and_by_buttons(open_page, found, viewer: str, width: int) -> None:
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
def test_a_reader_goes_through_all_candidates(open_page, found, viewer: str) -> None:
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


def test_what_is_annotated_is_shown_and_named(open_page, found) -> None:
    page = opened(open_page)
    click_at(page, ANNOTATED_MM)
    assert page.text_content("#where").endswith("annotated")
    assert count_colour(pixels(page, "#stage"), BEFORE) > 10  # a thin line
    click_at(page, PLACES_MM[1])
    assert page.text_content("#where").endswith("candidate 2")


@pytest.mark.parametrize("viewer", VIEWERS)
def test_the_outline_follows_the_slider(open_page, found, viewer: str) -> None:
    page = opened(open_page, viewer)
    proposed = outline_ml(page)
    own = found.numbers.array == 1
    assert proposed == pytest.approx(own.sum() * found.numbers.voxel_volume_mm3 / 1000, abs=0.006)
    page.fill("#outline", "64")
    wider = found.probability.array >= 64 / 255
    near = bump(found.numbers, PLACES_MM[0], 30.0) > 0.4
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


def test_a_moved_outline_belongs_to_the_verdict_and_is_undone_as_one(open_page, found) -> None:
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


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("viewer", VIEWERS)
def test_a_click_adds_a_missed_node(open_page, found, viewer: str, width: int) -> None:
    page = opened(open_page, viewer, width)
    page.select_option("#zoom", "1")
    page.click("#add") if width == 1440 else page.keyboard.press("a")
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


def test_a_node_is_added_at_the_cross_by_the_keyboard(open_page, found) -> None:
    page = opened(open_page)
    page.keyboard.press("a")
    page.evaluate("lps => window.reviewPage.viewer.moveTo(window.reviewPage.scan.voxelOf(lps))", list(EMPTY_MM))
    page.focus("#stage")
    page.keyboard.press("Enter")
    (added,) = state_of(page)["added"]
    np.testing.assert_allclose(added["lps_mm"], EMPTY_MM, atol=2.6)


def test_a_key_that_is_held_down_judges_once(open_page, found) -> None:
    page = opened(open_page)
    for _ in range(3):
        page.keyboard.down("y")  # the second and third are repeats
    page.keyboard.up("y")
    assert verdicts(page) == ["node", "", ""]
    page.focus("#outline")
    page.keyboard.press("ArrowRight")
    assert page.text_content("#title") == "Candidate 2 of 3"  # a slider keeps its arrows


def test_keys_of_the_viewer_itself_do_nothing(open_page, found) -> None:
    page = opened(open_page, "")
    page.locator("#stage canvas").first.click()
    seen = "() => [window.reviewPage.viewer.position, window.reviewPage.viewer.niivue.opts.dragMode]"
    before = page.evaluate(seen)
    for key in "hjklmcv":
        page.keyboard.press(key)
    assert page.evaluate(seen) == before


def test_clicks_add_where_they_hit_and_nowhere_else(open_page, found) -> None:
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


def test_another_reader_is_asked_before_decisions_become_theirs(open_page, found, tmp_path: Path) -> None:
    page = opened(open_page)
    page.keyboard.press("y")
    saved(page, tmp_path)
    asked = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.fill("#reader", "B. Other")
    page.click("#save")
    assert asked[0].startswith("These decisions are by A. Reader. Save them as those of B. Other?")
    page.click("#anew")
    assert verdicts(page) == ["", "", ""]
    with page.expect_download():
        page.click("#save")
    page.click("#undo")
    assert verdicts(page) == ["node", "", ""]


def test_what_a_browser_keeps_may_be_damaged(open_page, found) -> None:
    page = opened(open_page)
    for kept in ("null", "3", '{"judged": null, "added": [], "rejected": null}', "{"):
        page.evaluate("kept => localStorage.setItem(window.reviewPage.book.key, kept)", kept)
        page.reload()
        wait(page)
        assert verdicts(page) == ["", "", ""]
    page.keyboard.press("y")
    assert verdicts(page) == ["node", "", ""]


def test_dragging_adds_nothing(open_page, found) -> None:
    page = opened(open_page)
    page.keyboard.press("a")
    stage = page.locator("#stage").bounding_box()
    page.mouse.move(stage["x"] + 150, stage["y"] + 150)
    page.mouse.down()
    page.mouse.move(stage["x"] + 220, stage["y"] + 190)
    page.mouse.up()
    page.wait_for_timeout(150)
    assert state_of(page)["added"] == []


def test_saved_decisions_make_the_labels_that_the_page_shows(open_page, found, tmp_path: Path) -> None:
    page = opened(open_page)
    page.fill("#outline", "80")
    page.keyboard.press("y")
    shown = [outline_ml(page)] if page.click('#list tr[data-key="1"] button') is None else []
    page.click('#list tr[data-key="2"] button')
    page.keyboard.press("n")
    page.keyboard.press("a")
    click_at(page, MISSED_MM)
    shown.append(outline_ml(page))
    click_at(page, EMPTY_MM)
    shown.append(outline_ml(page))
    page.fill("#complete-mm", "8")
    page.check("#complete")
    path, decisions = saved(page, tmp_path)
    assert path.name == "case.A-Reader.decisions.json"
    assert page.text_content("#said") == f"Saved as {path.name}."
    refuse_others(decisions, path, tmp_path / "case")
    assert decisions.complete_from_mm == 8.0 and decisions.case == "case"
    before = np.full(found.numbers.shape, UNKNOWN, np.uint8)
    outcome = tally([decisions], 3)
    state = three_states(before, [decisions], outcome, maps_of(found), 5.0)
    volume_ml = (state == NODE).sum() * found.numbers.voxel_volume_mm3 / 1000
    assert volume_ml == pytest.approx(sum(shown), rel=0.02)
    assert (state[found.numbers.array == 2] == 0).all()


def test_decisions_survive_a_reload_and_show_in_the_worklist(open_page, found) -> None:
    page = opened(open_page)
    page.fill("#reader", "A. Reader")
    for key in "yn":
        page.keyboard.press(key) if page.evaluate("document.activeElement.blur()") is None else None
    before = state_of(page)
    page.reload()
    wait(page)
    assert state_of(page) == before and page.input_value("#reader") == "A. Reader"
    assert page.text_content("#title") == "Candidate 3 of 3"  # the first without a verdict
    page.click("text=All cases")
    page.wait_for_selector("[data-review]")
    assert page.text_content("[data-review]") == "2 of 3 judged"
    page.click("tbody a")
    wait(page, "") if niivue_code() else None


def test_a_second_tab_shows_what_the_first_decides(browser, found, tmp_path: Path) -> None:
    troubles: list[str] = []
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    pages = []
    for _ in range(2):
        page = context.new_page()
        watch(page, tmp_path, troubles)
        page.goto(f"{(tmp_path / 'case' / 'review.html').as_uri()}#simple")
        pages.append(wait(page))
    first, second = pages
    first.keyboard.press("y")
    second.wait_for_function("Object.keys(window.reviewPage.book.state.judged).length === 1")
    assert second.text_content("#said") == ("Another tab changed these decisions. They are shown here as they are now.")
    second.click('#list tr[data-key="2"] button')
    second.keyboard.press("n")
    first.wait_for_function("Object.keys(window.reviewPage.book.state.judged).length === 2")
    assert verdicts(first) == verdicts(second) == ["node", "no node", ""]
    context.close()
    assert troubles == []


def test_a_browser_that_keeps_nothing_says_so(open_page, found, browser, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.add_init_script("Storage.prototype.setItem = () => { throw new Error('full'); }")
    page.goto(f"{(tmp_path / 'case' / 'review.html').as_uri()}#simple")
    wait(page)
    page.keyboard.press("y")
    page.keyboard.press("n")
    assert "This browser keeps nothing: save the decisions before you close the page." in page.text_content("#kept")
    leave = """() => {
        const event = new Event("beforeunload", { cancelable: true });
        window.dispatchEvent(event);
        return event.defaultPrevented;
    }"""
    assert page.evaluate(leave)  # the browser asks whether to stay
    saved(page, tmp_path)
    assert not page.evaluate(leave)
    context.close()


def load(page, path: Path, selector: str = "#file") -> str:
    page.set_input_files(selector, path)
    page.wait_for_timeout(200)
    return page.text_content("#said")


def test_files_that_do_not_fit_are_refused_with_their_sentence(open_page, found, tmp_path: Path) -> None:
    page = opened(open_page)
    good = decide(tmp_path / "case", {1: "node"})
    path = tmp_path / "x.decisions.json"
    subject = {"ct": good.subject.ct, "weights": list(good.subject.weights), "candidates": good.subject.candidates}
    for changes, sentence in (
        ({"format": 7}, "x.decisions.json has format 7, this page reads format 1."),
        ({"subject": subject | {"ct": "0"}}, "x.decisions.json judges another CT."),
        ({"subject": subject | {"weights": ["0"]}}, "x.decisions.json judges what other weights proposed."),
        ({"subject": subject | {"candidates": "0"}}, "x.decisions.json judges another list of candidates."),
        ({"judged": 3}, "x.decisions.json is no decisions file, or it is damaged."),
        ({"judged": [{"candidate": 9, "verdict": "node"}]}, "x.decisions.json is damaged."),
        ({"added": [{"lps_mm": [0, 1]}]}, "x.decisions.json is damaged."),
        ({"added": [{"lps_mm": [0, 1, 2], "threshold": None, "radius_mm": 1e9}]}, "x.decisions.json is damaged."),
        ({"judged": [{"candidate": 1, "verdict": "node", "threshold": 7}]}, "x.decisions.json is damaged."),
        ({"complete_from_mm": -1}, "x.decisions.json is damaged."),
    ):
        write_decisions(path, good, **changes)
        assert load(page, path) == sentence
        assert page.get_attribute("#said", "class") == "error"
    path.write_text("{")
    assert load(page, path) == "x.decisions.json is no decisions file, or it is damaged."
    assert state_of(page)["judged"] == {}
    write_decisions(path, good)
    assert load(page, path) == "The decisions of A. Reader are shown."
    assert verdicts(page) == ["node", "", ""] and page.input_value("#reader") == "A. Reader"
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("z")
    assert verdicts(page) == ["", "", ""]


def test_another_readers_verdicts_are_shown_beside(open_page, found, tmp_path: Path) -> None:
    page = opened(open_page)
    for key in "yn":
        page.keyboard.press(key)
    other = decide(tmp_path / "case", {1: "node", 2: "node", 3: "unsure"}, reader="B. Other")
    load(page, write_decisions(tmp_path / "b.decisions.json", other), "#other-file")
    assert page.text_content("#agreement") == (
        "You and B. Other agree on 1 of 2 candidates that both judged; you differ on 2."
    )
    assert page.locator("#list tr td.other").all_text_contents() == ["node", "node", "unsure"]
    assert page.locator("#list tr.differs").evaluate_all("rows => rows.map((row) => row.dataset.key)") == ["2"]
    assert verdicts(page) == ["node", "no node", ""]


def test_a_scan_is_rejected_with_a_reason_and_taken_back(open_page, found, tmp_path: Path) -> None:
    page = opened(open_page)
    page.click("#reject")
    assert page.text_content("#said") == "Say why the scan is of no use."
    page.fill("#reason", "breathing or movement")
    page.click("#reject")
    assert page.text_content("#rejected") == "Rejected: breathing or movement"
    _, decisions = saved(page, tmp_path)
    assert decisions.rejected is not None and decisions.rejected.reason == "breathing or movement"
    page.click("#reject")
    assert page.text_content("#rejected") == "" and state_of(page)["rejected"] is None


def test_a_statement_needs_a_size_and_saving_a_name(open_page, found) -> None:
    page = opened(open_page)
    page.fill("#complete-mm", "0")
    page.click("#complete")
    assert page.text_content("#said") == "Give a size in mm above 0."
    page.fill("#complete-mm", "6.5")
    page.check("#complete")
    assert page.text_content("#said") == "3 candidates are not judged: they stay unknown."
    assert state_of(page)["complete_from_mm"] == 6.5
    page.uncheck("#complete")
    assert state_of(page)["complete_from_mm"] is None
    page.fill("#reader", "")
    page.click("#save")
    assert page.text_content("#said") == "Write your name first: decisions name their reader."
    page.fill("#reader", "yns")  # typed letters are no verdicts
    assert verdicts(page) == ["", "", ""]


@pytest.mark.parametrize("viewer", VIEWERS)
def test_zoom_shows_more_of_less(open_page, found, viewer: str) -> None:
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
