"""What a StreamReader and a StreamWriter stand on: one QUIC stream of a session."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

from ice_tcp.quic.connection import PinnedConnection

READ_LIMIT: Final = 256 * 1024
"""Bytes that a StreamReader holds before half of what it may hold is reached (asyncio stops it at twice this)."""
WRITE_HIGH: Final = 256 * 1024
"""Bytes unsent on a stream above which ``drain`` waits."""
WRITE_LOW: Final = 64 * 1024
"""Bytes unsent on a stream at which ``drain`` goes on."""

_NO_ERROR: Final = 0


class StreamOwner(Protocol):
    """The session that a stream belongs to."""

    @property
    def quic(self) -> PinnedConnection: ...

    def transmit_soon(self) -> None:
        """There is something to send."""


class QuicStreamTransport(asyncio.Transport):
    """A bidirectional stream: ``close`` ends both directions, ``wait_closed`` waits until the peer has everything."""

    def __init__(self, owner: StreamOwner, stream_id: int) -> None:
        super().__init__({"stream_id": stream_id})
        loop = asyncio.get_running_loop()
        self._owner = owner
        self._id = stream_id
        self._written = 0
        self._writing_paused = False
        self._reading_ended = False
        self._incoming_ended = False
        self._gone = False
        self._write_error: ConnectionError | None = None
        self._finished = False
        self._closing = False
        self.reader = asyncio.StreamReader(READ_LIMIT, loop)
        self._protocol = asyncio.StreamReaderProtocol(self.reader, loop=loop)
        self._protocol.connection_made(self)
        self.writer = asyncio.StreamWriter(self, self._protocol, self.reader, loop)

    # The writer

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Raises ConnectionError if the peer does not want more, or the session has ended."""
        if self._write_error is not None:
            raise self._write_error
        if self._finished:
            raise RuntimeError("the stream was closed for writing")
        self._owner.quic.send_stream_data(self._id, bytes(data))
        self._written += len(data)
        self._owner.transmit_soon()
        if not self._writing_paused and self.get_write_buffer_size() > WRITE_HIGH:
            self._writing_paused = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._finished and self._write_error is None:
            self._finished = True
            self._owner.quic.send_stream_data(self._id, b"", end_stream=True)
            self._owner.transmit_soon()

    def close(self) -> None:
        self._closing = True
        self.write_eof()
        self._stop_reading()

    def abort(self) -> None:
        """Give up what is not delivered."""
        self._closing = True
        if self._write_error is None:
            self._write_error = ConnectionAbortedError("the stream was aborted")
            self._owner.quic.reset_stream(self._id, _NO_ERROR)
        self._stop_reading()
        self._owner.transmit_soon()

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return self._owner.quic.unsent(self._id, self._written)

    def sent(self) -> bool:
        """Look what the last transmission left over; True if nothing will happen on the stream any more."""
        if self._writing_paused and self.get_write_buffer_size() <= WRITE_LOW:
            self._resume_writing()
        if self._closing and not self._gone and self._owner.quic.is_sent(self._id):
            self._gone = True
            self._protocol.connection_lost(None)
        return self._gone and self._incoming_ended

    def refused(self) -> None:
        """The peer reads no more (RFC 9000 s3.5)."""
        self._write_error = ConnectionResetError("the peer does not read the stream any more")
        self._resume_writing()

    def _resume_writing(self) -> None:
        if self._writing_paused:
            self._writing_paused = False
            self._protocol.resume_writing()

    # The reader

    def pause_reading(self) -> None:
        self._owner.quic.hold(self._id)

    def resume_reading(self) -> None:
        self._owner.quic.release(self._id)
        self._owner.transmit_soon()

    def received(self, data: bytes, end: bool) -> None:
        """Bytes came, perhaps the last."""
        self._incoming_ended |= end
        if not self._reading_ended:
            self._owner.quic.count(self._id, len(data))
            if data:
                self.reader.feed_data(data)
            if end:
                self._reading_ended = True
                self.reader.feed_eof()

    def reset(self) -> None:
        """The peer gave up sending."""
        self._incoming_ended = True
        self._end_reading(ConnectionResetError("the peer aborted the stream"))

    def _stop_reading(self) -> None:
        if not self._reading_ended:
            self._owner.quic.stop_stream(self._id, _NO_ERROR)
            self._end_reading(None)

    def _end_reading(self, error: ConnectionError | None) -> None:
        self._owner.quic.release(self._id)
        if not self._reading_ended:
            self._reading_ended = True
            if error is None:
                self.reader.feed_eof()
            else:
                self.reader.set_exception(error)

    # The session

    def lost(self, error: ConnectionError) -> None:
        """The session has ended; whoever waits for something that will not come hears the error."""
        # What came whole can still be read, unless the application is done with the stream.
        readable = self._incoming_ended and not self._closing
        self._closing = True
        self._write_error = self._write_error or error
        self._end_reading(error)
        if not self._gone:
            self._gone = True
            self._protocol.connection_lost(None if readable else error)
