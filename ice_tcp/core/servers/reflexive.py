"""How the world sees each base: server-reflexive candidates and the NAT's behaviour (RFC 8445 s5.1.1.2, RFC 6544 s5.2).

Over UDP a base asks from its own socket. Over TCP a listener asks on a connection from its own port, which stays open
until ICE has concluded: it holds the mapping that a peer's SYN will hit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from candidates.candidate import Transport, TransportAddress
from ice_tcp import stun
from ice_tcp.core.commands import Failure, LegTransport, SendDatagram, ServerEndpoint, SocketId
from ice_tcp.core.context import Context
from ice_tcp.core.outcomes import Advice, ServerFailure
from ice_tcp.core.paths import Base
from ice_tcp.core.servers.directory import reaches
from ice_tcp.core.servers.launcher import Launcher
from ice_tcp.core.servers.legs import Leg, Legs, cause_of
from ice_tcp.core.servers.mapping import Mappings
from ice_tcp.core.servers.prediction import Observation
from ice_tcp.core.servers.reports import Purpose, Reports
from ice_tcp.core.servers.server import Server
from ice_tcp.core.timers import Timer
from ice_tcp.core.turn import BindingJob, Mapping, ServerPath
from ice_tcp.core.verdicts import Verdict

_LEGS = {Transport.UDP: (LegTransport.UDP,), Transport.TCP: (LegTransport.TCP, LegTransport.TLS)}
"""What asks for a candidate of each transport; UDP's mapping is nobody else's, nor is TCP's."""


class Question:
    """One Binding transaction from a base with a server, and the way to it.

    ``servers`` are those of the policy that are found there, ``outcome`` what became of it, None while it runs.
    """

    __slots__ = ("_asker", "_job", "_leg", "base", "endpoint", "flow", "outcome", "purpose", "servers")

    def __init__(
        self, asker: Reflexive, base: Base, server: Server, endpoint: ServerEndpoint, purpose: Purpose
    ) -> None:
        self._asker = asker
        self._job: BindingJob | None = None
        self._leg: Leg | None = None
        self.flow: int | None = None
        """The number of the one that it began, as `Context.flows` counts; None if it asked on an old one."""
        self.base = base
        self.servers = [server]
        self.endpoint = endpoint
        self.outcome: Mapping | ServerFailure | None = None
        self.purpose = purpose

    @property
    def socket_and_server(self) -> tuple[SocketId, TransportAddress] | None:
        """Where answers come from, if the base's own socket asks."""
        if self.base.transport is not Transport.UDP:
            return None
        return self.base.socket, self.endpoint.address

    @property
    def has_a_way(self) -> bool:
        """Whether it can be asked again as it is."""
        return self._job is not None and (self._leg is not None or self.base.transport is Transport.UDP)

    def ask(self, now: float) -> None:
        """Ask for the first time, or once more on the same way."""
        context = self._asker.context
        if self._job is not None and self.has_a_way:
            self.flow = None
            self._job.start(now)
        elif self.base.transport is Transport.UDP:
            self.flow = context.begin_flow(self.base.host, Transport.UDP)
            self._begin(_SocketPath(context, self.base.socket, self.endpoint.address), now)
        else:
            self._leg = self._asker.legs.open(
                *(self, self.base.component, self.base.host, self.endpoint),
                tls=self.servers[0].tls,
                listener=self.base.listener,
            )
            self.flow = self._leg.flow

    def stop(self) -> None:
        """Nobody wants to know any more."""
        if self._job is not None:
            self._job.cancel()
        if self._leg is not None:
            self._leg.close()
            self._leg = None

    def received(self, message: bytes, now: float) -> None:
        """A datagram of the server came to the base's socket."""
        if self._job is not None:
            self._job.received(message, now)

    # LegOwner

    def leg_opened(self, now: float) -> None:
        assert self._leg is not None
        self._begin(self._leg, now)

    def leg_received(self, message: bytes, now: float) -> None:
        self.received(message, now)

    def leg_lost(self, failure: Failure, text: str, now: float) -> None:
        self._leg = None
        if self._job is not None:
            self._job.path_lost(cause_of(failure), now, text)
        else:
            self.binding_failed(ServerFailure(cause_of(failure), text, Advice.OTHER_TRANSPORT), now)

    def leg_relayed(self, peer: TransportAddress, data: bytes, now: float) -> None:
        """Nothing is relayed here."""

    # BindingListener

    def binding_succeeded(self, mapping: Mapping, now: float) -> None:
        self._asker.answered(self, mapping, now)

    def binding_failed(self, failure: ServerFailure, now: float) -> None:
        if self._leg is not None:
            self._leg.close()
            self._leg = None
        self._asker.failed(self, failure, now)

    def _begin(self, path: ServerPath, now: float) -> None:
        context = self._asker.context
        self._job = BindingJob(context, path, self, server=self.servers[0].name, note=context.note)
        self._job.start(now)


class _SocketPath:
    """From a base's UDP socket to a server."""

    reliable = False

    def __init__(self, context: Context, socket: SocketId, remote: TransportAddress) -> None:
        self._context = context
        self._socket = socket
        self._remote = remote

    def send(self, data: bytes) -> None:
        self._context.commands.append(SendDatagram(self._socket, self._remote, data))


class Reflexive:
    """Asks every server from every base, and tells ``found(base, endpoint, mapped, now)`` of each answer.

    ``ended(now)`` is called whenever `pending` may have changed. A second address of one server is asked only when the
    first one failed or has not answered within ``timeouts.rto``.
    """

    __slots__ = (
        "_asked",
        "_bases",
        "_by_socket",
        "_earlier",
        "_ended",
        "_found",
        "_keepalive",
        "_kept",
        "_launcher",
        "_mappings",
        "_reports",
        "_running",
        "_servers",
        "_staggered",
        "context",
        "legs",
        "observations",
    )

    def __init__(
        self,
        context: Context,
        legs: Legs,
        launcher: Launcher,
        reports: Reports,
        mappings: Mappings,
        found: Callable[[Base, ServerEndpoint, TransportAddress, float], None],
        ended: Callable[[float], None],
    ) -> None:
        self.context = context
        self.legs = legs
        self._launcher = launcher
        self._reports = reports
        self._mappings = mappings
        self._found = found
        self._ended = ended
        self._bases: list[Base] = []
        self._servers: list[tuple[Server, tuple[ServerEndpoint, ...]]] = []
        self._asked: dict[tuple[Base, ServerEndpoint], Question] = {}
        self._running: dict[Question, None] = {}
        self._kept: dict[Question, None] = {}
        self._by_socket: dict[tuple[SocketId, TransportAddress], Question] = {}
        self._staggered: dict[tuple[Base, str], tuple[list[ServerEndpoint], Timer]] = {}
        self._earlier: dict[tuple[Base, ServerEndpoint], Question] = {}
        self._keepalive: Timer | None = None
        self.observations: list[Observation] = []

    @property
    def pending(self) -> bool:
        """Whether a candidate may still come."""
        return any(self._is_awaited(question) for question in self._running) or bool(self._staggered)

    @property
    def _predicts(self) -> bool:
        return self.context.policy.simultaneous_open.predict_ports > 0

    def _is_awaited(self, question: Question) -> bool:
        """What only tells of the NAT is waited for where ports are predicted from it."""
        return question.purpose is Purpose.REFLEXIVE or (self._predicts and question.base.transport is Transport.TCP)

    def base_opened(self, base: Base, now: float) -> None:
        """A base has its address: ask the servers that are known."""
        if base.handle is None:
            return
        self._bases.append(base)
        for server, endpoints in self._servers:
            self._ask_one_of(base, server, endpoints, now)

    def server_known(self, server: Server, endpoints: tuple[ServerEndpoint, ...], now: float) -> None:
        """A server has its addresses: ask it from the bases that are open."""
        self._servers.append((server, endpoints))
        for base in self._bases:
            self._ask_one_of(base, server, endpoints, now)

    def received(self, socket: SocketId, source: TransportAddress, data: bytes, now: float) -> bool:
        """Whether this was an answer to one of our questions."""
        question = self._by_socket.get((socket, source))
        if question is None or not _is_answer(data):
            return False
        question.received(data, now)
        return True

    def base_lost(self, base: Base, now: float) -> None:
        """Its socket is gone."""
        for earlier in [key for key in self._earlier if key[0] is base]:
            self._earlier.pop(earlier).stop()
        self._forget(lambda question: question.base is base)
        self._bases = [each for each in self._bases if each is not base]
        for key in [key for key in self._staggered if key[0] is base]:
            self._staggered.pop(key)[1].cancel()
        self._ended(now)

    def give_up(self) -> None:
        """Gathering ends: what has not answered is not waited for."""
        for _, timer in self._staggered.values():
            timer.cancel()
        self._staggered.clear()
        for question in list(self._running):
            if question.purpose is Purpose.REFLEXIVE:
                question.outcome = ServerFailure(Verdict.TIMED_OUT, "no answer before gathering ended")
                self._report(question)
        for question in list(self._running):
            question.stop()
            self._drop(question)

    def begin(self) -> None:
        """A gathering begins: servers and bases are told anew. The connections of the last one are used again."""
        kept = [question for question in self._kept if question.has_a_way]
        for question in kept:
            self._drop(question)
            self._earlier[question.base, question.endpoint] = question
        self._clear()

    def stop(self) -> None:
        """ICE has concluded: free the connections (RFC 6544 s11.2)."""
        self.observations.clear()
        self.context.flows.clear()
        for question in self._earlier.values():
            question.stop()
        self._earlier.clear()
        self._clear()

    def _clear(self) -> None:
        self._forget(lambda _question: True)
        for _, timer in self._staggered.values():
            timer.cancel()
        self._staggered.clear()
        if self._keepalive is not None:
            self._keepalive.cancel()
            self._keepalive = None
        self._bases.clear()
        self._servers.clear()
        self._asked.clear()

    # -- what the questions tell

    def answered(self, question: Question, mapping: Mapping, now: float) -> None:
        del self._running[question]
        self._kept[question] = None
        question.outcome = mapping
        for server in question.servers:
            self._end_stagger((question.base, server.name))
        self._report(question)
        self._mappings.observe(question.base, question.endpoint.address, mapping.mapped)
        if question.flow is not None and self._predicts:
            self.observations.append(Observation(question.flow, question.base, mapping.mapped))
        if question.purpose is Purpose.REFLEXIVE:
            self._tell(question, mapping, now)
        self._probe(question, mapping, now)
        self._ended(now)

    def failed(self, question: Question, failure: ServerFailure, now: float) -> None:
        self._drop(question)
        question.outcome = failure
        self._report(question)
        for server in question.servers:
            self._next_address((question.base, server.name), now)
        self._ended(now)

    # -- inside

    def _ask_one_of(self, base: Base, server: Server, endpoints: Sequence[ServerEndpoint], now: float) -> None:
        assert base.address is not None
        fitting = [
            endpoint
            for endpoint in endpoints
            if endpoint.transport in _LEGS[base.transport] and reaches(base.address, endpoint.address)
        ]
        if not fitting:
            return
        first, *others = fitting
        question = self._ask(base, server, first, Purpose.REFLEXIVE, now)
        if others and not isinstance(question.outcome, Mapping):
            self._stagger((base, server.name), others, now)

    def _stagger(self, key: tuple[Base, str], others: list[ServerEndpoint], now: float) -> None:
        timer = self.context.timers.set(now + self.context.policy.timeouts.rto, lambda at: self._next_address(key, at))
        self._staggered[key] = (others, timer)

    def _next_address(self, key: tuple[Base, str], now: float) -> None:
        waiting = self._staggered.pop(key, None)
        if waiting is None:
            return
        (endpoint, *others), timer = waiting
        timer.cancel()
        server = next(server for server, _ in self._servers if server.name == key[1])
        self._ask(key[0], server, endpoint, Purpose.REFLEXIVE, now)
        if others:
            self._stagger(key, others, now)

    def _end_stagger(self, key: tuple[Base, str]) -> None:
        waiting = self._staggered.pop(key, None)
        if waiting is not None:
            waiting[1].cancel()

    def _ask(self, base: Base, server: Server, endpoint: ServerEndpoint, purpose: Purpose, now: float) -> Question:
        asked = self._asked.get((base, endpoint))
        if asked is not None:
            self._share(asked, server, purpose, now)
            return asked
        question = self._earlier.pop((base, endpoint), None)
        if question is None:
            question = Question(self, base, server, endpoint, purpose)
        question.servers, question.purpose, question.outcome = [server], purpose, None
        self._asked[base, endpoint] = question
        self._running[question] = None
        if (place := question.socket_and_server) is not None:
            self._by_socket[place] = question

        def begin(at: float) -> None:
            if question in self._running:
                question.ask(at)

        self._launcher.launch(begin, now)
        return question

    def _share(self, question: Question, server: Server, purpose: Purpose, now: float) -> None:
        """A server is found where another one was asked already: one answer does."""
        if purpose is Purpose.MAPPING or server in question.servers:
            return
        was_probe = question.purpose is Purpose.MAPPING
        question.purpose = purpose
        question.servers = [server] if was_probe else [*question.servers, server]
        if question.outcome is not None:
            self._report(question)
        if was_probe and isinstance(question.outcome, Mapping):
            self._tell(question, question.outcome, now)

    def _tell(self, question: Question, mapping: Mapping, now: float) -> None:
        self._found(question.base, question.endpoint, mapping.mapped, now)
        self._keep_alive(now)

    def _probe(self, question: Question, mapping: Mapping, now: float) -> None:
        """RFC 5780 s4.3: the server's other address, then its other port, where no second server will tell."""
        base, other = question.base, mapping.other_address
        if other is None or mapping.mapped == base.address or not reaches(question.endpoint.address, other):
            return
        asked = question.endpoint
        if question.purpose is Purpose.REFLEXIVE and other.host != asked.address.host:
            following = TransportAddress(other.host, asked.address.port)
        elif question.purpose is Purpose.MAPPING and self._mappings.is_dependent(base):
            # Answered from the other address, the server names its first one again: the port is what is other.
            following = TransportAddress(asked.address.host, other.port)
        else:
            return
        self._ask(base, question.servers[0], ServerEndpoint(asked.transport, following), Purpose.MAPPING, now)

    def _keep_alive(self, now: float) -> None:
        """Hold UDP mappings until checks do (RFC 8445 s5.1.1.4)."""
        if self._keepalive is not None:
            return

        def again(at: float) -> None:
            self._keepalive = None
            asked = {question.base: question for question in self._kept if question.base.transport is Transport.UDP}
            for base, question in asked.items():
                indication = stun.encode(
                    stun.MessageClass.INDICATION, stun.Method.BINDING, self.context.transaction_id()
                )
                self.context.commands.append(SendDatagram(base.socket, question.endpoint.address, indication))
            if asked:
                self._keep_alive(at)

        self._keepalive = self.context.timers.set(now + self.context.policy.timeouts.keepalive, again)

    def _report(self, question: Question) -> None:
        base, outcome = question.base, question.outcome
        for server in question.servers:
            self._reports.told(
                *(server, question.purpose),
                endpoint=question.endpoint,
                host=base.host,
                component=base.component,
                transport=base.transport,
                tcptype=base.tcptype,
                failure=outcome if isinstance(outcome, ServerFailure) else None,
                found=(outcome.mapped,) if isinstance(outcome, Mapping) else (),
            )

    def _forget(self, unwanted: Callable[[Question], bool]) -> None:
        for question in [*self._running, *self._kept]:
            if unwanted(question):
                question.stop()
                self._drop(question)

    def _drop(self, question: Question) -> None:
        self._running.pop(question, None)
        self._kept.pop(question, None)
        place = question.socket_and_server
        if place is not None and self._by_socket.get(place) is question:
            del self._by_socket[place]


def _is_answer(data: bytes) -> bool:
    """A success or error response; a peer behind the same address may send requests (RFC 8489 s5)."""
    return bool(data[:1]) and bool(data[0] & 0x01)
