"""The first Ctrl-C ends a trial, or waits for what must not be cut in two; the second ends anything."""

from __future__ import annotations

import os
import signal

import pytest

from optimizer.tune.interrupts import Stop, caught, ignored

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent to this process")


def press(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_inside_a_trial_it_ends_the_trial(number: int) -> None:
    with caught(Stop()) as stop:
        with pytest.raises(KeyboardInterrupt), stop.at_once():
            press(number)
        assert stop.wanted


def test_between_trials_it_is_kept_until_the_next_would_begin() -> None:
    with caught(Stop()) as stop:
        press()
        assert stop.wanted
        with pytest.raises(KeyboardInterrupt), stop.at_once():
            raise AssertionError("no trial begins")


def test_the_second_ends_anything() -> None:
    with caught(Stop()):
        press()
        with pytest.raises(KeyboardInterrupt):
            press()


def test_afterwards_signals_do_what_they_did() -> None:
    before = signal.getsignal(signal.SIGINT)
    with caught(Stop()), ignored():
        press()
    assert signal.getsignal(signal.SIGINT) is before


def test_what_a_helper_was_told_to_ignore_stays_ignored() -> None:
    with ignored(), caught(Stop(), [signal.SIGTERM]) as stop:
        press()
        assert not stop.wanted
        press(signal.SIGTERM)
        press()
        assert stop.wanted


def test_who_is_left_alone_wants_to_end() -> None:
    assert Stop(lambda: True).wanted
    assert not Stop(lambda: False).wanted
