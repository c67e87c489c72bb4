"""The one pacer of a process (RFC 8445 s14.2)."""

from __future__ import annotations

MINIMUM_INTERVAL = 0.005
"""Seconds. New transactions of all agents together are never closer (RFC 8445 s14.2, MUST NOT)."""


class Pacer:
    """Shares the 5 ms slots of a process among its agents, first come, first served.

    Call ``reserve`` when there is something to send. When the reserved instant has come, ask ``next_at``, for a slot
    that was reached late moves the later ones; and ``take`` when the transaction begins.
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

    def next_at(self, now: float) -> float:
        """When the next transaction may begin; ``now`` if that is at once."""
        return max(now, self._taken_at + MINIMUM_INTERVAL)

    def take(self, now: float) -> None:
        """A transaction begins. Ask ``next_at`` before."""
        self._taken_at = now
        self._free_at = max(self._free_at, now + MINIMUM_INTERVAL)
