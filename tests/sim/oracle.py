"""What must come of a topology: whether a direct path exists, by the table "which NATs connect", or else a relay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from candidates.candidate import TcpType, Transport
from tests.sim import relays
from tests.sim.nat import Filtering, Mapping, NatKind
from tests.sim.scenario import Place, Scenario, Side


class Outlook(Enum):
    """Whether the agents are to connect."""

    DIRECT = "a direct path exists: it must be selected"
    RELAY = "only a relay connects: it must be selected"
    EITHER = "a relay connects, and chance decides whether there is a direct path, too"
    NONE = "no path exists: the session must fail"
    PERHAPS = "chance decides"

    @property
    def connects(self) -> bool:
        return self in (Outlook.DIRECT, Outlook.RELAY, Outlook.EITHER)


class Box(Enum):
    """What stands before an address, as a row and a column of the table."""

    OPEN = "direct"
    FULL_CONE = "full cone"
    ADDRESS_RESTRICTED = "addr-restricted"
    PORT_RESTRICTED = "port-restricted, or not preserving"
    SYMMETRIC = "symmetric"
    UNSEEN = "a NAT that the peer was told nothing of"


# What the side of the row can do towards the side of the column, without prediction.
GETS_IN: Final[dict[Box, dict[Box, bool]]] = {
    row: {
        Box.OPEN: True,
        Box.FULL_CONE: True,
        Box.ADDRESS_RESTRICTED: row is not Box.UNSEEN,
        Box.PORT_RESTRICTED: row not in (Box.SYMMETRIC, Box.UNSEEN),
        Box.SYMMETRIC: False,
        Box.UNSEEN: False,
    }
    for row in Box
}


@dataclass(frozen=True, slots=True)
class Barrier:
    """What stands before an address, for one transport; out of a ``confined`` one TCP leaves to a few ports only."""

    box: Box
    drops_bare_syn: bool = False
    answers_rst: bool = False
    udp_blocked: bool = False
    confined: bool = False


OPEN = Barrier(Box.OPEN)

SYN_INTERVAL = 1.0
"""Seconds after which a SYN is repeated."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of a round trip, and whether both sides begin within a few seconds.

    ``hasty``: where a NAT maps by destination, a relay is not kept waiting for long.
    """

    round_trip: float
    together: bool = True
    hasty: bool = False


def barrier(kinds: tuple[NatKind, ...]) -> Barrier:
    """Several NATs in a row behave as the worst of them."""
    if not kinds:
        return OPEN
    if any(kind.translates and kind.mapping is not Mapping.ENDPOINT_INDEPENDENT for kind in kinds):
        box = Box.SYMMETRIC
    else:
        by_filtering = {
            Filtering.ENDPOINT_INDEPENDENT: Box.FULL_CONE,
            Filtering.ADDRESS_DEPENDENT: Box.ADDRESS_RESTRICTED,
            Filtering.ADDRESS_AND_PORT_DEPENDENT: Box.PORT_RESTRICTED,
        }
        order = list(by_filtering)
        box = by_filtering[max((kind.filtering for kind in kinds), key=order.index)]
    return Barrier(
        box,
        drops_bare_syn=any(kind.drops_bare_syn for kind in kinds),
        answers_rst=any(kind.answers_rst for kind in kinds),
        udp_blocked=any(kind.udp_blocked for kind in kinds),
        confined=any(kind.only_ports for kind in kinds),
    )


def barriers(left: Place, right: Place, nats: dict[str, NatKind]) -> list[tuple[Barrier, Barrier]]:
    """The ways between two addresses: for each, what stands before either side. Empty if no packet can ever pass."""
    if left.family != right.family or left.isolated or right.isolated:
        return []
    if left.nats == right.nats:
        return [(OPEN, OPEN)]
    before_left = barrier(tuple(nats[name] for name in left.nats))
    before_right = barrier(tuple(nats[name] for name in right.nats))
    common = [name for name in left.nats if name in right.nats]
    if not common:
        return [(before_left, before_right)]
    # Both are told of each other's outermost address only: the shared NAT has to turn packets round ...
    ways = [(before_left, before_right)] if nats[common[0]].hairpin else []
    # ... unless one of them has its host candidate in the very network that the other's NAT leads to.
    if left.nats == right.nats[-len(left.nats) :]:
        ways.append((OPEN, _unknown(barrier(tuple(nats[name] for name in right.nats[: -len(left.nats)])))))
    if right.nats == left.nats[-len(right.nats) :]:
        ways.append((_unknown(barrier(tuple(nats[name] for name in left.nats[: -len(right.nats)]))), OPEN))
    return ways


def _unknown(before: Barrier) -> Barrier:
    """Nobody was told the address that this side has here: it gets out, nobody gets in."""
    return replace(before, box=Box.UNSEEN)


def datagrams_pass(left: Barrier, right: Barrier) -> bool:
    """Whether UDP gets through in either direction; the answer takes the same way."""
    if left.udp_blocked or right.udp_blocked:
        return False
    return GETS_IN[left.box][right.box] or GETS_IN[right.box][left.box]


def simultaneous_open(left: Barrier, right: Barrier, timing: Timing) -> Outlook:
    """Whether so and so connect: one SYN has to get in while the other side tries, or listens."""
    if not (_syn_gets_in(left, right) or _syn_gets_in(right, left)):
        return Outlook.NONE
    if not timing.together:
        return Outlook.PERHAPS  # the side that is early has given up, and its NAT pins the dead SYN
    if left.answers_rst and right.answers_rst:
        return Outlook.PERHAPS  # both holes must be open at once, each for a round trip after a SYN
    if (left.answers_rst or right.answers_rst) and timing.round_trip >= SYN_INTERVAL:
        return Outlook.PERHAPS  # repeated SYNs run into the RSTs of their forerunners
    return Outlook.DIRECT


def _syn_gets_in(source: Barrier, target: Barrier) -> bool:
    """Whether a SYN of the one reaches the other, which tries as well: that opens holes, unless it is confined."""
    if source.confined or target.drops_bare_syn:
        return False
    return GETS_IN[source.box][target.box] and (not target.confined or target.box is Box.FULL_CONE)


def dials(source: Barrier, target: Barrier) -> bool:
    """Whether an active side reaches a passive one, which opens no hole for it."""
    gets_in = target.box is Box.OPEN or (target.box is Box.FULL_CONE and not target.drops_bare_syn)
    return gets_in and not source.confined


def outlook(scenario: Scenario, *, together: bool = True) -> Outlook:
    """What must become of the two agents; ``together`` tells that they begin within a few seconds."""
    timing = Timing(4 * scenario.link.delay, together)
    relayed = relays.outcome(scenario) if scenario.servers else False
    if relayed is False:
        return _direct(scenario, timing)
    direct = _direct(scenario, replace(timing, hasty=True))
    if direct is Outlook.DIRECT:
        return direct
    if relayed is None:
        return Outlook.PERHAPS
    return Outlook.RELAY if direct is Outlook.NONE else Outlook.EITHER


def _direct(scenario: Scenario, timing: Timing) -> Outlook:
    best = Outlook.NONE
    left, right = scenario.sides
    if left.relay_only or right.relay_only:
        return best
    for mine in left.places:
        for theirs in right.places:
            for between in barriers(mine, theirs, scenario.nats):
                for found in _ways(scenario, mine, theirs, between, timing):
                    if found is Outlook.DIRECT:
                        return found
                    best = found if found is not Outlook.NONE else best
    return best


def _ways(
    scenario: Scenario, mine: Place, theirs: Place, between: tuple[Barrier, Barrier], timing: Timing
) -> list[Outlook]:
    left, right = scenario.sides
    ways = []

    def told(transport: Transport) -> tuple[Barrier, Barrier]:
        return (
            _as_told(scenario, left, mine, transport, between[0]),
            _as_told(scenario, right, theirs, transport, between[1]),
        )

    if Transport.UDP in left.usable and Transport.UDP in right.usable and datagrams_pass(*told(Transport.UDP)):
        ways.append(_in_time(Outlook.DIRECT, told(Transport.UDP), timing))
    if Transport.TCP in left.transports and Transport.TCP in right.transports:
        before = told(Transport.TCP)
        ways += [_in_time(way, before, timing) for way in _tcp_ways(left, right, *before, timing)]
    return ways


def _in_time(way: Outlook, between: tuple[Barrier, Barrier], timing: Timing) -> Outlook:
    """A way that is there may be found too late, if a relay is not made to wait for it."""
    dependent = any(before.box in (Box.SYMMETRIC, Box.UNSEEN) for before in between)
    return Outlook.PERHAPS if way is Outlook.DIRECT and dependent and timing.hasty else way


def _as_told(scenario: Scenario, side: Side, place: Place, transport: Transport, before: Barrier) -> Barrier:
    """What stands before an address, for a peer that knows of it what servers told, if there are any."""
    if before == OPEN or not scenario.servers or relays.is_seen(scenario, side, place, transport):
        return before
    return _unknown(before)


def _tcp_ways(left: Side, right: Side, before_left: Barrier, before_right: Barrier, timing: Timing) -> list[Outlook]:
    ways = []
    for dialler, listener, source, target in (
        (left, right, before_left, before_right),
        (right, left, before_right, before_left),
    ):
        reaches = dials(source, target) and Transport.TCP in listener.usable
        if reaches and TcpType.ACTIVE in dialler.tcp_types and TcpType.PASSIVE in listener.tcp_types:
            ways.append(Outlook.DIRECT)
    both_open = Transport.TCP in left.usable and Transport.TCP in right.usable
    if both_open and TcpType.SO in left.tcp_types and TcpType.SO in right.tcp_types:
        ways.append(simultaneous_open(before_left, before_right, timing))
    return ways
