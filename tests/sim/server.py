"""A STUN and TURN server in the simulated Internet: the embedded server's core, with simulated sockets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import TypeAlias, assert_never

from ice_tcp.core.commands import Failure
from ice_tcp.server.core import actions, trace
from ice_tcp.server.core.actions import Address, Leg, RelayTransport
from ice_tcp.server.core.machine import ServerCore
from ice_tcp.server.options import ServerOptions
from tests.sim.clock import Timer
from tests.sim.host import BindError, Host
from tests.sim.ladder import words
from tests.sim.packets import Endpoint, Origin
from tests.sim.serverstreams import ClientEnd, PeerEnd
from tests.sim.serverwatch import ConnectWatch
from tests.sim.tcp import TcpSocket
from tests.sim.tcpstack import AddressTakenError, Listener
from tests.sim.tls import Hello
from tests.sim.world import WALL, World

Ends: TypeAlias = frozenset[int]
"""A TCP connection, by its two initial sequence numbers: so it is known at both ends, whatever NATs do."""


def connection_of(socket: TcpSocket) -> Ends:
    """The same for both ends of a connection."""
    return frozenset((socket.iss, socket.irs))


def listeners_of(options: ServerOptions) -> list[actions.Listener]:
    """Where a server with these options listens."""
    ports = [port for port in (options.port, options.alternate_port) if port is not None]
    secure = [port for port in (options.tls_port, options.alternate_tls_port) if port is not None]
    plain = [(leg, port) for port in ports for leg in (Leg.UDP, Leg.TCP)]
    return [
        actions.Listener(leg, (host, port))
        for host in options.hosts
        for leg, port in (*plain, *((Leg.TLS, port) for port in secure))
    ]


class SimServer:
    """Runs on a host from `start` to `stop`, and again, with nothing remembered.

    ``certificate`` is the name that its TLS certificate is for.
    """

    def __init__(self, name: str, world: World, host: Host, options: ServerOptions, certificate: str = "") -> None:
        self.name = name
        self.world = world
        self.host = host
        self.options = options
        self.certificate = certificate
        self.relays: dict[int, Endpoint | Listener] = {}
        """The open relays by the core's numbers: a UDP socket's address, or a listener."""
        self.heard: dict[tuple[Endpoint, Endpoint], Origin] = {}
        """Who really sent what came to a UDP relay from an address."""
        self.splices: list[tuple[Ends, Ends]] = []
        """Connections that were joined: a client's and a peer's."""
        self.refusals: list[tuple[int, int]] = []
        """Method and code of each error response."""
        self._listeners = listeners_of(options)
        self._udp: dict[int, Endpoint] = {}
        self._tcp: list[Listener] = []
        self._streams: dict[int, ClientEnd] = {}
        self._connections: dict[int, PeerEnd] = {}
        self._core: ServerCore | None = None
        self._starts = 0
        self._watch = ConnectWatch(name)
        self._running = False
        self._timer: Timer | None = None
        self._timer_at: float | None = None

    # -- life ----------------------------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        return self._core is not None

    @property
    def in_use(self) -> list[str]:
        """What clients have here."""
        return [f"relay {each}" for each in self.relays] + [f"stream {each}" for each in self._streams]

    def start(self) -> None:
        """Listen, with an empty memory."""
        self._starts += 1
        self._watch = ConnectWatch(self.name)
        self._plug(up=True)
        self._core = ServerCore(
            self.options,
            self._listeners,
            rng=Random(f"{self.world.seed}/server/{self.name}/{self._starts}"),
            wall_clock=lambda: WALL + self.world.clock.now,
            trace=self._note,
        )
        for index, listener in enumerate(self._listeners):
            host, port = listener.address
            if listener.leg is Leg.UDP:
                self._udp[index] = self.host.bind_udp(host, (port, port), partial(self._datagram, index))
            else:
                local = self.host.listen(host, (port, port), partial(self._accepted, index))
                self._tcp.append(self.host.tcp.listeners[local])

    def stop(self, *, silently: bool = False) -> None:
        """The process ends and the system closes its sockets; ``silently``: the machine does, without a word."""
        self._core = None
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._timer_at = None
        ends = [*self._streams.values(), *self._connections.values()]
        for local in self._udp.values():
            self.host.close_udp(local)
        for listener in self._tcp:
            self.host.tcp.stop_listening(listener)
        for relay in self.relays.values():
            self._close_relay(relay)
        for socket in [end.socket for end in ends if end.socket is not None]:
            socket.abandon() if silently else socket.abort()
        for kept in (self._udp, self._streams, self._connections, self.relays, self._tcp):
            kept.clear()
        self._plug(up=not silently)

    def _plug(self, *, up: bool) -> None:
        for attachment in self.host.attachments.values():
            attachment.up = up

    def _note(self, _now: float, record: trace.Record) -> None:
        if self.world.observer is not None:
            self.world.note(self.name, f"  {words(record)}")
        match record:
            case trace.RequestRefused(method=method, code=code):
                self.refusals.append((method, code))
                self.world.events[f"server-refused {code}"] += 1
            case trace.MessageDropped(reason=reason):
                self.world.events[f"server-dropped {reason}"] += 1
            case trace.AllocationCreated(transport=transport):
                self.world.events[f"allocation {transport}"] += 1

    # -- from the network to the core ----------------------------------------------------------------------------

    def _datagram(self, listener: int, data: bytes, source: Endpoint, _origin: Origin | None) -> None:
        self._give(lambda core, now: core.datagram_received(listener, source, data, now))

    def _accepted(self, listener: int, socket: TcpSocket) -> None:
        core = self._core
        assert core is not None
        id_ = core.stream_accepted(listener, socket.remote, self.world.clock.now)
        if id_ is None:
            socket.abort()
        else:
            hello = Hello(self.certificate) if self._listeners[listener].leg is Leg.TLS else None
            socket.owner = self._streams[id_] = ClientEnd(self, socket, id_, hello)
        self._run()

    def stream_message(self, end: ClientEnd, message: bytes) -> None:
        self._watch.asked(end.id, message, self.world.clock.now)
        self._give(lambda core, now: core.stream_received(end.id, message, now))

    def stream_lost(self, end: ClientEnd) -> None:
        """The client's connection is closed."""
        if self._streams.pop(end.id, None) is None:
            return
        if isinstance(end.other, PeerEnd):
            self._connections.pop(end.other.id, None)
            end.other.close()
        self._give(lambda core, now: core.stream_closed(end.id, now))

    def peer_connected(self, end: PeerEnd) -> None:
        self.world.events["relay-connects"] += 1
        self._give(lambda core, now: core.peer_connected(end.id, now))

    def peer_failed(self, end: PeerEnd, failure: Failure) -> None:
        self._connections.pop(end.id, None)
        self._give(lambda core, now: core.peer_failed(end.id, failure.value, now))

    def spliced(self, client: ClientEnd, peer: PeerEnd) -> None:
        """Note which connection continues which."""
        assert client.socket is not None
        assert peer.socket is not None
        self.splices.append((connection_of(client.socket), connection_of(peer.socket)))

    def _peer_datagram(self, relay: int, data: bytes, source: Endpoint, origin: Origin | None) -> None:
        local = self.relays[relay]
        assert isinstance(local, Endpoint)
        if origin is not None:
            self.heard[local, source] = origin
        self._give(lambda core, now: core.peer_sent(relay, source, data, now))

    def _peer_accepted(self, relay: int, socket: TcpSocket) -> None:
        core = self._core
        assert core is not None
        id_ = core.peer_accepted(relay, socket.remote, self.world.clock.now)
        if id_ is None:
            self.world.events["relay-refuses-peer"] += 1
            socket.abort()
        else:
            self.world.events["relay-accepts"] += 1
            socket.owner = self._connections[id_] = PeerEnd(self, socket, id_)
        self._run()

    def _give(self, give: Callable[[ServerCore, float], None]) -> None:
        if self._core is not None:
            give(self._core, self.world.clock.now)
            self._run()

    # -- from the core to the network ----------------------------------------------------------------------------

    def _run(self) -> None:
        """Do what the core asks; what an action causes comes after it."""
        if self._running:
            return
        self._running = True
        try:
            while self._core is not None and (asked := self._core.actions()):
                for action in asked:
                    self._execute(action)
        finally:
            self._running = False
        self._arm()

    def _arm(self) -> None:
        at = self._core.next_timer() if self._core is not None else None
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = None if at is None else self.world.clock.at(at, self._expire)

    def _expire(self) -> None:
        self._timer = self._timer_at = None
        self._give(lambda core, now: core.timer_expired(now))

    def _execute(self, action: actions.Action) -> None:
        match action:
            case actions.SendDatagram(listener, remote, data):
                self.host.send_udp(self._udp[listener], Endpoint(*remote), data, listener, self.name)
            case actions.SendStream(stream, data, relayed):
                self._watch.answered(stream, data, self.world.clock.now)
                if stream in self._streams:
                    self._streams[stream].send(data, relayed=relayed)
            case actions.CloseStream(stream):
                if stream in self._streams:
                    self._streams[stream].close()
            case actions.OpenRelay(relay, transport, address):
                self._open_relay(relay, transport, address)
            case actions.CloseRelay(relay):
                self._close_relay(self.relays.pop(relay))
            case actions.SendPeer(relay, peer, data):
                local = self.relays[relay]
                assert isinstance(local, Endpoint)
                self.host.send_udp(local, Endpoint(*peer), data, relay, self.name)
            case actions.ConnectPeer(connection, relay, peer):
                self._connect_peer(connection, relay, peer)
            case actions.ClosePeer(connection):
                if connection in self._connections:
                    self._connections.pop(connection).close()
            case actions.Splice(stream, connection):
                if stream in self._streams:
                    self._streams[stream].splice(self._connections[connection])
            case actions.OpenRoute() | actions.CloseRoute():
                pass  # the core carries what comes by a channel, too
            case _:
                assert_never(action)

    def _open_relay(self, relay: int, transport: RelayTransport, address: Address) -> None:
        core, now, (host, port) = self._core, self.world.clock.now, address
        assert core is not None
        try:
            if transport is RelayTransport.UDP:
                self.relays[relay] = self.host.bind_udp(host, (port, port), partial(self._peer_datagram, relay))
            else:
                local = self.host.listen(host, (port, port), partial(self._peer_accepted, relay))
                self.relays[relay] = self.host.tcp.listeners[local]
        except BindError:
            core.relay_failed(relay, now)
        else:
            core.relay_opened(relay, now)

    def _close_relay(self, relay: Endpoint | Listener) -> None:
        if isinstance(relay, Endpoint):
            self.host.close_udp(relay)
        else:
            self.host.tcp.stop_listening(relay)

    def _connect_peer(self, connection: int, relay: int, peer: Address) -> None:
        listener = self.relays[relay]
        assert isinstance(listener, Listener)
        assert self._core is not None
        end = PeerEnd(self, None, connection)
        try:
            end.socket = self.host.tcp.connect(listener.local, Endpoint(*peer), end)
        except AddressTakenError:
            self._core.peer_failed(connection, "address taken", self.world.clock.now)
        else:
            self._connections[connection] = end


def relayed_by(servers: Sequence[SimServer], relayed: Endpoint) -> SimServer | None:
    """The server that has an open relay with this address."""
    for server in servers:
        for relay in server.relays.values():
            if relayed == (relay if isinstance(relay, Endpoint) else relay.local):
                return server
    return None
