from __future__ import annotations

import re
from pathlib import Path

import pytest

from lnq.report.render import render

jinja2 = pytest.importorskip("jinja2")
CONTEXT = {"title": "<b>a & b</b>"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.html").write_text("{% extends 'page.html' %}{% block content %}<p>{{ title }}</p>{% endblock %}")
    (tmp_path / "own.css").write_text("p { color: red; }")
    return tmp_path


def test_a_template_of_another_folder_extends_the_packages_page(folder: Path) -> None:
    page = render("own.html", ("page.css", "own.css"), ("sort.js",), CONTEXT, folder).decode()
    assert "<p>&lt;b&gt;a &amp; b&lt;/b&gt;</p>" in page and "<title>&lt;b&gt;" in page
    assert "p { color: red; }" in page and ".unsuited {" in page and "function makeSortable" in page


def test_the_policy_names_only_the_pages_own_style_and_script(folder: Path) -> None:
    page = render("own.html", ("own.css",), ("sort.js",), CONTEXT, folder).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None and "default-src &#39;none&#39;" in policy[1]
    assert policy[1].count("sha256-") == 2


def test_bytes_that_are_no_text_do_not_stop_a_page(folder: Path) -> None:
    assert b"a\\udcff" in render("own.html", (), (), {"title": "a\udcff"}, folder)


def test_a_value_that_is_not_given_is_an_error(folder: Path) -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("own.html", (), (), {}, folder)


def test_the_packages_own_templates_need_no_folder() -> None:
    assert render("page.html", ("page.css",), (), CONTEXT).startswith(b"<!DOCTYPE html>")
