"""Names that would steer a terminal, forge a line of a log, or be a formula of a spreadsheet."""

from __future__ import annotations

import io
import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnq.text import PlainFormatter, in_cell, on_one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Müller, 3 ≥ 2", "Müller, 3 ≥ 2"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\nb\r\nc\u2028d", "a b c d"),
        ("a\tb", r"a\tb"),
        ("left\u202eright", r"left\u202eright"),
        ("byte \udcff", r"byte \udcff"),
    ],
)
def test_control_characters_are_shown_as_escapes(text, shown):
    assert on_one_line(text) == shown


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_that_steers_a_terminal_is_left(text):
    shown = on_one_line(text)
    assert shown.isprintable()
    assert on_one_line(shown) == shown
    shown.encode()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-x", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_cell_is_no_formula(text):
    assert in_cell(text) == "'" + text
    assert in_cell("ct 1 =") == "ct 1 ="


def test_a_message_takes_one_line_and_a_traceback_follows():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter("%(levelname)s %(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.error("%s cannot be read", "a\nERROR b\x1b[2J")
    try:
        raise ValueError("c\x07")
    except ValueError:
        logger.exception("failed")
    lines = stream.getvalue().splitlines()
    assert lines[:3] == [r"ERROR a ERROR b\x1b[2J cannot be read", "ERROR failed", "Traceback (most recent call last):"]
    assert lines[-1] == r"ValueError: c\x07"


@pytest.mark.parametrize(("options", "lines"), [([], 0), (["-W", "default"], 2)])
def test_libraries_say_nothing_unless_they_are_asked(options, lines):
    code = (
        "import sys, logging, warnings; from lnq.text import start_logging; start_logging(sys.stderr);"
        "warnings.warn('Muster'); logging.getLogger('pydicom').warning('Muster')"
    )
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("Muster") == lines
