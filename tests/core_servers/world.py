"""Core agents with servers and NATs around them, in virtual time: `tests.core.net` and what issue it has with servers.

A ``World`` is a `Net` that also has servers, addresses of theirs where nobody answers, and NATs before its clients. A
``Server`` is the embedded server's core; a ``Scripted`` one says what a test tells it to. Data of 6062 connections
is carried message by message, unframed, for framing is the shell's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from random import Random
from typing import Any

from candidates.candidate import InterfaceAddress, Transport, TransportAddress
from candidates.policy import Policy
from ice_tcp import stun
from ice_tcp.core.commands import (
    BindChannel,
    Close,
    Command,
    Connect,
    Deliver,
    Failure,
    LegId,
    LegTransport,
    OpenLeg,
    Path,
    QueryId,
    RelayPath,
    Resolve,
    SendLeg,
    ServerEndpoint,
    StreamId,
    TcpPath,
    TurnIntoStream,
    UdpPath,
)
from ice_tcp.core.events import (
    AgentState,
    GatheringDone,
    LocalCandidateFound,
    Purpose,
    Restarted,
    Role,
    ServerReport,
)
from ice_tcp.core.outcomes import ServerFailure
from ice_tcp.core.pacing import Pacer
from ice_tcp.core.servers import servers_of
from ice_tcp.core.turn.channels import is_channel_data, read_channel_data
from ice_tcp.server.core import actions as asked
from ice_tcp.server.core.machine import ServerCore
from ice_tcp.server.options import ServerOptions
from ice_tcp.server.peers import PeerPolicy
from tests.core.net import DELAY, HOME, Connection, Far, Flight, Net, Node, address, policy

HOST, OTHER_HOST = "203.0.113.1", "203.0.113.2"
HOST6 = "2001:db8:203::1"
PORT, OTHER_PORT = 3478, 3479
PUBLIC = "198.51.100.77"
WALL = 1_700_000_000.0
"""Unix time, for short-lived credentials."""
SECRET = "the secret of all"
USERS = {"alice": "open sesame"}

STUN: dict[str, object] = {"url": f"stun:{HOST}"}


def turn(url: str = f"turn:{HOST}", **keys: object) -> dict[str, object]:
    """The policy's entry of a TURN server, with the right credentials."""
    return {"url": url, "username": "alice", "password": USERS["alice"], **keys}


def served(*servers: Mapping[str, object], **sections: object) -> Policy:
    """A policy with servers, of UDP candidates unless it says otherwise."""
    return policy(servers=list(servers), **{"transports": ["udp"], **sections})


class NatKind(Enum):
    """How a NAT maps a port, and for all of these whom it lets in: those that it has a mapping for."""

    INDEPENDENT = auto()
    ADDRESS_DEPENDENT = auto()
    PORT_DEPENDENT = auto()


class Nat:
    """One before one client, with one public address."""

    def __init__(self, kind: NatKind, host: str = PUBLIC) -> None:
        self.kind = kind
        self.host = host
        self._ports = 60_000
        self._mappings: dict[object, TransportAddress] = {}
        self.locals: dict[tuple[Transport, TransportAddress], tuple[TransportAddress, TransportAddress]] = {}
        """By transport and public address: the local one, and the remote one that it was first mapped for."""

    def maps(self, local: TransportAddress, remote: TransportAddress, transport: Transport) -> TransportAddress:
        what = {
            NatKind.INDEPENDENT: None,
            NatKind.ADDRESS_DEPENDENT: remote.host,
            NatKind.PORT_DEPENDENT: remote,
        }[self.kind]
        key = (transport, local, what)
        if key not in self._mappings:
            self._ports += 1
            public = self._mappings[key] = address(self.host, self._ports)
            self.locals[transport, public] = local, remote
        return self._mappings[key]

    def takes(self, public: TransportAddress, source: TransportAddress) -> TransportAddress | None:
        """Where a datagram from ``source`` goes; None: it is filtered, or nothing is mapped."""
        found = self.locals.get((Transport.UDP, public))
        if found is None:
            return None
        local, remote = found
        passes = {
            NatKind.INDEPENDENT: True,
            NatKind.ADDRESS_DEPENDENT: remote.host == source.host,
            NatKind.PORT_DEPENDENT: remote == source,
        }[self.kind]
        return local if passes else None


@dataclass(frozen=True, slots=True)
class LegSent:
    """A message that a client sent on a leg."""

    at: float
    leg: LegId
    data: bytes

    @property
    def message(self) -> stun.Message:
        return stun.decode(self.data)


class World(Net):
    """The clients, the servers, and what flies between them."""

    def __init__(self, *, delay: float = DELAY) -> None:
        super().__init__(delay=delay)
        self.servers: list[Server | Scripted] = []
        self.blocks: Callable[[OpenLeg], bool] = lambda _: False
        """What goes on such a leg is lost."""

    def client(
        self,
        policy: Policy,
        role: Role = Role.CONTROLLING,
        *,
        hosts: Iterable[str] = (HOME,),
        components: int = 1,
        seed: int = 1,
        nat: Nat | None = None,
        pacer: Pacer | None = None,
    ) -> Client:
        client = Client(self, role, policy, tuple(hosts), components, Random(seed), pacer or Pacer())
        client.nat = nat
        self.nodes.append(client)
        return client

    def server(self, *, hosts: Iterable[str] = (HOST,), seed: int = 3, **options: Any) -> Server:
        """The embedded server: UDP and TCP, one user, and every peer allowed."""
        defaults: dict[str, Any] = {
            "hosts": tuple(hosts),
            "port": PORT,
            "users": USERS,
            "peers": PeerPolicy(loopback=True, private=True, link_local=True),
        }
        server = Server(self, ServerOptions(**{**defaults, **options}), seed)
        self.servers.append(server)
        return server

    def scripted(self, *addresses: TransportAddress) -> Scripted:
        server = Scripted(self, set(addresses or (address(HOST, PORT),)))
        self.servers.append(server)
        return server

    def connect(self, one: Client, other: Client) -> None:
        """They gather, tell each other everything as it comes, and begin their checks."""
        one.partner, other.partner = other, one
        for client in (one, other):
            client.gather()
        for client in (one, other):
            client.tells_parameters()
            client.start()

    def later(self, sender: Far, act: Callable[[], None]) -> None:
        self.flying.append(Flight(self.now + self.delay, sender, act))

    def timers(self) -> list[tuple[float, Callable[[], None]]]:
        return super().timers() + [
            (at, server.expire) for server in self.servers if (at := server.next_timer()) is not None
        ]

    def target_of(self, remote: TransportAddress) -> Far | None:
        server = next((each for each in self.servers if each.takes(remote, Transport.TCP)), None)
        if server is not None:
            return server
        node = self.node_at(remote.host)
        return None if isinstance(node, Client) and node.nat is not None else node

    def datagram(self, source: TransportAddress, remote: TransportAddress, data: bytes) -> None:
        for server in self.servers:
            if server.takes(remote, Transport.UDP):
                server.datagram(source, remote, data)
                return
        for node in self.nodes:
            assert isinstance(node, Client)
            if node.nat is not None and node.nat.host == remote.host:
                local = node.nat.takes(remote, source)
                if local is not None:
                    node.datagram(source, local, data)
            elif node.nat is None and remote.host in node.hosts:
                node.datagram(source, remote, data)


@dataclass(slots=True, eq=False, repr=False)
class Client(Node):
    """A node that also has legs to servers."""

    nat: Nat | None = None
    legs: dict[LegId, OpenLeg] = field(default_factory=dict)
    leg_locals: dict[LegId, TransportAddress] = field(default_factory=dict)
    leg_sent: list[LegSent] = field(default_factory=list)
    channels: dict[tuple[LegId, TransportAddress], int] = field(default_factory=dict)
    delivered: list[tuple[Path, bytes]] = field(default_factory=list)
    """Application data that came through a relay."""
    queries: dict[QueryId, Resolve] = field(default_factory=dict)
    partner: Client | None = None
    """Hears of candidates, their end and restarts, a delay later."""

    # -- signaling

    def drain(self) -> None:
        told = len(self.events)
        Node.drain(self)
        for _, event in self.events[told:]:
            if isinstance(event, LocalCandidateFound):
                self._tells(lambda partner, each=event: partner.hear_of(each.candidate))  # type: ignore[misc]
            elif isinstance(event, GatheringDone):
                self._tells(lambda partner: partner.hear_end())
            elif isinstance(event, Restarted):
                self.tells_parameters()

    def tells_parameters(self) -> None:
        parameters = self.agent.local_parameters
        self._tells(lambda partner: partner.know(parameters))

    def _tells(self, tell: Callable[[Client], None]) -> None:
        partner, net = self.partner, self.net
        assert isinstance(net, World)
        if partner is not None:
            net.later(self, lambda: tell(partner) if partner.state is not AgentState.CLOSED else None)

    # -- inputs

    def gather(self, interface: str = "eth0") -> None:
        addresses = [InterfaceAddress(interface, host, True) for host in self.hosts]
        servers = servers_of(self.policy, WALL)
        self.do(lambda now: self.agent.gather(addresses, now, servers))

    def resolves(self, *addresses: str, transports: Iterable[LegTransport] = (LegTransport.UDP,)) -> None:
        """The oldest query finds these addresses."""
        query = next(iter(self.queries))
        del self.queries[query]
        found = [ServerEndpoint(each, address(host, PORT)) for host in addresses for each in transports]
        self.do(lambda now: self.agent.resolved(query, found, now))

    def resolve_fails(self, text: str = "no such name") -> None:
        query = next(iter(self.queries))
        del self.queries[query]
        self.do(lambda now: self.agent.resolve_failed(query, text, now))

    def loses_leg(self, leg: LegId, failure: Failure = Failure.RESET, text: str = "") -> None:
        """A leg breaks here, and the server's end with it."""
        command = self.legs.pop(leg)
        connection = self.streams.pop(StreamId(leg), None)
        if connection is not None and connection.far is not None:
            connection.far[0].ends(connection.far[1])
        self.dialling.pop(StreamId(leg), None)
        del command
        self.do(lambda now: self.agent.leg_lost(leg, failure, text, now))

    def send_data(self, data: bytes) -> None:
        """The application sends on the path in use, which is a relayed one."""
        path = self.used
        assert isinstance(path, RelayPath)
        number = self.channels.get((path.leg, path.remote))
        if number is not None:
            padding = bytes(-len(data) % 4) if self.legs[path.leg].transport.reliable else b""
            packed = number.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data + padding
        else:
            id_ = bytes(12)
            attributes = [stun.xor_peer_address(path.remote.host, path.remote.port, id_), stun.data(data)]
            packed = stun.encode(stun.MessageClass.INDICATION, stun.Method.SEND, id_, attributes, fingerprint=False)
        self._execute(SendLeg(path.leg, packed))

    # -- what it did

    def opened_legs(self, transport: LegTransport | None = None) -> list[OpenLeg]:
        """All that were asked for, of a transport."""
        return [each for each in self.all_commands(OpenLeg) if transport in (None, each.transport)]

    def asked(self, method: stun.Method) -> list[LegSent]:
        """The requests of a method that left on legs, without retransmissions."""
        found: dict[bytes, LegSent] = {}
        for sent in self.leg_sent:
            if not is_channel_data(sent.data):
                message = sent.message
                if message.method == method and message.message_class is stun.MessageClass.REQUEST:
                    found.setdefault(message.transaction_id, sent)
        return list(found.values())

    def reports(self, purpose: Purpose | None = None) -> list[ServerReport]:
        return [each for each in self.agent.server_reports() if purpose in (None, each.purpose)]

    def failures(self, purpose: Purpose | None = None) -> list[ServerFailure]:
        return [each.failure for each in self.reports(purpose) if each.failure is not None]

    # -- the machine below

    def seen_as(self, local: TransportAddress, remote: TransportAddress, transport: Transport) -> TransportAddress:
        return local if self.nat is None else self.nat.maps(local, remote, transport)

    def datagram(self, source: TransportAddress, local: TransportAddress, data: bytes) -> None:
        """One arrives at a local address."""
        for socket, at in list(self.sockets.items()):
            if at == local:
                self.receive(UdpPath(socket, source), data)
        for leg, at in list(self.leg_locals.items()):
            if at == local and leg in self.legs and self.legs[leg].remote == source:
                self.leg_receives(leg, data)

    def receive(self, path: Path, data: bytes) -> None:
        if isinstance(path, TcpPath) and LegId(path.stream) in self.legs:
            self.leg_receives(LegId(path.stream), data)
        else:
            Node.receive(self, path, data)

    def leg_receives(self, leg: LegId, data: bytes) -> None:
        """A message of a server comes; those of known channels are unpacked."""
        if is_channel_data(data) and len(data) >= 4 + int.from_bytes(data[2:4], "big"):
            number, payload = read_channel_data(data)
            peer = next((peer for (_, peer), each in self.channels.items() if each == number), None)
            if peer is not None and (leg, peer) in self.channels:
                if stun.is_stun(payload):
                    self.do(lambda now: self.agent.relayed(leg, peer, payload, now))
                else:
                    self.delivered.append((RelayPath(leg, peer), payload))
                return
        self.do(lambda now: self.agent.leg_received(leg, data, now))

    def stream_opens(self, stream: StreamId, local: TransportAddress) -> None:
        if LegId(stream) in self.legs:
            self.leg_locals[LegId(stream)] = local
            self.do(lambda now: self.agent.leg_opened(LegId(stream), local, now))
        else:
            Node.stream_opens(self, stream, local)

    def fails(self, stream: StreamId, failure: Failure) -> None:
        if LegId(stream) in self.legs:
            self.dialling.pop(stream, None)
            self.streams.pop(stream, None)
            del self.legs[LegId(stream)]
            self.do(lambda now: self.agent.leg_lost(LegId(stream), failure, failure.value, now))
        else:
            Node.fails(self, stream, failure)

    def ends(self, stream: StreamId) -> None:
        if LegId(stream) in self.legs:
            self.fails(stream, Failure.CLOSED)
        else:
            Node.ends(self, stream)

    def _execute(self, command: Command) -> None:
        if isinstance(command, OpenLeg):
            self._open_leg(command)
        elif isinstance(command, SendLeg):
            self._send_leg(command)
        elif isinstance(command, BindChannel):
            assert command.leg in self.legs
            if command.number is None:
                del self.channels[command.leg, command.peer]
            else:
                self.channels[command.leg, command.peer] = command.number
        elif isinstance(command, Deliver):
            self.delivered.append((command.path, command.data))
        elif isinstance(command, TurnIntoStream):
            self._turn_into_stream(command)
        elif isinstance(command, Resolve):
            self.queries[command.query] = command
        else:
            if isinstance(command, Close):
                self.legs.pop(LegId(command.handle), None)
                self.queries.pop(QueryId(command.handle), None)
            Node._execute(self, command)  # noqa: SLF001 - slotted dataclasses know no super() here

    def _open_leg(self, command: OpenLeg) -> None:
        self.legs[command.leg] = command
        if command.transport is LegTransport.UDP:
            local = self.leg_locals[command.leg] = self._bind(command.host)
            self.agent.leg_opened(command.leg, local, self.net.now)
        else:
            self._connect(
                Connect(
                    *(StreamId(command.leg), command.component, command.host, command.remote),
                    *(command.timeout, command.listener),
                )
            )

    def _syn_arrives(self, command: Connect, local: TransportAddress) -> None:
        leg = self.legs.get(LegId(command.stream))
        assert isinstance(self.net, World)
        if leg is None or not self.net.blocks(leg):
            Node._syn_arrives(self, command, local)  # noqa: SLF001

    def _send_leg(self, command: SendLeg) -> None:
        net, leg = self.net, self.legs[command.leg]
        assert isinstance(net, World)
        self.leg_sent.append(LegSent(net.now, command.leg, command.data))
        if net.blocks(leg):
            return
        if leg.transport is LegTransport.UDP:
            source = self.seen_as(self.leg_locals[command.leg], leg.remote, Transport.UDP)
            net.later(self, lambda: net.datagram(source, leg.remote, command.data))
        else:
            self._write(self.streams[StreamId(command.leg)], command.data)

    def _write(self, connection: Connection, data: bytes) -> None:
        def arrive() -> None:
            if connection.far is not None and connection.far[1] in connection.far[0].streams:
                connection.far[0].receive(TcpPath(connection.far[1]), data)

        assert isinstance(self.net, World)
        self.net.later(self, arrive)

    def _turn_into_stream(self, command: TurnIntoStream) -> None:
        del self.legs[command.leg]
        connection = self.streams.pop(StreamId(command.leg))
        self.streams[command.stream] = connection
        if connection.far is not None:
            server, id_ = connection.far
            server.streams[id_].far = (self, command.stream)


def _peer_end(connection: int) -> StreamId:
    """How a server names its end of a peer's connection, beside the clients'."""
    return StreamId(connection + 2**40)


class Server:
    """The embedded server's core in a World."""

    def __init__(self, world: World, options: ServerOptions, seed: int) -> None:
        self.world = world
        self.streams: dict[StreamId, Connection] = {}
        self.silent = False
        """It takes messages and says nothing, nor does it take connections."""
        self.refuses = False
        """It resets connections."""
        self.connects: list[TransportAddress] = []
        """Peers that it was asked to connect to."""
        self.reaches_tcp_peers = True
        self.options = options
        self._relays: dict[TransportAddress, tuple[int, asked.RelayTransport]] = {}
        self._spliced: dict[StreamId, StreamId] = {}
        self._held: dict[StreamId, list[bytes]] = {}
        self.restart(seed)

    def restart(self, seed: int = 4) -> None:
        """It forgets everything; connections are reset."""
        ports = [port for port in (self.options.port, self.options.alternate_port) if port is not None]
        self.listeners = [
            asked.Listener(leg, (host, port))
            for leg in (asked.Leg.UDP, asked.Leg.TCP)
            for host in self.options.hosts
            for port in ports
        ]
        if self.options.tls_port is not None:
            self.listeners += [
                asked.Listener(asked.Leg.TLS, (host, self.options.tls_port)) for host in self.options.hosts
            ]
        self.core = ServerCore(self.options, self.listeners, rng=Random(seed), wall_clock=lambda: WALL + self._elapsed)
        ends = list(self.streams.values())
        self.streams.clear()
        self._relays.clear()
        self._spliced.clear()
        self._held.clear()
        for connection in ends:
            if connection.far is not None and connection.far[1] in connection.far[0].streams:
                connection.far[0].fails(connection.far[1], Failure.RESET)

    @property
    def _elapsed(self) -> float:
        return self.world.now - 1000.0

    @property
    def relayed(self) -> list[TransportAddress]:
        """The addresses of all relays that are open."""
        return list(self._relays)

    def next_timer(self) -> float | None:
        return self.core.next_timer()

    def expire(self) -> None:
        self.core.timer_expired(self.world.now)
        self._act()

    def takes(self, local: TransportAddress, transport: Transport) -> bool:
        if any(relay == local and kind.value == transport.value for relay, (_, kind) in self._relays.items()):
            return True
        return self._listener_at(local, transport) is not None

    def datagram(self, source: TransportAddress, local: TransportAddress, data: bytes) -> None:
        listener = self._listener_at(local, Transport.UDP)
        now = self.world.now
        if self.silent:
            return
        if listener is not None:
            self.core.datagram_received(listener, (source.host, source.port), data, now)
        elif local in self._relays:
            self.core.peer_sent(self._relays[local][0], (source.host, source.port), data, now)
        self._act()

    # -- connections (Far)

    def take_syn(self, local: TransportAddress, remote: TransportAddress) -> StreamId | None:
        listener = self._listener_at(local, Transport.TCP)
        now, peer = self.world.now, (remote.host, remote.port)
        if self.refuses:
            return None
        if listener is not None:
            accepted = self.core.stream_accepted(listener, peer, now)
            end = StreamId(accepted) if accepted is not None else None
        else:
            connection = self.core.peer_accepted(self._relays[local][0], peer, now)
            end = _peer_end(connection) if connection is not None else None
        if end is not None:
            self.streams[end] = Connection(local, remote)
        self._act()
        return end

    def receive(self, path: Path, data: bytes) -> None:
        assert isinstance(path, TcpPath)
        end = path.stream
        if end in self._spliced:
            self._write(self._spliced[end], data)
        elif end >= _peer_end(0):
            self._held.setdefault(end, []).append(data)
        elif not self.silent:
            self.core.stream_received(end, data, self.world.now)
            self._act()

    def ends(self, stream: StreamId) -> None:
        self.streams.pop(stream, None)
        other = self._spliced.pop(stream, None)
        if other is not None:
            self._spliced.pop(other, None)
            self._close(other)
        client = min(stream, other) if other is not None else stream
        if client < _peer_end(0):
            self.core.stream_closed(client, self.world.now)
        self._act()

    def fails(self, stream: StreamId, failure: Failure) -> None:
        self.ends(stream)

    def drops(self, client: Client, leg: LegId) -> None:
        """It closes the connection of a leg."""
        connection = client.streams[StreamId(leg)]
        assert connection.far is not None
        end = connection.far[1]
        self._close(end)
        self.ends(end)

    # -- inside

    def _listener_at(self, local: TransportAddress, transport: Transport) -> int | None:
        return next(
            (
                index
                for index, listener in enumerate(self.listeners)
                if listener.address == (local.host, local.port)
                and (listener.leg is asked.Leg.UDP) is (transport is Transport.UDP)
            ),
            None,
        )

    def _act(self) -> None:
        while actions := self.core.actions():
            for action in actions:
                self._execute(action)

    def _execute(self, action: asked.Action) -> None:
        world, now = self.world, self.world.now
        match action:
            case asked.SendDatagram(listener, remote, data):
                source = address(*self.listeners[listener].address)
                world.later(self, lambda: world.datagram(source, address(*remote), data))
            case asked.SendStream(stream, data):
                self._write(StreamId(stream), data)
            case asked.CloseStream(stream):
                self._close(StreamId(stream))
                self.core.stream_closed(stream, now)
            case asked.OpenRelay(relay, transport, at):
                self._relays[address(*at)] = relay, transport
                self.core.relay_opened(relay, now)
            case asked.CloseRelay(relay):
                self._relays = {at: each for at, each in self._relays.items() if each[0] != relay}
            case asked.SendPeer(relay, peer, data):
                source = next(at for at, each in self._relays.items() if each[0] == relay)
                world.later(self, lambda: world.datagram(source, address(*peer), data))
            case asked.ConnectPeer(connection, relay, peer):
                source = next(at for at, each in self._relays.items() if each[0] == relay)
                self.connects.append(address(*peer))
                world.later(self, lambda: self._connect(connection, source, address(*peer)))
            case asked.ClosePeer(connection):
                self._close(_peer_end(connection))
            case asked.Splice(stream, connection):
                self._splice(StreamId(stream), _peer_end(connection))
            case asked.OpenRoute() | asked.CloseRoute():
                pass

    def _connect(self, connection: int, source: TransportAddress, peer: TransportAddress) -> None:
        target = self.world.target_of(peer)
        if target is None or not self.reaches_tcp_peers:
            return
        other = target.take_syn(peer, source)
        if other is None:
            self.core.peer_failed(connection, "refused", self.world.now)
        else:
            end = _peer_end(connection)
            self.streams[end] = Connection(source, peer, (target, other))
            target.streams[other].far = (self, end)
            self.core.peer_connected(connection, self.world.now)
        self._act()

    def _splice(self, client: StreamId, peer: StreamId) -> None:
        self._spliced[client], self._spliced[peer] = peer, client
        for data in self._held.pop(peer, ()):
            self._write(client, data)

    def _write(self, end: StreamId, data: bytes) -> None:
        connection = self.streams.get(end)
        if connection is None:
            return

        def arrive() -> None:
            if connection.far is not None and connection.far[1] in connection.far[0].streams:
                connection.far[0].receive(TcpPath(connection.far[1]), data)

        self.world.later(self, arrive)

    def _close(self, end: StreamId) -> None:
        connection = self.streams.pop(end, None)
        self._held.pop(end, None)

        def arrive() -> None:
            if connection is not None and connection.far is not None:
                far, stream = connection.far
                if stream in far.streams:
                    far.ends(stream)

        self.world.later(self, arrive)


class Scripted:
    """A server that the test speaks for: it keeps what came, and answers as ``answer`` says."""

    def __init__(self, world: World, addresses: set[TransportAddress]) -> None:
        self.world = world
        self.addresses = addresses
        self.streams: dict[StreamId, Connection] = {}
        self.heard: list[bytes] = []
        self.answer: Callable[[stun.Message], bytes | Iterable[bytes] | None] = lambda _: None
        self.refuses = False
        self._last = 0

    def next_timer(self) -> float | None:
        return None

    def expire(self) -> None:
        """It has no timers."""

    def takes(self, local: TransportAddress, transport: Transport) -> bool:
        return local in self.addresses

    def datagram(self, source: TransportAddress, local: TransportAddress, data: bytes) -> None:
        for answer in self._answers(data):
            self.says(local, source, answer)

    def says(self, local: TransportAddress, remote: TransportAddress, data: bytes) -> None:
        """A datagram leaves, from whatever address."""
        self.world.later(self, lambda: self.world.datagram(local, remote, data))

    def take_syn(self, local: TransportAddress, remote: TransportAddress) -> StreamId | None:
        if self.refuses:
            return None
        self._last += 1
        self.streams[StreamId(self._last)] = Connection(local, remote)
        return StreamId(self._last)

    def receive(self, path: Path, data: bytes) -> None:
        assert isinstance(path, TcpPath)
        for answer in self._answers(data):
            self.writes(path.stream, answer)

    def writes(self, stream: StreamId, data: bytes) -> None:
        """A message leaves on a connection."""
        far = self.streams[stream].far
        assert far is not None
        self.world.later(self, lambda: far[0].receive(TcpPath(far[1]), data) if far[1] in far[0].streams else None)

    def ends(self, stream: StreamId) -> None:
        self.streams.pop(stream, None)

    def fails(self, stream: StreamId, failure: Failure) -> None:
        self.ends(stream)

    def _answers(self, data: bytes) -> list[bytes]:
        self.heard.append(data)
        message = stun.decode(data) if stun.is_stun(data) else None
        if message is None or message.message_class is not stun.MessageClass.REQUEST:
            return []
        answer = self.answer(message)
        if answer is None:
            return []
        return [answer] if isinstance(answer, bytes) else list(answer)
