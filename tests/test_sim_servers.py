"""Servers and the ways to them in the simulated world, with the client's machines and no agent around them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import cast

import pytest

from candidates.candidate import Transport, TransportAddress
from candidates.policy import Policy
from candidates.policy.servers import parse_server_uri
from ice_tcp.core.agent import Agent
from ice_tcp.core.commands import (
    Admit,
    BindChannel,
    Close,
    Command,
    Deliver,
    Failure,
    LegId,
    LegTransport,
    Listen,
    ListenerId,
    OpenLeg,
    OpenUdp,
    Path,
    QueryId,
    RelayPath,
    Resolve,
    SendDatagram,
    SendLeg,
    SendStream,
    ServerEndpoint,
    SocketId,
    StreamId,
    TcpPath,
    TlsOptions,
    TurnIntoStream,
    Use,
)
from ice_tcp.core.context import Context
from ice_tcp.core.events import Event
from ice_tcp.core.pacing import Pacer
from ice_tcp.core.turn import BindingJob, Credentials, Mapping, State, TcpAllocation, UdpAllocation
from ice_tcp.server.options import ServerOptions
from ice_tcp.stun import MessageClass, Method, change_request, decode, encode
from tests.core_turn.script import Recorder
from tests.sim.names import Name
from tests.sim.nat import NOT_PRESERVING
from tests.sim.network import Link
from tests.sim.packets import Endpoint, Origin
from tests.sim.server import SimServer, connection_of
from tests.sim.shell import Manners, SimShell
from tests.sim.tcp import TcpSocket
from tests.sim.watch import AgentWatch, ProcessWatch
from tests.sim.world import World

SERVER = "198.51.100.1"
OTHER = "198.51.100.2"
PEER = "203.0.113.9"
CLIENT = "203.0.113.1"
LINK = Link(delay=0.02)
ALICE = Credentials("alice", "open sesame")
OPTIONS = ServerOptions(hosts=(SERVER,), tls_port=5349, users={ALICE.username: ALICE.password}, realm="example.org")
NAME = "turn.example.org"
LEG = LegId(7)
UDP, TCP, TLS = LegTransport.UDP, LegTransport.TCP, LegTransport.TLS
ANY_WAY = pytest.mark.parametrize("transport", [UDP, TCP, TLS])
ANY_CUT = pytest.mark.parametrize("chunking", ["whole", "random", "bytes"])


class ScriptedAgent:
    """What stands for the core: commands are given by the test, inputs noted, and handed to what listens to a leg."""

    def __init__(self, policy: Policy) -> None:
        self.context = Context(policy, Random(5), Pacer(), None)
        self.told: list[tuple[object, ...]] = []
        self.listening: dict[LegId, Callable[[bytes, float], object]] = {}

    def ask(self, *commands: Command) -> None:
        self.context.commands += commands

    def commands(self) -> list[Command]:
        commands, self.context.commands = self.context.commands, []
        return commands

    def events(self) -> list[Event]:
        return []

    def next_timer(self) -> float | None:
        return self.context.timers.next_at()

    def timer_expired(self, now: float) -> None:
        self.context.timers.expire(now)

    def socket_opened(self, handle: SocketId | ListenerId, address: TransportAddress, now: float) -> None:
        self.told.append(("opened", handle, address))

    def datagram_received(self, socket: SocketId, source: TransportAddress, data: bytes, now: float) -> None:
        self.told.append(("datagram", socket, source, data))

    def resolved(self, query: QueryId, endpoints: Sequence[ServerEndpoint], now: float) -> None:
        self.told.append(("resolved", query, tuple(endpoints)))

    def resolve_failed(self, query: QueryId, text: str, now: float) -> None:
        self.told.append(("not resolved", query))

    def leg_opened(self, leg: LegId, local: TransportAddress, now: float) -> None:
        self.told.append(("leg opened", leg, local))

    def leg_received(self, leg: LegId, message: bytes, now: float) -> None:
        if leg in self.listening:
            self.listening[leg](message, now)
        else:
            self.told.append(("message", leg, message))

    def leg_lost(self, leg: LegId, failure: Failure, text: str, now: float) -> None:
        assert text
        self.told.append(("lost", leg, failure))

    def relayed(self, leg: LegId, peer: TransportAddress, data: bytes, now: float) -> None:
        self.told.append(("relayed", leg, peer, data))

    def stream_received(self, stream: StreamId, data: bytes, now: float) -> None:
        self.told.append(("stream", stream, data))

    def stream_closed(self, stream: StreamId, now: float) -> None:
        self.told.append(("stream closed", stream))


def void(_: object) -> None:
    """Inputs return nothing."""


class Inbox:
    """An application that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[tuple[Path | None, bytes]] = []

    def used(self, component: int, path: Path | None) -> None: ...

    def writable(self, component: int) -> None: ...

    def received(self, component: int, path: Path | None, data: bytes) -> None:
        self.got.append((path, data))

    def stream_opened(self, component: int, stream: StreamId) -> None: ...

    def is_full(self, component: int) -> bool:
        return False

    def is_overfull(self, component: int) -> bool:
        return False

    def event(self, event: Event) -> None: ...

    def stream_gone(self, stream: StreamId) -> None: ...


@dataclass
class Way:
    """The path of a client's machine: a leg."""

    agent: ScriptedAgent
    leg: LegId
    reliable: bool

    def send(self, data: bytes) -> None:
        self.agent.ask(SendLeg(self.leg, data))


@dataclass
class TcpPeer:
    """A peer that speaks TCP: it listens, and says ``greeting`` at once."""

    greeting: bytes = b""
    socket: TcpSocket | None = None
    received: bytearray = field(default_factory=bytearray)
    ended: bool = False

    def accept(self, socket: TcpSocket) -> None:
        self.socket = socket
        socket.owner = self
        self.tcp_connected()

    def tcp_connected(self) -> None:
        assert self.socket is not None
        self.socket.write(self.greeting)

    def tcp_readable(self) -> None:
        assert self.socket is not None
        self.received += self.socket.read(1 << 20)
        self.ended = self.socket.at_end

    def tcp_writable(self) -> None: ...

    def tcp_failed(self, failure: Failure) -> None:
        self.ended = True


class Scene:
    """A server, a client that is a shell with nothing inside, and a peer."""

    def __init__(
        self,
        options: ServerOptions = OPTIONS,
        *,
        policy: Policy | None = None,
        chunking: str = "whole",
        nat: bool = False,
    ) -> None:
        self.world = World(3)
        self.clock = self.world.clock
        server_host = self.world.host("server")
        for host in options.hosts:
            server_host.attach(self.world.internet, host, LINK)
        self.server = SimServer("server", self.world, server_host, options, certificate=NAME)
        self.server.start()
        self.peer = self.world.host("peer")
        self.peer.attach(self.world.internet, PEER, LINK)
        self.client = self.world.host("client")
        if nat:
            behind = self.world.nat("nat", NOT_PRESERVING, "203.0.113.200", self.world.internet, LINK)
            self.client.attach(behind, CLIENT, Link())
        else:
            self.client.attach(self.world.internet, CLIENT, LINK)
        policy = policy or Policy.default()
        self.agent = ScriptedAgent(policy)
        watch = AgentWatch("client", ProcessWatch("process"), policy, Counter())
        manners = Manners(chunking=chunking, read_delay=0.0 if chunking == "whole" else 0.002)
        self.shell = SimShell(
            "client", self.world, self.client, cast("Agent", self.agent), policy, watch, manners, Random(1)
        )
        self.inbox = Inbox()
        self.shell.application = self.inbox

    def bind(self, machine: UdpAllocation) -> None:
        """Have the peer's channel bound."""
        self.shell.input(lambda now: void(machine.send_data(PEER_ADDRESS, b"bind", now)))
        self.run()

    def do(self, *commands: Command) -> None:
        self.shell.input(lambda _: self.agent.ask(*commands))

    def run(self, seconds: float = 1.0) -> None:
        self.clock.run(self.clock.now + seconds)

    def open(self, transport: LegTransport = UDP, *, leg: LegId = LEG, port: int | None = None, name: str = NAME,
             verify: bool = True, listener: ListenerId | None = None, host: str = SERVER) -> None:  # fmt: skip
        port = port or (5349 if transport is TLS else 3478)
        tls = TlsOptions(name, verify) if transport is TLS else None
        self.do(OpenLeg(leg, 1, CLIENT, TransportAddress(host, port), transport, 10.0, tls=tls, listener=listener))

    def allocate(self, transport: LegTransport = UDP, *, permit: str = PEER) -> tuple[UdpAllocation, Recorder]:
        self.open(transport)
        self.run()
        listener = Recorder()
        way = Way(self.agent, LEG, transport.reliable)
        machine = UdpAllocation(self.agent.context, way, listener, credentials=ALICE)
        self._begin(machine, way, permit)
        return machine, listener

    def allocate_tcp(self, transport: LegTransport = TCP, *, permit: str = PEER) -> tuple[TcpAllocation, Recorder]:
        self.open(transport)
        self.run()
        listener = Recorder()
        way = Way(self.agent, LEG, reliable=True)
        machine = TcpAllocation(self.agent.context, way, listener, credentials=ALICE)
        self._begin(machine, way, permit)
        return machine, listener

    def _begin(self, machine: UdpAllocation | TcpAllocation, way: Way, permit: str) -> None:
        self.agent.listening[way.leg] = self.feed(machine.received, way.reliable)
        self.shell.input(machine.start)
        self.run()
        self.shell.input(lambda now: machine.permit([permit], now))
        self.run()
        assert machine.state is State.ALLOCATED

    @staticmethod
    def feed(give: Callable[[bytes, float], object], reliable: bool) -> Callable[[bytes, float], object]:
        """The machines take a stream's bytes, so that ChannelData wants its padding back."""
        return lambda message, now: give(message + bytes(-len(message) % 4 if reliable else 0), now)

    @property
    def relayed(self) -> Endpoint:
        (relay,) = self.server.relays.values()
        return relay if isinstance(relay, Endpoint) else relay.local

    def losses(self) -> list[Failure]:
        return [told[2] for told in self.agent.told if told[0] == "lost" and isinstance(told[2], Failure)]


@dataclass
class UdpPeer:
    """A peer's UDP socket."""

    scene: Scene
    got: list[tuple[bytes, Endpoint]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.local = self.scene.peer.bind_udp(PEER, (7000, 7000), self._received)

    def _received(self, data: bytes, source: Endpoint, origin: Origin | None) -> None:
        self.got.append((data, source))

    def send(self, data: bytes) -> None:
        self.scene.peer.send_udp(self.local, self.scene.relayed, data, 0, "peer")
        self.scene.run()


REQUEST = encode(MessageClass.REQUEST, Method.BINDING, bytes(range(12)), [])
PEER_ADDRESS = TransportAddress(PEER, 7000)
RELAY = RelayPath(LEG, PEER_ADDRESS)


class TestDatagrams:
    @ANY_WAY
    @ANY_CUT
    def test_pass_by_indications_and_by_channel(self, transport: LegTransport, chunking: str) -> None:
        scene = Scene(chunking=chunking)
        machine, listener = scene.allocate(transport)
        peer = UdpPeer(scene)
        scene.do(Admit(RELAY), Use(1, RELAY))
        assert scene.shell.send(1, b"by indication")
        scene.run()
        peer.send(b"back")
        assert listener.told[-1] == ("data", PEER_ADDRESS, b"back")
        scene.bind(machine)
        scene.do(BindChannel(LEG, PEER_ADDRESS, 0x4000))
        assert scene.shell.send(1, b"by channel")
        scene.run()
        peer.send(b"1")
        peer.send(REQUEST)
        peer.send(b"22")
        assert [data for data, _ in peer.got] == [b"by indication", b"bind", b"by channel"]
        assert {source for _, source in peer.got} == {scene.relayed}
        assert scene.inbox.got == [(None, b"1"), (None, b"22")]
        assert scene.agent.told[-1] == ("relayed", LEG, PEER_ADDRESS, REQUEST)

    def test_of_nobody_known_wait_until_they_are_admitted(self) -> None:
        scene = Scene()
        machine, _ = scene.allocate()
        peer = UdpPeer(scene)
        scene.bind(machine)
        scene.do(BindChannel(LEG, PEER_ADDRESS, 0x4000), Deliver(RELAY, b"0"))
        peer.send(b"1")
        assert not scene.inbox.got
        scene.do(Admit(RELAY))
        assert scene.inbox.got == [(None, b"0"), (None, b"1")]

    def test_of_a_channel_that_nobody_told_of_go_to_the_core(self) -> None:
        scene = Scene()
        machine, listener = scene.allocate()
        peer = UdpPeer(scene)
        scene.bind(machine)
        peer.send(b"1")
        assert listener.told[-1] == ("data", PEER_ADDRESS, b"1")


class TestFailures:
    @pytest.mark.parametrize("transport", [TCP, TLS])
    def test_of_a_server_that_is_silent(self, transport: LegTransport) -> None:
        scene = Scene()
        scene.server.stop(silently=True)
        scene.open(transport)
        scene.run(9.0)
        assert not scene.losses()
        scene.run(2.0)
        assert scene.losses() == [Failure.TIMED_OUT]
        assert not scene.shell.open_handles

    def test_of_a_server_that_is_not_running(self) -> None:
        scene = Scene()
        scene.server.stop()
        scene.open(TCP)
        scene.run()
        assert scene.losses() == [Failure.REFUSED]

    @pytest.mark.parametrize("transport", [TCP, TLS])
    def test_of_a_server_that_dies(self, transport: LegTransport) -> None:
        scene = Scene()
        scene.allocate(transport)
        scene.server.stop()
        scene.run()
        assert scene.losses() == [Failure.RESET]
        assert not scene.server.in_use

    def test_of_a_server_that_forgets_everything(self) -> None:
        scene = Scene()
        _, listener = scene.allocate()
        scene.server.stop()
        scene.run(5.0)
        scene.server.start()
        scene.run(600.0)
        name, failure = listener.told[-1]
        assert name == "lost"
        assert "437" in str(failure)

    @pytest.mark.parametrize(
        ("transport", "port", "name", "failure"),
        [
            (TLS, 3478, NAME, Failure.TLS),
            (TLS, 5349, "turn.example.net", Failure.TLS_CERTIFICATE),
        ],
        ids=["TLS to a plain port", "a certificate for another name"],
    )
    def test_of_tls(self, transport: LegTransport, port: int, name: str, failure: Failure) -> None:
        scene = Scene()
        scene.open(transport, port=port, name=name)
        scene.run()
        # A plain server drops what is no STUN
        assert scene.losses() == [Failure.RESET if port == 3478 else failure]

    def test_a_certificate_is_not_looked_at_where_that_is_not_wanted(self) -> None:
        careless = {"url": "stuns:turn.example.net", "tls": {"verify": False}}
        scene = Scene(policy=Policy.model_validate({"servers": [careless]}))
        scene.open(TLS, name="turn.example.net", verify=False)
        scene.run()
        assert not scene.losses()

    def test_plain_messages_to_a_tls_port(self) -> None:
        scene = Scene()
        scene.open(TCP, port=5349)
        scene.run()
        scene.do(SendLeg(LEG, REQUEST))
        scene.run()
        assert scene.losses() == [Failure.RESET]

    @pytest.mark.parametrize("greeting", [b"SSH-2.0-x\r\n", b"\x40\x00\x00\x04data", b"\x01\x01\x00\x00no cookie"])
    def test_of_what_is_no_server(self, greeting: bytes) -> None:
        scene = Scene()
        scene.peer.listen(PEER, (3478, 3478), TcpPeer(greeting).accept)
        scene.open(TCP, host=PEER)
        scene.run()
        assert scene.losses() == [Failure.NOT_STUN]

    def test_a_leg_from_an_address_that_is_gone(self) -> None:
        scene = Scene()
        scene.client.lose_address(CLIENT)
        scene.open(UDP)
        scene.open(TCP, leg=LegId(8))
        scene.run()
        assert scene.losses() == [Failure.ADDRESS_UNAVAILABLE] * 2


class TestNames:
    def test_resolve_to_endpoints_over_every_transport_that_the_uri_leaves_open(self) -> None:
        scene = Scene()
        scene.world.names.table[NAME] = Name((SERVER,))
        scene.do(Resolve(QueryId(1), parse_server_uri(f"turn:{NAME}")))
        scene.do(Resolve(QueryId(2), parse_server_uri(f"turns:{NAME}:443")))
        scene.do(Resolve(QueryId(3), parse_server_uri("stun:nobody.example.org")))
        scene.do(Resolve(QueryId(4), parse_server_uri(f"turn:{NAME}")))
        scene.do(Close(QueryId(4)))
        scene.run()
        plain = TransportAddress(SERVER, 3478)
        assert scene.agent.told == [
            ("resolved", 1, (ServerEndpoint(UDP, plain), ServerEndpoint(TCP, plain))),
            ("resolved", 2, (ServerEndpoint(TLS, TransportAddress(SERVER, 443)),)),
            ("not resolved", 3),
        ]


class TestBinding:
    def test_over_tcp_from_the_listeners_own_port_tells_where_peers_get_in(self) -> None:
        scene = Scene(nat=True)
        scene.do(Listen(ListenerId(1), 1, CLIENT))
        scene.run(0.1)
        scene.open(TCP, listener=ListenerId(1))
        scene.run()
        listener = Recorder()
        job = BindingJob(scene.agent.context, Way(scene.agent, LEG, True), listener)
        scene.agent.listening[LEG] = job.received
        scene.shell.input(job.start)
        scene.run()
        name, mapping = listener.told[-1]
        assert name == "mapped"
        local = scene.shell.listeners[1].listener.local
        seen = scene.client.reflexive(Transport.TCP, local)
        assert seen is not None
        assert isinstance(mapping, Mapping)
        assert mapping.mapped == TransportAddress(*seen)
        assert seen.port != local.port

    def test_a_second_address_answers_where_it_was_asked_to(self) -> None:
        scene = Scene(ServerOptions(hosts=(SERVER, OTHER), alternate_port=3479))
        scene.do(OpenUdp(SocketId(1), 1, CLIENT))
        scene.run(0.1)
        change = change_request(change_ip=True, change_port=True)
        message = encode(MessageClass.REQUEST, Method.BINDING, bytes(12), [change])
        scene.do(SendDatagram(SocketId(1), TransportAddress(SERVER, 3478), message))
        scene.run()
        name, _, source, answer = scene.agent.told[-1]
        assert (name, source) == ("datagram", TransportAddress(OTHER, 3479))
        assert isinstance(answer, bytes)
        assert decode(answer).other_address == (OTHER, 3479)


DATA = LegId(8)
STREAM = StreamId(20)


class TestRelayedConnections:
    """RFC 6062: the leg becomes a stream from the byte behind the ConnectionBind response on."""

    def bind(self, scene: Scene, machine: TcpAllocation, connection_id: int, transport: LegTransport) -> Recorder:
        scene.open(transport, leg=DATA)
        scene.run()
        listener = Recorder()
        data = machine.data_connection(Way(scene.agent, DATA, True), connection_id, listener)

        def received(message: bytes, now: float) -> None:
            data.received(message, now)
            if data.bound:
                scene.agent.ask(TurnIntoStream(DATA, STREAM), Admit(TcpPath(STREAM)), Use(1, TcpPath(STREAM)))

        scene.agent.listening[DATA] = received
        scene.shell.input(data.start)
        scene.run()
        return listener

    @ANY_CUT
    @pytest.mark.parametrize("transport", [TCP, TLS])
    def test_to_a_peer(self, transport: LegTransport, chunking: str) -> None:
        scene = Scene(chunking=chunking)
        peer = TcpPeer(greeting=frame(REQUEST) + frame(b"first"))
        scene.peer.listen(PEER, (7000, 7000), peer.accept)
        machine, listener = scene.allocate_tcp(transport)
        scene.shell.input(lambda now: machine.connect(PEER_ADDRESS, now))
        scene.run()
        name, _, connection_id = listener.told[-1]
        assert name == "connected"
        assert isinstance(connection_id, int)
        self.bind(scene, machine, connection_id, transport)
        assert ("stream", STREAM, REQUEST) in scene.agent.told
        assert scene.inbox.got == [(TcpPath(STREAM), b"first")]
        if chunking == "whole":
            assert scene.world.events["early-relayed-bytes"] == 1
        assert scene.shell.send(1, b"hello")
        scene.do(SendStream(STREAM, REQUEST))
        scene.run()
        assert peer.received == frame(b"hello") + frame(REQUEST)
        mine, theirs = scene.shell.streams[STREAM].socket, peer.socket
        assert mine is not None
        assert theirs is not None
        assert scene.server.splices == [(connection_of(mine), connection_of(theirs))]
        scene.do(Close(STREAM))
        scene.run()
        assert peer.ended

    def test_of_a_peer(self) -> None:
        scene = Scene()
        machine, listener = scene.allocate_tcp()
        peer = TcpPeer(greeting=frame(REQUEST) + frame(b"first") + b"\x00")
        peer.socket = scene.peer.tcp.connect(Endpoint(PEER, 7000), scene.relayed, peer)
        scene.run()
        name, _, connection_id = listener.told[-1]
        assert name == "attempt"
        assert isinstance(connection_id, int)
        self.bind(scene, machine, connection_id, TCP)
        peer.socket.write(b"\x06second")
        scene.run()
        assert [data for _, data in scene.inbox.got] == [b"first", b"second"]
        peer.socket.close()
        scene.run()
        assert scene.agent.told[-1] == ("stream closed", STREAM)
        scene.shell.input(machine.close)
        scene.run()
        scene.do(Close(LEG))
        scene.run()
        assert not scene.server.in_use
        assert not scene.shell.open_handles

    def test_a_peer_without_permission_is_sent_away(self) -> None:
        scene = Scene()
        scene.allocate_tcp(permit="203.0.113.77")
        peer = TcpPeer()
        peer.socket = scene.peer.tcp.connect(Endpoint(PEER, 7000), scene.relayed, peer)
        scene.run()
        assert peer.ended
        assert scene.world.events["relay-refuses-peer"] == 1


def frame(packet: bytes) -> bytes:
    return len(packet).to_bytes(2, "big") + packet


def test_megabytes_pass_a_pipe_at_the_pace_of_its_reader() -> None:
    scene = Scene()
    machine, listener = scene.allocate_tcp()
    peer = TcpPeer()
    scene.peer.listen(PEER, (7000, 7000), peer.accept)
    scene.shell.input(lambda now: machine.connect(PEER_ADDRESS, now))
    scene.run()
    connection_id = listener.told[-1][2]
    assert isinstance(connection_id, int)
    TestRelayedConnections().bind(scene, machine, connection_id, TCP)
    sent = 0
    while scene.shell.send(1, b"\x80" * 1000):
        sent += 1002
    assert sent > scene.shell.policy.limits.send_bytes
    scene.run(60.0)
    assert len(peer.received) == sent
