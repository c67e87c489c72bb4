"""The connections of a server: with clients, over TCP or TLS, and with the peers of TCP relays (RFC 6062)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

from ice_tcp.framing import FramingError, ServerStreamSplitter
from ice_tcp.net.platform import KEEPALIVE
from ice_tcp.net.sockets import SocketAddress
from ice_tcp.server.stats import Relayed
from ice_tcp.server.udp import Route

CLOSE_TIMEOUT = 5.0
"""Seconds that a connection which is being closed may take to deliver what it was given."""

_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *((socket.IPPROTO_TCP, option, value) for option, value in KEEPALIVE),
)
"""A data connection has no other sign of life (RFC 6062 s4.6)."""


class Pipe(asyncio.Protocol):
    """One end of what may be two spliced connections: what comes in here goes out there, at the pace of that end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._other: Pipe | None = None
        self._ended = False  # the far end sent FIN
        self._abort: asyncio.TimerHandle | None = None
        self.bytes_in = self.bytes_out = 0
        """While it is spliced."""
        self.closed = loop.create_future()

    def join(self, other: Pipe) -> None:
        """Carry every byte from now on; both call it."""
        self._other = other

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        with suppress(OSError):  # reset already: we shall hear
            for level, option, value in _KEEPALIVE:
                sock.setsockopt(level, option, value)

    def data_received(self, data: bytes) -> None:
        if self._other is not None:
            self.bytes_in += len(data)
            self._other.write(data)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self.bytes_out += len(data)
            self._transport.write(data)

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other.pause()

    def resume_writing(self) -> None:
        if self._other is not None:
            self._other.resume()

    def pause(self) -> None:
        """Read no more until `resume`: the far end is slowed down."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """Pass a FIN on; the other direction may go on, if both ends are TCP."""
        self._ended = True
        return self._other is not None and self._other.finish(self)

    def finish(self, other: Pipe) -> bool:
        """Nothing more comes from ``other``: say so. False if it shall close now."""
        transport = self._transport
        if transport is None or self._ended or not transport.can_write_eof() or not other.can_half_close():
            return False
        transport.write_eof()
        return True

    def can_half_close(self) -> bool:
        return self._transport is not None and self._transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why it is lost makes no difference
        self._transport = None
        if self._abort is not None:
            self._abort.cancel()
        if self._other is not None:
            self._other.close()
            self._other = None
        if not self.closed.done():
            self.closed.set_result(None)

    def close(self) -> None:
        """Close after what waits was written, within CLOSE_TIMEOUT."""
        transport = self._transport
        if transport is not None and self._abort is None:
            transport.close()
            self._abort = self._loop.call_later(CLOSE_TIMEOUT, transport.abort)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class StreamOwner(Protocol):
    """Who hears of a client's connection."""

    def stream_message(self, stream: int, message: bytes) -> None: ...

    def stream_lost(self, stream: int) -> None: ...


class ClientStream(Pipe):
    """A client's connection: STUN and ChannelData, until `become_pipe`.

    ``send_limit`` bounds what waits for a client that does not read, in bytes.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, id_: int, owner: StreamOwner, *, send_limit: int, last_channel: int
    ) -> None:
        super().__init__(loop)
        self._id = id_
        self._owner = owner
        self._send_limit = send_limit
        self._splitter = ServerStreamSplitter(last_channel=last_channel)
        self._routes: dict[bytes, Route] = {}
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._is_pipe = False
        self._early = bytearray()

    def open_route(self, number: int, route: Route) -> None:
        self._routes[number.to_bytes(2, "big")] = route

    def close_route(self, number: int) -> None:
        del self._routes[number.to_bytes(2, "big")]

    def data_received(self, data: bytes) -> None:
        if self._other is not None:
            self._other.write(data)
        elif self._is_pipe:
            self._early += data
        else:
            self._split(data)

    def _split(self, data: bytes) -> None:
        splitter = self._splitter
        splitter.append(data)
        try:
            while not self._is_pipe and (message := splitter.take()) is not None:
                route = self._routes.get(message[:2])
                if route is not None:
                    route.forward(message)
                else:
                    self._owner.stream_message(self._id, message)
        except FramingError:
            self.abort()

    def send(self, message: bytes, *, relayed: bool) -> None:
        """Send a message; of what is sent in one loop iteration one write is made.

        If too much waits already, relayed data is dropped; if twice as much, the connection is closed.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        waiting = self._waiting_bytes + transport.get_write_buffer_size()
        if waiting >= self._send_limit and (relayed or waiting >= 2 * self._send_limit):
            if not relayed:
                transport.abort()
            return
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(message)
        self._waiting_bytes += len(message)

    def _flush(self) -> None:
        if self._waiting:
            waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
            super().write(b"".join(waiting))

    def write(self, data: bytes) -> None:
        self._flush()
        super().write(data)

    def become_pipe(self) -> None:
        """What comes from now on is no STUN; it waits for `join`, and little of it comes."""
        self._is_pipe = True
        self._early += self._splitter.detach()
        self.pause()

    def join(self, other: Pipe) -> None:
        super().join(other)
        if self._early:
            other.write(bytes(self._early))
            self._early.clear()
        self.resume()

    def close(self) -> None:
        self._flush()
        super().close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._owner.stream_lost(self._id)


class StreamSink:
    """A client behind a connection."""

    __slots__ = ("_channel", "_send")

    def __init__(self, stream: ClientStream, number: int) -> None:
        self._send = stream.send
        self._channel = number.to_bytes(2, "big")

    def deliver(self, payload: bytes) -> None:
        size = len(payload)
        self._send(self._channel + size.to_bytes(2, "big") + payload + bytes(-size % 4), relayed=True)


class PeerConnection:
    """A connection with a peer, from the SYN or the accept on; nothing is read from it before `open_pipe`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self._sock = sock
        self._task: asyncio.Task[None] | None = None
        self._pipe: Pipe | None = None

    def connect(self, remote: SocketAddress, done: Callable[[str | None], None]) -> None:
        """Connect; ``done`` hears None, or why not."""
        self._task = self._loop.create_task(self._connect(remote, done))

    async def _connect(self, remote: SocketAddress, done: Callable[[str | None], None]) -> None:
        try:
            await self._loop.sock_connect(self._sock, remote)
        except OSError as error:
            done(error.strerror or str(error))
        else:
            done(None)

    @property
    def relayed(self) -> Relayed:
        """What went through it so far."""
        pipe = self._pipe
        return Relayed() if pipe is None else Relayed(pipe.bytes_out, pipe.bytes_in)

    def splice(self, stream: ClientStream) -> None:
        """Carry every byte between the peer and the client, as soon as that is possible."""
        stream.become_pipe()
        self._task = self._loop.create_task(self._splice(stream))

    async def _splice(self, stream: ClientStream) -> None:
        pipe = self._pipe = Pipe(self._loop)
        pipe.join(stream)
        try:
            await self._loop.connect_accepted_socket(lambda: pipe, self._sock)
        except OSError:  # the peer is gone already
            stream.close()
        else:
            stream.join(pipe)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._pipe is not None:
            self._pipe.close()
        else:
            self._sock.close()
