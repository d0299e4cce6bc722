"""Decisions are kept, saved, loaded, compared and refused; `pytest -m browser`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.pages import watch
from helpers.review_pages import (
    EMPTY_MM,
    MISSED_MM,
    click_at,
    load,
    opened,
    outline_ml,
    saved,
    state_of,
    verdicts,
    wait,
)
from helpers.reviews import decide, maps_of, write_decisions

from lnq.report.niivue import niivue_code
from training.data.sources.states import NODE, UNKNOWN
from training.review.decisions import refuse_others
from training.review.verdicts import tally, three_states

pytestmark = pytest.mark.browser
pytest.importorskip("jinja2")


def test_another_reader_is_asked_before_decisions_become_theirs(open_page, shown, tmp_path: Path) -> None:
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


def test_what_a_browser_keeps_may_be_damaged(open_page, shown) -> None:
    page = opened(open_page)
    for kept in ("null", "3", '{"judged": null, "added": [], "rejected": null}', "{"):
        page.evaluate("kept => localStorage.setItem(window.reviewPage.book.key, kept)", kept)
        page.reload()
        wait(page)
        assert verdicts(page) == ["", "", ""]
    page.keyboard.press("y")
    assert verdicts(page) == ["node", "", ""]


def test_saved_decisions_make_the_labels_that_the_page_shows(open_page, shown, tmp_path: Path) -> None:
    page = opened(open_page)
    page.fill("#outline", "80")
    page.keyboard.press("y")
    page.click('#list tr[data-key="1"] button')
    drawn_ml = [outline_ml(page)]
    page.click('#list tr[data-key="2"] button')
    page.keyboard.press("n")
    page.keyboard.press("a")
    click_at(page, MISSED_MM)
    drawn_ml.append(outline_ml(page))
    click_at(page, EMPTY_MM)
    drawn_ml.append(outline_ml(page))
    page.fill("#complete-mm", "8")
    page.check("#complete")
    path, decisions = saved(page, tmp_path)
    assert path.name == "case.A-Reader.decisions.json"
    assert page.text_content("#said") == f"Saved as {path.name}."
    refuse_others(decisions, path, tmp_path / "case")
    assert decisions.complete_from_mm == 8.0 and decisions.case == "case"
    before = np.full(shown.numbers.shape, UNKNOWN, np.uint8)
    outcome = tally([decisions], 3)
    state = three_states(before, [decisions], outcome, maps_of(shown), 5.0)
    volume_ml = (state == NODE).sum() * shown.numbers.voxel_volume_mm3 / 1000
    assert volume_ml == pytest.approx(sum(drawn_ml), rel=0.02)
    assert (state[shown.numbers.array == 2] == 0).all()


def test_decisions_survive_a_reload_and_show_in_the_worklist(open_page, shown) -> None:
    page = opened(open_page)
    page.fill("#reader", "A. Reader")
    page.evaluate("document.activeElement.blur()")
    for key in "yn":
        page.keyboard.press(key)
    before = state_of(page)
    page.reload()
    wait(page)
    assert state_of(page) == before and page.input_value("#reader") == "A. Reader"
    assert page.text_content("#title") == "Candidate 3 of 3"  # the first without a verdict
    page.click("text=All cases")
    page.wait_for_selector("[data-review]")
    assert page.text_content("[data-review]") == "2 of 3 judged"
    page.click("tbody a")
    wait(page, "" if niivue_code() else "#simple")


def test_a_second_tab_shows_what_the_first_decides(browser, shown, tmp_path: Path) -> None:
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


def test_a_browser_that_keeps_nothing_says_so(open_page, shown, browser, tmp_path: Path) -> None:
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


def test_files_that_do_not_fit_are_refused_with_their_sentence(open_page, shown, tmp_path: Path) -> None:
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


def test_another_readers_verdicts_are_shown_beside(open_page, shown, tmp_path: Path) -> None:
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


def test_a_scan_is_rejected_with_a_reason_and_taken_back(open_page, shown, tmp_path: Path) -> None:
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


def test_a_statement_needs_a_size_and_saving_a_name(open_page, shown) -> None:
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
