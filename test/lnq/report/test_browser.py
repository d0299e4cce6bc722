"""Opens reports from the disk in Chromium, as a reader does; `pytest -m browser`."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.pages import BROWSER, VIEWERS, WIDTHS, count_colour, pixels
from helpers.records import DONE_RECORD, changed, failed

from lnq.report.niivue import niivue_code
from lnq.report.pages import write_case_page, write_index
from lnq.results.preview import preview

pytestmark = pytest.mark.browser
pytest.importorskip("jinja2")

COLOURS = {1: (240, 228, 66), 2: (230, 159, 0), 3: (213, 94, 0)}  # of the nodes' sizes
HOSTILE = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"


@pytest.fixture
def run(tmp_path, thorax, node_labels, node_rows):
    """A folder with one case done, one failed and one without nodes."""
    (tmp_path / "chest").mkdir()
    mask = node_labels.with_array((node_labels.array > 0).astype(np.uint8))
    preview(thorax, mask, tmp_path / "chest" / "preview.png")
    box = (slice(4, 44), slice(4, 52), slice(8, 56))
    write_case_page(tmp_path / "chest" / "report.html", DONE_RECORD, node_rows, thorax, node_labels, box)
    broken = failed(HOSTILE, HOSTILE)
    empty = changed(case="empty", nodes=0, volume_mm3=0.0, warnings=())
    write_index(tmp_path, [broken, DONE_RECORD, empty], node_rows)
    return tmp_path


def open_case(open_page, viewer="", width=1440, **options):
    if VIEWERS[viewer] == "niivue" and niivue_code() is None:
        pytest.skip("jupyterlab-niivue is not installed")
    page = open_page(f"chest/report.html{viewer}", width, **options)
    page.wait_for_selector("body[data-viewer]", timeout=90_000)
    assert page.get_attribute("body", "data-viewer") == VIEWERS[viewer]
    return page


def chosen(page) -> list[str]:
    return page.locator("tr.chosen").evaluate_all("rows => rows.map((row) => row.dataset.node)")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("viewer", VIEWERS)
def test_a_row_leads_to_its_node_in_its_colour(open_page, run, viewer, width):
    page = open_case(open_page, viewer, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("section.nodes").evaluate("part => part.scrollWidth - part.clientWidth") <= 0
    for number, slice_ in ((1, 33), (2, 25), (3, 18)):
        page.click(f'tr[data-node="{number}"] button')
        assert abs(int(page.input_value("#slice")) - slice_) <= 3
        assert page.text_content("#where").endswith(f"node {number}")
        assert page.text_content("#chosen") == f"node {number} of 3"
        assert chosen(page) == [str(number)]
        stage = pixels(page, "#stage")
        assert len(np.unique(stage[..., 0])) > 50, "the CT is not shown"
        assert count_colour(stage, COLOURS[number]) > 60, "the node's outline is not shown"
    assert page.is_hidden("#picture")


@pytest.mark.parametrize("viewer", VIEWERS)
def test_scrolling_leaves_a_node_and_choosing_comes_back(open_page, run, viewer):
    page = open_case(open_page, viewer)
    page.click('[data-view="axial"]')
    page.click('tr[data-node="1"] button')
    start = int(page.input_value("#slice"))
    stage = page.locator("#stage").bounding_box()
    page.mouse.move(stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2)
    for _ in range(4):
        page.mouse.wheel(0, 100)
        page.wait_for_timeout(100)
    assert int(page.input_value("#slice")) != start
    assert count_colour(pixels(page, "#stage"), COLOURS[1]) == 0
    page.focus("#stage")
    page.keyboard.press("ArrowUp")
    after_key = int(page.input_value("#slice"))
    page.keyboard.press("PageDown")
    assert int(page.input_value("#slice")) == after_key - 5
    page.keyboard.press("n")
    assert chosen(page) == ["2"]
    page.click("#previous")
    assert int(page.input_value("#slice")) == start


@pytest.mark.parametrize("viewer", VIEWERS)
def test_clicking_a_node_in_the_picture_chooses_its_row(open_page, run, viewer):
    page = open_case(open_page, viewer)
    page.click('[data-view="axial"]')
    page.click('tr[data-node="3"] button')
    outline = np.argwhere(np.abs(pixels(page, "#stage") - COLOURS[3]).max(axis=-1) < 12)
    y, x = outline.mean(axis=0)
    page.click('tr[data-node="1"] button')
    page.fill("#slice", "18")
    assert chosen(page) == ["1"]
    page.click("#stage", position={"x": x, "y": y})
    assert chosen(page) == ["3"]


@pytest.mark.parametrize("viewer", VIEWERS)
def test_the_patients_left_is_on_the_right(open_page, run, viewer):
    page = open_case(open_page, viewer)
    page.click('[data-view="axial"]')
    stage = page.locator("#stage").bounding_box()
    sides = []
    for part in (0.4, 0.6):
        page.click("#stage", position={"x": stage["width"] * part, "y": stage["height"] / 2})
        sides.append(page.text_content("#where")[0])
    assert sides == ["R", "L"]
    page.click("#stage", position={"x": stage["width"] / 2, "y": stage["height"] * 0.35})
    assert " A " in page.text_content("#where")


@pytest.mark.parametrize("viewer", VIEWERS)
def test_window_and_marks_change_the_picture(open_page, run, viewer):
    page = open_case(open_page, viewer)
    page.click('tr[data-node="2"] button')
    before = pixels(page, "#stage")
    page.select_option("#window", "-35 115")
    narrow = pixels(page, "#stage")
    assert np.abs(narrow - before).mean() > 1
    page.select_option("#shown", "none")
    assert count_colour(pixels(page, "#stage"), COLOURS[2]) == 0
    if VIEWERS[viewer] == "niivue":
        page.select_option("#shown", "fill")
        orange = pixels(page, "#stage") - narrow
        assert (orange[..., 0] - orange[..., 2] > 25).sum() > 50
        page.select_option("#tool", "zoom")
        page.hover("#stage")
        page.mouse.wheel(0, -200)
        assert np.abs(pixels(page, "#stage") - narrow).mean() > 1


@pytest.mark.parametrize("view", ["axial", "coronal", "sagittal"])
def test_both_viewers_show_the_same(open_page, run, view):
    pictures = []
    for viewer in VIEWERS:
        page = open_case(open_page, viewer)
        page.click(f'[data-view="{view}"]')
        page.click('tr[data-node="3"] button')
        outline = np.argwhere(np.abs(pixels(page, "#stage") - COLOURS[3]).max(axis=-1) < 12)
        size = page.locator("#stage").bounding_box()
        pictures.append(outline.mean(axis=0) / (size["height"], size["width"]))
    np.testing.assert_allclose(*pictures, atol=0.02)


def test_without_webgl_the_simple_viewer_starts_and_says_why(chromium, open_page, run):
    browser = chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-3d-apis"])
    page = open_page("chest/report.html", browser=browser)
    page.wait_for_selector("body[data-viewer=simple]")
    assert "no WebGL 2" in page.text_content("#viewer-note") or niivue_code() is None
    assert count_colour(pixels(page, "#stage"), COLOURS[1]) > 60
    browser.close()


def test_without_scripts_or_with_damaged_data_the_preview_is_shown(open_page, run):
    page = open_page("chest/report.html", java_script_enabled=False)
    assert page.is_visible("#picture") and page.is_hidden("#viewer")
    path = run / "chest" / "report.html"
    head, _, tail = path.read_text("utf-8").partition('id="levels">')
    path.write_text(f'{head}id="levels">AAAA{tail[tail.index("<") :]}', "utf-8")
    page = open_page("chest/report.html")
    page.wait_for_selector("body[data-viewer=none]")
    assert "cannot run in this browser" in page.text_content("#viewer-note")
    assert page.is_visible("#picture") and page.is_hidden("#viewer")


def test_a_case_without_nodes_can_be_looked_through(open_page, run, thorax):
    entry = changed(nodes=0, volume_mm3=0.0)
    none = thorax.with_array(np.zeros(thorax.shape, np.int16))
    write_case_page(run / "chest" / "report.html", entry, [], thorax, none)
    for viewer in VIEWERS:
        page = open_case(open_page, viewer)
        before = page.text_content("#slice-name")
        page.focus("#stage")
        page.keyboard.press("ArrowUp")
        assert page.text_content("#slice-name") != before
        assert page.is_disabled("#next") and page.text_content("#chosen") == "no node"


def test_the_table_of_nodes_sorts_by_its_buttons(open_page, run):
    page = open_case(open_page, "#simple")
    page.click("th:nth-child(2) button")
    order = page.locator("tbody tr").evaluate_all("rows => rows.map((row) => row.dataset.node)")
    assert order == ["3", "2", "1"]
    assert page.get_attribute("th:nth-child(2)", "aria-sort") == "descending"
    page.focus("th:nth-child(9) button")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    order = page.locator("tbody tr").evaluate_all("rows => rows.map((row) => row.dataset.node)")
    assert order[-1] == "3", "a blank cell is last"


@pytest.mark.parametrize("width", WIDTHS)
def test_index_sorts_filters_and_leads_to_the_case(open_page, run, width):
    page = open_page("report.html", width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() != "run" and page.locator("main img").count() == 1
    page.locator("main img").scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    assert page.locator("main img").evaluate("image => image.naturalWidth") > 0

    names = "rows => rows.filter((row) => !row.hidden).map((row) => row.cells[0].innerText.trim().slice(0, 5))"
    rows = page.locator("#cases tbody tr")
    assert rows.evaluate_all(names) == ["</scr", "chest", "empty"]
    page.click("th:nth-child(4) button")
    assert rows.evaluate_all(names)[0] == "chest"
    page.click("th:nth-child(1) button")
    page.click("th:nth-child(1) button")
    assert rows.evaluate_all(names)[0] in ("empty", "chest")
    page.fill("#search", "CONTRAST done")
    assert rows.evaluate_all(names) == ["chest"]
    assert page.text_content("#count") == "1 of 3 cases shown"
    page.fill("#search", "")
    page.select_option("#kind", "failed")
    assert rows.evaluate_all(names) == ["</scr"]
    page.select_option("#kind", "none")
    assert rows.evaluate_all(names) == ["empty"]
    page.select_option("#kind", "all")
    page.click("a:text('chest')")
    page.wait_for_selector("body[data-viewer]", timeout=90_000)
    assert page.text_content("h1") == "chest"


def test_index_of_a_thousand_cases_is_quick(open_page, tmp_path, node_rows):
    entries = [changed(case=f"case {i}", nodes=i % 30, seconds=i * 7 % 100) for i in range(1000)]
    numbers = range(1000)
    rows = [replace(node_rows[0], case=f"case {i}", short_axis_mm=i * 13 % 200 / 10) for i in numbers]
    write_index(tmp_path, entries, rows)
    assert (tmp_path / "report.html").stat().st_size < 1_500_000
    page = open_page("report.html")
    took_ms = page.evaluate(
        """() => {
            const start = performance.now();
            document.querySelector("th:nth-child(4) button").click();
            document.getElementById("search").value = "case 77";
            document.getElementById("search").dispatchEvent(new Event("input"));
            return performance.now() - start;
        }"""
    )
    assert page.text_content("#count") == "19 of 1000 cases shown"
    assert took_ms < 2000
