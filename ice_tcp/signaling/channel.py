"""A channel of messages over any byte stream: one JSON object a line, bounded."""

from __future__ import annotations

import asyncio
from typing import Final, Self

from ice_tcp.signaling.messages import Message, MessageError, decode, encode

MAX_MESSAGE_BYTES: Final = 256 * 1024


class SignalingError(ConnectionError):
    """The channel does not work, or the other end does not keep to its rules."""


class ChannelClosed(SignalingError):  # noqa: N818 - a state that one waits for
    """The other end has closed the channel."""


class Channel:
    """Messages both ways; iterate over it for the peer's. Make the reader with ``limit=MAX_MESSAGE_BYTES``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, message: Message) -> None:
        """Raises ValueError if the message is too large, SignalingError if the channel is gone."""
        line = encode(message).encode() + b"\n"
        if len(line) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(line)} bytes is over the limit of {MAX_MESSAGE_BYTES}")
        try:
            self._writer.write(line)
            await self._writer.drain()
        except OSError as error:
            raise ChannelClosed(f"signaling is lost: {error}") from None

    async def receive(self) -> Message:
        """The next message. Raises ChannelClosed after the last, SignalingError for what is none."""
        try:
            line = await self._reader.readline()
        except ValueError:
            raise SignalingError(f"a message is over the limit of {MAX_MESSAGE_BYTES} bytes") from None
        except OSError as error:
            raise ChannelClosed(f"signaling is lost: {error}") from None
        if not line:
            raise ChannelClosed("the other end closed the signaling channel")
        if not line.endswith(b"\n"):
            raise SignalingError("the signaling channel ended within a message")
        try:
            return decode(line)
        except MessageError as error:
            raise SignalingError(str(error)) from None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.receive()
        except ChannelClosed:
            raise StopAsyncIteration from None

    async def close(self) -> None:
        """Close it; what was sent is still delivered."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return  # it was lost before it was closed, which comes to the same
