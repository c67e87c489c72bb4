"""Faults for what nobody should send: agents that do not survive it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ice_tcp.core.paths import Connections
from tests.conformance import boxes
from tests.conformance.agents import Mangles, wrapping
from tests.conformance.faults.registry import behind, within
from tests.conformance.inside import with_fault

behind(
    boxes.Fragile,
    "8489-6.3-short-datagrams",
    "8489-6.3-cut-requests",
    "8489-6.3-random-bytes",
    "8489-6.3-random-attributes",
    "8489-6.3-the-longest-datagrams",
    "8489-6.3-thousands-of-attributes",
    "8489-6.3-attributes-of-wrong-lengths",
    "8489-6.3-usernames-that-are-no-text",
    "8489-6.3-answers-that-nobody-awaits",
    "8489-6.3-malformed-mapped-addresses",
    "8489-6.3.4-malformed-error-codes",
    "8489-6.3.1-a-request-replayed",
    "8445-7.3.1.3-requests-from-many-ports",
)

within(wrapping(Mangles), "6544-10.2-random-frames")


def _so_many(number: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Only so many connections of an agent are ever accepted."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        counts: dict[int, int] = {}

        def accepted(self: Connections, *args: Any) -> Any:
            counts[id(self)] = counts.get(id(self), 0) + 1
            return original(self, *args) if counts[id(self)] <= number else None

        return accepted

    return make


within(
    with_fault(Connections, "accepted", _so_many(8)),
    "6544-7.2-idle-connections",
    "6544-7.2-connections-with-half-a-frame",
    "6544-7.2-connections-that-speak-something-else",
    "6544-7.2-connections-that-are-reset",
)
within(with_fault(Connections, "accepted", _so_many(1)), "6544-7.2-too-much-before-the-first-check")
