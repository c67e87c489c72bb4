"""The pace at which conversations with servers begin (RFC 8445 s14.2)."""

from __future__ import annotations

from collections.abc import Callable

from ice_tcp.core.context import Context
from ice_tcp.core.timers import Timer


class Launcher:
    """Begins what was asked for in its order, each ``pacing.proposed`` seconds after the other (docs/deviations.md)."""

    __slots__ = ("_context", "_launched_at", "_tick", "_waiting")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: list[Callable[[float], None]] = []  # a deque would be larger than all the rest
        self._tick: Timer | None = None
        self._launched_at = float("-inf")

    def launch(self, begin: Callable[[float], None], now: float) -> None:
        """Call ``begin(now)`` when its turn has come, never at once; it may find that nobody wants it any more."""
        self._waiting.append(begin)
        self._wake(now)

    def clear(self) -> None:
        self._waiting.clear()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def _wake(self, now: float) -> None:
        if self._tick is None and self._waiting:
            earliest = max(now, self._launched_at + self._context.policy.pacing.proposed)
            self._tick = self._context.timers.set(self._context.pacer.reserve(earliest), self._next)

    def _next(self, now: float) -> None:
        self._tick = None
        later = self._context.pacer.next_at(now)
        if later > now:
            self._tick = self._context.timers.set(later, self._next)
            return
        commands = len(self._context.commands)
        while self._waiting and len(self._context.commands) == commands:  # what nobody wants any more takes no slot
            self._waiting.pop(0)(now)
        if len(self._context.commands) > commands:
            self._context.pacer.take(now)
            self._launched_at = now
        self._wake(now)
