"""The pump between the core and the network, and the fast path of application data around the core.

What the network or the application does becomes an input of the core; the core's commands are executed in their
order, then its events told, then one timer is armed. Application data never enters the core.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar, assert_never

from candidates.candidate import TransportAddress
from candidates.policy import Policy
from candidates.policy.sections import Limits
from ice_tcp.core.agent import Agent
from ice_tcp.core.commands import (
    Admit,
    Close,
    Command,
    Connect,
    Failure,
    Listen,
    ListenerId,
    OpenUdp,
    Path,
    SendDatagram,
    SendStream,
    SocketId,
    StreamId,
    TcpPath,
    UdpPath,
    Use,
)
from ice_tcp.core.events import Event, Role
from ice_tcp.core.pacing import Pacer
from ice_tcp.core.trace import TraceSink
from ice_tcp.datapath import DatagramPath, Received, StreamPath, Traffic
from ice_tcp.net.asyncio_net import Network
from ice_tcp.net.component import DatagramRoute, Inbox, Outlet, Route
from ice_tcp.net.datagrams import DatagramSocket
from ice_tcp.net.precise import PreciseTimer, precise_timers
from ice_tcp.net.sockets import NetworkError, SocketAddress, transport_address
from ice_tcp.net.streams import Connection, Listener, refuse_one

T = TypeVar("T")

PACER = Pacer()
"""Shared by all agents of the process (RFC 8445 s14.2)."""

STUN_WINDOW = 512 * 1024
"""Bytes read of a connection, whose application does not read, for each STUN message that we send on it.

So that consent finds its answers behind a slow reader; `Inbox.is_overfull` bounds the sum.
"""


def open_session(
    role: Role,
    policy: Policy,
    *,
    rng: random.Random,
    components: int,
    trace: TraceSink | None,
    on_event: Callable[[Event], None],
) -> tuple[Agent, Driver]:
    """A core and its driver on the running event loop. Raises RuntimeError if there is no loop."""
    core = Agent(role, policy, rng=rng, pacer=PACER, components=components, trace=trace)
    return core, Driver(core, components=components, limits=policy.limits, rng=rng, on_event=on_event)


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


class Component:
    """The application data of one component, in and out."""

    __slots__ = ("_paused", "inbox", "outlet")

    def __init__(self, limits: Limits) -> None:
        self.inbox = Inbox(limits.receive_bytes, self._resume)
        self.outlet = Outlet()
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


class Driver:
    """Runs one core on the running event loop, with ``components`` numbered from 1.

    ``on_event`` hears every event of the core; it must not call the driver. Call the core's inputs through `call`.
    """

    def __init__(
        self, core: Core, *, components: int, limits: Limits, rng: random.Random, on_event: Callable[[Event], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._core = core
        self._limits = limits
        self._on_event = on_event
        self._network = Network(self._loop, rng, limits.send_bytes)
        self._sockets: dict[SocketId, DatagramPort] = {}
        self._listeners: dict[ListenerId, ListenerPort] = {}
        self._streams: dict[StreamId, StreamPort] = {}
        self._lingering: dict[Connection, None] = {}
        self._all_gone: asyncio.Future[None] | None = None
        self._inputs: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._pumping = False
        self._closing = False
        self._clock = 0.0
        self._timer: PreciseTimer | asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self.components = {number: Component(limits) for number in range(1, components + 1)}

    # The pump

    def call(self, method: Callable[..., T], *args: object) -> T:
        """Call an input of the core for the application, which hears what it raises."""
        self._pumping = True
        try:
            return method(*args, self._now())
        finally:
            self._pump()

    def feed(self, method: Callable[..., object], *args: object) -> None:
        """Call an input of the core for the network; after the present one, if it comes while one is worked on."""
        self._inputs.append((method, args))
        if not self._pumping:
            self._pump()

    def _pump(self) -> None:
        self._pumping = True
        try:
            self._drain()
            while self._inputs:
                method, args = self._inputs.popleft()
                method(*args, self._now())
                self._drain()
        finally:
            self._pumping = False
            self._arm()

    def _drain(self) -> None:
        while commands := self._core.commands():
            for command in commands:
                self._execute(command)
        for event in self._core.events():
            self._on_event(event)

    def _now(self) -> float:
        # Never backwards, though a timer may fire within the clock's resolution before its instant.
        self._clock = max(self._clock, self._loop.time())
        return self._clock

    def _arm(self) -> None:
        at = self._core.next_timer()
        if at == self._timer_at:
            return
        before = self._timer
        self._timer_at = at
        self._timer = None if at is None else self._call_at(at)
        if before is not None:
            before.cancel()

    def _call_at(self, at: float) -> PreciseTimer | asyncio.TimerHandle:
        timers = precise_timers(self._loop)
        if timers is not None:
            with suppress(OSError):  # no descriptor left
                return timers.call_at(at, self._expire)
        return self._loop.call_at(at, self._expire)

    def _expire(self) -> None:
        at, self._timer, self._timer_at = self._timer_at, None, None
        self._clock = max(self._clock, at or 0.0)
        self.feed(self._core.timer_expired)

    # Commands

    def _execute(self, command: Command) -> None:
        match command:
            case SendStream(stream, data):
                if stream in self._streams:
                    self._streams[stream].send_stun(data)
            case SendDatagram(sock, remote, data):
                if sock in self._sockets:
                    self._sockets[sock].send_stun(data, remote)
            case Admit(path):
                self._admit(path)
            case Use(component, path):
                self.components[component].outlet.use(self._route(path))
            case OpenUdp():
                self._open_udp(command)
            case Listen():
                self._listen(command)
            case Connect():
                self._connect(command)
            case Close(handle):
                self._close(handle)
            case _:
                assert_never(command)

    def _open_udp(self, command: OpenUdp) -> None:
        port = DatagramPort(self, command.socket, self.components[command.component], self._limits)
        try:
            port.socket = self._network.open_udp(command.host, command.ports, port)
        except NetworkError as error:
            self.feed(self._core.socket_failed, command.socket, error.failure)
        else:
            self._sockets[command.socket] = port
            self.feed(self._core.socket_opened, command.socket, port.socket.address)

    def _listen(self, command: Listen) -> None:
        port = ListenerPort(self, command)
        try:
            listener = self._network.listen(command.host, command.ports, port)
        except NetworkError as error:
            self.feed(self._core.socket_failed, command.listener, error.failure)
        else:
            port.listener = listener
            self._listeners[command.listener] = port
            self.feed(self._core.socket_opened, command.listener, listener.address)

    def _connect(self, command: Connect) -> None:
        shared = self._listeners.get(command.listener) if command.listener is not None else None
        if command.listener is not None and shared is None:
            self.feed(self._core.stream_failed, command.stream, Failure.ADDRESS_UNAVAILABLE)
            return
        port = StreamPort(self, command.stream, self.components[command.component])
        self._streams[command.stream] = port
        try:
            port.connection = self._network.connect(
                command.host,
                command.remote,
                command.timeout,
                self._stream_path(),
                port,
                shared.listener if shared is not None else None,
            )
        except NetworkError as error:
            self.end_stream(port, None)
            self.feed(self._core.stream_failed, command.stream, error.failure)

    def accept(self, port: ListenerPort, sock: socket.socket, remote: TransportAddress, now: float) -> None:
        """An input: a listener accepted a connection."""
        stream = self._core.stream_accepted(port.id, remote, now) if port.id in self._listeners else None
        if stream is None:
            sock.close()
            return
        accepted = StreamPort(self, stream, port.component)
        try:
            accepted.connection = self._network.accept(sock, remote, port.host, self._stream_path(), accepted)
        except NetworkError as error:
            self.feed(self._core.stream_failed, stream, error.failure)
        else:
            self._streams[stream] = accepted

    def _stream_path(self) -> StreamPath:
        return StreamPath(early_limit=self._limits.early_bytes, send_limit=self._limits.send_bytes)

    def _admit(self, path: Path) -> None:
        match path:
            case TcpPath(stream) if stream in self._streams:
                self._streams[stream].admit()
            case UdpPath(sock, remote) if sock in self._sockets:
                self._sockets[sock].admit(remote)

    def _route(self, path: Path | None) -> Route | None:
        match path:
            case TcpPath(stream) if stream in self._streams:
                return self._streams[stream].connection
            case UdpPath(sock, remote) if sock in self._sockets:
                return self._sockets[sock].route(remote)
        return None

    def _close(self, handle: int) -> None:
        sock = self._sockets.pop(SocketId(handle), None)
        listener = self._listeners.pop(ListenerId(handle), None)
        stream = self._streams.get(StreamId(handle))
        if sock is not None:
            sock.close()
        if listener is not None:
            listener.listener.close()
        if stream is not None:
            self.end_stream(stream, None if self._closing else ConnectionAbortedError("the path was given up"))
            self._close_connection(stream)

    def _close_connection(self, port: StreamPort) -> None:
        connection = port.connection
        if connection is not None:
            self._lingering[connection] = None
            if not connection.close():
                self._lingering.pop(connection, None)
                port.end(None)

    # What the ports tell

    def end_stream(self, port: StreamPort, error: Exception | None) -> None:
        """The stream's id is dead from now on."""
        self._streams.pop(port.id, None)
        port.end(error)

    def finish_stream(self, port: StreamPort) -> None:
        """The application closed its byte stream, and all of it was written: close the connection under the core."""
        if self._streams.pop(port.id, None) is port:
            self._close_connection(port)
            self.feed(self._core.stream_closed, port.id)

    def gone(self, connection: Connection) -> None:
        """A closed connection has delivered all it could."""
        self._lingering.pop(connection, None)
        if not self._lingering and self._all_gone is not None and not self._all_gone.done():
            self._all_gone.set_result(None)

    @property
    def core(self) -> Core:
        return self._core

    # The application

    def tcp_path(self, component: int) -> tuple[StreamPort, Connection]:
        """The connection that the component's data is sent on. Raises ValueError if it is not sent over TCP."""
        route = self.components[component].outlet.route
        for port in self._streams.values():
            if port.connection is not None and port.connection is route:
                return port, port.connection
        raise ValueError("a byte stream needs a TCP path, and the selected one is not")

    def traffic(self, path: Path) -> Traffic | None:
        """The application data that a path carried; None if there is no such path any more."""
        match path:
            case TcpPath(stream) if stream in self._streams:
                connection = self._streams[stream].connection
                return connection.path.traffic if connection is not None else None
            case UdpPath(sock, remote) if sock in self._sockets:
                return self._sockets[sock].traffic(remote)
        return None

    def discarded(self, component: int) -> int:
        """Datagrams of a component that were dropped: from unknown sources, or too many for the application."""
        owner = self.components[component]
        unknown = sum(port.path.discarded for port in self._sockets.values() if port.component is owner)
        return unknown + owner.inbox.discarded

    async def close(self) -> None:
        """Close the core and everything it opened; what was sent before is delivered as far as possible.

        Cancelled, it closes at once.
        """
        self._closing = True
        self.call(self._core.close)
        try:
            if self._lingering:
                self._all_gone = self._loop.create_future()
                await self._all_gone
        finally:
            for connection in list(self._lingering):
                connection.abort()


class DatagramPort:
    """A UDP socket of the core's."""

    __slots__ = ("_driver", "_id", "component", "path", "socket")

    socket: DatagramSocket

    def __init__(self, driver: Driver, number: SocketId, component: Component, limits: Limits) -> None:
        self._driver = driver
        self._id = number
        self.component = component
        self.path = DatagramPath(early_limit=limits.early_bytes)

    def datagram_received(self, data: bytes, source: SocketAddress) -> None:
        if not self.path.receive_one(data, source):
            self.datagrams_received(data, source, 0)
        elif not self.component.inbox.offer_one(data):
            self.component.inbox.discarded += 1

    def datagrams_received(self, data: bytes, source: SocketAddress, segment: int) -> None:
        stun, messages = self.path.receive(data, source, segment)
        if messages:
            self.component.inbox.offer(messages)
        for message in stun:
            self._driver.feed(self._driver.core.datagram_received, self._id, transport_address(source), message)

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

    def __init__(self, driver: Driver, command: Listen) -> None:
        self._driver = driver
        self.id = command.listener
        self.host = command.host
        self.component = driver.components[command.component]

    def accepted(self, listener: Listener, sock: socket.socket, remote: TransportAddress) -> None:  # noqa: ARG002
        self._driver.feed(self._driver.accept, self, sock, remote)


class StreamPort:
    """A connection of the core's, opened or accepted."""

    __slots__ = ("_component", "_driver", "_finishing", "_stream", "_window", "connection", "id")

    def __init__(self, driver: Driver, number: StreamId, component: Component) -> None:
        self._driver = driver
        self._component = component
        self._stream: ByteStream | None = None
        self._finishing = False
        self._window = 0
        self.id = number
        self.connection: Connection | None = None

    # StreamHandler

    def stream_connected(self, connection: Connection) -> None:
        self._driver.feed(self._driver.core.stream_connected, self.id, connection.local)

    def stream_received(self, connection: Connection, received: Received) -> None:
        stun, data = received
        if data:
            self._deliver(connection, data)
        for message in stun:
            self._driver.feed(self._driver.core.stream_received, self.id, message)
        if not connection.path.admitted:
            self._driver.feed(self._examine, connection)

    def stream_closed(self, connection: Connection) -> None:
        connection.abort()
        self._driver.end_stream(self, None)
        self._driver.feed(self._driver.core.stream_closed, self.id)

    def stream_failed(self, connection: Connection, failure: Failure) -> None:  # noqa: ARG002
        self._driver.end_stream(self, ConnectionResetError(f"the path was lost: {failure.value}"))
        self._driver.feed(self._driver.core.stream_failed, self.id, failure)

    def stream_writable(self, connection: Connection) -> None:
        if self._stream is not None:
            self._stream.writable()
            if self._finishing and not connection.path.pending:
                self._driver.finish_stream(self)
        else:
            self._component.outlet.wake()

    def stream_gone(self, connection: Connection) -> None:
        self.end(None)
        self._driver.gone(connection)

    # Data

    def _deliver(self, connection: Connection, data: list[bytes]) -> None:
        sink = self._stream or self._component.inbox
        sink.put(data)
        if sink.is_full:
            self._window -= sum(map(len, data))
            if self._window <= 0 or sink.is_overfull:
                connection.pause_reading()
                self._component.paused(self)

    def _examine(self, connection: Connection, now: float) -> None:
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
                self.connection.deliver_one = self._component.inbox.offer_one
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
