"""The one pacer of a process (RFC 8445 s14.2)."""

from __future__ import annotations

MINIMUM_INTERVAL = 0.005
"""Seconds. New transactions of all agents together are never closer (RFC 8445 s14.2, MUST NOT)."""


class Pacer:
    """Shares the 5 ms slots of a process among its agents, first come, first served.

    Call ``reserve`` when there is something to send, and ``take`` when the reserved instant has come: a slot that
    was reached late moves the later ones, so ``take`` may name a new instant instead.
    """

    __slots__ = ("_free_at", "_taken_at")

    def __init__(self) -> None:
        self._taken_at = float("-inf")
        self._free_at = float("-inf")

    def reserve(self, now: float) -> float:
        """The instant of the next free slot, which is now the caller's."""
        slot = max(now, self._free_at)
        self._free_at = slot + MINIMUM_INTERVAL
        return slot

    def take(self, now: float) -> float | None:
        """None: send now. Otherwise the instant to call again."""
        earliest = self._taken_at + MINIMUM_INTERVAL
        if now < earliest:
            return earliest
        self._taken_at = now
        self._free_at = max(self._free_at, now + MINIMUM_INTERVAL)
        return None
