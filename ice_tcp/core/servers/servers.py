"""All that an agent has to do with servers, as one: the candidates that they give, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from candidates.candidate import (
    DISCARD_PORT,
    Candidate,
    CandidateType,
    TcpType,
    Transport,
    TransportAddress,
)
from candidates.foundation import Foundations
from candidates.priority import candidate_priority
from ice_tcp.core.commands import QueryId, ServerEndpoint, SocketId
from ice_tcp.core.context import Context
from ice_tcp.core.paths import Base
from ice_tcp.core.roles import Roles
from ice_tcp.core.servers.directory import Directory
from ice_tcp.core.servers.launcher import Launcher
from ice_tcp.core.servers.legs import Legs
from ice_tcp.core.servers.mapping import Mappings
from ice_tcp.core.servers.prediction import Prediction, predict
from ice_tcp.core.servers.reflexive import Reflexive
from ice_tcp.core.servers.relay import Relay
from ice_tcp.core.servers.relays import Relays, RelayUser
from ice_tcp.core.servers.reports import Reports
from ice_tcp.core.servers.server import Server
from ice_tcp.core.trace import CandidateIgnored, PortsPredicted

HIDDEN = {4: TransportAddress("0.0.0.0", DISCARD_PORT), 6: TransportAddress("::", DISCARD_PORT)}  # noqa: S104
"""The related address of a candidate whose base is nobody's business (RFC 8839 s5.1)."""

_RANKS_A_HOST = 64
_LOWEST_RANK = 8190
"""Of TCP candidates (RFC 6544 s4.2); hosts with more than 128 addresses have some of equal priority."""


class Servers:
    """Gathers from servers, beside the host candidates of `ice_tcp.core.gather`.

    ``found(base, candidate, now)`` is called for each candidate, ``ended(now)`` whenever `pending` may have changed.
    """

    def __init__(
        self,
        context: Context,
        components: int,
        user: RelayUser,
        roles: Roles,
        foundations: Foundations,
        found: Callable[[Base, Candidate, float], None],
        ended: Callable[[float], None],
    ) -> None:
        self._context = context
        self._roles = roles
        self._components = components
        self._foundations = foundations
        self._found = found
        self._ended = ended
        self._servers: tuple[Server, ...] = ()
        self._given: dict[Base, list[TransportAddress]] = {}
        self._active: dict[tuple[int, str], Base] = {}
        self._predictions: dict[Base, Prediction | None] = {}
        """By simultaneous-open base; None as long as too little was observed."""
        self._launcher = Launcher(context)
        self.legs = Legs(context)
        self.reports = Reports(context)
        self.mappings = Mappings(context)
        self.directory = Directory(context, self.reports, self._server_known)
        self.reflexive = Reflexive(
            *(context, self.legs, self._launcher, self.reports, self.mappings, self._seen_as, self._reflexive_ended)
        )
        self.relays = Relays(*(context, self.legs, self._launcher, self.reports, user, self._relayed_at, ended))

    @property
    def pending(self) -> bool:
        """Whether a candidate may still come."""
        return self.directory.pending or self.reflexive.pending or self.relays.pending

    def start(self, servers: Sequence[Server] | None, hosts: Sequence[str], now: float) -> None:
        """A gathering begins: ask these servers, None: those of last time, from these addresses of this host.

        Then tell `base_opened` of each base.
        """
        if servers is not None:
            self._servers = tuple(servers)
        self._launcher.clear()
        self._given.clear()
        self._active.clear()
        self._predictions.clear()
        self.reflexive.begin()
        self.reports.clear()
        self.mappings.clear()
        self.relays.start(self._components, hosts, now)
        self.directory.look_up(self._servers, hosts, now)

    def base_opened(self, base: Base, now: float) -> None:
        """A base of this host has its address."""
        if base.tcptype is TcpType.ACTIVE:
            self._active[base.component, base.host] = base
            return
        if base.tcptype is TcpType.SO:
            self._predictions[base] = None
        self.reflexive.base_opened(base, now)

    def base_lost(self, base: Base, now: float) -> None:
        """Its socket is gone."""
        self._predictions.pop(base, None)
        self.reflexive.base_lost(base, now)

    def give_up(self, now: float, *, awaiting_relays: bool) -> bool:
        """Gathering ends at its deadline. Returns whether the first relay of a component is still awaited."""
        self.directory.give_up()
        self.reflexive.give_up()
        self._predict(now)
        if awaiting_relays:
            self.relays.give_up_spare(now)
        else:
            self.relays.give_up(now)
        return self.relays.pending

    def conclude(self, kept: Iterable[Base], now: float) -> None:
        """ICE has concluded: free what no selected pair needs (RFC 6544 s11.2)."""
        self._launcher.clear()
        self.directory.stop()
        self.reflexive.stop()
        self.relays.conclude(kept, now)

    def received(self, socket: SocketId, source: TransportAddress, data: bytes, now: float) -> bool:
        """Whether a datagram that came to a base's socket was a server's answer."""
        return self.reflexive.received(socket, source, data, now)

    def resolved(self, query: QueryId, endpoints: Sequence[ServerEndpoint], now: float) -> None:
        self.directory.resolved(query, endpoints, now)
        self._reflexive_ended(now)

    def query_failed(self, query: QueryId, text: str, now: float) -> None:
        self.directory.failed(query, text)
        self._reflexive_ended(now)

    def is_hopeless(self, base: Base) -> bool:
        """Whether peers will hardly meet what they are told of this base: its NAT maps by destination, at random."""
        return self.mappings.is_dependent(base) and not self._may_predict(base)

    # -- inside

    def _server_known(self, server: Server, endpoints: tuple[ServerEndpoint, ...], now: float) -> None:
        if CandidateType.SRFLX in self._context.policy.candidate_types:
            self.reflexive.server_known(server, endpoints, now)
        self.relays.server_known(server, endpoints, now)

    def _seen_as(self, base: Base, endpoint: ServerEndpoint, mapped: TransportAddress, now: float) -> None:
        """A server-reflexive candidate.

        A TCP mapping shows as well where the active base of the same address is seen (RFC 6544 s5.2).
        """
        self._tell_reflexive(base, endpoint.address.host, mapped, now)
        active = self._active.get((base.component, base.host)) if base.transport is Transport.TCP else None
        if active is not None:
            self._tell_reflexive(active, endpoint.address.host, TransportAddress(mapped.host, DISCARD_PORT), now)

    def _tell_reflexive(self, base: Base, source: str, mapped: TransportAddress, now: float) -> None:
        """Unless it is redundant: seen before, or the base's very address (RFC 8445 s5.1.3)."""
        assert base.address is not None
        given = self._given.setdefault(base, [])
        rank = min(base.rank * _RANKS_A_HOST + min(len(given), _RANKS_A_HOST - 1), _LOWEST_RANK)
        candidate = self._candidate(CandidateType.SRFLX, base, source, mapped, base.address, rank)
        if mapped == base.address:
            self._ignore(candidate, "the server sees the base itself", now)
        elif mapped in given:
            self._ignore(candidate, "another server saw the same", now)
        else:
            given.append(mapped)
            self._found(base, candidate, now)

    def _reflexive_ended(self, now: float) -> None:
        if not (self.directory.pending or self.reflexive.pending):
            self._predict(now)
        self._ended(now)

    def _predict(self, now: float) -> None:
        """Tell where simultaneous-open bases will probably be seen, if the policy says so."""
        count = self._context.policy.simultaneous_open.predict_ports
        if not count:
            return
        for base in [base for base, known in self._predictions.items() if known is None]:
            prediction = self._predictions[base] = predict(
                base, self.reflexive.observations, self._context.flows, count
            )
            if prediction is None:
                continue
            assert base.address is not None
            addresses = prediction.addresses(controlling=self._roles.controlling)
            self._context.note(now, PortsPredicted(base.address, prediction.allocation, addresses))
            for address in addresses:
                self._tell_predicted(base, address, now)

    def _may_predict(self, base: Base) -> bool:
        if not self._context.policy.simultaneous_open.predict_ports or base not in self._predictions:
            return False
        prediction = self._predictions[base]
        return self.pending if prediction is None else bool(prediction)

    def _tell_predicted(self, base: Base, address: TransportAddress, now: float) -> None:
        """Each has a foundation of its own: one that hangs says nothing of the next (RFC 8445 s6.1.4.2)."""
        self._tell_reflexive(base, str(address), address, now)

    def _ignore(self, candidate: Candidate, why: str, now: float) -> None:
        self._context.note(now, CandidateIgnored(candidate, f"redundant: {why} (RFC 8445 s5.1.3)"))

    def _relayed_at(self, relay: Relay, base: Base, now: float) -> None:
        assert base.address is not None
        related = relay.mapped or HIDDEN[base.address.family or 4]
        source = relay.endpoint.address.host
        candidate = self._candidate(CandidateType.RELAY, base, source, base.address, related, base.rank)
        self._found(base, candidate, now)

    def _candidate(
        self,
        type_: CandidateType,
        base: Base,
        source: str,
        address: TransportAddress,
        related: TransportAddress,
        rank: int,
    ) -> Candidate:
        candidate = Candidate(
            foundation=self._foundations.of(type_, base.host, base.transport, base.tcptype, source),
            component=base.component,
            transport=base.transport,
            priority=candidate_priority(
                type=type_,
                transport=base.transport,
                tcptype=base.tcptype,
                component=base.component,
                rank=rank,
                preferences=self._context.policy.preferences.ranking,
            ),
            address=address,
            type=type_,
            tcptype=base.tcptype,
        )
        behind = CandidateType.HOST if type_ is CandidateType.SRFLX else CandidateType.SRFLX
        may_tell = self._may_tell(replace(candidate, type=behind, address=related))
        return replace(candidate, related_address=related if may_tell else HIDDEN[address.family or 4])

    def _may_tell(self, behind: Candidate) -> bool:
        """Whether the peer may learn what a candidate was seen from: the base, or before a relay the mapped address."""
        policy = self._context.policy
        return policy.keeps_local(behind).kept and policy.advertises(behind).kept
