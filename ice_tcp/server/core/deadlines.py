"""Instants on the caller's clock that are often postponed, and what happens at them."""

from __future__ import annotations

import heapq
from collections.abc import Callable

_SLACK = 64
"""Stale entries that are never worth a clean-up."""


class Deadline:
    """One instant; made by `Deadlines.set`."""

    __slots__ = ("_action", "_owner", "_scheduled_at", "at")

    def __init__(self, owner: Deadlines, at: float, action: Callable[[float], None]) -> None:
        self._owner = owner
        self._action: Callable[[float], None] | None = action
        self._scheduled_at = at
        self.at = at

    def move(self, at: float) -> None:
        """Expire at another instant; later ones cost nothing."""
        self.at = at
        if self._action is not None and at < self._scheduled_at:
            self._owner.reschedule(self)

    def cancel(self) -> None:
        """Never expire. Does nothing the second time."""
        if self._action is not None:
            self._action = None
            self._owner.discard()

    @property
    def pending(self) -> bool:
        return self._action is not None

    def is_due_by(self, entry_at: float) -> bool:
        """Whether the entry of the heap made for ``entry_at`` stands for this deadline."""
        return self._action is not None and self._scheduled_at == entry_at

    def schedule(self) -> float:
        """Note that a new entry stands for it, and return its instant."""
        self._scheduled_at = self.at
        return self.at

    def expire(self, now: float) -> None:
        action, self._action = self._action, None
        if action is not None:
            action(now)


class Deadlines:
    """All pending deadlines. Memory stays in proportion to them, however often they are moved or cancelled."""

    __slots__ = ("_count", "_heap", "_stale")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Deadline]] = []
        self._count = 0
        self._stale = 0

    def set(self, at: float, action: Callable[[float], None]) -> Deadline:
        """Call ``action(now)`` when ``at`` is reached."""
        deadline = Deadline(self, at, action)
        self._push(deadline)
        return deadline

    def next_at(self) -> float | None:
        """The earliest instant at which something may be due."""
        heap = self._heap
        while heap:
            at, _, deadline = heap[0]
            if not deadline.is_due_by(at):
                heapq.heappop(heap)
                self._stale -= 1
            elif deadline.at > at:
                heapq.heapreplace(heap, (deadline.schedule(), self._next(), deadline))
            else:
                return at
        return None

    def expire(self, now: float) -> None:
        """Do what is due."""
        while (at := self.next_at()) is not None and at <= now:
            heapq.heappop(self._heap)[2].expire(now)

    def reschedule(self, deadline: Deadline) -> None:
        self._push(deadline)
        self.discard()

    def discard(self) -> None:
        """One more entry stands for nothing."""
        self._stale += 1
        if self._stale > _SLACK and 2 * self._stale > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].is_due_by(entry[0])]
            heapq.heapify(self._heap)
            self._stale = 0

    def __len__(self) -> int:
        """Entries kept, stale ones included."""
        return len(self._heap)

    def _push(self, deadline: Deadline) -> None:
        heapq.heappush(self._heap, (deadline.schedule(), self._next(), deadline))

    def _next(self) -> int:
        self._count += 1
        return self._count
