"""Faults for TCP candidates (RFC 6544) and frames (RFC 4571)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from candidates.candidate import TcpType
from ice_tcp.core.commands import Connect, ListenerId
from ice_tcp.core.paths import Connections
from ice_tcp.core.recovery import Recovery
from ice_tcp.framing import FrameSplitter
from interop.conformance.target import Description
from tests.conformance import boxes
from tests.conformance.agents import (
    AddsEmptyMessages,
    Dials,
    DialsAgain,
    Mangles,
    Truncates,
    following,
    listing,
    telling,
    wrapping,
)
from tests.conformance.faults.registry import behind, within
from tests.conformance.inside import always, nothing, with_fault

# Candidates (RFC 6544 s4, s5.1)


def _same_port(told: Description) -> Description:
    lines = told.candidates
    port = next(line.split(" ")[5] for line in lines if line.endswith("passive"))
    return replace(told, candidates=tuple(re.sub(r" \d+ typ", f" {port} typ", line) for line in lines))


def _lower(line: str, by: int) -> str:
    fields = line.split(" ")
    fields[3] = str(int(fields[3]) - by)
    return " ".join(fields)


within(telling(_same_port), "6544-5.1-passive-and-so-have-ports-of-their-own")
within(listing(lambda line: "" if line.endswith("active") else line), "6544-4.1-an-active-candidate")
within(listing(lambda line: line.replace(" 9 typ", " 4711 typ")), "6544-4.5-active-candidates-have-port-9")
within(listing(lambda line: re.sub(r" tcptype \w+", "", line)), "6544-4.5-the-tcptype-is-told")
within(listing(lambda line: line.replace(" tcptype", " generation 0 tcptype")), "6544-4.5-the-tcptype-comes-first")
within(listing(lambda line: _lower(line, 1 << 21)), "6544-4.2-direction-preferences")
within(listing(lambda line: _lower(line, 1 << 8)), "6544-4.2-other-preference-of-one-address")
within(listing(lambda line: _lower(line, 60 << 24) if " UDP " in line else line), "6544-4.2-udp-is-preferred")
within(listing(lambda line: line.replace("tcptype passive", "tcptype so")), "6544-4.4-a-lite-agent-is-passive")

# Who connects (RFC 6544 s6.2, s7.1)

behind(boxes.Deaf, "6544-6.2-active-connects-to-passive", "6544-7.1-a-refused-connection-fails-its-pair")
within(
    listing(lambda line: re.sub(r" \d+ typ host tcptype so", " 4711 typ host tcptype so", line)),
    "6544-6.2-so-connects-to-so",
    "6544-11.1-so-reopens",
)
within(
    wrapping(Dials),
    "6544-6.2-active-does-not-connect-to-active",
    "6544-6.2-active-does-not-connect-to-so",
    "6544-6.2-so-does-not-connect-to-passive",
    "6544-6.2-so-does-not-connect-to-active",
    "6544-6.2-passive-does-not-connect-to-active",
    "6544-6.2-passive-does-not-connect-to-passive",
    "6544-6.2-passive-does-not-connect-to-so",
    "6544-10.1-data-goes-on-the-connection",
)
behind(boxes.Prefaces, "6544-7.1-a-check-opens-a-connection")
within(listing(lambda line: line.replace("127.0.0.1", "127.0.0.9")), "6544-7.1-active-connects-from-its-address")
behind(boxes.LittleEndian, "6544-7.1-checks-are-framed", "4571-2-length-is-big-endian")
behind(boxes.IgnoresData, "6544-7.1-what-is-no-stun-ends-the-connection")
behind(boxes.Redials, "6544-7.1-what-is-no-stun-fails-the-candidate")


def _from_a_listener(original: Callable[..., Any]) -> Callable[..., Any]:
    """Active candidates connect from the port of the last listener."""

    def connect(self: Connections, dial: Any, now: float) -> None:
        original(self, dial, now)
        commands = self._context.commands
        last = commands[-1]
        assert isinstance(last, Connect)
        if dial.base.tcptype is TcpType.ACTIVE:
            commands[-1] = replace(last, listener=_LAST_LISTENER)

    return connect


_LAST_LISTENER = ListenerId(2)
"""The second socket of an agent with TCP candidates only."""

within(with_fault(Connections, "_connect", _from_a_listener), "6544-7.1-active-connects-from-a-free-port")
within(
    with_fault(Connections, "may_dial", lambda _: lambda self, base, remote: (base, remote) not in self._dials),
    "6544-12-five-attempts-at-a-time",
)

# Who accepts (RFC 6544 s7.2)

behind(boxes.IgnoresChecks, "6544-7.2-passive-accepts", "6544-7.2-so-accepts", "6544-7.2-a-lite-agent-accepts")
behind(boxes.NeverAsks, "6544-7.2-passive-checks-on-the-connection-that-came")
behind(boxes.Unframed, "6544-7.2-answers-are-framed", "4571-2-length-counts-the-packet")

# Conclusion, restarts, data (RFC 6544 s8 to s10)

within(
    following(lambda policy: re.sub(r"linger: [\d.]+", "linger: 60.0", policy)),
    "6544-8-the-other-connections-are-closed",
)
behind(boxes.HangsUp, "6544-11.1-the-selected-connection-stays", "6544-9.2-a-restart-keeps-the-connection")
within(wrapping(DialsAgain), "6544-9.2-a-restart-opens-no-second-connection")
behind(boxes.Halves, "6544-10.1-data-is-framed")
behind(boxes.Joins, "6544-10.1-stun-in-a-byte-stream-is-cut")
within(wrapping(Mangles), "6544-10.2-frames-make-a-byte-stream", "4571-2-data-and-stun-in-turn")

# Lost connections (RFC 6544 s11.1)

within(
    with_fault(Recovery, "lost", nothing),
    "6544-11.1-active-reopens",
    "6544-11.1-active-checks-what-it-reopened",
    "6544-11.1-data-flows-on-what-was-reopened",
)
within(
    with_fault(Recovery, "may_replace", always(False)),
    "6544-11.1-passive-awaits",
    "6544-11.1-passive-checks-what-was-reopened",
)

# Frames (RFC 4571)


def _feed(change: Callable[[FrameSplitter, bytes, Callable[..., list[bytes]]], list[bytes]]) -> type:
    """A target whose frames are cut in another way."""
    return with_fault(
        FrameSplitter,
        "feed",
        lambda original: lambda self, chunk: change(self, bytes(chunk), lambda part: original(self, part)),
    )


def _forgetting(splitter: FrameSplitter, chunk: bytes, feed: Callable[..., list[bytes]]) -> list[bytes]:
    """A frame that is not complete is forgotten."""
    splitter.unfinished.clear()
    return feed(chunk)


within(_feed(lambda _, chunk, feed: [] if chunk[:2] == b"\0\0" else feed(chunk)), "4571-2-null-packets-are-legal")
within(wrapping(Truncates), "4571-2-the-longest-frame")
within(wrapping(AddsEmptyMessages), "4571-2-null-packets-are-no-data")
within(_feed(_forgetting), "4571-2-a-request-byte-by-byte", "4571-2-a-frame-in-two-parts")
within(_feed(lambda _, chunk, feed: feed(chunk)[:1]), "4571-2-many-requests-at-once")
