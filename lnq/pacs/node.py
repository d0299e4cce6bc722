"""Run a node: what comes in is taken at once, segmented study by study, and sent on while the next one is segmented."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from lnq.errors import BundleError, StartError, Stopped
from lnq.pacs.deliver import Away, Destination, Refused, destinations
from lnq.pacs.entry import Entry, StudyOutcome
from lnq.pacs.port import Port
from lnq.pacs.receive import Commitments, Receiver
from lnq.pacs.settings import NodeSettings
from lnq.pacs.spool import Spool
from lnq.pacs.watch import Watcher
from lnq.pacs.work import Segmenting, segment_study

_TICK_SECONDS = 0.2
_FIRST_WAIT, _LONGEST_WAIT = 5.0, 300.0  # seconds until a destination is tried again
_LONG_WAIT = 60.0  # seconds until the model is tried again
_TRIES = 10  # of results that a destination refuses
_PRUNE_SECONDS = 60.0

logger = logging.getLogger(__name__)


@dataclass
class _Waiting:
    """When something is tried again."""

    tries: int = 0
    due: float = 0.0  # monotonic seconds

    def later(self) -> float:
        """Wait longer than before; returns the seconds."""
        seconds = min(_FIRST_WAIT * 2**self.tries, _LONGEST_WAIT)
        self.tries += 1
        self.due = time.monotonic() + seconds
        return seconds


@dataclass
class Deliverer:
    """Sends the results of the queue's studies to one destination, each once."""

    spool: Spool
    destination: Destination
    notes: threading.Lock  # of all deliverers, held while one notes how it ended
    _away: _Waiting = field(default_factory=_Waiting)
    _refused: dict[str, _Waiting] = field(default_factory=dict)  # by study

    def deliver(self, stopping: Callable[[], bool]) -> None:
        """Send all that is due. Raises OSError where that cannot be noted."""
        for entry in self.spool.entries():
            outcome = entry.outcome()
            if outcome is None or not outcome.files or self.destination.name in entry.sent() | entry.refused().keys():
                continue
            if stopping() or time.monotonic() < self._away.due:
                return
            if time.monotonic() >= self._refused.setdefault(entry.study, _Waiting()).due:
                self._send(entry, outcome)

    def _send(self, entry: Entry, outcome: StudyOutcome) -> None:
        name, study = self.destination.name, entry.study[:8]
        try:
            self._try(entry, outcome)
        except Away as error:
            logger.warning("%s is tried again in %.0f s: %s", name, self._away.later(), error)
        except Refused as error:
            waiting = self._refused[entry.study]
            seconds, sentence = waiting.later(), f"{name} refuses the results of study {study}: {error}"
            if waiting.tries < _TRIES:
                logger.warning("%s; they are sent again in %.0f s", sentence, seconds)
                return
            logger.error("%s; given up after %d tries", sentence, _TRIES)
            self._refused.pop(entry.study)
            with self.notes:
                entry.note_refused(name, sentence)
        else:
            with self.notes:
                entry.note_sent(name)
            self._away = _Waiting()
            self._refused.pop(entry.study, None)
            logger.info("Results of study %s are at %s: %d objects", study, name, len(outcome.files))

    def _try(self, entry: Entry, outcome: StudyOutcome) -> None:
        """Send the results. Raises Away or Refused: what is unforeseen holds up no other study either."""
        try:
            self.destination.send(entry.study, [entry.folder / file for file in outcome.files])
        except (Away, Refused):
            raise
        except Exception as error:
            raise Refused(f"they cannot be sent ({type(error).__name__})") from None


@dataclass
class DicomNode:
    """A running node."""

    settings: NodeSettings
    how: Segmenting
    spool: Spool
    stop: threading.Event = field(default_factory=threading.Event)
    _names: list[str] = field(default_factory=list)  # of the destinations
    _pruned: float = -_PRUNE_SECONDS
    _port: Port | None = None

    def run(self) -> None:
        """Run until `stop` is set or a signal is raised. Raises StartError where it cannot start."""
        receiver, commitments, notes = Receiver(self.spool, self.how.key), Commitments(), threading.Lock()
        self._port = port = Port(self.settings, receiver, commitments)
        self._names = [to.name for to in self.settings.to]
        with ExitStack() as stack:
            stack.callback(self.stop.set)
            if self.settings.callers:
                port.open()
                stack.callback(port.close)
            for destination in destinations(self.settings, commitments):
                deliverer = Deliverer(self.spool, destination, notes)
                self._beside(partial(deliverer.deliver, self.stop.is_set))
            if self.settings.watch is not None:
                watcher = Watcher(self.settings.watch, receiver, self.settings.quiet_seconds)
                self._beside(
                    lambda: watcher.look(time.monotonic()), max(_TICK_SECONDS, self.settings.quiet_seconds / 5)
                )
            waiting, failed = len(self.spool.entries()) + len(self.spool.arriving()), len(self.spool.failures())
            logger.info("Ready: %d studies wait, %d have failed", waiting, failed)
            while not self.stop.is_set():
                self.step()
                self.stop.wait(_TICK_SECONDS)

    def _beside(self, work: Callable[[], object], every_seconds: float = _TICK_SECONDS) -> None:
        """Do some work in a thread, again and again until the node stops. What goes wrong is said, and ends nothing."""

        def repeat() -> None:
            while not self.stop.wait(every_seconds):
                try:
                    work()
                except OSError as error:
                    logger.error("Tried again: %s", error.strerror or type(error).__name__)
                    self.stop.wait(_FIRST_WAIT)
                except Exception as error:  # its text may name a patient
                    logger.error("Unforeseen %s; tried again", type(error).__name__)
                    self.stop.wait(_FIRST_WAIT)

        threading.Thread(target=repeat, daemon=True).start()

    def step(self) -> None:
        """Move complete studies into the queue, take those out of it that have ended, and segment the next one."""
        for work in (self._prune, self._collect, self._settle_all, self._segment_next):
            try:
                work()
            except OSError as error:
                logger.error("The spool cannot be written: %s; tried again", error.strerror or error)
                self.stop.wait(_FIRST_WAIT)

    def _prune(self) -> None:
        if time.monotonic() - self._pruned > _PRUNE_SECONDS or not self.spool.has_room():
            self.spool.prune()
            self._pruned = time.monotonic()

    def _collect(self) -> None:
        """Move complete studies into the queue: not while their sender is there, nor where it could not send all."""
        for study in self.spool.arriving() if self.spool.has_room() else ():
            if self._port is None or not self._port.brings(study):
                self.spool.complete(study, self.settings.quiet_seconds)

    def _settle_all(self) -> None:
        for entry in self.spool.entries():
            self._settle(entry)

    def _segment_next(self) -> None:
        """Segment the oldest study of the queue of which nothing more is coming in."""
        coming = set(self.spool.arriving())
        waiting = [entry for entry in self.spool.entries() if entry.outcome() is None and entry.study not in coming]
        if waiting and self.spool.has_room():
            self._segment(waiting[0])

    def _settle(self, entry: Entry) -> None:
        """Take a study out of the queue whose results have arrived at, or are refused by, every destination."""
        refused, outcome = entry.refused(), entry.outcome()
        if outcome is not None and not outcome.files:
            logger.error("Study %s failed: %s", entry.study[:8], " ".join(outcome.sentences))
            self.spool.fail(entry, outcome.sentences)
            return
        if outcome is None or not set(self._names) <= entry.sent() | refused.keys():
            return
        if refused:
            self.spool.fail(entry, tuple(refused.values()))
        else:
            self.spool.finish(entry)
            logger.info("Study %s is done", entry.study[:8])

    def _segment(self, entry: Entry) -> None:
        begun = time.monotonic()
        try:
            outcome = segment_study(entry.objects, entry.folder, self.how, self.stop)
        except Stopped:
            return
        except (StartError, BundleError) as error:
            logger.error("Nothing can be segmented, and is tried again in %.0f s: %s", _LONG_WAIT, error)
            self.stop.wait(_LONG_WAIT)
            return
        except Exception as error:  # its text may name a patient
            outcome = StudyOutcome((), (f"Stopped by an unforeseen {type(error).__name__}",))
        if not outcome.files and not self.spool.has_room():
            return  # the disk was full: again when there is room
        entry.note_outcome(outcome)
        if outcome.files:
            seconds = time.monotonic() - begun
            logger.info("Study %s is segmented: %d objects, %.0f s", entry.study[:8], len(outcome.files), seconds)
            for sentence in outcome.sentences:
                logger.warning("Study %s: %s", entry.study[:8], sentence)
