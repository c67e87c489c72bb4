"""What an agent asks of the network, on an asyncio event loop.

The sockets are watched with ``loop.add_reader``: asyncio's transports read one datagram a loop iteration, and
through a buffer whose allocation costs more than the system call. Works with uvloop as well.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from candidates.candidate import TransportAddress
from ice_tcp.core.commands import Failure, PortRange, TlsOptions
from ice_tcp.datapath import StreamPath
from ice_tcp.net.datagrams import ConnectedHandler, ConnectedSocket, DatagramHandler, DatagramSocket
from ice_tcp.net.listeners import Listener, ListenerHandler
from ice_tcp.net.sockets import (
    NetworkError,
    SocketAddress,
    bind_connector,
    bind_listener,
    bind_udp,
    check_families,
    failure_of,
    prepare_stream,
    scope_of,
    socket_address,
)
from ice_tcp.net.streams import Connection, P, PeerConnection, StreamHandler
from ice_tcp.net.tls import SecureConnection, TlsLayer, tls_context

if TYPE_CHECKING:
    from ice_tcp.net.dtls import DtlsHandler, DtlsSocket


@dataclass(frozen=True, slots=True)
class Network:
    """Opens sockets on ``loop``; ``rng`` chooses ports within a range, ``send_limit`` bounds what waits for one."""

    loop: asyncio.AbstractEventLoop
    rng: random.Random
    send_limit: int

    def open_udp(self, host: str, ports: PortRange | None, handler: DatagramHandler) -> DatagramSocket:
        """Bind a UDP socket. Raises NetworkError."""
        return DatagramSocket(self.loop, bind_udp(host, ports, self.rng), host, self.send_limit, handler)

    def connect_udp(
        self, host: str, remote: TransportAddress, ports: PortRange | None, handler: ConnectedHandler
    ) -> ConnectedSocket:
        """Bind a UDP socket that talks to ``remote`` only. Raises NetworkError."""
        with self._towards(host, remote, ports) as (sock, address):
            return ConnectedSocket(self.loop, sock, host, address, self.send_limit, handler)

    def connect_dtls(
        self,
        host: str,
        remote: TransportAddress,
        timeout: float,
        handler: DtlsHandler,
        *,
        ports: PortRange | None = None,
        tls: TlsOptions,
    ) -> DtlsSocket:
        """As `connect_udp`, with DTLS; the handler hears how the handshake went. Raises NetworkError."""
        try:
            from ice_tcp.net.dtls import DtlsSocket
        except ImportError:
            raise NetworkError(Failure.TLS, "DTLS needs the extra: pip install 'ice-tcp[dtls]'") from None
        with self._towards(host, remote, ports) as (sock, address):
            return DtlsSocket(self.loop, sock, host, address, self.send_limit, handler, tls=tls, timeout=timeout)

    @contextmanager
    def _towards(
        self, host: str, remote: TransportAddress, ports: PortRange | None
    ) -> Iterator[tuple[socket.socket, SocketAddress]]:
        """A UDP socket and the address to connect it to; closed if that fails, with NetworkError."""
        check_families(host, remote)
        sock = bind_udp(host, ports, self.rng)
        try:
            yield sock, socket_address(remote, scope_of(sock))
        except OSError as error:
            sock.close()
            raise NetworkError(failure_of(error.errno)) from None
        except NetworkError:
            sock.close()
            raise

    def listen(self, host: str, ports: PortRange | None, handler: ListenerHandler) -> Listener:
        """Listen on a TCP port that `connect` may share. Raises NetworkError."""
        return Listener(self.loop, bind_listener(host, ports, self.rng), host, handler)

    def connect(
        self,
        host: str,
        remote: TransportAddress,
        timeout: float,
        path: P,
        handler: StreamHandler[P],
        *,
        listener: Listener | None = None,
        ports: PortRange | None = None,
        tls: TlsOptions | None = None,
    ) -> Connection[P]:
        """Open a connection from the port of ``listener`` if given, else from one of ``ports`` (any if None).

        The handler hears how it went; with ``tls``, after the handshake. Raises NetworkError if there is no socket
        for it, or if TLS cannot begin.
        """
        check_families(host, remote)
        context = tls_context(tls.verify, tls.ca_file) if tls is not None else None
        sock = bind_connector(host, listener.sock if listener else None, ports, self.rng)
        prepare_stream(sock)
        connection: Connection[P]
        if tls is not None and context is not None:
            try:
                layer = TlsLayer(sock, context, tls.server_name)
            except NetworkError:
                sock.close()
                raise
            connection = SecureConnection(self.loop, sock, host, path, handler, layer)
        else:
            connection = Connection(self.loop, sock, host, path, handler)
        connection.connect(remote, timeout)
        return connection

    def accept(
        self,
        sock: socket.socket,
        remote: TransportAddress,
        host: str,
        path: StreamPath,
        handler: StreamHandler[StreamPath],
    ) -> PeerConnection:
        """Make a connection of a socket that a listener of ``host`` accepted; it reads at once."""
        prepare_stream(sock)
        connection = Connection(self.loop, sock, host, path, handler)
        connection.remote = remote
        connection.start()
        return connection
