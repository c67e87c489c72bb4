"""A signaling channel between two processes of one machine: TCP on 127.0.0.1, for the holder of a token."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from types import TracebackType
from typing import Final, Self

from ice_tcp.signaling.channel import MAX_MESSAGE_BYTES, Channel, SignalingError

_HOST: Final = "127.0.0.1"
_WELCOME: Final = b"welcome\n"
_TOKEN_BYTES: Final = 32
_AUTHENTICATION_TIMEOUT: Final = 5.0
_MAX_STRANGERS: Final = 16
"""Connections that have not shown the token; more are closed at once."""


class LoopbackRendezvous:
    """Waits on ``port`` of 127.0.0.1, any free one, for one peer that knows ``token``. Use it with ``async with``.

    Hand the token to the peer in private, not on a command line. Closing it closes the channel, too.
    """

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(_TOKEN_BYTES)
        self.port = 0
        self._strangers = 0
        self._server: asyncio.Server | None = None
        self._channel: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._meet, _HOST, 0, limit=MAX_MESSAGE_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        if self._channel.done():
            await self._channel.result().close()

    async def accept(self) -> Channel:
        """The channel to the first peer that shows the token; all others are turned away."""
        return await asyncio.shield(self._channel)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._strangers >= _MAX_STRANGERS or not await self._knows_token(reader) or self._channel.done():
            writer.close()
            return
        writer.write(_WELCOME)
        self._channel.set_result(Channel(reader, writer))

    async def _knows_token(self, reader: asyncio.StreamReader) -> bool:
        self._strangers += 1
        try:
            async with asyncio.timeout(_AUTHENTICATION_TIMEOUT):
                shown = await reader.readline()
        except (OSError, ValueError):
            return False
        finally:
            self._strangers -= 1
        return hmac.compare_digest(shown, f"{self.token}\n".encode())


async def connect_loopback(port: int, token: str) -> Channel:
    """The channel to the process that waits on ``port``. Raises SignalingError."""
    try:
        async with asyncio.timeout(_AUTHENTICATION_TIMEOUT):
            reader, writer = await asyncio.open_connection(_HOST, port, limit=MAX_MESSAGE_BYTES)
    except OSError as error:
        raise SignalingError(f"nobody answers on port {port} of this machine: {error}") from None
    if await _is_welcome(reader, writer, token):
        return Channel(reader, writer)
    writer.close()
    raise SignalingError(f"the process on port {port} of this machine does not accept the token")


async def _is_welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> bool:
    writer.write(f"{token}\n".encode())
    try:
        async with asyncio.timeout(_AUTHENTICATION_TIMEOUT):
            return await reader.readline() == _WELCOME
    except (OSError, ValueError):
        return False
