"""One allocation, from the way to its server to its end, and the bases that peers reach through it.

A relay has a 5-tuple of its own: no base's socket carries ChannelData, and its data path meets one server only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from candidates.candidate import DISCARD_PORT, TcpType, Transport, TransportAddress
from ice_tcp.core.commands import Failure, LegId, RelayPath, ServerEndpoint, StreamId
from ice_tcp.core.context import Context
from ice_tcp.core.outcomes import Advice, ServerFailure, ServerVerdict
from ice_tcp.core.paths import Base
from ice_tcp.core.servers.legs import Leg, Legs, cause_of
from ice_tcp.core.servers.server import Server
from ice_tcp.core.timers import Timer
from ice_tcp.core.turn import Allocated, Allocation, Redirects, Wishes
from ice_tcp.core.verdicts import Verdict

MOST_SOCKETS = 3
"""Local ports that an Allocate is tried from (RFC 8656 s7.4, 437)."""


class RelayOwner(Protocol):
    """Who hears what becomes of a relay."""

    def relay_asks_again(self, relay: Relay, now: float) -> None:
        """Its first socket or server did not do: `Relay.open` it again when its turn has come."""
        ...

    def in_turn(self, begin: Callable[[float], None], now: float) -> None:
        """Call ``begin`` when one more connection to a server may be opened (RFC 8445 s14.2)."""
        ...

    def relay_allocated(self, relay: Relay, allocated: Allocated, now: float) -> None: ...

    def relay_failed(self, relay: Relay, failure: ServerFailure, now: float) -> None:
        """It never came into being."""
        ...

    def relay_lost(self, relay: Relay, failure: ServerFailure, now: float) -> None: ...

    def relay_closed(self, relay: Relay) -> None:
        """What `Relay.close` began is done."""
        ...

    def permitted(self, relay: Relay, host: str, now: float) -> None: ...

    def refused(self, relay: Relay, host: str, failure: ServerFailure, now: float) -> None:
        """The server does not relay to this peer."""
        ...

    def message_relayed(self, base: Base, path: RelayPath, data: bytes, now: float) -> None:
        """A peer's STUN message came through a UDP relay."""
        ...

    def wants_peer(self, base: Base, peer: TransportAddress) -> bool:
        """Whether a connection of this peer is worth a connection to the server."""
        ...

    def peer_connected(self, base: Base, peer: TransportAddress, now: float) -> StreamId | None:
        """A peer connected to a TCP relay; its stream's number, None if nobody wants it."""
        ...

    def dial_succeeded(self, stream: StreamId, local: TransportAddress, now: float) -> None:
        """What ``base.connector`` was asked for: ``stream`` leads to the peer."""
        ...

    def dial_failed(self, stream: StreamId, verdict: Verdict, now: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where an allocation is asked for: one server's endpoint, from an address of this host, for a component."""

    server: Server
    endpoint: ServerEndpoint
    host: str
    component: int


class Relay(ABC):
    """An allocation that is wanted, over one leg.

    Call `open`; the owner hears ``relay_allocated`` or ``relay_failed``. A redirection is followed, and another local
    port tried, where the server wants that.
    """

    __slots__ = (
        "_allocation",
        "_asked",
        "_context",
        "_leg",
        "_legs",
        "_mismatches",
        "_owner",
        "_permit_timer",
        "_redirects",
        "_tls",
        "_wishes",
        "bases",
        "component",
        "endpoint",
        "host",
        "leg_id",
        "mapped",
        "permitted",
        "relayed",
        "server",
    )

    transport: ClassVar[Transport]

    def __init__(self, context: Context, legs: Legs, owner: RelayOwner, place: Place, wishes: Wishes) -> None:
        self._context = context
        self._legs = legs
        self._owner = owner
        self._wishes = wishes
        self._redirects = Redirects()
        self._mismatches = 0
        self._tls = place.server.tls
        self._leg: Leg | None = None
        self._allocation: Allocation | None = None
        self._asked: set[str] = set()
        self._permit_timer: Timer | None = None
        self.leg_id: LegId | None = None
        """Names the relay on paths, even after its end."""
        self.server = place.server
        self.endpoint = place.endpoint
        self.component = place.component
        self.host = place.host
        self.bases: tuple[Base, ...] = ()
        """One a relayed address and tcptype; none before there are any."""
        self.relayed: tuple[TransportAddress, ...] = ()
        """The relayed addresses, one a family."""
        self.mapped: TransportAddress | None = None
        """How the server sees the leg."""
        self.permitted: set[str] = set()
        """Hosts of peers that the server relays for."""

    def open(self, now: float) -> None:
        """Open the way to the server, then ask for the allocation."""
        self._redirects.asked(self.endpoint.address, now)
        ports = self._context.policy.ports
        self._leg = self._legs.open(
            *(self, self.component, self.host, self.endpoint),
            tls=self._tls,
            ports=ports.tcp if self.endpoint.transport.reliable else ports.udp,
        )
        self.leg_id = self._leg.id

    def permit(self, host: str, now: float) -> None:
        """Let a peer in; ``permitted`` or ``refused`` follows. What is asked for at one instant goes in one request.

        Who was refused is asked for again: there are pairs with another candidate of that peer now.
        """
        if host in self._asked:
            return
        self._asked.add(host)
        if self._permit_timer is None or not self._permit_timer.pending:
            self._permit_timer = self._context.timers.set(now, self._ask_permissions)

    def keep_only(self, hosts: set[str], now: float) -> None:
        """Let the permissions of all other peers run out."""
        gone = self._asked - hosts
        self._asked -= gone
        self.permitted -= gone
        if self._allocation is not None:
            self._allocation.release(sorted(gone), now)

    @property
    def in_doubt(self) -> bool:
        """Whether the server has not answered to `probe` yet."""
        return self._allocation is not None and self._allocation.in_doubt

    def probe(self, now: float) -> None:
        """See whether the server still has the allocation; if not, the owner hears ``relay_lost``."""
        if self._allocation is not None:
            self._allocation.probe(now)

    def distrust(self, now: float) -> None:
        """It is of no use any more: the owner hears ``relay_lost``."""
        if self._allocation is not None:
            self._allocation.path_lost(ServerVerdict.NO_RESPONSE, now, "neither the server nor the peer answers")

    def close(self, now: float) -> None:
        """Delete the allocation; the owner hears ``relay_closed`` when that is done."""
        if self._permit_timer is not None:
            self._permit_timer.cancel()
        self._stopped(now)
        if self._allocation is not None:
            self._allocation.close(now)
        else:
            self._end_leg()
            self._owner.relay_closed(self)

    # LegOwner

    def leg_opened(self, now: float) -> None:
        assert self._leg is not None
        self._allocation = self._allocate(self._leg)
        self._allocation.start(now)

    def leg_received(self, message: bytes, now: float) -> None:
        if self._allocation is not None:
            self._allocation.received(message, now)

    def leg_lost(self, failure: Failure, text: str, now: float) -> None:
        self._leg = None
        if self._allocation is not None:
            self._allocation.path_lost(cause_of(failure), now, text)
        else:
            self._owner.relay_failed(self, ServerFailure(cause_of(failure), text, Advice.OTHER_TRANSPORT), now)

    @abstractmethod
    def leg_relayed(self, peer: TransportAddress, data: bytes, now: float) -> None: ...

    # AllocationListener

    def allocated(self, allocated: Allocated, now: float) -> None:
        self.relayed = allocated.relayed
        self.mapped = allocated.mapped
        self.bases = self._bases_of(allocated.relayed)
        self._owner.relay_allocated(self, allocated, now)

    def allocation_failed(self, failure: ServerFailure, now: float) -> None:
        self._end_leg()
        self._allocation = None
        if failure.advice is Advice.ALTERNATE:
            following = self._redirects.follow(failure, now)
            if isinstance(following, TransportAddress):
                self._tls = self.server.tls_to(failure.domain)
                self.endpoint = ServerEndpoint(self.endpoint.transport, following)
                self._mismatches = 0
                self._owner.relay_asks_again(self, now)
                return
            failure = following
        elif failure.advice is Advice.NEW_SOCKET:
            self._mismatches += 1
            if self._mismatches < MOST_SOCKETS:
                self._owner.relay_asks_again(self, now)
                return
        self._owner.relay_failed(self, failure, now)

    def allocation_lost(self, failure: ServerFailure, now: float) -> None:
        self._allocation = None
        self._end_leg()
        self._stopped(now)
        self._owner.relay_lost(self, failure, now)

    def allocation_closed(self, now: float) -> None:  # noqa: ARG002 - the listener's protocol
        self._end_leg()
        self._owner.relay_closed(self)

    def permission_granted(self, host: str, now: float) -> None:
        if host in self._asked:
            self.permitted.add(host)
            self._owner.permitted(self, host, now)

    def permission_refused(self, host: str, failure: ServerFailure, now: float) -> None:
        self._asked.discard(host)
        self.permitted.discard(host)
        self._owner.refused(self, host, failure, now)

    # -- inside

    @abstractmethod
    def _allocate(self, leg: Leg) -> Allocation:
        """The machine, on an open leg."""

    @abstractmethod
    def _bases_of(self, relayed: tuple[TransportAddress, ...]) -> tuple[Base, ...]: ...

    @abstractmethod
    def _stopped(self, now: float) -> None:
        """Nothing is relayed any more."""

    def _ask_permissions(self, now: float) -> None:
        if self._allocation is not None:
            self._allocation.permit(sorted(self._asked - self.permitted), now)

    def _end_leg(self) -> None:
        if self._leg is not None:
            self._leg.close()
            self._leg = None

    def _base(self, relayed: TransportAddress, tcptype: TcpType | None) -> Base:
        rank = 2 * self.server.rank + self.relayed.index(relayed)
        base = Base(None, self.component, relayed.host, rank, self.transport, tcptype)
        base.address = TransportAddress(relayed.host, DISCARD_PORT) if tcptype is TcpType.ACTIVE else relayed
        return base
