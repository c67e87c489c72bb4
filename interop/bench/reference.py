"""What TCP figures are measured against: a bare asyncio Protocol pair with 2-byte framing, and no ICE.

One ``transport.write`` a frame, a bounded deque of received messages, ``await recv()``: what one would write who
needs framed messages over a connection and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, cast

RECEIVED_MESSAGES: Final = 1024
"""Messages that wait for `ReferenceConnection.recv` before reading pauses."""


class ReferenceConnection(asyncio.Protocol):
    """One end. `send` and `recv` raise ConnectionError after the end of the connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._made = asyncio.Event()
        self._messages: deque[bytes] = deque()
        self._unfinished = b""
        self._reading_paused = False
        self._message_waiter: asyncio.Future[None] | None = None
        self._room_waiter: asyncio.Future[None] | None = None
        self._writing_paused = False
        self._lost: Exception | None = None

    async def made(self) -> None:
        """Return when there is a connection."""
        await self._made.wait()

    async def send(self, data: bytes) -> None:
        """Send a message of at most 65535 bytes; waits while the transport has no room."""
        transport = self._open_transport()
        transport.write(len(data).to_bytes(2, "big") + data)
        if self._writing_paused:
            self._room_waiter = asyncio.get_running_loop().create_future()
            await self._room_waiter

    async def recv(self) -> bytes:
        """The next message."""
        messages = self._messages
        while not messages:
            self._open_transport()
            self._message_waiter = asyncio.get_running_loop().create_future()
            await self._message_waiter
        message = messages.popleft()
        if self._reading_paused and len(messages) <= RECEIVED_MESSAGES // 2:
            self._reading_paused = False
            self._open_transport().resume_reading()
        return message

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._made.set()

    def data_received(self, data: bytes) -> None:
        if self._unfinished:
            data = self._unfinished + data
        position, size = 0, len(data)
        while size - position >= 2:
            end = position + 2 + (data[position] << 8 | data[position + 1])
            if end > size:
                break
            self._messages.append(data[position + 2 : end])
            position = end
        self._unfinished = data[position:]
        if len(self._messages) > RECEIVED_MESSAGES and not self._reading_paused:
            self._reading_paused = True
            self._open_transport().pause_reading()
        _wake(self._message_waiter)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        _wake(self._room_waiter)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = exc or ConnectionError("the connection is closed")
        _wake(self._message_waiter)
        _wake(self._room_waiter)

    def _open_transport(self) -> asyncio.Transport:
        if self._lost is not None:
            raise ConnectionError("the connection is lost") from self._lost
        if self._transport is None:
            raise ConnectionError("there is no connection yet")
        return self._transport


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
