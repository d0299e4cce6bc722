import signal
import threading

import pytest

from lnq.signals import STOPPING, signals_go_to, signals_held


@pytest.fixture
def told():
    """Numbers of the signals that reached this test."""
    numbers = []
    with signals_go_to(lambda number, _frame: numbers.append(number)):
        yield numbers


@pytest.mark.parametrize("number", STOPPING)
def test_a_held_signal_comes_after_the_block_once(told, number):
    with signals_held():
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert told == []
    assert told == [number]


def test_a_held_signal_comes_after_an_error_too(told):
    with pytest.raises(OSError, match="full"), signals_held():
        signal.raise_signal(signal.SIGTERM)
        raise OSError("full")
    assert told == [signal.SIGTERM]


def test_handlers_are_as_before(told):
    before = [signal.getsignal(number) for number in STOPPING]
    with signals_held():
        assert [signal.getsignal(number) for number in STOPPING] != before
    assert [signal.getsignal(number) for number in STOPPING] == before


def test_all_handlers_come_back_where_one_of_them_raises_at_once(monkeypatch):
    """As where SIGINT comes as soon as its own handler is back."""
    set_handler = signal.signal

    def raising(number, handler):
        before = set_handler(number, handler)
        if number == signal.SIGINT and handler is not ours:
            raise KeyboardInterrupt
        return before

    def ours(_number, _frame):
        pass

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(signal, "signal", raising)
    with pytest.raises(KeyboardInterrupt), signals_go_to(ours):
        assert signal.getsignal(signal.SIGTERM) is ours
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_handler_that_is_not_of_python_stays(monkeypatch):
    before = [signal.getsignal(number) for number in STOPPING]
    monkeypatch.setattr(signal, "getsignal", lambda _number: None)
    with signals_held():
        monkeypatch.undo()
        assert [signal.getsignal(number) for number in STOPPING] == before


def test_another_thread_may_ask_too():
    seen = []

    def work():
        with signals_held():
            seen.append("held")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == ["held"]
