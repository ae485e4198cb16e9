from __future__ import annotations

import signal
import threading

import pytest

from sadcl_core.errors import Terminated
from sadcl_core.training.interrupts import Interrupts


def test_the_first_waits_for_the_next_step_and_later_ones_do_not_disturb_the_saving() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        interrupts.check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_does_not_wait() -> None:
    with Interrupts():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_terminal_that_closes_is_as_sigterm_and_what_was_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(Terminated):
            interrupts.check()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGHUP)
        interrupts.check()
    signal.signal(signal.SIGHUP, before)


def test_after_sigterm_ctrl_c_still_ends_it_when_it_comes_twice() -> None:
    calls = []
    with Interrupts(on_signal=lambda: calls.append(True)) as interrupts:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert calls == [True]
        with pytest.raises(Terminated):
            interrupts.check()
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interrupts.at_once


def test_files_are_written_to_their_end() -> None:
    written = []

    def write(interrupts: Interrupts) -> None:
        with interrupts.waiting():
            for number in range(3):
                signal.raise_signal(signal.SIGINT)
                written.append(number)

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        write(interrupts)
    assert written == [0, 1, 2]


def test_changes_nothing_in_another_thread() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with Interrupts() as interrupts:
            seen.append(signal.getsignal(signal.SIGINT))
            interrupts.check()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
