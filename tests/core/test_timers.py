"""Timers of one agent: order, cancellation, and what expiring ones set."""

from __future__ import annotations

import gc
from random import Random

import pytest

from ice_tcp.core.timers import Timer, Timers


def recorder() -> tuple[list[tuple[str, float]], Timers]:
    return [], Timers()


def test_the_earliest_timer_is_next() -> None:
    _, timers = recorder()
    timers.set(3.0, lambda _: None)
    timers.set(1.0, lambda _: None)
    assert timers.next_at() == 1.0


def test_without_timers_there_is_no_next_instant() -> None:
    assert Timers().next_at() is None


def test_due_timers_expire_in_the_order_of_their_instants() -> None:
    log, timers = recorder()
    timers.set(2.0, lambda now: log.append(("second", now)))
    timers.set(1.0, lambda now: log.append(("first", now)))
    timers.set(5.0, lambda now: log.append(("not yet", now)))
    timers.expire(4.0)
    assert log == [("first", 4.0), ("second", 4.0)]
    assert timers.next_at() == 5.0


def test_of_equal_instants_the_one_set_first_expires_first() -> None:
    log, timers = recorder()
    for name in "abc":
        timers.set(1.0, lambda now, name=name: log.append((name, now)))  # type: ignore[misc]
    timers.expire(1.0)
    assert [name for name, _ in log] == ["a", "b", "c"]


def test_a_cancelled_timer_does_nothing_and_is_not_waited_for() -> None:
    log, timers = recorder()
    timer = timers.set(1.0, lambda now: log.append(("cancelled", now)))
    timers.set(2.0, lambda now: log.append(("kept", now)))
    timer.cancel()
    assert not timer.pending
    assert timers.next_at() == 2.0
    timers.expire(3.0)
    assert log == [("kept", 3.0)]


def test_a_timer_expires_once() -> None:
    log, timers = recorder()
    timers.set(1.0, lambda now: log.append(("once", now)))
    timers.expire(1.0)
    timers.expire(1.0)
    assert len(log) == 1


def test_what_an_expiring_timer_sets_for_now_expires_too() -> None:
    log, timers = recorder()

    def set_another(now: float) -> None:
        timers.set(now, lambda at: log.append(("inner", at)))

    timers.set(1.0, set_another)
    timers.expire(1.0)
    assert log == [("inner", 1.0)]


def test_a_timer_may_cancel_another_that_is_due_at_once() -> None:
    log, timers = recorder()
    victim = timers.set(1.0, lambda now: log.append(("victim", now)))
    timers.set(0.5, lambda _: victim.cancel())
    timers.expire(1.0)
    assert log == []


def test_cancelled_timers_do_not_pile_up() -> None:
    """Consent renews a timer with each message of the peer: the old ones must not wait for their instant."""

    def alive() -> int:
        gc.collect()
        return sum(isinstance(each, Timer) for each in gc.get_objects())

    before = alive()
    timers = Timers()
    timers.set(1000.0, lambda _: None)
    for number in range(10_000):
        timers.set(30.0 + number, lambda _: None).cancel()
    assert alive() - before < 100
    assert timers.next_at() == 1000.0


@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_cancelled_the_others_expire_in_order(seed: int) -> None:
    rng = Random(seed)
    log, timers = recorder()
    waiting: list[tuple[float, int, Timer]] = []
    for number in range(500):
        at = float(rng.randrange(50))
        waiting.append((at, number, timers.set(at, lambda _, name=str(number): log.append((name, 0.0)))))  # type: ignore[misc]
        if rng.random() < 0.8:
            waiting.pop(rng.randrange(len(waiting)))[2].cancel()
    kept = sorted((at, number) for at, number, _ in waiting)
    timers.expire(50.0)
    assert [name for name, _ in log] == [str(number) for _, number in kept]
