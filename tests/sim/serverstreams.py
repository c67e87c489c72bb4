"""The TCP connections of a simulated server: with clients, and with the peers of TCP relays (RFC 6062)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ice_tcp.core.commands import Failure
from ice_tcp.framing import FramingError, ServerStreamSplitter
from tests.sim.tcp import TcpSocket
from tests.sim.tls import Hello

if TYPE_CHECKING:
    from tests.sim.server import SimServer

CLOSE_TIMEOUT = 5.0
"""Seconds that what waits may take before a connection is reset that is being closed."""
PIPE_BYTES = 64 * 1024
"""What waits for one end of a pipe before no more is read from the other."""


class _End:
    """One connection (a TcpOwner); what comes in on a piped one goes out on the other, at that one's pace."""

    def __init__(self, server: SimServer, socket: TcpSocket | None) -> None:
        self.server = server
        self.socket = socket
        self.other: _End | None = None
        self.closed = False
        self._closing = False
        self._waiting = bytearray()

    @property
    def waiting(self) -> int:
        """Bytes to be written."""
        return len(self._waiting)

    def write(self, data: bytes) -> None:
        if not self.closed and not self._closing:
            self._waiting += data
            self._pump()

    def _pump(self) -> None:
        if self.socket is None:
            return
        taken = self.socket.write(bytes(self._waiting[: self.socket.room]))
        del self._waiting[:taken]
        if self._closing and not self._waiting:
            self._shut()

    def pipe(self) -> None:
        """Carry what waits to be read to the other end, unless too much waits there."""
        if self.closed or self._closing or self.other is None or self.socket is None:
            return
        while self.other.waiting < PIPE_BYTES and (chunk := self.socket.read(PIPE_BYTES)):
            self.other.write(chunk)
        if self.socket.at_end:
            self.lost()

    def close(self) -> None:
        """Close after what waits was written."""
        if self.closed or self._closing:
            return
        self._closing = True
        self._pump()
        self.server.world.clock.after(CLOSE_TIMEOUT, self._give_up)

    def _give_up(self) -> None:
        if not self.closed and self.socket is not None:
            self.socket.abort()
            self._shut()

    def _shut(self) -> None:
        self.closed = True
        if self.socket is not None:
            self.socket.close()

    def abort(self) -> None:
        """Reset the connection."""
        self.closed = True
        if self.socket is not None:
            self.socket.abort()

    def lost(self) -> None:
        """The far end closed, or broke: so does the other end of the pipe."""
        if not self.closed:
            self._shut()
        if self.other is not None:
            self.other.close()

    # -- the socket's calls

    def tcp_connected(self) -> None:
        """Only connections to peers are opened from here."""

    def tcp_readable(self) -> None:
        self.pipe()

    def tcp_writable(self) -> None:
        if not self.closed:
            self._pump()
            if self.other is not None:
                self.other.pipe()

    def tcp_failed(self, failure: Failure) -> None:
        self.closed = True
        self.lost()


class ClientEnd(_End):
    """A client's connection: a TLS handshake if ``hello`` is given, then messages, and bytes once it is spliced."""

    def __init__(self, server: SimServer, socket: TcpSocket, id_: int, hello: Hello | None) -> None:
        super().__init__(server, socket)
        self.id = id_
        self._hello = hello
        self._splitter = ServerStreamSplitter(last_channel=server.options.last_channel)

    def send(self, message: bytes, *, relayed: bool) -> None:
        """Send a message; of a client that does not read relayed data is dropped, and then the client."""
        limit = self.server.options.limits.send_bytes
        if self.waiting >= limit and (relayed or self.waiting >= 2 * limit):
            if not relayed:
                self.abort()
                self.server.stream_lost(self)
            return
        self.write(message)

    def tcp_readable(self) -> None:
        if self.other is not None:
            self.pipe()
        elif self.socket is not None and not self.closed and not self._closing:
            self._split(self.socket.read(1 << 20))
            if not self.closed and self.other is None and self.socket.at_end:
                self.lost()

    def _split(self, chunk: bytes) -> None:
        if self._hello is not None and not self._hello.done:
            answer, chunk = self._hello.take(chunk)
            self.write(answer)
            if self._hello.failed:
                self.abort()
                self.server.stream_lost(self)
                return
        self._splitter.append(chunk)
        try:
            while self.other is None and not self.closed and (message := self._splitter.take()) is not None:
                self.server.stream_message(self, message)
        except FramingError:
            self.abort()
            self.server.stream_lost(self)

    def splice(self, peer: PeerEnd) -> None:
        """Whatever follows the last message is the peer's, and what the peer said already is the client's."""
        self.other, peer.other = peer, self
        self.server.spliced(self, peer)
        peer.write(self._splitter.detach())
        self.pipe()
        peer.pipe()
        if peer.closed:  # it went before the client came
            self.close()

    def _shut(self) -> None:
        super()._shut()
        self.server.stream_lost(self)

    def tcp_failed(self, failure: Failure) -> None:
        super().tcp_failed(failure)
        self.server.stream_lost(self)


class PeerEnd(_End):
    """A connection with a peer, whose bytes wait in the kernel until it is spliced."""

    def __init__(self, server: SimServer, socket: TcpSocket | None, id_: int) -> None:
        super().__init__(server, socket)
        self.id = id_
        self._connected = socket is not None

    def tcp_connected(self) -> None:
        self._connected = True
        self.server.peer_connected(self)

    def tcp_failed(self, failure: Failure) -> None:
        super().tcp_failed(failure)
        if not self._connected:
            self.server.peer_failed(self, failure)
