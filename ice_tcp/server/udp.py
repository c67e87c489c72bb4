"""The UDP sockets of a server: listeners, which all clients share, and relays, one an address that peers see.

Channels with an open route go straight from one to the other, without the core: this is where the time goes.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from ice_tcp.datapath import Traffic
from ice_tcp.net.datagrams import MAX_DATAGRAM_BYTES, DatagramSocket
from ice_tcp.net.sockets import SocketAddress, scope_of
from ice_tcp.server.core.actions import Address
from ice_tcp.server.stats import Relayed

LISTENER_SEND_BYTES = 4 * 1024 * 1024
"""What may wait in a listener for the kernel to take it, of all clients."""

_HEADER_BYTES = 4

# linux/in.h, linux/in6.h; the socket module does not name them.
_MTU_DISCOVER = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
_PMTUDISC_DONT, _PMTUDISC_DO = 0, 2

CAN_FORBID_FRAGMENTS = sys.platform == "linux"
"""Whether `UdpRelay.send` can set the DF bit."""

_NO_ROUTES: dict[bytes, Route] = {}


class Sink(Protocol):
    """Where the datagrams of a peer with a channel go."""

    def deliver(self, payload: bytes) -> None: ...


class Route:
    """Where the ChannelData of one channel goes."""

    __slots__ = ("_send",)

    def __init__(self, relay: UdpRelay, peer: SocketAddress) -> None:
        self._send = relay.sender(peer)

    def forward(self, message: bytes) -> None:
        """Send the payload of a ChannelData message, unless it is cut short (RFC 8656 s12.6)."""
        if len(message) >= _HEADER_BYTES:
            end = _HEADER_BYTES + (message[2] << 8 | message[3])
            if end <= len(message):
                self._send(message[_HEADER_BYTES:end])


class UdpSink:
    """A client behind a UDP listener."""

    __slots__ = ("_channel", "_send")

    def __init__(self, listener: UdpListener, client: SocketAddress, number: int) -> None:
        self._send = listener.sender(client)
        self._channel = number.to_bytes(2, "big")

    def deliver(self, payload: bytes) -> None:
        message = self._channel + len(payload).to_bytes(2, "big") + payload
        if len(message) <= MAX_DATAGRAM_BYTES:
            self._send(message)


class UdpListener:
    """A UDP socket that clients send to. ``received(source, message)`` hears what no route takes."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        host: str,
        received: Callable[[Address, bytes], None],
    ) -> None:
        self._routes: dict[SocketAddress, dict[bytes, Route]] = {}
        self._received = received
        self._scope = scope_of(sock)
        self._traffic = Traffic()
        self._socket = DatagramSocket(loop, sock, host, LISTENER_SEND_BYTES, self)

    def socket_address(self, address: Address) -> SocketAddress:
        return _socket_address(address, self._scope)

    def sender(self, client: SocketAddress) -> Callable[[bytes], object]:
        """What sends to one client."""
        return partial(self._socket.send_data, client, self._traffic)

    def send(self, message: bytes, client: Address) -> None:
        """Send a message, or lose it."""
        if len(message) <= MAX_DATAGRAM_BYTES:
            self._socket.send_data(self.socket_address(client), self._traffic, message)

    def close(self) -> None:
        self._socket.close()

    def open_route(self, client: SocketAddress, number: int, route: Route) -> None:
        self._routes.setdefault(client, {})[number.to_bytes(2, "big")] = route

    def close_route(self, client: SocketAddress, number: int) -> None:
        routes = self._routes[client]
        del routes[number.to_bytes(2, "big")]
        if not routes:
            del self._routes[client]

    def datagrams_received(self, datagrams: list[bytes], source: SocketAddress, *, at_once: bool) -> None:  # noqa: ARG002
        for data in datagrams:
            route = self._routes.get(source, _NO_ROUTES).get(data[:2])
            if route is not None:
                route.forward(data)
            else:
                self._received(_address(source), data)

    def writable(self) -> None:
        """What was dropped is gone."""


class UdpRelay:
    """A relayed transport address. ``received(peer, payload)`` hears what no route takes."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        host: str,
        send_limit: int,
        received: Callable[[Address, bytes], None],
    ) -> None:
        self._sinks: dict[SocketAddress, Sink] = {}
        self._received = received
        self._scope = scope_of(sock)
        self._sock = sock
        # RFC 8656 s14: the DF bit is copied from what came in, or else 0; never the system's own idea.
        with suppress(OSError):
            self._discover_mtu(_PMTUDISC_DONT)
        self._traffic = Traffic()
        self._socket = DatagramSocket(loop, sock, host, send_limit, self)

    def socket_address(self, address: Address) -> SocketAddress:
        return _socket_address(address, self._scope)

    def sender(self, peer: SocketAddress) -> Callable[[bytes], object]:
        """What sends to one peer."""
        return partial(self._socket.send_data, peer, self._traffic)

    def open_route(self, peer: SocketAddress, sink: Sink) -> None:
        self._sinks[peer] = sink

    def close_route(self, peer: SocketAddress) -> None:
        del self._sinks[peer]

    def send(self, payload: bytes, peer: Address, *, dont_fragment: bool) -> None:
        """Send a datagram, or lose it: with the DF bit if it is longer than the path's MTU."""
        if len(payload) > MAX_DATAGRAM_BYTES:
            return
        remote = self.socket_address(peer)
        if not dont_fragment:
            self._socket.send_data(remote, self._traffic, payload)
            return
        with suppress(OSError):
            self._discover_mtu(_PMTUDISC_DO)
            try:
                self._socket.send(payload, remote)
                self._traffic.packets_sent += 1
                self._traffic.bytes_sent += len(payload)
            finally:
                self._discover_mtu(_PMTUDISC_DONT)

    @property
    def relayed(self) -> Relayed:
        """What went through it so far."""
        traffic = self._traffic
        return Relayed(traffic.bytes_sent, traffic.bytes_received, traffic.packets_sent, traffic.packets_received)

    def datagrams_received(self, datagrams: list[bytes], source: SocketAddress, *, at_once: bool) -> None:  # noqa: ARG002
        self._traffic.packets_received += len(datagrams)
        self._traffic.bytes_received += sum(map(len, datagrams))
        for data in datagrams:
            sink = self._sinks.get(source)
            if sink is not None:
                sink.deliver(data)
            else:
                self._received(_address(source), data)

    def writable(self) -> None:
        """What was dropped is gone."""

    def close(self) -> None:
        self._socket.close()

    def _discover_mtu(self, how: int) -> None:
        self._sock.setsockopt(*_MTU_DISCOVER[self._sock.family], how)


def _address(source: SocketAddress) -> Address:
    return source[0].partition("%")[0], source[1]


def _socket_address(address: Address, scope: int) -> SocketAddress:
    """As the kernel tells it of what it received, so that it can be looked up."""
    host, port = address
    if ":" not in host:
        return address
    return host, port, 0, scope if host.startswith("fe80:") else 0
