"""Timers of one agent: instants on the caller's clock, and what to do then."""

from __future__ import annotations

import heapq
from collections.abc import Callable

_FEW = 8


class Timer:
    """One instant. Cancel it, or let it expire; it does not repeat."""

    __slots__ = ("_action", "at")

    def __init__(self, at: float, action: Callable[[float], None]) -> None:
        self.at = at
        self._action: Callable[[float], None] | None = action

    def cancel(self) -> None:
        self._action = None

    @property
    def pending(self) -> bool:
        return self._action is not None

    def expire(self, now: float) -> None:
        action, self._action = self._action, None
        if action is not None:
            action(now)


class Timers:
    """All pending timers, earliest first; of equal ones, the first set first."""

    __slots__ = ("_compact_at", "_count", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._compact_at = _FEW

    def set(self, at: float, action: Callable[[float], None]) -> Timer:
        timer = Timer(at, action)
        if len(self._heap) >= self._compact_at:
            self._compact()
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, timer))
        return timer

    def _compact(self) -> None:
        """Most timers are cancelled long before their instant; they must not pile up until then."""
        self._heap = [entry for entry in self._heap if entry[2].pending]
        heapq.heapify(self._heap)
        self._compact_at = 2 * len(self._heap) + _FEW

    def next_at(self) -> float | None:
        while self._heap and not self._heap[0][2].pending:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def expire(self, now: float) -> None:
        """Run what is due. What that sets for ``now`` or earlier runs too, after it."""
        while (at := self.next_at()) is not None and at <= now:
            heapq.heappop(self._heap)[2].expire(now)
