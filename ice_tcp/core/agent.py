"""The ICE agent without I/O: the only class of the core that a shell knows.

Call the inputs, then drain ``commands()`` and ``events()``, then arm a timer for ``next_timer()``. Instants are floats
in seconds on the caller's clock. Inputs from the network never raise; misuse by the caller raises ``RuntimeError`` or
``ValueError``.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from candidates.candidate import Candidate, InterfaceAddress, Transport, TransportAddress
from candidates.parameters import IceParameters
from candidates.policy import Policy, differences
from ice_tcp.core.commands import (
    Command,
    Failure,
    LegId,
    ListenerId,
    QueryId,
    ServerEndpoint,
    SocketId,
    StreamId,
    UdpPath,
)
from ice_tcp.core.context import Context
from ice_tcp.core.events import (
    AgentState,
    Event,
    MappingBehaviour,
    Role,
    SelectedPath,
    ServerReport,
)
from ice_tcp.core.generation import Generation
from ice_tcp.core.pacing import Pacer
from ice_tcp.core.pairs import PairStatistics
from ice_tcp.core.servers import Server
from ice_tcp.core.session import Session
from ice_tcp.core.trace import RecordSink, SessionBegan
from ice_tcp.core.verdicts import verdict_of


class Agent:
    """One ICE session of ``components`` components.

    ``rng`` must be ``random.SystemRandom()`` outside of tests: credentials and transaction ids come from it
    (RFC 7675 s8). ``pacer`` is shared by all agents of the process. ``policy.lite`` makes a lite agent.
    ``credentials`` are ufrag and pwd of the first generation, drawn if None. With ``awaits_end`` the session does not
    fail before the peer's end-of-candidates, however late that comes (RFC 8838 s8).
    """

    __slots__ = ("_components", "_context", "_session", "_strays")

    def __init__(
        self,
        role: Role,
        policy: Policy,
        *,
        rng: random.Random,
        pacer: Pacer,
        components: int = 1,
        trace: RecordSink | None = None,
        credentials: tuple[str, str] | None = None,
        awaits_end: bool = False,
    ) -> None:
        if not 1 <= components <= 256:
            raise ValueError(f"components {components} is not from 1 to 256")
        self._context = Context(policy, rng, pacer, trace)
        self._components = components
        self._session = Session(self._context, role, components, credentials, awaits_end=awaits_end)
        self._strays: list[Candidate] = []

    # -- what the application wants

    @property
    def role(self) -> Role:
        return self._session.roles.role

    @property
    def state(self) -> AgentState:
        return self._session.usage.state

    @property
    def generation(self) -> int:
        """The number of the current generation; 0 before any restart."""
        return self._session.current.number

    @property
    def local_parameters(self) -> IceParameters:
        """What the peer needs to know of the current generation; then call ``set_remote_parameters`` with its own."""
        return self._session.current.local

    @property
    def local_candidates(self) -> tuple[Candidate, ...]:
        return tuple(each.candidate for each in self._session.current.local_candidates)

    @property
    def remote_candidates(self) -> tuple[Candidate, ...]:
        return tuple(self._session.current.remote_candidates.values())

    def selected_path(self, component: int = 1) -> SelectedPath | None:
        """The path that carries the component's data now."""
        return self._session.usage.path(component)

    def pair_statistics(self) -> list[PairStatistics]:
        """Of every pair in the check lists, the current generation's first."""
        return [
            pair.statistics(generation.number)
            for generation in self._session.generations()
            for pair in generation.checklist
        ]

    def server_reports(self) -> tuple[ServerReport, ...]:
        """What became of everything that was asked of servers since gathering began."""
        return self._session.gathering.servers.reports.all()

    def mapping_behaviours(self) -> dict[tuple[Transport, str], MappingBehaviour]:
        """How NATs map our ports, by transport and address of this host, where servers showed it."""
        return self._session.gathering.servers.mappings.all()

    @property
    def closing(self) -> bool:
        """After `close`: whether an allocation is still being deleted, for two seconds at most."""
        return self._session.gathering.servers.relays.closing

    def set_role(self, role: Role, now: float) -> None:
        """Take another role than the agent was made with; best before checks begin, or a role conflict follows."""
        self._check_open()
        self._session.set_role(role, now)
        if self._session.gathering.started:
            self._note_session(now)

    def gather(self, addresses: Sequence[InterfaceAddress], now: float, servers: Sequence[Server] = ()) -> None:
        """Open sockets on these addresses, as the policy allows, and find candidates, with the help of ``servers``.

        Events follow: LocalCandidateFound for each that the peer is to hear of, then GatheringDone.
        Raises RuntimeError if this generation gathers already.
        """
        self._check_open()
        session = self._session
        if session.gathering.started:
            raise RuntimeError("this generation has gathered already: use restart()")
        self._note_session(now)
        session.gathering.start(addresses, servers, now)

    def set_remote_parameters(self, parameters: IceParameters, now: float) -> None:
        """Take the peer's credentials. New ones after the first mean that the peer restarted, and so do we.

        In that case a ``Restarted`` event follows with what to send back.
        """
        self._check_open()
        session = self._session
        if parameters in [generation.remote for generation in session.generations()]:
            return
        if session.current.remote is not None:
            session.restart(None, None, now)
        session.set_remote(parameters, now)
        strays, self._strays = self._strays, []
        for candidate in strays:
            self.add_remote_candidate(candidate, now)
        session.act_on_early_checks(now)

    def add_remote_candidate(self, candidate: Candidate, now: float) -> None:
        """Take a candidate of the peer, now or at any time until ``end_of_candidates``. Unusable ones are traced."""
        self._check_open()
        generation = self._session.current
        if self._is_stray(candidate):
            if len(self._strays) < self._context.policy.limits.remote_candidates:
                self._strays.append(candidate)
            return
        if generation.remote_done:
            self._session.ignore(candidate, "end-of-candidates (RFC 8838 s14)", now)
        elif candidate.component > self._components:
            self._session.ignore(candidate, "component", now)
        elif candidate.address.is_name:
            self._session.ignore(candidate, "name (RFC 8839 s5.1)", now)
        elif self._session.previous is not None and _ufrag_of(self._session.previous) == candidate.ufrag is not None:
            self._session.ignore(candidate, "previous generation", now)
        else:
            generation.add_remote(candidate, now)

    def end_of_candidates(self, now: float) -> None:
        """The peer has no more candidates in this generation (RFC 8838 s14)."""
        self._check_open()
        self._session.remote_ended(now)

    def start_checks(self, now: float) -> None:
        """Begin connectivity checks, at once or as soon as the peer's parameters are known."""
        self._check_open()
        if self._session.started:
            return
        self._session.started = True
        self._session.usage.begin()
        if self._session.current.remote is not None:
            self._session.begin_checks(now)

    def select(self, local: Candidate, remote: Candidate, now: float) -> None:
        """Use a UDP pair without any checks, towards a peer that does not speak ICE; instead of ``start_checks``.

        ``local`` is one of ``local_candidates``. Raises ValueError for a pair that cannot be used so, RuntimeError
        when checks have begun.
        """
        self._check_open()
        self._session.select(local, remote, now)

    def restart(
        self,
        now: float,
        addresses: Sequence[InterfaceAddress] | None = None,
        servers: Sequence[Server] | None = None,
    ) -> None:
        """Begin a new generation (RFC 8445 s9); the old one keeps its path until the new one has its own.

        ``addresses`` and ``servers`` are gathered from; None: those of last time. A Restarted event has the new
        parameters.
        """
        self._check_open()
        self._session.restart(addresses, servers, now)

    def close(self, now: float) -> None:
        """End the session: everything is closed, nothing follows but the state CLOSED. More calls do nothing."""
        if self.state is AgentState.CLOSED:
            return
        self._session.close(now)

    # -- what the network did

    def socket_opened(self, handle: SocketId | ListenerId, address: TransportAddress, now: float) -> None:
        """An OpenUdp or Listen succeeded; ``address`` is what it is bound to."""
        self._session.gathering.opened(handle, address, now)

    def socket_failed(self, handle: SocketId | ListenerId, failure: Failure, now: float) -> None:
        """An OpenUdp or Listen failed, or the socket or listener died."""
        base = self._session.gathering.base_of(handle)
        self._session.gathering.failed(handle, failure, now)
        if base is not None:
            self._session.socket_lost(base, verdict_of(failure), now)

    def datagram_received(self, socket: SocketId, source: TransportAddress, data: bytes, now: float) -> None:
        """A STUN message came on a UDP socket."""
        if self._session.gathering.servers.received(socket, source, data, now):
            return
        base = self._session.gathering.base_of(socket)
        if base is not None and self.state is not AgentState.CLOSED:
            self._session.binding.received(data, base, UdpPath(socket, source), source, None, now)

    def stream_connected(self, stream: StreamId, local: TransportAddress, now: float) -> None:
        """A Connect succeeded; ``local`` is the connection's own end."""
        self._session.connections.connected(stream, local, now)

    def stream_accepted(self, listener: ListenerId, remote: TransportAddress, now: float) -> StreamId | None:
        """A listener accepted a connection. Returns its name, or None: close it, nobody wants it."""
        base = self._session.gathering.base_of(listener)
        if base is None or self.state in (AgentState.FAILED, AgentState.CLOSED) or remote == base.address:
            return None
        stream = self._session.connections.accepted(base, remote, now)
        return stream.id if stream is not None else None

    def stream_received(self, stream: StreamId, data: bytes, now: float) -> None:
        """A STUN message came on a connection; ``data`` is without its frame."""
        known = self._session.connections.find(stream)
        if known is not None:
            self._session.binding.received(data, known.base, known.path, known.remote, known, now)

    def stream_closed(self, stream: StreamId, now: float) -> None:
        """The other end closed a connection."""
        self._session.connections.ended(stream, Failure.CLOSED, now)

    def stream_failed(self, stream: StreamId, failure: Failure, now: float) -> None:
        """A Connect failed, or a connection broke or was misused."""
        self._session.connections.ended(stream, failure, now)

    def resolved(self, query: QueryId, endpoints: Sequence[ServerEndpoint], now: float) -> None:
        """A Resolve succeeded: the server's endpoints, the best first."""
        self._session.gathering.servers.resolved(query, endpoints, now)

    def resolve_failed(self, query: QueryId, text: str, now: float) -> None:
        """A Resolve found nothing; ``text`` is for people."""
        self._session.gathering.servers.query_failed(query, text, now)

    def leg_opened(self, leg: LegId, local: TransportAddress, now: float) -> None:
        """An OpenLeg succeeded; ``local`` is our own end."""
        self._session.gathering.servers.legs.opened(leg, local, now)

    def leg_received(self, leg: LegId, message: bytes, now: float) -> None:
        """A server sent one whole STUN message, or ChannelData of an unknown channel."""
        self._session.gathering.servers.legs.received(leg, message, now)

    def leg_lost(self, leg: LegId, failure: Failure, text: str, now: float) -> None:
        """An OpenLeg failed, or the leg broke or was misused; ``text`` is for people."""
        self._session.gathering.servers.legs.lost(leg, failure, text, now)

    def relayed(self, leg: LegId, peer: TransportAddress, data: bytes, now: float) -> None:
        """A STUN message of ``peer`` came by channel."""
        self._session.gathering.servers.legs.relayed(leg, peer, data, now)

    def timer_expired(self, now: float) -> None:
        """The instant of ``next_timer`` has come."""
        self._context.timers.expire(now)

    # -- what comes out

    def commands(self) -> list[Command]:
        """What to do, in this order. Each is given once."""
        commands, self._context.commands = self._context.commands, []
        return commands

    def events(self) -> list[Event]:
        """What happened, in this order. Each is given once."""
        events, self._context.events = self._context.events, []
        return events

    def next_timer(self) -> float | None:
        """When to call ``timer_expired``, at the earliest."""
        return self._context.timers.next_at()

    # -- inside

    def _check_open(self) -> None:
        if self.state is AgentState.CLOSED:
            raise RuntimeError("the agent is closed")

    def _note_session(self, now: float) -> None:
        if self._context.trace is None:
            return
        changed = differences(Policy.default(), self._context.policy)
        settings = tuple((each.key, json.dumps(each.right)) for each in changed if each.right is not None)
        self._context.note(now, SessionBegan(self.role, self._components, settings))

    def _is_stray(self, candidate: Candidate) -> bool:
        """Its ufrag says that it belongs to parameters that we have not seen yet (RFC 8838 s11)."""
        known = [_ufrag_of(generation) for generation in self._session.generations()]
        return candidate.ufrag is not None and self._session.current.remote is not None and candidate.ufrag not in known


def _ufrag_of(generation: Generation) -> str | None:
    return generation.remote.ufrag if generation.remote is not None else None
