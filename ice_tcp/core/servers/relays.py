"""The allocations of one agent: one a component, server and transport, each won by whoever is first.

Where a server may be asked in several ways, from several addresses of this host or over UDP and TCP, all are tried at
once and the first allocation is kept. So UDP that is blocked, or a network without a way out, costs no waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from candidates.candidate import Candidate, CandidateType, Transport, TransportAddress
from candidates.policy.servers import ServerUri
from candidates.policy.values import AddressFamily
from ice_tcp.core.commands import LegTransport, RelayPath, ServerEndpoint, StreamId
from ice_tcp.core.context import Context
from ice_tcp.core.events import RelayLost
from ice_tcp.core.outcomes import Advice, ServerFailure
from ice_tcp.core.paths import Base
from ice_tcp.core.servers.directory import reaches
from ice_tcp.core.servers.launcher import Launcher
from ice_tcp.core.servers.legs import Legs
from ice_tcp.core.servers.relay import Place, Relay
from ice_tcp.core.servers.reports import Purpose, Reports
from ice_tcp.core.servers.server import Server
from ice_tcp.core.servers.tcp_relay import TcpRelay
from ice_tcp.core.servers.udp_relay import UdpRelay
from ice_tcp.core.timers import Timer
from ice_tcp.core.turn import Allocated, Wishes
from ice_tcp.core.verdicts import Verdict

_MAY_RETURN = (Verdict.REFUSED, Verdict.RESET, Verdict.CLOSED)
"""What a server that is being restarted looks like."""
RETURN_INTERVAL = 1.0
"""Seconds between two questions whether a server is back that was lost."""
_FAMILY_NUMBERS = {AddressFamily.IPV4: 4, AddressFamily.IPV6: 6}


class RelayUser(Protocol):
    """Who uses the relays: the session."""

    def message_relayed(self, base: Base, path: RelayPath, data: bytes, now: float) -> None: ...

    def wants_peer(self, base: Base, peer: TransportAddress) -> bool: ...

    def peer_connected(self, base: Base, peer: TransportAddress, now: float) -> StreamId | None: ...

    def dial_succeeded(self, stream: StreamId, local: TransportAddress, now: float) -> None: ...

    def dial_failed(self, stream: StreamId, verdict: Verdict, now: float) -> None: ...

    def permissions_changed(self, now: float) -> None:
        """Pairs that waited for a permission may be checked."""

    def peer_refused(self, bases: tuple[Base, ...], host: str, now: float) -> None:
        """The server does not relay to this peer: pairs of these bases with it have failed."""

    def relay_lost(self, bases: tuple[Base, ...], now: float) -> None:
        """The relay is gone, and its bases with it."""


@dataclass(eq=False, slots=True)
class Race:
    """Several ways to one allocation. ``following`` are other addresses of the server, for later."""

    server: Server
    component: int
    transport: Transport
    wishes: Wishes
    running: list[Relay] = field(default_factory=list)
    following: list[list[Place]] = field(default_factory=list)
    stagger: Timer | None = None
    returns: list[Timer] = field(default_factory=list)
    over: bool = False
    no_tcp_at: ServerEndpoint | None = None
    """Where the server said that it relays no TCP."""

    def end(self) -> None:
        self.over = True
        self.following.clear()
        for timer in self.returns:
            timer.cancel()
        if self.stagger is not None:
            self.stagger.cancel()


class Relays:
    """Asks for allocations, and keeps them until `conclude`; `closing` tells for how long that takes.

    ``found(relay, base, now)`` is called for each base that a relay gives; ``ended(now)`` whenever `pending` may have
    changed.
    """

    __slots__ = (
        "_closing",
        "_components",
        "_context",
        "_ended",
        "_first_will_do",
        "_follow_ups",
        "_found",
        "_hosts",
        "_known",
        "_launcher",
        "_legs",
        "_living",
        "_missed",
        "_proven",
        "_races",
        "_reports",
        "_user",
    )

    def __init__(
        self,
        context: Context,
        legs: Legs,
        launcher: Launcher,
        reports: Reports,
        user: RelayUser,
        found: Callable[[Relay, Base, float], None],
        ended: Callable[[float], None],
    ) -> None:
        self._context = context
        self._legs = legs
        self._launcher = launcher
        self._follow_ups = Launcher(context)  # what living relays need, whatever becomes of the gathering
        self._reports = reports
        self._user = user
        self._found = found
        self._ended = ended
        self._components = 0
        self._first_will_do = False
        self._hosts: tuple[str, ...] = ()
        self._races: list[Race] = []
        self._living: list[Relay] = []
        self._closing: list[Relay] = []
        self._known: list[tuple[Server, tuple[ServerEndpoint, ...]]] = []
        self._proven: set[ServerUri] = set()
        self._missed: set[tuple[ServerUri, int, Transport]] = set()
        context.relay = self._send

    def __iter__(self) -> Iterator[Relay]:
        return iter(list(self._living))

    @property
    def pending(self) -> bool:
        """Whether a relay may still come."""
        return any(not race.over for race in self._races)

    @property
    def closing(self) -> bool:
        """Whether an allocation is being deleted."""
        return bool(self._closing)

    def start(self, components: int, hosts: Sequence[str], now: float) -> None:
        """A gathering begins, from these addresses of this host, the best first. Relays that live are used again."""
        self._components = components
        self._first_will_do = False
        self._hosts = tuple(hosts)
        for race in self._races:
            race.end()
            self._dismiss(race, now)
        self._races.clear()
        self._known.clear()

    def server_known(self, server: Server, endpoints: tuple[ServerEndpoint, ...], now: float) -> None:
        """A server has its addresses: ask it for what the policy wants and is not there yet."""
        policy = self._context.policy
        if not server.relays or CandidateType.RELAY not in policy.candidate_types:
            return
        self._known.append((server, endpoints))
        for component in range(1, self._components + 1):
            for transport in policy.transports:
                if not self._told_again(server, component, transport, now) and not (
                    self._waits_for_reservation(component, transport) and self._alive(server, 1, transport) is None
                ):
                    self._race(server, component, transport, endpoints, self._wishes(component, transport), now)

    def ask_again(self, now: float) -> None:
        """Ask, in the same gathering, for what was lost since it began."""
        running = {(race.server.uri, race.component, race.transport) for race in self._races if not race.over}
        for server, endpoints in self._known:
            for uri, component, transport in sorted(self._missed - running, key=str):
                if uri == server.uri:
                    self._race(server, component, transport, endpoints, self._wishes(component, transport), now)

    def permit(self, candidate: Candidate, now: float) -> None:
        """A candidate of the peer is known: let it through (RFC 6544 s5.2: active ones, too)."""
        for relay in self._living:
            self.permit_on(relay, candidate, now)

    def permit_on(self, relay: Relay, candidate: Candidate, now: float) -> None:
        fits = candidate.component == relay.component and candidate.transport is relay.transport
        families = {address.family for address in relay.relayed}
        if fits and candidate.address.family in families:
            relay.permit(candidate.address.host, now)

    def give_up(self, now: float) -> None:
        """Gathering ends: what is not there yet is not waited for."""
        for race in self._races:
            self._give_up(race, now)

    def give_up_spare(self, now: float) -> None:
        """As `give_up`, where a component has a relay; else the first one to come will do."""
        self._first_will_do = True
        served = {relay.component for relay in self._living}
        for race in self._races:
            if race.component in served:
                self._give_up(race, now)

    def conclude(self, kept: Iterable[Base], now: float) -> None:
        """ICE has concluded: keep the relays of these bases only (RFC 6544 s11.2)."""
        self.give_up(now)
        bases = set(kept)
        for relay in list(self._living):
            if bases.isdisjoint(relay.bases):
                self._living.remove(relay)
                self._close(relay, now)
        if not self._living:
            self._follow_ups.clear()

    def probe(self, base: Base, now: float) -> None:
        """The peer is silent behind this base: see whether its relay is still there; if not, `RelayUser.relay_lost`."""
        for relay in self._living:
            if base in relay.bases:
                relay.probe(now)

    def give_up_doubtful(self, base: Base, now: float) -> bool:
        """Whether the relay of this base is probed in vain until now; it is lost, then."""
        doubtful = [relay for relay in self._living if base in relay.bases and relay.in_doubt]
        for relay in doubtful:
            relay.distrust(now)
        return bool(doubtful)

    def keep_only(self, peers: Collection[tuple[Base, str]], now: float) -> None:
        """Of the relays that live, let only these bases' peers through from now on."""
        for relay in self._living:
            relay.keep_only({host for base, host in peers if base in relay.bases}, now)

    # RelayOwner

    def relay_allocated(self, relay: Relay, allocated: Allocated, now: float) -> None:
        race = self._race_of(relay)
        race.end()
        race.running.remove(relay)
        self._dismiss(race, now)
        self._living.append(relay)
        self._proven.add(relay.server.uri)
        self._missed = {missed for missed in self._missed if missed[0] != relay.server.uri}
        self._report(relay, found=allocated.relayed)
        for family, failure in allocated.refused:
            self._report(relay, failure=failure, family=family)
        self._tell(relay, now)
        self._ask_for_next(race, relay, allocated, now)
        if self._first_will_do:
            self.give_up_spare(now)
        self._ended(now)

    def relay_failed(self, relay: Relay, failure: ServerFailure, now: float) -> None:
        race = self._race_of(relay)
        race.running.remove(relay)
        self._report(relay, failure=failure)
        if failure.advice is Advice.UDP_ALLOCATION:
            race.no_tcp_at = relay.endpoint
        if not race.running:
            self._next_addresses(race, now)
        if not race.over and relay.server.uri in self._proven and failure.cause in _MAY_RETURN:
            self._ask_again_soon(race, relay, now)
        elif not race.running and not race.over:
            race.end()
            self._fall_back(race, now)
        self._ended(now)

    def in_turn(self, begin: Callable[[float], None], now: float) -> None:
        self._follow_ups.launch(begin, now)

    def relay_asks_again(self, relay: Relay, now: float) -> None:
        self._launcher.launch(self._beginning(self._race_of(relay), relay), now)

    def relay_lost(self, relay: Relay, failure: ServerFailure, now: float) -> None:
        self._living.remove(relay)
        self._missed.add(_kind_of(relay))
        self._report(relay, failure=failure)
        self._context.events.append(RelayLost(relay.server.name, relay.relayed, failure))
        self._user.relay_lost(relay.bases, now)

    def relay_closed(self, relay: Relay) -> None:
        self._closing = [each for each in self._closing if each is not relay]

    def permitted(self, relay: Relay, host: str, now: float) -> None:  # noqa: ARG002 - the owner's protocol
        self._user.permissions_changed(now)

    def refused(self, relay: Relay, host: str, failure: ServerFailure, now: float) -> None:  # noqa: ARG002
        self._user.peer_refused(relay.bases, host, now)

    def message_relayed(self, base: Base, path: RelayPath, data: bytes, now: float) -> None:
        self._user.message_relayed(base, path, data, now)

    def wants_peer(self, base: Base, peer: TransportAddress) -> bool:
        return self._user.wants_peer(base, peer)

    def peer_connected(self, base: Base, peer: TransportAddress, now: float) -> StreamId | None:
        return self._user.peer_connected(base, peer, now)

    def dial_succeeded(self, stream: StreamId, local: TransportAddress, now: float) -> None:
        self._user.dial_succeeded(stream, local, now)

    def dial_failed(self, stream: StreamId, verdict: Verdict, now: float) -> None:
        self._user.dial_failed(stream, verdict, now)

    # -- what is wished for

    def _wishes(self, component: int, transport: Transport) -> Wishes:
        policy = self._context.policy
        wanted = {_FAMILY_NUMBERS[family] for family in policy.address_families}
        families = tuple(sorted(wanted))
        if transport is Transport.TCP:
            return Wishes(transport, families, lifetime=policy.relay.lifetime)
        even = policy.relay.even_port and component == 1 and self._components > 1
        return Wishes(
            transport,
            families[:1] if even else families,
            even_port=even,
            reserve_next=even,
            dont_fragment=policy.relay.dont_fragment,
            lifetime=policy.relay.lifetime,
        )

    def _waits_for_reservation(self, component: int, transport: Transport) -> bool:
        """Whether the server is asked for this component when it has answered for the first (RFC 8656 s7.2)."""
        even = self._context.policy.relay.even_port and transport is Transport.UDP
        return even and component == 2

    def _ask_for_next(self, race: Race, relay: Relay, allocated: Allocated, now: float) -> None:
        if race.component != 1 or self._components < 2 or not self._waits_for_reservation(2, race.transport):
            return
        wishes = self._wishes(2, race.transport)
        if allocated.reservation is not None:
            wishes = Wishes(
                *(race.transport, (4,)),
                reservation=allocated.reservation,
                dont_fragment=wishes.dont_fragment,
                lifetime=wishes.lifetime,
            )
        self._race(race.server, 2, race.transport, (relay.endpoint,), wishes, now, hosts=(relay.host,))

    # -- races

    def _race(
        self,
        server: Server,
        component: int,
        transport: Transport,
        endpoints: Sequence[ServerEndpoint],
        wishes: Wishes,
        now: float,
        *,
        hosts: Sequence[str] | None = None,
    ) -> None:
        places = [
            Place(server, endpoint, host, component)
            for endpoint in endpoints
            for host in hosts or self._hosts
            if endpoint.transport.reliable or transport is Transport.UDP  # RFC 6062 s4.1
            if reaches(TransportAddress(host, 0), endpoint.address)
        ]
        if not places:
            return
        race = Race(server, component, transport, wishes, following=_rounds(places))
        self._races.append(race)
        self._next_addresses(race, now)

    def _next_addresses(self, race: Race, now: float) -> None:
        """Try the next address of the server, beside those that do not answer."""
        if race.over or not race.following:
            return
        if race.stagger is not None:
            race.stagger.cancel()
        for place in race.following.pop(0):
            self._run(race, place, now)
        if race.following:
            race.stagger = self._context.timers.set(
                now + self._context.policy.timeouts.rto, lambda at: self._next_addresses(race, at)
            )

    def _run(self, race: Race, place: Place, now: float) -> None:
        make = UdpRelay if race.transport is Transport.UDP else TcpRelay
        relay = make(self._context, self._legs, self, place, race.wishes)
        race.running.append(relay)
        self._launcher.launch(self._beginning(race, relay), now)

    def _ask_again_soon(self, race: Race, relay: Relay, now: float) -> None:
        """A server that has relayed for us before may be back before gathering ends."""
        place = Place(relay.server, relay.endpoint, relay.host, relay.component)

        timer = self._context.timers.set(now + RETURN_INTERVAL, lambda at: self._run(race, place, at))
        race.returns.append(timer)

    def _beginning(self, race: Race, relay: Relay) -> Callable[[float], None]:
        def begin(now: float) -> None:
            if not race.over and relay in race.running:
                relay.open(now)

        return begin

    def _dismiss(self, race: Race, now: float) -> None:
        """The race is over: those who still run are not wanted."""
        running, race.running = race.running, []
        for relay in running:
            self._close(relay, now)

    def _fall_back(self, race: Race, now: float) -> None:
        """A server that relays no TCP relays UDP, over the same leg, even to a policy of TCP candidates only."""
        if race.no_tcp_at is None or Transport.UDP in self._context.policy.transports:
            return
        if not self._told_again(race.server, race.component, Transport.UDP, now):
            wishes = self._wishes(race.component, Transport.UDP)
            self._race(race.server, race.component, Transport.UDP, (race.no_tcp_at,), wishes, now)

    def _give_up(self, race: Race, now: float) -> None:
        if race.over:
            return
        race.end()
        for relay in race.running:
            self._report(relay, failure=ServerFailure(Verdict.TIMED_OUT, "no allocation before gathering ended"))
        self._dismiss(race, now)

    def _race_of(self, relay: Relay) -> Race:
        return next(race for race in self._races if relay in race.running)

    # -- inside

    def _send(self, path: RelayPath, data: bytes, now: float) -> None:
        for relay in self._living:
            if relay.leg_id == path.leg and isinstance(relay, UdpRelay):
                relay.send(path.remote, data, now)

    def _alive(self, server: Server, component: int, transport: Transport) -> Relay | None:
        return next(
            (relay for relay in self._living if _kind_of(relay) == (server.uri, component, transport)),
            None,
        )

    def _told_again(self, server: Server, component: int, transport: Transport, now: float) -> bool:
        """Whether a relay of the last gathering lives, whose candidates are good once more.

        Not where its server has just lost another: it will not live long, either.
        """
        alive = self._alive(server, component, transport)
        if any(uri == server.uri for uri, _, _ in self._missed):
            return False
        if alive is not None:
            self._report(alive, found=alive.relayed)
            self._tell(alive, now)
        return alive is not None

    def _tell(self, relay: Relay, now: float) -> None:
        for base in relay.bases:
            self._found(relay, base, now)

    def _close(self, relay: Relay, now: float) -> None:
        self._closing.append(relay)
        relay.close(now)

    def _report(
        self,
        relay: Relay,
        *,
        family: int | None = None,
        found: tuple[TransportAddress, ...] = (),
        failure: ServerFailure | None = None,
    ) -> None:
        self._reports.told(
            *(relay.server, Purpose.RELAY),
            endpoint=relay.endpoint,
            host=relay.host,
            component=relay.component,
            transport=relay.transport,
            family=family,
            failure=failure,
            found=found,
        )


def _kind_of(relay: Relay) -> tuple[ServerUri, int, Transport]:
    """What it is for: of those alike one is enough."""
    return relay.server.uri, relay.component, relay.transport


def _rounds(places: list[Place]) -> list[list[Place]]:
    """What is tried together: all transports and both families; further addresses of each come after them."""
    rounds: list[list[Place]] = []
    addresses: dict[tuple[LegTransport, int | None], list[TransportAddress]] = {}
    for place in places:
        address = place.endpoint.address
        alike = addresses.setdefault((place.endpoint.transport, address.family), [])
        if address not in alike:
            alike.append(address)
        index = alike.index(address)
        if index == len(rounds):
            rounds.append([])
        rounds[index].append(place)
    return rounds
