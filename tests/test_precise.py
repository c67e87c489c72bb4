"""Precise timers: in order, cancellable, and nothing left open."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import tracemalloc

import pytest

from ice_tcp.net.precise import PreciseTimers, precise_timers

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="timerfd is Linux's")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def fire(*delays: float, cancelled: frozenset[int] = frozenset()) -> list[int]:
    """Set a timer for each delay; return the indices of those that fired, in their order."""
    loop = asyncio.get_running_loop()
    timers = PreciseTimers(loop)
    fired: list[int] = []
    done = loop.create_future()
    now = time.monotonic()
    pending = []
    for index, delay in enumerate(delays):
        pending.append(timers.call_at(now + delay, lambda index=index: fired.append(index)))  # type: ignore[misc]
    timers.call_at(now + max(delays) + 0.001, lambda: done.set_result(None))
    for index in cancelled:
        pending[index].cancel()
    await done
    return fired


def test_fires_in_the_order_of_the_instants() -> None:
    assert asyncio.run(fire(0.003, 0.001, 0.002)) == [1, 2, 0]


def test_an_instant_that_has_passed_fires_at_once() -> None:
    assert asyncio.run(fire(-1.0)) == [0]


def test_a_cancelled_timer_does_not_fire() -> None:
    assert asyncio.run(fire(0.001, 0.002, 0.003, cancelled=frozenset((0, 2)))) == [1]


def test_never_fires_before_its_instant() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        at = time.monotonic() + 0.002
        fired = loop.create_future()
        PreciseTimers(loop).call_at(at, lambda: fired.set_result(time.monotonic()))
        return float(await fired) - at

    assert asyncio.run(main()) >= 0


def test_nothing_is_open_without_a_pending_timer() -> None:
    async def main() -> None:
        before = open_files()
        timers = PreciseTimers(asyncio.get_running_loop())
        timer = timers.call_at(time.monotonic() + 60, lambda: None)
        assert open_files() == before + 1
        timer.cancel()
        timer.cancel()
        assert open_files() == before
        done = asyncio.get_running_loop().create_future()
        timers.call_at(time.monotonic(), lambda: done.set_result(None))
        await done
        assert open_files() == before

    asyncio.run(main())


def test_a_callback_may_set_and_cancel_timers() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        timers = PreciseTimers(loop)
        fired: list[str] = []
        done = loop.create_future()
        now = time.monotonic()
        doomed = timers.call_at(now + 0.002, lambda: fired.append("doomed"))

        def first() -> None:
            fired.append("first")
            doomed.cancel()
            timers.call_at(time.monotonic() + 0.001, second)

        def second() -> None:
            fired.append("second")
            done.set_result(None)

        timers.call_at(now + 0.001, first)
        await done
        return fired

    assert asyncio.run(main()) == ["first", "second"]


def test_one_set_of_timers_a_loop() -> None:
    async def main() -> bool:
        loop = asyncio.get_running_loop()
        return precise_timers(loop) is precise_timers(loop)

    assert asyncio.run(main())


def test_cancelled_timers_do_not_pile_up() -> None:
    async def main() -> int:
        timers = PreciseTimers(asyncio.get_running_loop())
        now = time.monotonic()
        kept = timers.call_at(now + 50, lambda: None)
        tracemalloc.start()
        for _ in range(10_000):
            timers.call_at(now + 60, lambda: None).cancel()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        kept.cancel()
        return size

    assert asyncio.run(main()) < 10_000


def test_one_that_raises_does_not_keep_the_others() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        complaints: list[str] = []
        loop.set_exception_handler(lambda _, context: complaints.append(str(context["exception"])))
        timers = PreciseTimers(loop)
        done = loop.create_future()
        now = time.monotonic()

        def fail() -> None:
            raise LookupError("the first one")

        timers.call_at(now + 0.001, fail)
        timers.call_at(now + 0.002, lambda: done.set_result(None))
        await done
        return complaints

    assert asyncio.run(main()) == ["the first one"]
