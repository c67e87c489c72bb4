"""What the core has open, each with the data path of its application data around the core."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from candidates.candidate import TransportAddress
from candidates.policy.sections import Limits
from ice_tcp.core.commands import (
    Command,
    Failure,
    LegId,
    Listen,
    ListenerId,
    QueryId,
    ServerEndpoint,
    SocketId,
    StreamId,
)
from ice_tcp.core.events import Event
from ice_tcp.datapath import DatagramPath, Received, Traffic
from ice_tcp.net.component import DatagramRoute, Inbox, Outlet
from ice_tcp.net.datagrams import DatagramSocket
from ice_tcp.net.listeners import Listener
from ice_tcp.net.sockets import NetworkError, SocketAddress, transport_address
from ice_tcp.net.streams import Connection, PeerConnection, refuse_one

STUN_WINDOW = 512 * 1024
"""Bytes read of a connection, whose application does not read, for each STUN message that we send on it.

So that consent finds its answers behind a slow reader; `Inbox.is_overfull` bounds the sum.
"""


class Core(Protocol):
    """What the driver calls of ``ice_tcp.core.agent.Agent``."""

    def socket_opened(self, handle: SocketId | ListenerId, address: TransportAddress, now: float) -> None: ...
    def socket_failed(self, handle: SocketId | ListenerId, failure: Failure, now: float) -> None: ...
    def datagram_received(self, socket: SocketId, source: TransportAddress, data: bytes, now: float) -> None: ...
    def stream_connected(self, stream: StreamId, local: TransportAddress, now: float) -> None: ...
    def stream_accepted(self, listener: ListenerId, remote: TransportAddress, now: float) -> StreamId | None: ...
    def stream_received(self, stream: StreamId, data: bytes, now: float) -> None: ...
    def stream_closed(self, stream: StreamId, now: float) -> None: ...
    def stream_failed(self, stream: StreamId, failure: Failure, now: float) -> None: ...
    def resolved(self, query: QueryId, endpoints: Sequence[ServerEndpoint], now: float) -> None: ...
    def resolve_failed(self, query: QueryId, text: str, now: float) -> None: ...
    def leg_opened(self, leg: LegId, local: TransportAddress, now: float) -> None: ...
    def leg_received(self, leg: LegId, message: bytes, now: float) -> None: ...
    def leg_lost(self, leg: LegId, failure: Failure, text: str, now: float) -> None: ...
    def relayed(self, leg: LegId, peer: TransportAddress, data: bytes, now: float) -> None: ...
    def timer_expired(self, now: float) -> None: ...
    def close(self, now: float) -> None: ...
    def commands(self) -> list[Command]: ...
    def events(self) -> list[Event]: ...
    def next_timer(self) -> float | None: ...


class ByteStream(Protocol):
    """Takes the data of one connection instead of the component's inbox."""

    @property
    def is_full(self) -> bool: ...

    @property
    def is_overfull(self) -> bool: ...

    def put(self, messages: list[bytes]) -> None: ...

    def writable(self) -> None:
        """Less waits to be written than before."""

    def ended(self, error: Exception | None) -> None:
        """The connection is gone; None: it was closed in good order."""


class Owner(Protocol):
    """What the ports call of the `Driver`."""

    @property
    def core(self) -> Core: ...

    def feed(self, method: Callable[..., object], *args: object) -> None:
        """Call an input of the core."""

    def accept(self, port: ListenerPort, sock: socket.socket, remote: TransportAddress, now: float) -> None:
        """An input: a listener accepted a connection."""

    def end_stream(self, port: StreamPort, error: Exception | None) -> None:
        """The stream's id is dead."""

    def finish_stream(self, port: StreamPort) -> None:
        """The application closed its byte stream, and all of it was written."""

    def gone(self, connection: Connection[Any]) -> None:
        """A closed connection has delivered all it could."""


class Component:
    """The application data of one component, in and out."""

    __slots__ = ("_paused", "discarded", "inbox", "outlet")

    def __init__(self, limits: Limits) -> None:
        self.inbox = Inbox(limits.receive_bytes, self._resume)
        self.outlet = Outlet()
        self.discarded = 0
        """Datagrams that sockets and legs dropped which are gone."""
        self._paused: set[StreamPort] = set()

    def paused(self, port: StreamPort) -> None:
        """``port`` waits until the application has read."""
        self._paused.add(port)

    def forget(self, port: StreamPort) -> None:
        self._paused.discard(port)

    def _resume(self) -> None:
        for port in self._paused:
            port.resume()
        self._paused.clear()


class DatagramPort:
    """A UDP socket of the core's."""

    __slots__ = ("_driver", "_id", "component", "path", "socket")

    socket: DatagramSocket

    def __init__(self, driver: Owner, number: SocketId, component: Component, limits: Limits) -> None:
        self._driver = driver
        self._id = number
        self.component = component
        self.path = DatagramPath(early_limit=limits.early_bytes)

    def deliver_one(self, data: bytes, source: SocketAddress) -> bool:
        reader = self.component.inbox.reader
        return reader.is_awaited and self.path.receive_one(data, source) and reader.deliver(data)

    def datagrams_received(self, datagrams: list[bytes], source: SocketAddress, *, at_once: bool) -> None:
        stun, messages = self.path.receive(datagrams, source)
        for message in stun:
            self._driver.feed(self._driver.core.datagram_received, self._id, transport_address(source), message)
        if messages:
            self.component.inbox.offer(messages, at_once=at_once)

    def writable(self) -> None:
        self.component.outlet.wake()

    def send_stun(self, message: bytes, remote: TransportAddress) -> None:
        try:
            self.socket.send(message, self.socket.socket_address(remote))
        except NetworkError:
            return  # an address that no socket can reach; the check gets no response

    def admit(self, remote: TransportAddress) -> None:
        early = self.path.admit(self.socket.socket_address(remote))
        if early:
            self.component.inbox.offer(early)

    def route(self, remote: TransportAddress) -> DatagramRoute:
        address = self.socket.socket_address(remote)
        if self.path.traffic(address) is None:
            self.admit(remote)
        return DatagramRoute(self.socket, address, self.path.traffic(address) or Traffic())

    def traffic(self, remote: TransportAddress) -> Traffic | None:
        return self.path.traffic(self.socket.socket_address(remote))

    def close(self) -> None:
        self.socket.close()


class ListenerPort:
    """A listener of the core's."""

    __slots__ = ("_driver", "component", "host", "id", "listener")

    listener: Listener

    def __init__(self, driver: Owner, command: Listen, component: Component) -> None:
        self._driver = driver
        self.id = command.listener
        self.host = command.host
        self.component = component

    def accepted(self, listener: Listener, sock: socket.socket, remote: TransportAddress) -> None:  # noqa: ARG002
        self._driver.feed(self._driver.accept, self, sock, remote)


class StreamPort:
    """A connection of the core's, opened or accepted."""

    __slots__ = ("_component", "_driver", "_finishing", "_stream", "_window", "connection", "id")

    def __init__(self, driver: Owner, number: StreamId, component: Component) -> None:
        self._driver = driver
        self._component = component
        self._stream: ByteStream | None = None
        self._finishing = False
        self._window = 0
        self.id = number
        self.connection: PeerConnection | None = None

    # StreamHandler

    def stream_connected(self, connection: PeerConnection) -> None:
        self._driver.feed(self._driver.core.stream_connected, self.id, connection.local)

    def stream_received(self, connection: PeerConnection, received: Received) -> None:
        stun, data = received
        if data:
            self._deliver(connection, data)
        for message in stun:
            self._driver.feed(self._driver.core.stream_received, self.id, message)
        if not connection.path.admitted:
            self._driver.feed(self._examine, connection)

    def stream_closed(self, connection: PeerConnection) -> None:
        connection.abort()
        self._driver.end_stream(self, None)
        self._driver.feed(self._driver.core.stream_closed, self.id)

    def stream_failed(self, connection: PeerConnection, failure: Failure) -> None:  # noqa: ARG002
        self._driver.end_stream(self, ConnectionResetError(f"the path was lost: {failure.value}"))
        self._driver.feed(self._driver.core.stream_failed, self.id, failure)

    def stream_writable(self, connection: PeerConnection) -> None:
        if self._stream is not None:
            self._stream.writable()
            if self._finishing and not connection.path.pending:
                self._driver.finish_stream(self)
        else:
            self._component.outlet.wake()

    def stream_gone(self, connection: PeerConnection) -> None:
        self.end(None)
        self._driver.gone(connection)

    # Data

    def _deliver(self, connection: PeerConnection, data: list[bytes]) -> None:
        sink = self._stream or self._component.inbox
        sink.put(data)
        if sink.is_full:
            self._window -= sum(map(len, data))
            if self._window <= 0 or sink.is_overfull:
                connection.pause_reading()
                self._component.paused(self)

    def _examine(self, connection: PeerConnection, now: float) -> None:
        """An input: the core has seen the STUN of what was received; may the rest stay?"""
        fault = connection.path.fault
        if fault is not None and connection.is_open:
            connection.abort()
            self._driver.end_stream(self, None)
            self._driver.core.stream_failed(self.id, Failure(fault.value), now)

    def send_stun(self, message: bytes) -> None:
        connection = self.connection
        if connection is None:
            return
        connection.send_stun(message)
        sink = self._stream or self._component.inbox
        if sink.is_full and not sink.is_overfull:
            self._window = STUN_WINDOW
            connection.resume_reading()

    def admit(self) -> None:
        if self.connection is not None:
            if self._stream is None:
                self.connection.deliver_one = self._component.inbox.reader.deliver
            early = self.connection.path.admit()
            if early:
                self._deliver(self.connection, early)

    def resume(self) -> None:
        """The application has read."""
        if self.connection is not None:
            self.connection.resume_reading()

    # The byte stream

    def pin(self, stream: ByteStream) -> None:
        """Give the data of this connection to ``stream`` from now on, with what came before and was not taken.

        Raises RuntimeError if it is pinned already.
        """
        if self._stream is not None:
            raise RuntimeError("the component's connection is a byte stream already")
        self._stream = stream
        if self.connection is not None:
            self.connection.deliver_one = refuse_one
        earlier = self._component.inbox.take_all()
        if earlier:
            stream.put(earlier)
        self._component.forget(self)
        self.resume()

    def finish(self) -> None:
        """Close the connection once everything is written; until then the core keeps consent on it."""
        self._finishing = True
        if self.connection is not None and not self.connection.path.pending:
            self._driver.finish_stream(self)

    def abort(self) -> None:
        """Close the connection at once, and tell the core."""
        if self.connection is not None and self.connection.is_open:
            self.connection.abort()
            self._driver.end_stream(self, None)
            self._driver.feed(self._driver.core.stream_closed, self.id)

    def end(self, error: Exception | None) -> None:
        """Nothing more comes, and nothing more goes."""
        self._component.forget(self)
        if self.connection is not None and self._component.outlet.route is self.connection:
            self._component.outlet.use(None)
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.ended(error)
