"""Messages keep names apart from their words, and every failure becomes one sentence."""

import errno
import os
import pickle
from pathlib import Path

import pytest

from lnq.errors import WITHHELD, Damaged, ImageError, Message, Words, reason_of


def test_a_message_shows_its_names_unless_told_not_to():
    message = Message(
        "{subject} cannot be used: its file {file} has {count} pixels", subject="Doe", file="Jane", count=3
    )
    assert str(message) == "Doe cannot be used: its file Jane has 3 pixels"
    assert message.without_names("1a2b") == f"1a2b cannot be used: its file {WITHHELD} has 3 pixels"


def test_names_within_messages_and_errors_are_withheld_too():
    damage = Damaged("its voxel file {file} is missing", file="Jane.raw")
    error = ImageError("{subject} cannot be read: {reason}", subject="Doe.mhd", reason=damage)
    outer = Message("{reason} ({place})", reason=error, place=Path("/data/Doe"))
    assert str(outer) == "Doe.mhd cannot be read: its voxel file Jane.raw is missing (/data/Doe)"
    told = outer.without_names("1a2b")
    assert told == f"1a2b cannot be read: its voxel file {WITHHELD} is missing ({WITHHELD})"


def test_numbers_are_formatted_and_words_of_the_program_stay():
    message = Message("{gap:.2f} of {bytes:,} for {field}", gap=1.239, bytes=12345, field=Words("DimSize"))
    assert str(message) == message.without_names("x") == "1.24 of 12,345 for DimSize"


@pytest.mark.parametrize("name", ["{subject}", "{0}", "{", "100 %", "{file!r}"])
def test_braces_in_a_name_are_no_fields(name):
    assert str(Message("its file {file} is damaged", file=name)) == f"its file {name} is damaged"


def test_quoted_values_are_quoted_withheld_too():
    message = Message("its header gives {text!r}", text="a\nb")
    assert str(message) == r"its header gives 'a\nb'"
    assert message.without_names("x") == f"its header gives {WITHHELD!r}"


def test_an_error_keeps_its_message_between_processes():
    error = ImageError("{subject} cannot be used: {reason}", subject="Doe", reason=Message("it holds {n} slices", n=2))
    again = pickle.loads(pickle.dumps(error))
    truth = pickle.loads(pickle.dumps(error.message.about("its truth")))
    assert (str(truth), truth.without_names("x")) == (str(error), "its truth cannot be used: it holds 2 slices")
    assert (str(again), again.message.without_names("x")) == (str(error), "x cannot be used: it holds 2 slices")


FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    ("error", "sentence", "private"),
    [
        (ImageError("{subject} is damaged", subject="ct.mha"), "ct.mha is damaged", "1a2b is damaged"),
        (
            MemoryError(),
            "ct.mha could not be segmented: there is not enough memory for it",
            "1a2b could not be segmented: there is not enough memory for it",
        ),
        (
            OSError(errno.ENOSPC, FULL, "/out/Doe"),
            f"ct.mha could not be segmented: {FULL}: /out/Doe",
            f"1a2b could not be segmented: {FULL}: {WITHHELD}",
        ),
        (
            OSError(errno.ENOSPC, FULL),
            f"ct.mha could not be segmented: {FULL}",
            f"1a2b could not be segmented: {FULL}",
        ),
        (
            OSError(errno.ENOSPC, FULL, 7),  # a descriptor
            f"ct.mha could not be segmented: {FULL}",
            f"1a2b could not be segmented: {FULL}",
        ),
        (
            OSError("/out/Doe could not be written"),
            "ct.mha could not be segmented: /out/Doe could not be written",
            f"1a2b could not be segmented: {WITHHELD}",
        ),
        (
            KeyError("Doe\nJane"),
            r"ct.mha could not be segmented: KeyError: 'Doe\nJane'",
            f"1a2b could not be segmented: KeyError: {WITHHELD}",
        ),
    ],
)
def test_every_failure_is_one_sentence(error, sentence, private):
    message = reason_of(error, "ct.mha")
    assert str(message) == sentence
    assert message.without_names("1a2b") == private
