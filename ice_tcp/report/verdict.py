"""The headline: what came of the session, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from candidates.candidate import CandidateType, TcpType, Transport
from ice_tcp.core.events import SelectedPath
from ice_tcp.report.story import Side

_FROM: Final = {
    CandidateType.HOST: "from its own address",
    CandidateType.SRFLX: "from its NAT's address",
    CandidateType.PRFLX: "from an address that the checks showed",
    CandidateType.RELAY: "through its relay",
}
_TO: Final = {
    CandidateType.HOST: "to the peer's own address",
    CandidateType.SRFLX: "to that of the peer's NAT",
    CandidateType.PRFLX: "to one of the peer that the checks showed",
    CandidateType.RELAY: "to the peer's relay",
}


def headline(sides: Sequence[Side]) -> tuple[bool | None, str]:
    """Whether it is good, bad, or not known; and the sentence."""
    failed = [side for side in sides if side.failure is not None]
    if failed:
        side = failed[0]
        assert side.failure is not None
        who = f"{side.name} says " if len(sides) > 1 else ""
        return False, f"Failed: {who}{side.failure}. {side.failure.remedy}"
    connected = next((side for side in sides if side.path is not None and side.connected_at is not None), None)
    if connected is None:
        return None, "No path was found as long as the trace goes on."
    assert connected.path is not None
    return True, f"Connected {_way(connected.path)}, {_times(connected)}."


def _way(path: SelectedPath) -> str:
    how = "directly" if not path.is_relayed else "through a relay"
    if path.local.transport is Transport.UDP:
        return f"{how} over UDP"
    return f"{how} over TCP by simultaneous open" if TcpType.SO in _tcp_types(path) else f"{how} over TCP"


def _tcp_types(path: SelectedPath) -> set[TcpType | None]:
    return {path.local.tcptype, path.remote.tcptype}


def _times(side: Side) -> str:
    assert side.connected_at is not None
    if side.began_checks_at is None:
        return "before the checks of this trace"
    words = f"{_seconds(side.connected_at - side.began_checks_at)} after checks began"
    if side.completed_at is None:
        return f"{words}; no pair was nominated"
    return f"{words}; nominated after {_seconds(side.completed_at - side.began_checks_at)}"


def _seconds(span: float) -> str:
    return f"{1000 * span:.0f} ms" if span < 1 else f"{span:.2f} s"


def path_words(path: SelectedPath, side: Side) -> str:
    """Between which addresses data goes."""
    unfinished = "" if path.nominated or side.completed_at is not None else ", not nominated"
    return f"{_FROM[path.local.type]} {_TO[path.remote.type]}{unfinished}"
