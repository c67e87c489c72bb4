"""TCP on an asyncio event loop: connections from the first SYN on."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Generic, Protocol, TypeAlias, TypeVar, cast
from weakref import WeakKeyDictionary

from candidates.candidate import TransportAddress
from ice_tcp.core.commands import Failure
from ice_tcp.datapath import Received, StreamLegPath, StreamPath, stream_chunks
from ice_tcp.framing import JOIN_BYTES, Buffer
from ice_tcp.net.platform import USER_TIMEOUT
from ice_tcp.net.sockets import (
    LEASES,
    NetworkError,
    failure_of,
    scope_of,
    socket_address,
)

CLOSE_TIMEOUT = 1.0
"""Seconds that a closed connection may take to deliver what it was given before."""

_BUFFER_BYTES = 256 * 1024
_COPIED_BYTES = 4096
"""Packets up to about this size are cheaper to copy together than to gather."""
_WOULD_BLOCK = (BlockingIOError, InterruptedError)

_receive_buffers: WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = WeakKeyDictionary()


def receive_buffer(loop: asyncio.AbstractEventLoop) -> memoryview:
    """The one buffer that all connections of ``loop`` read into; what is kept of it is copied before the next read."""
    buffer = _receive_buffers.get(loop)
    if buffer is None:
        buffer = _receive_buffers[loop] = memoryview(bytearray(_BUFFER_BYTES))
    return buffer


P = TypeVar("P", bound=StreamPath | StreamLegPath)


class ByteChannel(Protocol):
    """What the bytes of a `Connection` go through: its socket, or TLS over it. All raise as a socket does."""

    def recv_into(self, buffer: memoryview, /) -> int: ...

    def send(self, data: bytes, /) -> int: ...

    def sendmsg(self, buffers: list[Buffer], /) -> int: ...


class StreamHandler(Protocol[P]):
    """Who owns a `Connection`. After `stream_closed` or `stream_failed` nothing more comes."""

    def stream_connected(self, connection: Connection[P]) -> None: ...

    def stream_received(self, connection: Connection[P], received: Received) -> None: ...

    def stream_closed(self, connection: Connection[P]) -> None:
        """The other end closed (FIN); nothing of what it sent is outstanding."""

    def stream_failed(self, connection: Connection[P], failure: Failure) -> None:
        """``connection.problem`` may say more."""

    def stream_writable(self, connection: Connection[P]) -> None:
        """What `Connection.send_data` refused may be tried again."""

    def stream_gone(self, connection: Connection[P]) -> None:
        """After `close`: the socket is closed."""


class Connection(Generic[P]):
    """A TCP connection with its data path, from the first SYN on.

    It begins with `connect`, or with `start` if it was accepted, and ends with `close` or `abort`.
    """

    __slots__ = (
        "_broken",
        "_buffer",
        "_bursty",
        "_closing",
        "_handler",
        "_io",
        "_joining",
        "_lease",
        "_loop",
        "_reading",
        "_sock",
        "_timer",
        "_writing",
        "burst",
        "deliver_one",
        "local",
        "path",
        "problem",
        "remote",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, host: str, path: P, handler: StreamHandler[P]
    ) -> None:
        self.deliver_one: Callable[[bytes], bool] = refuse_one
        """The short way of a lone message to the application; if it returns False, ``stream_received`` is called.

        It is the last thing done in a turn, and may close the connection.
        """
        self._loop = loop
        self._sock = sock
        self._io: ByteChannel = sock
        self._buffer = receive_buffer(loop)
        self._handler = handler
        self.path = path
        self.local = TransportAddress(host, sock.getsockname()[1])
        self.remote: TransportAddress | None = None
        self.problem = ""
        """What went wrong, for people, where a `Failure` does not say it all."""
        self.burst = 0
        """Data packets sent since the loop last had its turn, as far as we know."""
        self._joining = False
        self._bursty = False  # the last iteration had more than a message or two
        self._writing = False  # waits for the kernel to take more
        self._reading = False
        self._broken: Failure | None = None
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._lease = (host, self.local.port)
        LEASES.take(*self._lease)

    @property
    def is_open(self) -> bool:
        return self._sock.fileno() >= 0 and not self._closing

    # Opening

    def connect(self, remote: TransportAddress, timeout: float) -> None:
        """Send the SYN; answered by ``stream_connected`` or, after ``timeout`` seconds at most, ``stream_failed``."""
        self.remote = remote
        try:
            self._set_deadline(timeout)
            code = self._sock.connect_ex(socket_address(remote, scope_of(self._sock)))
        except NetworkError as error:
            self._fail(error.failure)
            return
        except OSError as error:
            self._fail(failure_of(error.errno))
            return
        if code == errno.EINPROGRESS:
            self._loop.add_writer(self._sock.fileno(), self._connected)
            self._writing = True
        elif code:
            self._fail(failure_of(code))
        else:
            self._connected()

    def _set_deadline(self, timeout: float) -> None:
        if USER_TIMEOUT is not None:
            self._sock.setsockopt(socket.IPPROTO_TCP, USER_TIMEOUT, max(1, round(timeout * 1000)))
        else:
            self._timer = self._loop.call_later(timeout, self._fail, Failure.TIMED_OUT)

    def _clear_deadline(self) -> None:
        if USER_TIMEOUT is not None:
            self._sock.setsockopt(socket.IPPROTO_TCP, USER_TIMEOUT, 0)
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _connected(self) -> None:
        self._stop_writing()
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(failure_of(code))
            return
        try:
            itself = self._sock.getpeername() == self._sock.getsockname()
            self._clear_deadline()
        except OSError as error:  # reset since
            self._fail(failure_of(error.errno))
            return
        if itself:
            self._fail(Failure.SELF_CONNECT)
            return
        self._established()

    def _established(self) -> None:
        self.start()
        self._handler.stream_connected(self)

    def start(self) -> None:
        """Read from now on."""
        self._reading = True
        self._loop.add_reader(self._sock.fileno(), self._read)

    # Reading

    def _read(self) -> bool:
        """Take in one chunk; return whether to go on.

        Only one in a turn of the loop: what the application has not taken yet is hot in the cache and small in memory.
        """
        path, buffer = self.path, self._buffer
        if not self._joining:
            self.burst = 0
        try:
            size = self._io.recv_into(buffer)
        except _WOULD_BLOCK:
            return False
        except OSError as error:
            self._fail(failure_of(error.errno))
            return False
        if not size:
            self._end()
            return False
        message = path.receive_one(buffer, size)
        if message is None:
            self._handler.stream_received(self, path.receive(buffer[:size]))
        elif self._bursty or not self.deliver_one(message):
            self._handler.stream_received(self, Received([], [message]))
        return self._reading

    def pause_reading(self) -> None:
        self._stop_reading()

    def resume_reading(self) -> None:
        if not self._reading and self.is_open:
            self.start()

    # Writing

    def send_stun(self, message: bytes) -> None:
        """Send a STUN message before all data that was not begun."""
        if self.path.send_stun(message) and not self._writing:
            self._write()

    def send_data(self, data: bytes) -> int:
        """Send a data packet; return how many went since the loop last had its turn, this one included.

        0, and nothing done, if too much waits already. A single one leaves at once; in a burst those that follow in
        the same loop iteration are joined. Raises ValueError for more than 65535 bytes.
        """
        path = self.path
        if self._joining:
            pending = path.send_data(data)
            if not pending:
                return 0
            if pending >= JOIN_BYTES and not self._writing:
                self._write()
        elif self._writing:
            if not path.send_data(data):
                return 0
            self._join()
        else:
            if self.burst or self._bursty:  # perhaps not the first of this iteration, or hardly the last
                self._join()
            frame = path.frame_data(data)
            try:
                count = self._io.send(frame)
            except OSError as error:
                count = self._not_written(error)
            if count < len(frame) and self._sock.fileno() >= 0:
                path.begun(frame, count)
                self._write()
        self.burst += 1
        return self.burst

    def _not_written(self, error: OSError) -> int:
        if not isinstance(error, _WOULD_BLOCK):
            self._write_failed(error)
        return 0

    def queue_bytes(self: PeerConnection, data: bytes) -> None:
        """Send a part of a byte stream, whatever waits already; ``path.is_full`` says when to stop."""
        for chunk in stream_chunks(data):
            if not self.is_open:
                return
            self.path.queue_data(chunk)
            if self._joining:
                if self.path.pending < JOIN_BYTES:
                    continue
            else:
                self._join()
            if not self._writing:
                self._write()

    def _join(self) -> None:
        """Collect what follows in this loop iteration."""
        self._joining = True
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._joining = False
        self._bursty = self.burst > 2
        self.burst = 0
        if not self._writing and self.path.pending and self._sock.fileno() >= 0:
            self._write()
            if not self._writing and self.is_open:
                self._handler.stream_writable(self)

    def _write(self) -> None:
        path = self.path
        complete = True
        while complete and path.pending:
            batch = path.take()
            try:
                if len(batch) > 2 and len(batch[1]) <= _COPIED_BYTES:
                    count = self._io.send(b"".join(batch))
                else:
                    count = self._io.sendmsg(batch)
                complete = path.written(count)
            except _WOULD_BLOCK:
                complete = path.written(0)
            except OSError as error:
                self._write_failed(error)
                return
        if complete and self._is_flushed():
            if self._writing:
                self._stop_writing()
                self._written()
        elif not self._writing:
            self._writing = True
            self._loop.add_writer(self._sock.fileno(), self._write_more)

    def _is_flushed(self) -> bool:
        """Whether all that was written is with the kernel."""
        return True

    def _write_more(self) -> None:
        self._write()
        if self._writing and not self._closing and self.path.has_room:
            self._handler.stream_writable(self)

    def _written(self) -> None:
        """Nothing waits any more."""
        if self._closing:
            self._shut()
        else:
            self._handler.stream_writable(self)

    def _write_failed(self, error: OSError) -> None:
        """Take in first what the peer sent before it reset the connection."""
        failure = failure_of(error.errno)
        self._stop_writing()
        if self._closing:
            self.abort()
            return
        # The error is told only once: reading sees an end then, which is true only after a FIN (EPIPE).
        self._broken = None if error.errno == errno.EPIPE else failure
        self.deliver_one = refuse_one  # which would run the task that reads within the one that writes
        self._reading = True
        while self._read():
            pass
        if self.is_open:
            self._fail(failure)

    def turn_into(self, path: StreamPath, handler: StreamHandler[StreamPath]) -> PeerConnection:
        """The other end is a peer from the next byte on, both ways; what waits is written before."""
        before = self.path
        waiting: list[Buffer] = []
        while before.pending:
            batch = before.take()
            waiting += batch
            before.written(sum(map(len, batch)))
        if waiting:
            path.begun(b"".join(waiting), 0)
        self.deliver_one = refuse_one
        self.path, self._handler = cast("P", path), cast("StreamHandler[P]", handler)
        return cast("PeerConnection", self)

    # Ending

    def _end(self) -> None:
        if self._broken is not None:
            self._fail(self._broken)
        else:
            self._stop_reading()
            self._handler.stream_closed(self)

    def _fail(self, failure: Failure) -> None:
        self.abort()
        self._handler.stream_failed(self, failure)

    def close(self) -> bool:
        """Deliver what waits, as far as that is possible within CLOSE_TIMEOUT, and close.

        Returns whether that takes time; then the handler hears ``stream_gone``, and nothing else any more.
        """
        if not self.is_open:
            return False
        if not self.path.admitted:
            self.abort()
            return False
        self._stop_reading()
        self._closing = True
        self._timer = self._loop.call_later(CLOSE_TIMEOUT, self.abort)
        if not self._writing:
            self._write()
            if not self._writing and self._sock.fileno() >= 0:
                self._shut()
        return self._sock.fileno() >= 0

    def _shut(self) -> None:
        """All is written: say so (FIN), and wait for the peer's FIN.

        A socket closed with unread data sends RST, which would overtake what the peer has not read yet.
        """
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort()
            return
        self._loop.add_reader(self._sock.fileno(), self._read_away)

    def _read_away(self) -> None:
        try:
            if self._sock.recv_into(self._buffer):
                return
        except _WOULD_BLOCK:
            return
        except OSError:
            pass  # reset: it is as closed as can be
        self.abort()

    def detach(self) -> socket.socket:
        """Give the socket away as it is; from ``stream_connected`` nothing was read of it. This connection is over."""
        self._stop_reading()
        self._stop_writing()
        LEASES.release(*self._lease)
        return socket.socket(fileno=self._sock.detach())

    def abort(self) -> None:
        """Close now, whatever waits."""
        if self._sock.fileno() < 0:
            return
        self._stop_reading()
        self._loop.remove_reader(self._sock.fileno())
        self._stop_writing()
        if self._timer is not None:
            self._timer.cancel()
        self._sock.close()
        LEASES.release(*self._lease)
        if self._closing:
            self._handler.stream_gone(self)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock.fileno())

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._sock.fileno())


PeerConnection: TypeAlias = Connection[StreamPath]
"""A connection with a peer: all that is on it is framed."""


def refuse_one(message: bytes) -> bool:  # noqa: ARG001 - stands for an application that takes messages
    """A `Connection.deliver_one` that has all data come by ``stream_received``."""
    return False
