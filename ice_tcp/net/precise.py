"""Timers that fire within microseconds, where the event loop's own are rounded up to a millisecond.

A pace of 5 ms (RFC 8445 s14.2) that is always kept late by most of a millisecond is a slow one. Linux has timerfd,
which an event loop can wait for like for any socket; elsewhere the loop's own timers have to do.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Final
from weakref import WeakKeyDictionary

_CLOCK_MONOTONIC: Final = 1
_TFD_TIMER_ABSTIME: Final = 1
_TFD_NONBLOCK_CLOEXEC: Final = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


_LONGEST_WAIT: Final = 200e-6
"""Seconds that are waited out at most: a timerfd is asked for earlier by what it takes at most until Python runs."""


class _TimeSpec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("it_interval", _TimeSpec), ("it_value", _TimeSpec))


class PreciseTimer:
    """One pending call; ``cancel`` it, or let it fire."""

    __slots__ = ("_owner", "callback")

    def __init__(self, owner: PreciseTimers, callback: Callable[[], None]) -> None:
        self._owner = owner
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self._owner.cancelled()


class PreciseTimers:
    """The precise timers of one event loop, on one timerfd that exists while any is pending.

    Instants are those of ``time.monotonic()``. Get one with ``precise_timers``.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pending: list[tuple[float, int, PreciseTimer]] = []
        self._order = count()
        self._cancelled = 0  # of those in the heap
        self._fd: int | None = None
        self._armed_for: float | None = None
        # From the expiry of the timerfd until Python runs: the mean and its deviation, as TCP estimates a round trip.
        self._latency = _LONGEST_WAIT / 4
        self._deviation = _LONGEST_WAIT / 16
        self._libc = ctypes.CDLL(None, use_errno=True)

    def call_at(self, at: float, callback: Callable[[], None]) -> PreciseTimer:
        """Call back at ``at`` or just after. Raises OSError if the system gives no timer."""
        timer = PreciseTimer(self, callback)
        heapq.heappush(self._pending, (at, next(self._order), timer))
        if self._pending[0][2] is timer:
            self._arm()
        return timer

    def cancelled(self) -> None:
        """One of the timers was cancelled; most are, and they must not pile up until their instant."""
        self._cancelled += 1
        if 2 * self._cancelled > len(self._pending):
            self._pending = [entry for entry in self._pending if entry[2].callback is not None]
            heapq.heapify(self._pending)
            self._cancelled = 0
            if not self._pending:
                self._close()

    def _arm(self) -> None:
        if self._fd is None:
            self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC)
            if self._fd < 0:
                self._fd = None
                self._pending.clear()
                raise OSError(ctypes.get_errno(), "timerfd_create")
            self._loop.add_reader(self._fd, self._fire)
        self._armed_for = self._pending[0][0] - min(self._latency + 4 * self._deviation, _LONGEST_WAIT)
        nanoseconds = max(1, round(self._armed_for * 1e9))  # zero would disarm it
        spec = _TimerSpec(_TimeSpec(0, 0), _TimeSpec(*divmod(nanoseconds, 10**9)))
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)

    def _fire(self) -> None:
        assert self._fd is not None
        with suppress(BlockingIOError):  # armed anew since it became readable
            os.read(self._fd, 8)
        now = time.monotonic()
        self._learn(now)
        due = self._pending[0][0] if self._pending else now
        while now < due <= now + _LONGEST_WAIT:
            now = time.monotonic()
        try:
            while self._pending and self._pending[0][0] <= now:
                timer = heapq.heappop(self._pending)[2]
                callback, timer.callback = timer.callback, None
                if callback is not None:
                    callback()
                else:
                    self._cancelled -= 1
        finally:  # the others' time comes, too, if one of them raises
            self._close_or_arm()

    def _learn(self, now: float) -> None:
        late = now - (self._armed_for or now)
        if 0 < late < _LONGEST_WAIT:  # else the loop had other work, or the instant had passed before it was set
            self._deviation += (abs(late - self._latency) - self._deviation) / 4
            self._latency += (late - self._latency) / 8
        self._armed_for = None

    def _close_or_arm(self) -> None:
        if not self._pending:
            self._close()
        elif self._armed_for is None:  # else a callback has set a timer
            self._arm()

    def _close(self) -> None:
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, PreciseTimers] = WeakKeyDictionary()


def precise_timers(loop: asyncio.AbstractEventLoop) -> PreciseTimers | None:
    """The loop's precise timers; None where the system has none."""
    if not sys.platform.startswith("linux"):
        return None
    timers = _by_loop.get(loop)
    if timers is None:
        timers = _by_loop[loop] = PreciseTimers(loop)
    return timers
