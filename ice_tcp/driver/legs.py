"""Legs to STUN and TURN servers, each with the data path of what is relayed over it, around the core."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from candidates.candidate import TransportAddress
from candidates.policy.sections import Limits
from ice_tcp.core.commands import Failure, OpenLeg, TlsOptions
from ice_tcp.datapath import (
    Address,
    DatagramLegPath,
    LegMessage,
    Received,
    RelayedPeers,
    StreamLegPath,
    StreamPath,
    Traffic,
)
from ice_tcp.driver.ports import Component, Core, StreamPort
from ice_tcp.net.asyncio_net import Network
from ice_tcp.net.component import RelayRoute
from ice_tcp.net.datagrams import ConnectedSocket
from ice_tcp.net.listeners import Listener
from ice_tcp.net.sockets import SocketAddress, failure_text
from ice_tcp.net.streams import Connection

_TLS_RECORDS = (0x15, 0x16)
"""First bytes of an alert and of a handshake: how a TLS port answers what is no TLS."""


class LegOwner(Protocol):
    """What the legs call of the `Driver`."""

    @property
    def core(self) -> Core: ...

    def feed(self, method: Callable[..., object], *args: object) -> None:
        """Call an input of the core."""

    def end_leg(self, leg: Leg) -> None:
        """The leg's number is dead."""

    def close_connection(self, connection: Connection[Any]) -> bool:
        """Close it, after what waits was written; return whether that takes time, after which it is `gone`."""

    def gone(self, connection: Connection[Any]) -> None:
        """A closed connection has delivered all it could."""


class Leg(ABC):
    """What all legs have: the server, which the core hears, and peers behind it, whose data goes around the core."""

    __slots__ = ("_driver", "_inbox", "_peers", "_route", "component", "id")

    def __init__(self, driver: LegOwner, command: OpenLeg, component: Component, peers: RelayedPeers) -> None:
        self._driver = driver
        self._inbox = component.inbox
        self._peers = peers
        self._route: RelayRoute | None = None
        self.component = component
        self.id = command.leg

    @abstractmethod
    def send(self, message: bytes) -> None:
        """Send a message to the server, before waiting data."""

    @abstractmethod
    def close(self) -> None:
        """Close, after what waits was sent."""

    @abstractmethod
    def _send_data(self) -> Callable[[bytes], int]:
        """What sends a message of `RelayedPeer.wrap`, as `Route.send_data` does."""

    @abstractmethod
    def _discard(self) -> None:
        """Forget the data that waits to be sent."""

    def bind(self, peer: TransportAddress, number: int | None) -> None:
        self._peers.bind(_address(peer), number)

    def admit(self, peer: TransportAddress) -> None:
        self._offer(self._peers.admit(_address(peer)))

    def deliver(self, peer: TransportAddress, data: bytes) -> None:
        """Data of ``peer`` came inside a message of the server."""
        self._offer(self._peers.deliver(_address(peer), data))

    def route(self, peer: TransportAddress) -> RelayRoute:
        """The way to ``peer``, which is admitted by that."""
        self.admit(peer)
        admitted = self._peers.admitted(_address(peer))
        assert admitted is not None
        self._route = RelayRoute(admitted, self._send_data(), self._discard)
        return self._route

    def traffic(self, peer: TransportAddress) -> Traffic | None:
        admitted = self._peers.admitted(_address(peer))
        return admitted.traffic if admitted is not None else None

    @property
    def discarded(self) -> int:
        return self._peers.discarded

    def end(self) -> None:
        """Nothing more comes, and nothing more goes."""
        if self._route is not None and self.component.outlet.route is self._route:
            self.component.outlet.use(None)

    def _offer(self, data: list[bytes]) -> None:
        if data:
            self._inbox.offer(data)

    def _tell(self, messages: list[LegMessage]) -> None:
        """Let the core hear the messages."""
        core = self._driver.core
        for peer, message in messages:
            if peer is None:
                self._driver.feed(core.leg_received, self.id, message)
            else:
                self._driver.feed(core.relayed, self.id, TransportAddress(*peer), message)

    def _lost(self, failure: Failure, problem: str = "") -> None:
        """It is closed, and the core did not ask for it."""
        self._driver.end_leg(self)
        self._driver.feed(self._driver.core.leg_lost, self.id, failure, problem or failure_text(failure))


class DatagramLeg(Leg):
    """A leg over UDP or DTLS, with a socket of its own."""

    __slots__ = ("_path", "_wire", "socket")

    socket: ConnectedSocket

    def __init__(
        self,
        driver: LegOwner,
        command: OpenLeg,
        component: Component,
        limits: Limits,
        transaction_id: Callable[[], bytes],
    ) -> None:
        self._path = DatagramLegPath(early_limit=limits.early_bytes, transaction_id=transaction_id)
        self._wire = Traffic()  # of all peers, with headers
        super().__init__(driver, command, component, self._path.peers)

    def connect(self, network: Network, command: OpenLeg) -> None:
        """Raises NetworkError."""
        self.socket = network.connect_udp(command.host, command.remote, command.ports, self)
        self.socket.deliver_one = self.deliver_one
        self.secured()

    def connect_securely(self, network: Network, command: OpenLeg, tls: TlsOptions) -> None:
        """Raises NetworkError."""
        self.socket = network.connect_dtls(
            command.host, command.remote, command.timeout, self, ports=command.ports, tls=tls
        )

    # DtlsHandler

    def secured(self) -> None:
        self._driver.feed(self._driver.core.leg_opened, self.id, self.socket.address)

    def insecure(self, failure: Failure, problem: str) -> None:
        self._lost(failure, problem)

    def deliver_one(self, data: bytes, source: SocketAddress) -> bool:  # noqa: ARG002
        reader = self._inbox.reader
        message = self._path.receive_one(data) if reader.is_awaited else None
        return message is not None and reader.deliver(message)

    def datagrams_received(self, datagrams: list[bytes], source: SocketAddress, *, at_once: bool) -> None:  # noqa: ARG002
        messages, relayed = self._path.receive(datagrams)
        self._tell(messages)
        if relayed:
            self._inbox.offer(relayed, at_once=at_once)

    def datagram_refused(self) -> None:
        if self.socket.is_open:
            self.socket.close()
            self._lost(Failure.REFUSED, "nobody listens on that port")

    def writable(self) -> None:
        self.component.outlet.wake()

    # Leg

    def send(self, message: bytes) -> None:
        self.socket.send(message, self.socket.remote)

    def close(self) -> None:
        self.socket.close()
        self._driver.end_leg(self)

    def _send_data(self) -> Callable[[bytes], int]:
        return partial(self.socket.send_data, self.socket.remote, self._wire)

    def _discard(self) -> None:
        self.socket.discard(self.socket.remote)


class StreamLeg(Leg):
    """A leg over TCP or TLS."""

    __slots__ = ("_connection", "_is_telling", "_path")

    def __init__(
        self,
        driver: LegOwner,
        command: OpenLeg,
        component: Component,
        limits: Limits,
        transaction_id: Callable[[], bytes],
    ) -> None:
        self._path = StreamLegPath(
            early_limit=limits.early_bytes, send_limit=limits.send_bytes, transaction_id=transaction_id
        )
        super().__init__(driver, command, component, self._path.peers)
        self._connection: Connection[StreamLegPath] | None = None
        self._is_telling = False  # the core has yet to hear some messages

    def connect(self, network: Network, command: OpenLeg, listener: Listener | None, tls: TlsOptions | None) -> None:
        """Raises NetworkError."""
        self._connection = network.connect(
            command.host,
            command.remote,
            command.timeout,
            self._path,
            self,
            listener=listener,
            ports=command.ports,
            tls=tls,
        )

    # StreamHandler

    def stream_connected(self, connection: Connection[StreamLegPath]) -> None:
        self._path.admitted = True
        connection.deliver_one = self._inbox.reader.deliver
        self._driver.feed(self._driver.core.leg_opened, self.id, connection.local)

    def stream_received(self, connection: Connection[StreamLegPath], received: Received) -> None:  # noqa: ARG002
        self._take_in(received.data)

    def _take_in(self, data: list[bytes]) -> None:
        self._offer(data)
        if self._path.messages:
            if not self._is_telling:
                self._is_telling = True
                self._tell(self._path.messages)
                self._driver.feed(self._go_on)
        elif self._path.fault is not None and self._connection is not None:
            self._connection.abort()
            tls = self._path.first in _TLS_RECORDS
            self._lost(Failure.NOT_STUN, f"the port speaks {'TLS, without which we came' if tls else 'no STUN'}")

    def _go_on(self, now: float) -> None:  # noqa: ARG002
        """An input: the core has heard the messages, and what it commanded is done."""
        self._is_telling = False
        if self._connection is not None:
            self._take_in(self._path.resume())

    def stream_closed(self, connection: Connection[StreamLegPath]) -> None:
        connection.abort()
        unheard = self._path.first is None  # as a TLS server does to one that speaks plainly
        self._lost(Failure.CLOSED, f"the server closed the connection{' without an answer' if unheard else ''}")

    def stream_failed(self, connection: Connection[StreamLegPath], failure: Failure) -> None:
        self._lost(failure, connection.problem)

    def stream_writable(self, connection: Connection[StreamLegPath]) -> None:  # noqa: ARG002
        self.component.outlet.wake()

    def stream_gone(self, connection: Connection[StreamLegPath]) -> None:
        self._driver.gone(connection)

    # Leg

    def send(self, message: bytes) -> None:
        if self._connection is not None and self._path.admitted:
            self._connection.send_stun(message)

    def close(self) -> None:
        connection = self._connection
        self._driver.end_leg(self)
        if connection is not None:
            self._driver.close_connection(connection)

    def turn_into_stream(self, port: StreamPort, path: StreamPath) -> None:
        """The connection is ``port``'s from the next byte on, and what was read of it already is the first of it."""
        connection = self._connection
        self._driver.end_leg(self)
        if connection is not None:
            rest = self._path.detach()
            port.connection = connection.turn_into(path, port)
            if rest:
                port.stream_received(port.connection, path.receive(rest))

    def end(self) -> None:
        super().end()
        self._connection = None

    def _send_data(self) -> Callable[[bytes], int]:
        assert self._connection is not None
        return self._connection.send_data

    def _discard(self) -> None:
        """What was accepted for a connection is delivered, as on every other."""


def _address(peer: TransportAddress) -> Address:
    return peer.host, peer.port
