"""The pump between the core and the network, and the fast path of application data around the core.

What the network or the application does becomes an input of the core; the core's commands are executed in their
order, then its events told, then one timer is armed. Application data never enters the core.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar, assert_never

from candidates.candidate import TcpType, Transport, TransportAddress
from candidates.policy import Policy
from candidates.policy.sections import Limits
from ice_tcp.capsule import Capsule, RecordingAgent
from ice_tcp.core.agent import Agent
from ice_tcp.core.commands import (
    Admit,
    BindChannel,
    Close,
    Command,
    Connect,
    Deliver,
    Failure,
    LegId,
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
    SocketId,
    StreamId,
    TcpPath,
    TlsOptions,
    TurnIntoStream,
    UdpPath,
    Use,
)
from ice_tcp.core.events import Event, Role
from ice_tcp.core.pacing import Pacer
from ice_tcp.core.trace import TraceSink
from ice_tcp.datapath import StreamPath, Traffic
from ice_tcp.driver.legs import DatagramLeg, Leg, StreamLeg
from ice_tcp.driver.ports import Component, Core, DatagramPort, ListenerPort, StreamPort
from ice_tcp.driver.queries import Queries
from ice_tcp.net.asyncio_net import Network
from ice_tcp.net.component import Route
from ice_tcp.net.platform import CAN_SHARE_PORTS, check_loop
from ice_tcp.net.precise import PreciseTimer, precise_timers
from ice_tcp.net.resolve import Resolver
from ice_tcp.net.sockets import NetworkError
from ice_tcp.net.streams import Connection, PeerConnection

T = TypeVar("T")

logger = logging.getLogger(__name__)

_CARRIERS: Final = {UdpPath: "udp", TcpPath: "tcp", RelayPath: "relay"}
PACER = Pacer()
"""Shared by all agents of the process (RFC 8445 s14.2)."""


def open_session(
    role: Role,
    policy: Policy,
    *,
    rng: random.Random,
    components: int,
    trace: TraceSink | None,
    on_event: Callable[[Event], None],
    credentials: tuple[str, str] | None = None,
    awaits_end: bool = False,
    capsule: Capsule | None = None,
) -> tuple[Agent, Driver]:
    """A core and its driver on the running event loop, without what the system cannot do.

    Raises RuntimeError if there is no loop, or one that will not do.
    """
    check_loop(asyncio.get_running_loop())
    policy = possible(policy)
    make = Agent if capsule is None else partial(RecordingAgent, capsule=capsule)
    core = make(
        role,
        policy,
        rng=rng,
        pacer=PACER,
        components=components,
        trace=trace,
        credentials=credentials,
        awaits_end=awaits_end,
    )
    return core, Driver(core, components=components, limits=policy.limits, rng=rng, on_event=on_event)


def possible(policy: Policy) -> Policy:
    """The policy without what this system cannot do. Raises RuntimeError if that is all that it wants of TCP."""
    if CAN_SHARE_PORTS or TcpType.SO not in policy.tcp_types or Transport.TCP not in policy.transports:
        return policy
    kept = [each for each in policy.tcp_types if each is not TcpType.SO]
    if not kept:
        raise RuntimeError("tcp_types has only so, and this system cannot share a port (SO_REUSEPORT)")
    logger.warning("simultaneous-open candidates are left out: this system cannot share a port (SO_REUSEPORT)")
    return policy.revised(tcp_types=kept)


class Driver:
    """Runs one core on the running event loop, with ``components`` numbered from 1.

    ``on_event`` hears every event of the core; it must not call the driver. Call the core's inputs through `call`.
    ``resolver`` finds servers by their names; None: as the system does.
    """

    __slots__ = (
        "_admitted",
        "_clock",
        "_closing",
        "_core",
        "_inputs",
        "_legs",
        "_limits",
        "_lingering",
        "_listeners",
        "_loop",
        "_network",
        "_on_event",
        "_precise",
        "_pumping",
        "_queries",
        "_sockets",
        "_something_gone",
        "_streams",
        "_timer",
        "_timer_at",
        "_transaction_id",
        "components",
    )

    def __init__(
        self,
        core: Core,
        *,
        components: int,
        limits: Limits,
        rng: random.Random,
        on_event: Callable[[Event], None],
        resolver: Resolver | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._core = core
        self._limits = limits
        self._on_event = on_event
        self._transaction_id = partial(rng.randbytes, 12)
        self._network = Network(self._loop, rng, limits.send_bytes)
        self._sockets: dict[SocketId, DatagramPort] = {}
        self._listeners: dict[ListenerId, ListenerPort] = {}
        self._streams: dict[StreamId, StreamPort] = {}
        self._legs: dict[LegId, Leg] = {}
        self._queries = Queries(self, resolver or Resolver())
        self._admitted: dict[Path, Traffic] = {}
        self._lingering: dict[Connection[Any], None] = {}
        self._something_gone: asyncio.Event | None = None
        self._inputs: list[tuple[Callable[..., object], tuple[Any, ...]]] = []  # seldom more than one
        self._pumping = False
        self._closing = False
        self._clock = 0.0
        self._timer: PreciseTimer | asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._precise = precise_timers(self._loop)
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
                method, args = self._inputs.pop(0)
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
        # The loop's clock, without uvloop's rounding to a millisecond, which the pace of 5 ms would feel.
        self._clock = max(self._clock, time.monotonic())
        return self._clock

    def _arm(self) -> None:
        """See to it that the core hears of its next instant; a timer that fires early costs less than two."""
        at = self._core.next_timer()
        if at is not None and self._timer_at is not None and at >= self._timer_at:
            return
        before = self._timer
        self._timer_at = at
        self._timer = None if at is None else self._call_at(at)
        if before is not None:
            before.cancel()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, None

    def _call_at(self, at: float) -> PreciseTimer | asyncio.TimerHandle:
        if self._precise is not None:
            with suppress(OSError):  # no descriptor left
                return self._precise.call_at(at, self._expire)
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
            case SendLeg(leg, data):
                if leg in self._legs:
                    self._legs[leg].send(data)
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
            case OpenLeg():
                self._open_leg(command)
            case BindChannel(leg, peer, number):
                if leg in self._legs:
                    self._legs[leg].bind(peer, number)
            case Deliver(path, data):
                if path.leg in self._legs:
                    self._legs[path.leg].deliver(path.remote, data)
            case TurnIntoStream(leg, stream):
                self._turn_into_stream(leg, stream)
            case Resolve(query, uri):
                self._queries.begin(query, uri)
            case Close(handle):
                self._close(handle)
            case _:
                assert_never(command)

    def _open_udp(self, command: OpenUdp) -> None:
        port = DatagramPort(self, command.socket, self.components[command.component], self._limits)
        try:
            port.socket = self._network.open_udp(command.host, command.ports, port)
            port.socket.deliver_one = port.deliver_one
        except NetworkError as error:
            self.feed(self._core.socket_failed, command.socket, error.failure)
        else:
            self._sockets[command.socket] = port
            self.feed(self._core.socket_opened, command.socket, port.socket.address)

    def _listen(self, command: Listen) -> None:
        port = ListenerPort(self, command, self.components[command.component])
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
                listener=shared.listener if shared is not None else None,
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

    def _open_leg(self, command: OpenLeg) -> None:
        try:
            if command.transport.reliable:
                self._open_stream_leg(command)
            else:
                self._open_datagram_leg(command)
        except NetworkError as error:
            self._legs.pop(command.leg, None)
            self.feed(self._core.leg_lost, command.leg, error.failure, error.text)

    def _open_datagram_leg(self, command: OpenLeg) -> None:
        leg = DatagramLeg(self, command, self.components[command.component], self._limits, self._transaction_id)
        self._legs[command.leg] = leg
        tls = _tls(command)
        if tls is not None:
            leg.connect_securely(self._network, command, tls)
        else:
            leg.connect(self._network, command)

    def _open_stream_leg(self, command: OpenLeg) -> None:
        shared = self._listeners.get(command.listener) if command.listener is not None else None
        if command.listener is not None and shared is None:
            raise NetworkError(Failure.ADDRESS_UNAVAILABLE)
        leg = StreamLeg(self, command, self.components[command.component], self._limits, self._transaction_id)
        self._legs[command.leg] = leg
        leg.connect(self._network, command, shared.listener if shared is not None else None, _tls(command))

    def _turn_into_stream(self, number: LegId, stream: StreamId) -> None:
        leg = self._legs.get(number)
        if isinstance(leg, StreamLeg):
            port = self._streams[stream] = StreamPort(self, stream, leg.component)
            leg.turn_into_stream(port, self._stream_path())

    def _stream_path(self) -> StreamPath:
        return StreamPath(early_limit=self._limits.early_bytes, send_limit=self._limits.send_bytes)

    def _admit(self, path: Path) -> None:
        self._let_in(path)
        traffic = self.traffic(path)
        if traffic is not None:
            self._admitted[path] = traffic

    def _let_in(self, path: Path) -> None:
        match path:
            case TcpPath(stream) if stream in self._streams:
                self._streams[stream].admit()
            case UdpPath(sock, remote) if sock in self._sockets:
                self._sockets[sock].admit(remote)
            case RelayPath(leg, remote) if leg in self._legs:
                self._legs[leg].admit(remote)

    def _route(self, path: Path | None) -> Route | None:
        match path:
            case TcpPath(stream) if stream in self._streams:
                return self._streams[stream].connection
            case UdpPath(sock, remote) if sock in self._sockets:
                return self._sockets[sock].route(remote)
            case RelayPath(leg, remote) if leg in self._legs:
                return self._legs[leg].route(remote)
        return None

    def _close(self, handle: int) -> None:
        sock = self._sockets.pop(SocketId(handle), None)
        listener = self._listeners.pop(ListenerId(handle), None)
        stream = self._streams.get(StreamId(handle))
        leg = self._legs.get(LegId(handle))
        if sock is not None:
            sock.component.discarded += sock.path.discarded
            sock.close()
        if listener is not None:
            listener.listener.close()
        if stream is not None:
            self.end_stream(stream, None if self._closing else ConnectionAbortedError("the path was given up"))
            self._close_stream(stream)
        if leg is not None:
            leg.close()
        self._queries.give_up(QueryId(handle))

    def _close_stream(self, port: StreamPort) -> None:
        if port.connection is not None and not self.close_connection(port.connection):
            port.end(None)

    # What the ports and legs tell

    def end_stream(self, port: StreamPort, error: Exception | None) -> None:
        """The stream's id is dead from now on."""
        self._streams.pop(port.id, None)
        port.end(error)

    def finish_stream(self, port: StreamPort) -> None:
        """The application closed its byte stream, and all of it was written: close the connection under the core."""
        if self._streams.pop(port.id, None) is port:
            self._close_stream(port)
            self.feed(self._core.stream_closed, port.id)

    def end_leg(self, leg: Leg) -> None:
        """The leg's number is dead from now on."""
        if self._legs.pop(leg.id, None) is not None:
            leg.component.discarded += leg.discarded
        self._tell_closer()
        leg.end()

    def close_connection(self, connection: Connection[Any]) -> bool:
        """Close it, after what waits was written; return whether that takes time, after which it is `gone`."""
        self._lingering[connection] = None
        if connection.close():
            return True
        self._lingering.pop(connection, None)
        return False

    def gone(self, connection: Connection[Any]) -> None:
        """A closed connection has delivered all it could."""
        self._lingering.pop(connection, None)
        self._tell_closer()

    def _tell_closer(self) -> None:
        if self._something_gone is not None:
            self._something_gone.set()

    @property
    def core(self) -> Core:
        return self._core

    # The application

    def tcp_path(self, component: int) -> tuple[StreamPort, PeerConnection]:
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
            case RelayPath(leg, remote) if leg in self._legs:
                return self._legs[leg].traffic(remote)
        return None

    def carried(self) -> dict[str, Traffic]:
        """The application data of all paths there were, by ``udp``, ``tcp`` or ``relay``."""
        total: dict[str, Traffic] = {}
        for path, traffic in self._admitted.items():
            total.setdefault(_CARRIERS[type(path)], Traffic()).add(traffic)
        return total

    def discarded(self, component: int) -> int:
        """Datagrams of a component that were dropped: from unknown sources, or too many for the application."""
        owner = self.components[component]
        unknown = sum(port.path.discarded for port in self._sockets.values() if port.component is owner)
        relayed = sum(leg.discarded for leg in self._legs.values() if leg.component is owner)
        return unknown + relayed + owner.discarded + owner.inbox.discarded

    async def close(self) -> None:
        """Close the core and everything it opened; what was sent before is delivered as far as possible.

        Allocations are deleted first, which the core awaits for two seconds at most. Cancelled, it closes at once.
        """
        self._closing = True
        self.call(self._core.close)
        try:
            await self._queries.end()
            while self._lingering or self._legs:
                self._something_gone = self._something_gone or asyncio.Event()
                self._something_gone.clear()
                await self._something_gone.wait()
        finally:
            for leg in list(self._legs.values()):
                leg.close()
            for connection in list(self._lingering):
                connection.abort()
            self._disarm()


def _tls(command: OpenLeg) -> TlsOptions | None:
    return (command.tls or TlsOptions(command.remote.host)) if command.transport.secure else None
