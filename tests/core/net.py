"""Core agents in virtual time, driven by hand: no sockets, no sleeps.

A ``Net`` has a clock and carries what its nodes send, each message after ``delay`` seconds. ``loses`` drops messages,
``hold`` keeps them in ``flying`` until the test delivers them, in whatever order it likes. A ``Node`` is one agent with
the sockets, listeners and connections that it asked for, and with a record of everything that it said. What goes to an
address that no node has goes nowhere: there the test plays the peer (see ``tests.core.peer``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol, TypeVar

from candidates.candidate import Candidate, CandidateType, InterfaceAddress, TcpType, Transport, TransportAddress
from candidates.parameters import IceParameters
from candidates.policy import Policy, policy_of
from ice_tcp import stun
from ice_tcp.core.agent import Agent
from ice_tcp.core.commands import (
    Close,
    Command,
    Connect,
    Failure,
    Listen,
    ListenerId,
    OpenUdp,
    Path,
    RelayPath,
    SendDatagram,
    SendStream,
    SocketId,
    StreamId,
    TcpPath,
    UdpPath,
    Use,
)
from ice_tcp.core.events import AgentState, Event, LocalCandidateFound, PairChanged, PairState, Role, StateChanged
from ice_tcp.core.pacing import Pacer
from ice_tcp.core.trace import Record
from ice_tcp.core.verdicts import Verdict

START = 1000.0
"""The instant at which a Net begins; not zero, so that nobody takes an instant for a span."""
DELAY = 0.01
"""Seconds of the way of a message."""
MOST_STEPS = 20_000
"""More steps than this in one ``run`` are a busy loop."""

HOME = "192.0.2.1"
AWAY = "198.51.100.2"

T = TypeVar("T")


def policy(**sections: object) -> Policy:
    """A policy of keys and sections as they stand in the file; the rest is the default."""

    def no_file(path: str) -> str:
        raise OSError(path)

    return policy_of(sections, environ={}, read_file=no_file)


UDP_ONLY = policy(transports=["udp"])
TCP_ONLY = policy(transports=["tcp"])
LITE = policy(lite=True, candidate_types=["host"], tcp_types=["passive"])


def tcp_only(*tcptypes: str, **sections: object) -> Policy:
    return policy(transports=["tcp"], tcp_types=list(tcptypes), **sections)


def address(host: str, port: int) -> TransportAddress:
    return TransportAddress(host, port)


def udp_candidate(
    port: int = 5000,
    *,
    host: str = AWAY,
    priority: int = 2_130_706_431,
    foundation: str = "1",
    component: int = 1,
    type_: CandidateType = CandidateType.HOST,
    ufrag: str | None = None,
) -> Candidate:
    """A candidate of a scripted peer."""
    return Candidate(foundation, component, Transport.UDP, priority, address(host, port), type_, ufrag=ufrag)


def tcp_candidate(
    tcptype: TcpType,
    port: int = 6000,
    *,
    host: str = AWAY,
    priority: int = 1_500_000_000,
    foundation: str = "2",
    component: int = 1,
) -> Candidate:
    """A TCP candidate of a scripted peer."""
    where = address(host, 9 if tcptype is TcpType.ACTIVE else port)
    return Candidate(foundation, component, Transport.TCP, priority, where, CandidateType.HOST, tcptype=tcptype)


@dataclass(frozen=True, slots=True)
class Sent:
    """A STUN message that a node sent."""

    at: float
    path: Path
    message: stun.Message
    data: bytes

    @property
    def is_request(self) -> bool:
        return self.message.message_class is stun.MessageClass.REQUEST

    @property
    def is_response(self) -> bool:
        return self.message.message_class in (stun.MessageClass.SUCCESS, stun.MessageClass.ERROR)

    @property
    def remote(self) -> TransportAddress:
        assert isinstance(self.path, UdpPath)
        return self.path.remote


@dataclass(slots=True)
class Flight:
    """Something on its way; ``arrive`` is what happens there. A STUN message has ``data`` and the sender's ``path``."""

    at: float
    sender: Far
    arrive: Callable[[], None]
    data: bytes | None = None
    path: Path | None = None

    @property
    def message(self) -> stun.Message:
        assert self.data is not None
        return stun.decode(self.data)


class Far(Protocol):
    """What may be at the other end: a node, or a server."""

    streams: dict[StreamId, Connection]

    def take_syn(self, local: TransportAddress, remote: TransportAddress) -> StreamId | None: ...

    def receive(self, path: Path, data: bytes) -> None: ...

    def ends(self, stream: StreamId) -> None: ...

    def fails(self, stream: StreamId, failure: Failure) -> None: ...


@dataclass(slots=True)
class Connection:
    """A node's end of an open TCP connection; ``far`` is the other end, None if the test plays it."""

    local: TransportAddress
    remote: TransportAddress
    far: tuple[Far, StreamId] | None = None


class Net:
    """The clock, the nodes, and what flies between them."""

    def __init__(self, *, delay: float = DELAY) -> None:
        self.now = START
        self.delay = delay
        self.nodes: list[Node] = []
        self.flying: list[Flight] = []
        self.hold = False
        self.loses: Callable[[Flight], bool] = lambda _: False
        self.refuses: Callable[[Connect], Failure | None] = lambda _: None

    def node(
        self,
        role: Role = Role.CONTROLLING,
        policy: Policy = UDP_ONLY,
        *,
        hosts: Iterable[str] = (HOME,),
        components: int = 1,
        seed: int = 1,
        pacer: Pacer | None = None,
        opens_sockets: bool = True,
        credentials: tuple[str, str] | None = None,
        awaits_end: bool = False,
    ) -> Node:
        node = Node(
            *(self, role, policy, tuple(hosts), components, Random(seed), pacer or Pacer(), credentials, awaits_end)
        )
        node.opens_sockets = opens_sockets
        self.nodes.append(node)
        return node

    def meet(self, *nodes: Node) -> None:
        """Two nodes gather, learn everything of each other and begin their checks."""
        for node in nodes:
            node.gather()
        one, other = nodes
        one.learn(other)
        other.learn(one)
        for node in nodes:
            node.start()

    def run(self, seconds: float) -> None:
        """Let time pass: what arrives and what is due happens, in order."""
        end = self.now + seconds
        for _ in range(MOST_STEPS):
            flight = min(self.flying, key=lambda each: each.at, default=None) if not self.hold else None
            timer = min(self.timers(), key=lambda each: each[0], default=None)
            if flight is not None and flight.at <= end and (timer is None or flight.at <= timer[0]):
                self.now = max(self.now, flight.at)
                self.deliver(flight)
            elif timer is not None and timer[0] <= end:
                self.now = max(self.now, timer[0])
                timer[1]()
            else:
                self.now = end
                return
        raise AssertionError(f"a busy loop at {self.now}")

    def timers(self) -> list[tuple[float, Callable[[], None]]]:
        """What is due when."""
        return [(at, node.expire) for node in self.nodes if (at := node.agent.next_timer()) is not None]

    def send(self, flight: Flight) -> None:
        if not self.loses(flight):
            self.flying.append(flight)

    def deliver(self, flight: Flight) -> None:
        """It arrives now."""
        self.flying.remove(flight)
        flight.arrive()

    def drop(self, flight: Flight) -> None:
        self.flying.remove(flight)

    def node_at(self, host: str) -> Node | None:
        return next((node for node in self.nodes if host in node.hosts), None)

    def target_of(self, remote: TransportAddress) -> Far | None:
        """Who takes a SYN to this address."""
        return self.node_at(remote.host)

    def datagram(self, source: TransportAddress, remote: TransportAddress, data: bytes) -> None:
        """A datagram arrives."""
        target = self.node_at(remote.host)
        if target is None:
            return
        for socket, local in list(target.sockets.items()):
            if local == remote:
                target.receive(UdpPath(socket, source), data)


@dataclass(slots=True, eq=False, repr=False)
class Node:
    """One agent, its machine below, and its record: all with the instants at which they came."""

    net: Net
    role: Role
    policy: Policy
    hosts: tuple[str, ...]
    components: int
    rng: Random
    pacer: Pacer
    credentials: tuple[str, str] | None = None
    awaits_end: bool = False
    agent: Agent = field(init=False)
    opens_sockets: bool = True
    trace: list[tuple[float, Record]] = field(default_factory=list)
    commands: list[tuple[float, Command]] = field(default_factory=list)
    events: list[tuple[float, Event]] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    sockets: dict[SocketId, TransportAddress] = field(default_factory=dict)
    listeners: dict[ListenerId, TransportAddress] = field(default_factory=dict)
    dialling: dict[StreamId, Connect] = field(default_factory=dict)
    streams: dict[StreamId, Connection] = field(default_factory=dict)
    ports: int = 40_000
    dialled_from: dict[StreamId, TransportAddress] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.agent = Agent(
            self.role,
            self.policy,
            rng=self.rng,
            pacer=self.pacer,
            components=self.components,
            trace=lambda now, record: self.trace.append((now, record)),
            credentials=self.credentials,
            awaits_end=self.awaits_end,
        )

    # -- inputs

    def do(self, give: Callable[[float], T]) -> T:
        """Give the agent one input now, then do what it asks."""
        result = give(self.net.now)
        self.drain()
        return result

    def expire(self) -> None:
        """A timer is due."""
        self.do(self.agent.timer_expired)

    def gather(self, interface: str = "eth0") -> None:
        addresses = [InterfaceAddress(interface, host) for host in self.hosts]
        self.do(lambda now: self.agent.gather(addresses, now))

    def start(self) -> None:
        self.do(self.agent.start_checks)

    def know(self, parameters: IceParameters) -> None:
        self.do(lambda now: self.agent.set_remote_parameters(parameters, now))

    def hear_of(self, *candidates: Candidate) -> None:
        for candidate in candidates:
            self.do(lambda now, each=candidate: self.agent.add_remote_candidate(each, now))  # type: ignore[misc]

    def hear_end(self) -> None:
        self.do(self.agent.end_of_candidates)

    def learn(self, other: Node) -> None:
        """Everything that the other has to say of its current generation."""
        self.know(other.agent.local_parameters)
        self.hear_of(*other.told())
        self.hear_end()

    def restart(self) -> None:
        self.do(self.agent.restart)

    def close(self) -> None:
        self.do(self.agent.close)

    def receive(self, path: Path, data: bytes) -> None:
        """A STUN message comes on a path."""
        if isinstance(path, UdpPath):
            self.do(lambda now: self.agent.datagram_received(path.socket, path.remote, data, now))
        elif isinstance(path, RelayPath):
            self.do(lambda now: self.agent.relayed(path.leg, path.remote, data, now))
        else:
            self.do(lambda now: self.agent.stream_received(path.stream, data, now))

    def accept(self, listener: ListenerId, remote: TransportAddress) -> StreamId | None:
        """A listener accepts a connection; its name, or None if the agent does not want it."""
        local = self.listeners[listener]
        stream = self.agent.stream_accepted(listener, remote, self.net.now)
        if stream is not None:
            self.streams[stream] = Connection(local, remote)
        self.drain()
        return stream

    def connected(self, stream: StreamId) -> StreamId:
        """An attempt succeeds."""
        connect = self.dialling.pop(stream)
        local = self.dialled_from[stream]
        self.streams[stream] = Connection(local, connect.remote)
        self.stream_opens(stream, local)
        return stream

    def stream_opens(self, stream: StreamId, local: TransportAddress) -> None:
        self.do(lambda now: self.agent.stream_connected(stream, local, now))

    def fails(self, stream: StreamId, failure: Failure) -> None:
        """An attempt fails, or a connection breaks."""
        self.dialling.pop(stream, None)
        self.streams.pop(stream, None)
        self.do(lambda now: self.agent.stream_failed(stream, failure, now))

    def ends(self, stream: StreamId) -> None:
        """The other end closes a connection."""
        del self.streams[stream]
        self.do(lambda now: self.agent.stream_closed(stream, now))

    def break_stream(self, failure: Failure = Failure.RESET) -> StreamId:
        """The node's only connection breaks, at both ends."""
        ((stream, connection),) = self.streams.items()
        self.fails(stream, failure)
        if connection.far is not None:
            node, other = connection.far
            node.fails(other, failure)
        return stream

    # -- what it did

    @property
    def state(self) -> AgentState:
        return self.agent.state

    def is_in(self, state: AgentState) -> bool:
        """As ``state is``, for asserting one state after another: a type checker takes an attribute for constant."""
        return self.agent.state is state

    @property
    def states(self) -> list[tuple[AgentState, Verdict | None]]:
        return [(event.state, event.verdict) for event in self.all_events(StateChanged)]

    @property
    def requests(self) -> list[Sent]:
        return [sent for sent in self.sent if sent.is_request]

    @property
    def new_requests(self) -> list[Sent]:
        """The first sending of each request."""
        seen: dict[bytes, Sent] = {}
        for sent in self.requests:
            seen.setdefault(sent.message.transaction_id, sent)
        return list(seen.values())

    @property
    def responses(self) -> list[Sent]:
        return [sent for sent in self.sent if sent.is_response]

    def all_events(self, kind: type[T]) -> list[T]:
        return [event for _, event in self.events if isinstance(event, kind)]

    def all_commands(self, kind: type[T]) -> list[T]:
        return [command for _, command in self.commands if isinstance(command, kind)]

    def traced(self, kind: type[T]) -> list[T]:
        return [record for _, record in self.trace if isinstance(record, kind)]

    def traced_at(self, kind: type[Any]) -> list[float]:
        return [at for at, record in self.trace if isinstance(record, kind)]

    def told(self, generation: int | None = None) -> list[Candidate]:
        """The candidates of the generation, by default the current one, that the peer is to hear of."""
        wanted = self.agent.generation if generation is None else generation
        return [event.candidate for event in self.all_events(LocalCandidateFound) if event.generation == wanted]

    def pair_events(self, remote: Candidate) -> list[tuple[PairState | None, Verdict | None]]:
        """What became of the pairs with this remote candidate."""
        return [
            (event.state, event.verdict)
            for event in self.all_events(PairChanged)
            if event.remote.address == remote.address and event.remote.tcptype is remote.tcptype
        ]

    def pair_states(self) -> dict[TransportAddress, PairState]:
        """By remote address: the state of the pair."""
        return {pair.remote.address: pair.state for pair in self.agent.pair_statistics()}

    @property
    def used(self) -> Path | None:
        """Where component 1 sends its data, by the commands."""
        uses = [use.path for use in self.all_commands(Use) if use.component == 1]
        return uses[-1] if uses else None

    def opened(self) -> set[int]:
        """What was asked to be opened, or came in, and is not over."""
        return {*self.sockets, *self.listeners, *self.dialling, *self.streams}

    def socket(self, host: str | None = None) -> SocketId:
        """The UDP socket of a host, by default the first."""
        wanted = host or self.hosts[0]
        return next(socket for socket, local in self.sockets.items() if local.host == wanted)

    def listener(self, tcptype: TcpType) -> ListenerId:
        """The listener of the passive or the simultaneous-open candidate."""
        ports = {each.address.port for each in self.agent.local_candidates if each.tcptype is tcptype}
        return next(listener for listener, local in self.listeners.items() if local.port in ports)

    # -- the machine below

    def drain(self) -> None:
        while True:
            commands, events = self.agent.commands(), self.agent.events()
            if not commands and not events:
                return
            self.events += [(self.net.now, event) for event in events]
            for command in commands:
                self.commands.append((self.net.now, command))
                self._execute(command)

    def _execute(self, command: Command) -> None:
        if isinstance(command, OpenUdp):
            self.sockets[command.socket] = self._bind(command.host)
            if self.opens_sockets:
                self.answer_open(command.socket)
        elif isinstance(command, Listen):
            self.listeners[command.listener] = self._bind(command.host)
            if self.opens_sockets:
                self.answer_open(command.listener)
        elif isinstance(command, SendDatagram):
            self._send_datagram(command)
        elif isinstance(command, SendStream):
            self._send_stream(command)
        elif isinstance(command, Connect):
            self._connect(command)
        elif isinstance(command, Close):
            self._close(command.handle)

    def answer_open(self, handle: SocketId | ListenerId) -> None:
        """The system says that the socket or listener is open."""
        local = self.sockets.get(SocketId(handle)) or self.listeners[ListenerId(handle)]
        self.agent.socket_opened(handle, local, self.net.now)

    def socket_fails(self, handle: SocketId | ListenerId, failure: Failure) -> None:
        """A socket or listener cannot be opened, or dies."""
        self.sockets.pop(SocketId(handle), None)
        self.listeners.pop(ListenerId(handle), None)
        self.do(lambda now: self.agent.socket_failed(handle, failure, now))

    def _bind(self, host: str) -> TransportAddress:
        self.ports += 1
        return address(host, self.ports)

    def seen_as(self, local: TransportAddress, remote: TransportAddress, transport: Transport) -> TransportAddress:
        """The address that ``remote`` sees: here no NAT is between."""
        return local

    def _send_datagram(self, command: SendDatagram) -> None:
        path = UdpPath(command.socket, command.remote)
        self.sent.append(Sent(self.net.now, path, stun.decode(command.data), command.data))
        source = self.seen_as(self.sockets[command.socket], command.remote, Transport.UDP)

        def arrive() -> None:
            self.net.datagram(source, command.remote, command.data)

        self.net.send(Flight(self.net.now + self.net.delay, self, arrive, command.data, path))

    def _send_stream(self, command: SendStream) -> None:
        connection = self.streams[command.stream]
        path = TcpPath(command.stream)
        self.sent.append(Sent(self.net.now, path, stun.decode(command.data), command.data))

        def arrive() -> None:
            if connection.far is not None and connection.far[1] in connection.far[0].streams:
                connection.far[0].receive(TcpPath(connection.far[1]), command.data)

        self.net.send(Flight(self.net.now + self.net.delay, self, arrive, command.data, path))

    def _connect(self, command: Connect) -> None:
        stream = command.stream
        self.dialling[stream] = command
        local = self.listeners[command.listener] if command.listener is not None else self._bind(command.host)
        self.dialled_from[stream] = local

        def give_up() -> None:
            if stream in self.dialling:
                self.fails(stream, Failure.TIMED_OUT)

        self.net.flying.append(Flight(self.net.now + command.timeout, self, give_up))
        self.net.send(Flight(self.net.now + self.net.delay, self, lambda: self._syn_arrives(command, local)))

    def _syn_arrives(self, command: Connect, local: TransportAddress) -> None:
        target = self.net.target_of(command.remote)
        if command.stream not in self.dialling or target is None:
            return
        far: list[tuple[Far, StreamId]] = []
        failure = self.net.refuses(command)

        def answer() -> None:
            if command.stream not in self.dialling:
                return
            if not far:
                self.fails(command.stream, failure or Failure.REFUSED)
                return
            del self.dialling[command.stream]
            self.streams[command.stream] = Connection(local, command.remote, far[0])
            self.stream_opens(command.stream, local)

        # Before the target says anything on the new connection, so that it arrives after the answer.
        self.net.flying.append(Flight(self.net.now + self.net.delay, self, answer))
        if failure is None:
            other = target.take_syn(command.remote, self.seen_as(local, command.remote, Transport.TCP))
            if other is not None:
                target.streams[other].far = (self, command.stream)
                far.append((target, other))

    def take_syn(self, local: TransportAddress, remote: TransportAddress) -> StreamId | None:
        """A SYN comes: it crosses one of ours, or a listener takes it, or nobody."""
        for stream, dial in self.dialling.items():
            if dial.remote == remote and self.dialled_from[stream] == local:
                return self.connected(stream)
        listener = next((each for each, at in self.listeners.items() if at == local), None)
        return self.accept(listener, remote) if listener is not None else None

    def _close(self, handle: int) -> None:
        self.sockets.pop(SocketId(handle), None)
        self.listeners.pop(ListenerId(handle), None)
        self.dialling.pop(StreamId(handle), None)
        connection = self.streams.pop(StreamId(handle), None)
        if connection is not None and connection.far is not None:
            node, stream = connection.far

            def arrive() -> None:
                if stream in node.streams:
                    node.ends(stream)

            self.net.send(Flight(self.net.now + self.net.delay, self, arrive))
