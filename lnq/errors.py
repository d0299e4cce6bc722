"""Messages to the user about failures, all exceptions that carry one, and the exit statuses.

A message keeps names apart from its words, because a file's name may be a patient's. Whoever writes or prints the
message decides whether to show the names.
"""

from __future__ import annotations

import logging
import os
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

DONE, SOME_FAILED, NOT_STARTED = 0, 1, 2  # exit statuses
INTERRUPTED, BROKEN_PIPE, TERMINATED = 130, 141, 143  # exit statuses: 128 + SIGINT, SIGPIPE and SIGTERM, as in shells

logger = logging.getLogger(__name__)

WITHHELD = "(not shown)"
_SUBJECT = "subject"  # the field for the case that the sentence is about


Value: TypeAlias = "str | float | Path | _Called | Message | MessageError"
"""What a message speaks of."""


class Words(str):
    """A text value of a message that the program chose itself, and so names no patient."""


class Message:
    """A sentence, or a part of one, with fields in braces for its values.

    `template` holds fixed words only. Texts and paths among `values` count as names: of files, or from a file's header.
    Numbers and `Words` identify nobody. A value may itself be a message, or an exception with one.
    """

    def __init__(self, template: str, **values: Value) -> None:
        self.template = template
        self.values = values

    @staticmethod
    def listed(messages: Iterable[Message]) -> Message:
        """Several messages as one, with commas between."""
        values = {f"part{number}": message for number, message in enumerate(messages)}
        return Message(", ".join(f"{{{key}}}" for key in values), **values)

    def about(self, subject: str) -> Message:
        """The same message, but without names it is about `subject`, whatever a sentence around it is about."""
        values = {key: _Called(str(value), subject) if key == _SUBJECT else value for key, value in self.values.items()}
        return Message(self.template, **values)

    def __str__(self) -> str:
        return self._filled({key: str(value) if _is_name(value) else value for key, value in self.values.items()})

    def without_names(self, subject: str) -> str:
        """The sentence about `subject`, which must not identify a patient, with all other names withheld."""

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


@dataclass(frozen=True)
class _Called:
    """A name, with words that stand in its place where names are not shown."""

    name: str
    instead: str

    def __str__(self) -> str:
        return self.name


def _is_name(value: object) -> bool:
    return not isinstance(value, (int, float, Words, Message, MessageError))


class MessageError(Exception):
    """An exception whose text is a message. It takes the arguments of `Message`."""

    def __init__(self, template: str, **values: Value) -> None:
        self.message = Message(template, **values)
        super().__init__(str(self.message))


class ImageError(MessageError, ValueError):
    """The image cannot be segmented. Its message is one sentence for the user."""


class Damaged(MessageError, ValueError):
    """A file's bytes are damaged. Its message is the end of a sentence ("it is truncated ...")."""


class BundleError(Exception):
    """A model bundle cannot be used. The message is one sentence for the user."""


class StartError(Exception):
    """Nothing could start. The message is one sentence about what the user typed."""


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
    return Message("{subject} could not be segmented: {reason}", subject=subject, reason=cause_of(error))


def cause_of(error: BaseException) -> Message:
    """The cause of a failure as the end of a sentence."""
    if isinstance(error, MessageError):
        return error.message
    if isinstance(error, MemoryError):
        return Message("there is not enough memory for it")
    if isinstance(error, OSError):
        reason: Message | str = Words(os.strerror(error.errno)) if error.errno else str(error)
        if isinstance(error.filename, (str, bytes)):  # a number where a descriptor was used
            return Message("{reason}: {place}", reason=reason, place=os.fsdecode(error.filename))
        return Message("{reason}", reason=reason)
    return Message("{kind}: {text}", kind=Words(type(error).__name__), text=str(error).replace("\n", " "))
