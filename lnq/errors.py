"""What a user is told when something fails: messages, every exception that carries one, and the exit statuses.

A message keeps the names in it apart from its words. Where it is written or printed the caller decides whether they are
shown: a file's name may be a patient's.
"""

from __future__ import annotations

import logging
import os
import string
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

DONE, SOME_FAILED, NOT_STARTED = 0, 1, 2
INTERRUPTED, BROKEN_PIPE, TERMINATED = 130, 141, 143  # as a shell gives for SIGINT, SIGPIPE and SIGTERM

logger = logging.getLogger(__name__)

WITHHELD = "(not shown)"
_SUBJECT = "subject"  # the field for what the sentence is about: the case


class Words(str):
    """Words of the program's own in a message's value, which tell of nobody."""


class Message:
    """A sentence, or a part of one, with fields in braces for what it speaks of.

    `template` holds fixed words alone. Texts and paths among `values` are names: of files, or what a file's header
    says. Numbers and `Words` tell of nobody. A value may be a message itself, or an exception with one.
    """

    def __init__(self, template: str, **values: str | float | Path | Message | MessageError) -> None:
        self.template = template
        self.values = values

    @staticmethod
    def listed(messages: Iterable[Message]) -> Message:
        """Several messages as one, with commas between."""
        values = {f"part{number}": message for number, message in enumerate(messages)}
        return Message(", ".join(f"{{{key}}}" for key in values), **values)

    def about(self, subject: str) -> Message:
        """The same message, but without names it is about `subject`, whatever a sentence around it is about."""
        values = {key: _Called(value, subject) if key == _SUBJECT else value for key, value in self.values.items()}
        return Message(self.template, **values)

    def __str__(self) -> str:
        return self._filled({key: str(value) if _is_name(value) else value for key, value in self.values.items()})

    def without_names(self, subject: str) -> str:
        """The sentence about `subject`, which tells nothing of a patient, and with no other name in it."""

        def shown(key: str, value: Any) -> Any:
            if isinstance(value, _Called):
                return value.instead
            if key == _SUBJECT:
                return subject
            inner = value.message if isinstance(value, MessageError) else value
            if isinstance(inner, Message):
                return inner.without_names(subject)
            return WITHHELD if _is_name(inner) else inner

        return self._filled({key: shown(key, value) for key, value in self.values.items()})

    def _filled(self, values: Mapping[str, Any]) -> str:
        if not values:
            return self.template
        return string.Formatter().vformat(self.template, (), values)


class _Called(str):
    """A name, with words that stand in its place where names are not shown."""

    instead: str

    def __new__(cls, name: object, instead: str) -> _Called:
        called = super().__new__(cls, name)
        called.instead = instead
        return called


def _is_name(value: object) -> bool:
    return not isinstance(value, (int, float, Words, Message, MessageError))


class MessageError(Exception):
    """An exception whose text is a message; its arguments are those of `Message`."""

    def __init__(self, template: str, **values: str | float | Path | Message | MessageError) -> None:
        self.message = Message(template, **values)
        super().__init__(str(self.message))


class ImageError(MessageError, ValueError):
    """The image cannot be segmented. Its message is one sentence for the user."""


class Damaged(MessageError, ValueError):
    """What is wrong with a file's bytes, as the end of a sentence ("it is truncated ...")."""


class BundleError(Exception):
    """A model bundle that cannot be used; the message is one sentence for the user."""


class StartError(Exception):
    """Nothing could start; the message is one sentence for the user, about what that user has typed."""


class Stopped(Exception):
    """The run was told to stop."""


def attempt(subject: str, work: Callable[[], None]) -> Message | None:
    """Run one case's work; None where it succeeded, else one sentence that says why it failed.

    An unforeseen error is also logged with its traceback.
    """
    try:
        work()
    except Exception as error:
        if not isinstance(error, (ImageError, MemoryError, OSError)):
            logger.exception("Unforeseen error with %s", subject)
        return reason_of(error, subject)
    return None


def reason_of(error: BaseException, subject: str) -> Message:
    """One sentence that says why the case called `subject` could not be segmented."""
    if isinstance(error, ImageError):
        return error.message
    if isinstance(error, MemoryError):
        return Message("{subject} could not be segmented: there is not enough memory for it", subject=subject)
    if isinstance(error, OSError):
        reason: Message | str = Words(os.strerror(error.errno)) if error.errno else str(error)
        if error.filename:
            reason = Message("{reason}: {place}", reason=reason, place=os.fsdecode(error.filename))
    else:
        kind, text = Words(type(error).__name__), str(error).replace("\n", " ")
        reason = Message("{kind}: {text}", kind=kind, text=text)
    return Message("{subject} could not be segmented: {reason}", subject=subject, reason=reason)
