"""What servers make possible in a scenario: who is seen from outside, and who can be relayed to whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from candidates.candidate import TcpType, Transport
from ice_tcp.core.commands import LegTransport
from tests.sim.nat import Filtering, NatKind
from tests.sim.scenario import Place, Scenario, Side
from tests.sim.serverkinds import PORT, Ask, Condition, ServerKind

GATHERING = 4.0
"""Seconds that gathering surely leaves to a server."""
ROUND_TRIPS = 5
"""At most, until there is an allocation: TCP, TLS, 401, success, and one to be sure."""
MUCH_LOSS = 0.02


def is_seen(scenario: Scenario, side: Side, place: Place, transport: Transport) -> bool:
    """Whether the peer knows a usable address of this place: its own, or what a server saw."""
    if side.relay_only:
        return False
    if not any(kind.translates for kind in _before(scenario, place)):
        return True
    has_port = transport is Transport.UDP or {TcpType.PASSIVE, TcpType.SO} & set(side.tcp_types)
    return (
        bool(has_port)
        and transport in side.usable
        and any(
            kind.tells and (leg is LegTransport.UDP) is (transport is Transport.UDP)
            for _, kind, leg in _ways(scenario, side, place)
        )
    )


def outcome(scenario: Scenario) -> bool | None:
    """Whether a relay connects the two; None where chance decides."""
    left, right = scenario.sides
    found = any(
        _relayed(scenario, one, other, transport)
        for one, other in ((left, right), (right, left))
        for transport in Transport
    )
    might = any(ask.scheme.relays and not ask.wrong_password for side in scenario.sides for ask in side.asks)
    if might and not _is_certain(scenario):
        return None
    # Who asked the machine of a relay for something has let it in already, by some NATs' filters
    is_open = any(kind.filtering is Filtering.ADDRESS_DEPENDENT for kind in scenario.nats.values())
    return None if might and not found and is_open else found


def without(scenario: Scenario, server: str) -> Scenario:
    """The same with one server switched off."""
    off = replace(scenario.servers[server], condition=Condition.OFF)
    return replace(scenario, servers={**scenario.servers, server: off})


def returning(scenario: Scenario, server: str) -> Scenario:
    """The same with one server that relays only: who does not know that it is coming back asks it nothing else."""
    back = replace(scenario.servers[server], tells=False)
    return replace(scenario, servers={**scenario.servers, server: back})


def _is_certain(scenario: Scenario) -> bool:
    """Whether everything that can be had of servers is had in time."""
    slowest = max(kind.delay for kind in scenario.servers.values())
    falls_back = any(not kind.tcp_relay for kind in scenario.servers.values())
    scarce = any(kind.quota < 16 for kind in scenario.servers.values())
    in_time = ROUND_TRIPS * 2 * (scenario.link.delay + slowest) < GATHERING
    return in_time and scenario.link.loss < MUCH_LOSS and not scarce and not falls_back


def _relayed(scenario: Scenario, owner: Side, peer: Side, transport: Transport) -> bool:
    """Whether a relayed address of ``owner`` and something of ``peer`` find each other."""
    for family in _families(scenario, owner, transport):
        if family in _families(scenario, peer, transport) and _types_fit(owner, peer, transport):
            return True
        if any(_reaches(scenario, owner, peer, place, transport) for place in peer.places if place.family == family):
            return True
    return False


def _types_fit(one: Side, other: Side, transport: Transport) -> bool:
    """Of two relays one connects, and the other is connected to."""
    if transport is Transport.UDP:
        return True
    kinds = set(one.tcp_types), set(other.tcp_types)
    return any(TcpType.ACTIVE in a and TcpType.PASSIVE in b for a, b in (kinds, kinds[::-1]))


def _reaches(scenario: Scenario, owner: Side, peer: Side, place: Place, transport: Transport) -> bool:
    """Whether the peer gets from this place to a relay that knows its address, or the relay to the peer."""
    before = _before(scenario, place)
    if place.isolated or peer.relay_only or not is_seen(scenario, peer, place, transport):
        return False
    if transport is Transport.UDP:
        return transport in peer.usable and not any(kind.udp_blocked for kind in before)
    if transport not in peer.transports:
        return False
    connects = TcpType.ACTIVE in peer.tcp_types and TcpType.PASSIVE in owner.tcp_types
    if connects and not any(kind.only_ports for kind in before):
        return True
    connected_to = TcpType.ACTIVE in owner.tcp_types and TcpType.PASSIVE in peer.tcp_types
    return connected_to and transport in peer.usable and all(_lets_in(kind) for kind in before)


def _lets_in(kind: NatKind) -> bool:
    return kind.filtering is Filtering.ENDPOINT_INDEPENDENT and not kind.drops_bare_syn


def _families(scenario: Scenario, side: Side, transport: Transport) -> set[int]:
    """Of the relayed addresses that a side surely gets."""
    if transport not in side.transports:
        return set()
    return {
        family
        for place in side.places
        for ask, asked, leg in _ways(scenario, side, place)
        if ask.scheme.relays and not ask.wrong_password and (kind := _relaying(scenario, place, asked, leg)) is not None
        if (kind.udp_relay if transport is Transport.UDP else kind.tcp_relay and leg.reliable)
        for family in kind.families
    }


def _relaying(scenario: Scenario, place: Place, asked: ServerKind, leg: LegTransport) -> ServerKind | None:
    """The server that relays when this one is asked: where it redirects, over IPv4 and to a plain port, another one."""
    if asked.redirects_to is None or place.family == 6:
        return asked
    kind = scenario.servers[asked.redirects_to]
    reachable = all(not nat.only_ports for nat in _before(scenario, place)) and not leg.secure
    return kind if reachable and kind.condition is Condition.RUNNING else None


def _ways(scenario: Scenario, side: Side, place: Place) -> Iterator[tuple[Ask, ServerKind, LegTransport]]:
    """The servers that answer to this place, and by what."""
    if place.isolated:
        return
    for ask in side.asks:
        kind = scenario.servers.get(ask.server)
        if kind is None or kind.condition is not Condition.RUNNING or place.family not in kind.families:
            continue
        if ask.family not in (None, place.family):
            continue
        for leg in ask.legs:
            if _passes(scenario, place, ask, kind, leg) and _has_port(side, leg):
                yield ask, kind, leg


def _passes(scenario: Scenario, place: Place, ask: Ask, kind: ServerKind, leg: LegTransport) -> bool:
    if leg is LegTransport.UDP:
        return not any(nat.udp_blocked for nat in _before(scenario, place))
    port = ask.port or ask.scheme.default_port
    if port != (kind.secure_port if leg.secure else PORT) or (leg.secure and kind.forged):
        return False
    return all(not nat.only_ports or port in nat.only_ports for nat in _before(scenario, place))


def _has_port(side: Side, leg: LegTransport) -> bool:
    return (Transport.TCP if leg.reliable else Transport.UDP) not in side.taken


def _before(scenario: Scenario, place: Place) -> list[NatKind]:
    return [scenario.nats[name] for name in place.nats]
