"""Byte-stream mode: asyncio's StreamReader and StreamWriter over one TCP connection (RFC 6544 s10.1).

The bytes travel in RFC 4571 frames between the agent's STUN messages. The stream is pinned to its connection: frames
have no sequence numbers that would let it move to another.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ice_tcp.driver import Driver, StreamPort
from ice_tcp.net.streams import PeerConnection

STREAM_LIMIT = 256 * 1024
"""Bytes in a StreamReader before it asks the connection to stop."""

_EXCESS = 16
"""Times that limit the connection may deliver beyond it, while it is read on for STUN."""


def open_byte_stream(
    driver: Driver, component: int, limit: int = STREAM_LIMIT
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Use the component's selected TCP connection as a byte stream. Called by ``Agent.open_stream``, which see.

    Raises ValueError if the selected path is not TCP, RuntimeError if it is a byte stream already.
    """
    loop = asyncio.get_running_loop()
    port, connection = driver.tcp_path(component)
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = FramedTransport(protocol, port, connection, limit)
    protocol.connection_made(transport)
    port.pin(transport)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class FramedTransport(asyncio.Transport):
    """What a StreamWriter writes to: the connection of a component, in frames."""

    def __init__(
        self, protocol: asyncio.StreamReaderProtocol, port: StreamPort, connection: PeerConnection, limit: int
    ) -> None:
        remote = connection.remote
        super().__init__(
            {
                "sockname": (connection.local.host, connection.local.port),
                "peername": (remote.host, remote.port) if remote is not None else None,
            }
        )
        self._protocol = protocol
        self._port = port
        self._connection = connection
        self._overfull_bytes = _EXCESS * limit
        self._excess = 0  # bytes that came while reading was paused
        self._reading_paused = False
        self._writing_paused = False
        self._closing = False

    # The writer

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send bytes, cut into frames; await the writer's ``drain`` now and then."""
        if self._closing:
            return
        self._connection.queue_bytes(data if isinstance(data, bytes) else bytes(data))
        if not self._writing_paused and not self._closing and self._connection.path.is_full:
            self._writing_paused = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        """False: RFC 4571 has no half close."""
        return False

    def close(self) -> None:
        """Deliver what was written, then end the stream in both directions."""
        if not self._closing:
            self._closing = True
            self._port.finish()

    def abort(self) -> None:
        """End the stream at once; what waits is lost."""
        self._closing = True
        self._port.abort()

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return self._connection.path.pending

    # The reader

    def pause_reading(self) -> None:
        self._reading_paused = True
        self._excess = 0

    def resume_reading(self) -> None:
        self._reading_paused = False
        self._port.resume()

    def is_reading(self) -> bool:
        return not self._reading_paused and not self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        raise NotImplementedError("a byte stream keeps its StreamReaderProtocol")

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    # ByteStream, for the driver

    @property
    def is_full(self) -> bool:
        return self._reading_paused

    @property
    def is_overfull(self) -> bool:
        return self._reading_paused and self._excess >= self._overfull_bytes

    def put(self, messages: list[bytes]) -> None:
        if self._closing:
            return
        for message in messages:
            self._protocol.data_received(message)
            if self._reading_paused:
                self._excess += len(message)

    def writable(self) -> None:
        if self._writing_paused and self._connection.path.has_room:
            self._writing_paused = False
            self._protocol.resume_writing()

    def ended(self, error: Exception | None) -> None:
        self._closing = True
        self._protocol.connection_lost(error)
