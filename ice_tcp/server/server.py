"""The embedded STUN and TURN server on asyncio: sockets around `ServerCore`."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from types import TracebackType
from typing import assert_never

from candidates.candidate import TransportAddress
from ice_tcp.net.listeners import Listener as Acceptor
from ice_tcp.net.sockets import NetworkError, bind_connector, bind_listener, bind_udp, prepare_stream
from ice_tcp.server.core import actions
from ice_tcp.server.core.actions import Address, Leg, RelayTransport
from ice_tcp.server.core.machine import ServerCore
from ice_tcp.server.core.trace import TraceSink
from ice_tcp.server.options import ServerOptions
from ice_tcp.server.ports import bind_listeners
from ice_tcp.server.stats import Relayed, ServerStats
from ice_tcp.server.streams import ClientStream, PeerConnection, StreamSink
from ice_tcp.server.udp import CAN_FORBID_FRAGMENTS, Route, Sink, UdpListener, UdpRelay, UdpSink

_CLOSE_TIMEOUT = 1.0
"""Seconds that closing a server waits for its connections to be gone."""


class Server:
    """A STUN and TURN server.

    Use it as ``async with Server(options) as server``; then ``server.address(Leg.UDP)`` is where clients send to.
    ``tls`` has the certificate, and is needed for ``options.tls_port``. ``trace`` hears what happens, as records of
    `ice_tcp.server.core.trace`.
    """

    def __init__(
        self, options: ServerOptions, *, tls: ssl.SSLContext | None = None, trace: TraceSink | None = None
    ) -> None:
        if options.tls_port is not None and tls is None:
            raise ValueError("tls_port needs a certificate")
        self.options = options
        self.listeners: tuple[actions.Listener, ...] = ()
        """Where clients reach it; known once it is started."""
        self._tls = tls
        self._trace = trace
        self._udp: dict[int, UdpListener] = {}
        self._acceptors: list[_ClientAcceptor] = []
        self._streams: dict[int, ClientStream] = {}
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._relays: dict[int, UdpRelay | _TcpRelay] = {}
        self._connections: dict[int, PeerConnection] = {}
        self._spliced: dict[int, int] = {}
        self._relayed = {transport: Relayed() for transport in RelayTransport}
        """By relays and connections that are closed."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._is_running = False
        self._is_closed = False

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen. Raises OSError or NetworkError if a port cannot be had."""
        self._loop = asyncio.get_running_loop()
        bound = bind_listeners(self.options)
        self.listeners = tuple(listener for listener, _ in bound)
        self._core = ServerCore(
            self.options,
            self.listeners,
            rng=random.SystemRandom(),
            wall_clock=time.time,
            can_forbid_fragments=CAN_FORBID_FRAGMENTS,
            trace=self._trace,
        )
        for index, (listener, sock) in enumerate(bound):
            if listener.leg is Leg.UDP:
                self._udp[index] = self._listen_udp(index, listener.address[0], sock)
            else:
                self._acceptors.append(_ClientAcceptor(self, index, listener.leg, listener.address[0], sock))

    def change(self, options: ServerOptions) -> tuple[str, ...]:
        """Heed other options from now on, once started; the names of those that need a restart, and are not heeded.

        Allocations live on, but not those of users who are gone, nor permissions for peers that may not be reached any
        more.
        """
        self.options, fixed = options.as_running(self.options)
        self._core.options_changed(self.options, self._loop.time())
        self.run()
        return fixed

    def address(self, leg: Leg, family: int = 4) -> Address:
        """The first address for clients of a leg and a family, 4 or 6. Raises LookupError if there is none."""
        for listener in self.listeners:
            if listener.leg is leg and (":" in listener.address[0]) is (family == 6):
                return listener.address
        raise LookupError(f"no {leg} listener for IPv{family}")

    def stats(self) -> ServerStats:
        """What it has now, and what it relayed since the start; once started."""
        relayed = {}
        for transport, over in self._relayed.items():
            relayed[transport.value] = total = Relayed()
            total.add(over)
        for relay in self._relays.values():
            if isinstance(relay, UdpRelay):
                relayed[RelayTransport.UDP].add(relay.relayed)
        for connection in self._connections.values():
            relayed[RelayTransport.TCP].add(connection.relayed)
        return ServerStats(self._core.allocation_count, len(self._streams), relayed)

    async def close(self) -> None:
        """Close all sockets, whatever waits."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for acceptor in self._acceptors:
            acceptor.close()
        for listener in self._udp.values():
            listener.close()
        tasks = list(self._opening.values())
        for task in tasks:
            task.cancel()
        for relay in self._relays.values():
            relay.close()
        for connection in self._connections.values():
            connection.close()
        ends = [stream.closed for stream in self._streams.values()]
        for stream in list(self._streams.values()):
            stream.abort()
        if pending := [*tasks, *ends]:
            await asyncio.wait(pending, timeout=_CLOSE_TIMEOUT)

    # From the network to the core

    def _listen_udp(self, index: int, host: str, sock: socket.socket) -> UdpListener:
        def received(source: Address, message: bytes) -> None:
            self._core.datagram_received(index, source, message, self._loop.time())
            self.run()

        return UdpListener(self._loop, sock, host, received)

    def client_accepted(self, listener: int, leg: Leg, sock: socket.socket, remote: TransportAddress) -> None:
        """A client connected."""
        stream = self._core.stream_accepted(listener, (remote.host, remote.port), self._loop.time())
        self.run()
        if stream is None:
            sock.close()
            return
        self._opening[stream] = self._loop.create_task(self._open_stream(stream, leg, sock))

    async def _open_stream(self, id_: int, leg: Leg, sock: socket.socket) -> None:
        options = self.options
        stream = ClientStream(
            self._loop, id_, self, send_limit=options.limits.send_bytes, last_channel=options.last_channel
        )
        tls = self._tls if leg is Leg.TLS else None
        self._streams[id_] = stream
        try:
            prepare_stream(sock)
            # A handshake that takes too long is ended by the core, which knows since when the connection is there.
            await self._loop.connect_accepted_socket(lambda: stream, sock, ssl=tls)
        except OSError:  # no TLS, or gone; ssl.SSLError is an OSError
            sock.close()
            self.stream_lost(id_)
        finally:
            self._opening.pop(id_, None)

    def stream_message(self, stream: int, message: bytes) -> None:
        self._core.stream_received(stream, message, self._loop.time())
        self.run()

    def stream_lost(self, stream: int) -> None:
        """The client's connection is closed."""
        if self._streams.pop(stream, None) is None:
            return
        connection = self._connections.pop(self._spliced.pop(stream, -1), None)
        if connection is not None:
            self._close_connection(connection)
        if not self._is_closed:
            self._core.stream_closed(stream, self._loop.time())
            self.run()

    def peer_accepted(self, relay: int, sock: socket.socket, remote: TransportAddress) -> None:
        """A peer connected to a TCP relay."""
        connection = self._core.peer_accepted(relay, (remote.host, remote.port), self._loop.time())
        if connection is None:
            sock.close()
        else:
            prepare_stream(sock)
            self._connections[connection] = PeerConnection(self._loop, sock)
        self.run()

    # From the core to the network

    def run(self) -> None:
        """Do what the core asks, and set its timer."""
        if self._is_running:
            return  # an action brought new input; the actions that it causes come after this one
        self._is_running = True
        try:
            while asked := self._core.actions():
                for action in asked:
                    self._execute(action)
        finally:
            self._is_running = False
        self._arm()

    def _arm(self) -> None:
        at = self._core.next_timer()
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = None if at is None else self._loop.call_at(at, self._expire)

    def _expire(self) -> None:
        self._timer = self._timer_at = None
        self._core.timer_expired(self._loop.time())
        self.run()

    def _execute(self, action: actions.Action) -> None:
        match action:
            case actions.SendPeer(relay, peer, data, dont_fragment):
                self._udp_relay(relay).send(data, peer, dont_fragment=dont_fragment)
            case actions.SendDatagram(listener, remote, data):
                self._udp[listener].send(data, remote)
            case actions.SendStream(stream, data, relayed):
                if stream in self._streams:
                    self._streams[stream].send(data, relayed=relayed)
            case actions.OpenRelay(relay, transport, address):
                self._open_relay(relay, transport, address)
            case actions.CloseRelay(relay):
                self._close_relay(relay)
            case actions.OpenRoute(client, number, relay, peer):
                self._open_route(client, number, self._udp_relay(relay), peer)
            case actions.CloseRoute(client, number, relay, peer):
                self._close_route(client, number, self._udp_relay(relay), peer)
            case actions.CloseStream(stream):
                self._close_stream(stream)
            case actions.ConnectPeer(connection, relay, peer):
                self._connect_peer(connection, relay, peer)
            case actions.ClosePeer(connection):
                if connection in self._connections:
                    self._close_connection(self._connections.pop(connection))
            case actions.Splice(stream, connection):
                if stream in self._streams:
                    self._spliced[stream] = connection
                    self._connections[connection].splice(self._streams[stream])
            case _:
                assert_never(action)

    def _close_relay(self, id_: int) -> None:
        relay = self._relays.pop(id_)
        if isinstance(relay, UdpRelay):
            self._relayed[RelayTransport.UDP].add(relay.relayed)
        relay.close()

    def _close_connection(self, connection: PeerConnection) -> None:
        self._relayed[RelayTransport.TCP].add(connection.relayed)
        connection.close()

    def _close_stream(self, id_: int) -> None:
        if id_ in self._opening:
            self._opening[id_].cancel()
            self._loop.call_soon(self.stream_lost, id_)
        elif id_ in self._streams:
            self._streams[id_].close()

    # Relays

    def _udp_relay(self, id_: int) -> UdpRelay:
        relay = self._relays[id_]
        assert isinstance(relay, UdpRelay)
        return relay

    def _open_relay(self, id_: int, transport: RelayTransport, address: Address) -> None:
        host, port = address
        try:
            if transport is RelayTransport.UDP:
                self._relays[id_] = self._bind_udp_relay(id_, host, bind_udp(host, (port, port)))
            else:
                self._relays[id_] = _TcpRelay(self, id_, host, bind_listener(host, (port, port)))
        except NetworkError:
            self._core.relay_failed(id_, self._loop.time())
        else:
            self._core.relay_opened(id_, self._loop.time())

    def _bind_udp_relay(self, id_: int, host: str, sock: socket.socket) -> UdpRelay:
        def received(peer: Address, payload: bytes) -> None:
            self._core.peer_sent(id_, peer, payload, self._loop.time())
            self.run()

        return UdpRelay(self._loop, sock, host, self.options.limits.send_bytes, received)

    def _open_route(self, client: actions.Client, number: int, relay: UdpRelay, peer: Address) -> None:
        remote = relay.socket_address(peer)
        route = Route(relay, remote)
        sink: Sink
        if client.stream is None:
            listener = self._udp[client.listener]
            source = listener.socket_address(client.address)
            listener.open_route(source, number, route)
            sink = UdpSink(listener, source, number)
        else:
            stream = self._streams[client.stream]
            stream.open_route(number, route)
            sink = StreamSink(stream, number)
        relay.open_route(remote, sink)

    def _close_route(self, client: actions.Client, number: int, relay: UdpRelay, peer: Address) -> None:
        relay.close_route(relay.socket_address(peer))
        if client.stream is None:
            listener = self._udp[client.listener]
            listener.close_route(listener.socket_address(client.address), number)
        elif client.stream in self._streams:
            self._streams[client.stream].close_route(number)

    def _connect_peer(self, id_: int, relay: int, peer: Address) -> None:
        tcp = self._relays[relay]
        assert isinstance(tcp, _TcpRelay)
        try:
            sock = bind_connector(tcp.host, tcp.acceptor.sock)
        except NetworkError as error:
            self._core.peer_failed(id_, str(error), self._loop.time())
            return
        prepare_stream(sock)
        connection = self._connections[id_] = PeerConnection(self._loop, sock)
        connection.connect(peer, lambda why: self._peer_connected(id_, why))

    def _peer_connected(self, id_: int, why: str | None) -> None:
        if why is None:
            self._core.peer_connected(id_, self._loop.time())
        else:
            self._close_connection(self._connections.pop(id_))
            self._core.peer_failed(id_, why, self._loop.time())
        self.run()


class _ClientAcceptor:
    """A TCP or TLS listener."""

    def __init__(self, server: Server, index: int, leg: Leg, host: str, sock: socket.socket) -> None:
        self._server = server
        self._index = index
        self._leg = leg
        self._acceptor = Acceptor(asyncio.get_running_loop(), sock, host, self)

    def accepted(self, _: Acceptor, sock: socket.socket, remote: TransportAddress) -> None:
        self._server.client_accepted(self._index, self._leg, sock, remote)

    def close(self) -> None:
        self._acceptor.close()


class _TcpRelay:
    """A relayed TCP address: it listens, and connections to peers leave from its port (RFC 6062)."""

    def __init__(self, server: Server, id_: int, host: str, sock: socket.socket) -> None:
        self.host = host
        self._server = server
        self._id = id_
        self.acceptor = Acceptor(asyncio.get_running_loop(), sock, host, self)

    def accepted(self, _: Acceptor, sock: socket.socket, remote: TransportAddress) -> None:
        self._server.peer_accepted(self._id, sock, remote)

    def close(self) -> None:
        self.acceptor.close()
