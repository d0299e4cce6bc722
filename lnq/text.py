"""Texts made safe for where they go: names of files and values of headers can hold anything."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import TextIO


def on_one_line(text: str) -> str:
    """The text on one line, for a terminal or a log. What could steer a terminal is shown as an escape, as `\\x1b`."""
    text = " ".join(text.splitlines())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def in_cell(text: str) -> str:
    """The text as a cell of a CSV table. A spreadsheet would take it for a formula if it began with one of `=+-@`."""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") else text


class PlainFormatter(logging.Formatter):
    """Formats a message on one line; a traceback follows as it is, line by line."""

    def format(self, record: logging.LogRecord) -> str:
        one_line = record.__dict__ | {"msg": on_one_line(record.getMessage()), "args": None}
        return "\n".join(map(on_one_line, super().format(logging.makeLogRecord(one_line)).split("\n")))


def start_logging(stream: TextIO) -> None:
    """Have log messages appear on a stream, and libraries say nothing of their own.

    What they say of a damaged file may hold a patient's name. `python -W` brings their warnings back.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)
