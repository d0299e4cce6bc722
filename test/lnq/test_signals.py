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


def test_another_thread_may_ask_too():
    seen = []

    def work():
        with signals_held():
            seen.append("held")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == ["held"]
