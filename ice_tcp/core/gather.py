"""Local candidates from this host's addresses, and from servers (RFC 8445 s5.1.1, RFC 6544 s5)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeAlias

from candidates.candidate import (
    DISCARD_PORT,
    Candidate,
    CandidateType,
    InterfaceAddress,
    TcpType,
    Transport,
    TransportAddress,
)
from candidates.foundation import Foundations
from candidates.priority import candidate_priority, rank_addresses
from ice_tcp.core.commands import Close, Failure, Listen, ListenerId, OpenUdp, SocketId
from ice_tcp.core.context import Context
from ice_tcp.core.paths import Base
from ice_tcp.core.roles import Roles
from ice_tcp.core.servers import RelayUser, Server, Servers
from ice_tcp.core.timers import Timer
from ice_tcp.core.trace import AddressIgnored

Kind: TypeAlias = tuple[Transport, TcpType | None]

KINDS: tuple[Kind, ...] = (
    (Transport.UDP, None),
    (Transport.TCP, TcpType.PASSIVE),
    (Transport.TCP, TcpType.SO),
    (Transport.TCP, TcpType.ACTIVE),
)
"""The bases of each address: two listeners on different ports, and one that only dials (RFC 6544 s5.1)."""

LITE_KINDS = KINDS[:2]
"""RFC 6544 s4.4: a lite agent has no active and no simultaneous-open candidates."""


class Gathering:
    """Opens the bases of one agent and keeps them across generations; `servers` gathers beside it.

    ``found(base, candidate, now)`` is called for each candidate, ``done(now)`` when all jobs have ended.
    """

    __slots__ = (
        "_addresses",
        "_bases",
        "_components",
        "_context",
        "_deadline",
        "_done",
        "_found",
        "_foundations",
        "_pending",
        "_running",
        "servers",
    )

    def __init__(
        self,
        context: Context,
        components: int,
        roles: Roles,
        relay_user: RelayUser,
        found: Callable[[Base, Candidate, float], None],
        done: Callable[[float], None],
    ) -> None:
        self._context = context
        self._components = components
        self._found = found
        self._done = done
        self._foundations = Foundations()
        self._addresses: tuple[InterfaceAddress, ...] | None = None
        self._bases: list[Base] = []
        self._pending: set[int] = set()
        self._deadline: Timer | None = None
        self._running = False
        self.servers = Servers(context, components, relay_user, roles, self._foundations, found, self._end_if_done)

    @property
    def started(self) -> bool:
        """Addresses to gather from are known."""
        return self._addresses is not None

    @property
    def bases(self) -> tuple[Base, ...]:
        return tuple(self._bases)

    def start(self, addresses: Sequence[InterfaceAddress] | None, servers: Sequence[Server] | None, now: float) -> None:
        """Gather for a generation; None: from the addresses or servers of last time. Open bases are used again."""
        if addresses is not None:
            self._addresses = tuple(addresses)
        self._running = True
        before = tuple(self._bases)
        ranked = rank_addresses(self._usable(now))
        outward = sorted(ranked, key=lambda address: not address.default_route)
        self.servers.start(servers, [address.host for address in outward], now)
        for component in range(1, self._components + 1):
            for rank, address in enumerate(ranked):
                for kind in self._kinds():
                    base = _matching(before, component, address.host, kind)
                    if base is None:
                        self._open(component, address.host, rank, kind)
                    elif base.address is not None:
                        self._tell(base, now)
        for base in self._bases:
            if base.handle is None and base not in before:
                self._tell(base, now)
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._context.timers.set(now + self._context.policy.timeouts.gather, self._give_up)
        self._end_if_done(now)

    def opened(self, handle: SocketId | ListenerId, address: TransportAddress, now: float) -> None:
        base = self.base_of(handle)
        if base is None or handle not in self._pending:
            return
        self._pending.discard(handle)
        base.address = TransportAddress(address.host.partition("%")[0], address.port)
        self._tell(base, now)
        self._end_if_done(now)

    def failed(self, handle: SocketId | ListenerId, failure: Failure, now: float) -> None:
        """A base could not be opened, or its socket died."""
        base = self.base_of(handle)
        if base is None:
            return
        self._bases.remove(base)
        self.servers.base_lost(base, now)
        self._context.note(now, AddressIgnored(base.host, failure.value))
        if handle in self._pending:
            self._pending.discard(handle)
            self._end_if_done(now)

    def open_sibling(self, base: Base) -> None:
        """Another simultaneous-open base like this one, on a fresh port."""
        kind = (base.transport, base.tcptype)
        sibling = self._open(base.component, base.host, base.rank, kind)
        sibling.fresh_ports = base.fresh_ports

    def base_of(self, handle: int) -> Base | None:
        return next((base for base in self._bases if base.handle == handle), None)

    def conclude(self, kept: Collection[Base], now: float) -> None:
        """ICE has concluded: close what no selected pair needs (RFC 8445 s8.3, RFC 6544 s11.2)."""
        self.servers.conclude(kept, now)
        self._close(base for base in list(self._bases) if base not in kept)
        self._end_if_done(now)

    def close(self, now: float) -> None:
        """Close everything; allocations are deleted meanwhile (`Relays.closing`)."""
        self._end()
        self.conclude((), now)

    def _close(self, bases: Iterable[Base]) -> None:
        for base in list(bases):
            self._bases.remove(base)
            if base.handle is not None:
                self._pending.discard(base.handle)
                self._context.commands.append(Close(base.handle))

    def _usable(self, now: float) -> list[InterfaceAddress]:
        interface_rank = self._context.policy.preferences.interface_rank
        usable = []
        for address in sorted(self._addresses or (), key=lambda each: interface_rank(each.interface)):
            ruling = self._context.policy.keeps_address(address)
            if ruling.kept:
                usable.append(address)
            else:
                self._context.note(now, AddressIgnored(address.host, ruling.rule))
        return usable

    def _kinds(self) -> tuple[Kind, ...]:
        """Without host and reflexive candidates, as with relay only, nothing of this host is opened."""
        policy = self._context.policy
        if CandidateType.HOST not in policy.candidate_types and CandidateType.SRFLX not in policy.candidate_types:
            return ()
        return tuple(
            (transport, tcptype)
            for transport, tcptype in (LITE_KINDS if policy.lite else KINDS)
            if transport in policy.transports and (tcptype is None or tcptype in policy.tcp_types)
        )

    def _open(self, component: int, host: str, rank: int, kind: Kind) -> Base:
        transport, tcptype = kind
        number = self._context.issue()
        ports = self._context.policy.ports
        if tcptype is TcpType.ACTIVE:
            base = Base(None, component, host, rank, transport, tcptype)
            base.address = TransportAddress(host.partition("%")[0], DISCARD_PORT)
        elif transport is Transport.UDP:
            base = Base(SocketId(number), component, host, rank, transport, tcptype)
            self._pending.add(number)
            self._context.commands.append(OpenUdp(SocketId(number), component, host, ports.udp))
        else:
            base = Base(ListenerId(number), component, host, rank, transport, tcptype)
            self._pending.add(number)
            self._context.commands.append(Listen(ListenerId(number), component, host, ports.tcp))
        self._bases.append(base)
        return base

    def _tell(self, base: Base, now: float) -> None:
        assert base.address is not None
        candidate = Candidate(
            foundation=self._foundations.of(CandidateType.HOST, base.address.host, base.transport, base.tcptype),
            component=base.component,
            transport=base.transport,
            priority=candidate_priority(
                type=CandidateType.HOST,
                transport=base.transport,
                tcptype=base.tcptype,
                component=base.component,
                rank=base.rank,
                preferences=self._context.policy.preferences.ranking,
            ),
            address=base.address,
            type=CandidateType.HOST,
            tcptype=base.tcptype,
        )
        self._found(base, candidate, now)
        self.servers.base_opened(base, now)

    def _give_up(self, now: float) -> None:
        """What has not opened by the deadline is not waited for."""
        late = [base for base in self._bases if base.handle in self._pending]
        for base in late:
            self._context.note(now, AddressIgnored(base.host, Failure.TIMED_OUT.value))
        self._close(late)
        timeouts = self._context.policy.timeouts
        if self.servers.give_up(now, awaiting_relays=timeouts.relay > timeouts.gather):
            wait = timeouts.relay - timeouts.gather
            self._deadline = self._context.timers.set(now + wait, self._give_up_relays)
        self._end_if_done(now)

    def _give_up_relays(self, now: float) -> None:
        self.servers.relays.give_up(now)
        self._end_if_done(now)

    def _end_if_done(self, now: float) -> None:
        if self._running and not self._pending and not self.servers.pending:
            self._end()
            self._done(now)

    def _end(self) -> None:
        self._running = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _matching(bases: Iterable[Base], component: int, host: str, kind: Kind) -> Base | None:
    return next(
        (
            base
            for base in bases
            if (base.component, base.host, (base.transport, base.tcptype)) == (component, host, kind)
        ),
        None,
    )
