"""Connection tracking, as Linux does it: what a NAT or firewall makes of the segments of a TCP connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tests.sim.packets import Segment

PLAUSIBLE_BYTES = 1 << 20
"""How far a sequence number may be from the initial one in the first moments of a connection."""


class Tracked(Enum):
    """Connection tracking's view of a TCP connection."""

    SYN_SENT = "one side sent a SYN"
    SYN_SENT2 = "both sides sent a SYN; both initial sequence numbers are pinned"
    ESTABLISHED = "a SYN-ACK came, or traffic was picked up in its middle"
    CLOSED = "an RST came"


@dataclass(slots=True)
class Connection:
    """One connection through a mapping."""

    state: Tracked
    from_inside: bool
    inner_isn: int | None = None
    outer_isn: int | None = None
    expires_at: float = 0.0
    ignored_syn: int | None = None
    ended: set[bool] = field(default_factory=set)
    """Whether the inside (True) and the outside have sent FIN."""


def follow(connection: Connection, segment: Segment, *, from_inside: bool) -> bool:
    """Move a known connection's state by one segment; False if connection tracking calls the segment invalid.

    Once both SYNs were seen each side's initial sequence number is pinned: a re-created socket, or a listener after
    a dead punch, answers with another one.
    """
    opener = connection.from_inside is from_inside
    if segment.rst:
        if not _rst_fits(connection, segment, from_inside):
            return False
        connection.state = Tracked.CLOSED
        return True
    if not segment.syn:
        return _follow_data(connection, segment, from_inside)
    if segment.ack is None:
        return _follow_syn(connection, segment, opener=opener, from_inside=from_inside)
    return _follow_syn_ack(connection, segment, opener=opener, from_inside=from_inside)


def _rst_fits(connection: Connection, segment: Segment, from_inside: bool) -> bool:
    """Whether an RST belongs to a connection that is being opened; an old one's, or a crossed SYN's, does not."""
    if connection.state not in (Tracked.SYN_SENT, Tracked.SYN_SENT2):
        return True
    own, other = connection.inner_isn, connection.outer_isn
    if not from_inside:
        own, other = other, own
    if own is not None and segment.seq == own + 1:
        return True
    return connection.state is Tracked.SYN_SENT and other is not None and segment.ack == other + 1


def _follow_data(connection: Connection, segment: Segment, from_inside: bool) -> bool:
    """Neither SYN nor RST: of a connection that is being opened only what follows its own SYN is valid."""
    if connection.state is Tracked.SYN_SENT2:
        isn = connection.inner_isn if from_inside else connection.outer_isn
        if isn is None or not isn < segment.seq <= isn + PLAUSIBLE_BYTES:
            return False
        if segment.data:
            connection.state = Tracked.ESTABLISHED
        return True
    return connection.state is Tracked.ESTABLISHED


def _follow_syn(connection: Connection, segment: Segment, *, opener: bool, from_inside: bool) -> bool:
    match connection.state:
        case Tracked.ESTABLISHED:
            # Perhaps a new connection on the old ports: the answer will tell.
            connection.ignored_syn = segment.seq
            connection.ended.clear()
            return True
        case Tracked.SYN_SENT2:
            return _matches(connection, segment, from_inside)
        case Tracked.CLOSED:
            if not opener and not from_inside:
                return False
            connection.from_inside = from_inside
            connection.state = Tracked.SYN_SENT
            connection.ended.clear()
            connection.inner_isn = connection.outer_isn = None
        case Tracked.SYN_SENT if not opener:
            connection.state = Tracked.SYN_SENT2
    _pin(connection, segment, from_inside)
    return True


def _follow_syn_ack(connection: Connection, segment: Segment, *, opener: bool, from_inside: bool) -> bool:
    match connection.state:
        case Tracked.CLOSED:
            return False
        case Tracked.SYN_SENT if opener:
            return False
        case Tracked.ESTABLISHED if segment.ack is not None and connection.ignored_syn == segment.ack - 1:
            connection.inner_isn = connection.outer_isn = None
        case _ if not _matches(connection, segment, from_inside):
            return False
    _pin(connection, segment, from_inside)
    # Of a simultaneous open both SYN-ACKs are still to pass; pinned they stay.
    if connection.state is Tracked.SYN_SENT:
        connection.state = Tracked.ESTABLISHED
    return True


def _matches(connection: Connection, segment: Segment, from_inside: bool) -> bool:
    pinned = connection.inner_isn if from_inside else connection.outer_isn
    return pinned is None or pinned == segment.seq


def _pin(connection: Connection, segment: Segment, from_inside: bool) -> None:
    if from_inside:
        connection.inner_isn = segment.seq
    else:
        connection.outer_isn = segment.seq
