"""Virtual time: one heap of events, and nothing happens between them."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TypeAlias

Action: TypeAlias = Callable[[], None]


class Timer:
    """An event to come. ``cancel`` makes it a no-op, before and after it happened."""

    __slots__ = ("action",)

    def __init__(self, action: Action) -> None:
        self.action: Action | None = action

    def cancel(self) -> None:
        self.action = None


class Clock:
    """The world's time, in seconds from the start. Events of one instant happen in the order they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Timer]] = []
        self._serial = 0

    def at(self, when: float, action: Action) -> Timer:
        """Run ``action`` at the instant ``when``; an instant of the past means now, but after the running event."""
        timer = Timer(action)
        self._serial += 1
        heappush(self._heap, (max(self.now, when), self._serial, timer))
        return timer

    def after(self, delay: float, action: Action) -> Timer:
        """Run ``action`` after ``delay`` seconds."""
        return self.at(self.now + delay, action)

    def run(self, until: float, stop: Callable[[], bool] | None = None) -> bool:
        """Run events up to the instant ``until``, which time then has; or until ``stop()`` holds after an event.

        True if ``stop`` ended it.
        """
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, timer = heappop(heap)
            if timer.action is None:
                continue
            action, timer.action = timer.action, None
            action()
            if stop is not None and stop():
                return True
        self.now = until
        return False
