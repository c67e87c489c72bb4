"""What an agent asks of the network, on an asyncio event loop.

The sockets are watched with ``loop.add_reader``: asyncio's transports read one datagram a loop iteration, and
through a buffer whose allocation costs more than the system call. Works with uvloop as well.
"""

from __future__ import annotations

import asyncio
import random
import socket
from dataclasses import dataclass

from candidates.candidate import TransportAddress
from ice_tcp.core.commands import PortRange
from ice_tcp.datapath import StreamPath
from ice_tcp.net.datagrams import DatagramHandler, DatagramSocket
from ice_tcp.net.sockets import bind_connector, bind_listener, bind_udp, prepare_stream
from ice_tcp.net.streams import Connection, Listener, ListenerHandler, StreamHandler


@dataclass(frozen=True, slots=True)
class Network:
    """Opens sockets on ``loop``; ``rng`` chooses ports within a range, ``send_limit`` bounds what waits for one."""

    loop: asyncio.AbstractEventLoop
    rng: random.Random
    send_limit: int

    def open_udp(self, host: str, ports: PortRange | None, handler: DatagramHandler) -> DatagramSocket:
        """Bind a UDP socket. Raises NetworkError."""
        return DatagramSocket(self.loop, bind_udp(host, ports, self.rng), host, self.send_limit, handler)

    def listen(self, host: str, ports: PortRange | None, handler: ListenerHandler) -> Listener:
        """Listen on a TCP port that `connect` may share. Raises NetworkError."""
        return Listener(self.loop, bind_listener(host, ports, self.rng), host, handler)

    def connect(
        self,
        host: str,
        remote: TransportAddress,
        timeout: float,
        path: StreamPath,
        handler: StreamHandler,
        listener: Listener | None = None,
    ) -> Connection:
        """Open a connection, from the port of ``listener`` if given; the handler hears how it went.

        Raises NetworkError if there is no socket for it.
        """
        sock = bind_connector(host, listener.sock if listener else None)
        connection = self._connection(sock, host, path, handler)
        connection.connect(remote, timeout)
        return connection

    def accept(
        self, sock: socket.socket, remote: TransportAddress, host: str, path: StreamPath, handler: StreamHandler
    ) -> Connection:
        """Make a connection of a socket that a listener of ``host`` accepted; it reads at once."""
        connection = self._connection(sock, host, path, handler)
        connection.remote = remote
        connection.start()
        return connection

    def _connection(self, sock: socket.socket, host: str, path: StreamPath, handler: StreamHandler) -> Connection:
        prepare_stream(sock)
        return Connection(self.loop, sock, host, path, handler)
