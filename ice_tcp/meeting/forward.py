"""TCP ports of one side, reached from the other: each connection is a stream of its own, several at a time.

The side that forwards opens a stream for each connection that it accepts, and says where it shall lead. The side that
allows it connects there, says so, and then bytes go both ways; the end of one direction is carried on as that.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Self, TypeAlias

from ice_tcp.meeting.meeting import Meeting, Stream
from ice_tcp.meeting.sealed import MeetingError

Tell: TypeAlias = Callable[[str], None]
"""Is given a line for people."""

FORWARD: Final = "forward"
"""The purpose of a stream that is one connection."""
_LOOPBACK: Final = "localhost"
_CHUNK_BYTES: Final = 2**16
_HEADER_SECONDS: Final = 10.0
_CONNECT_SECONDS: Final = 10.0
_ADDRESS: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[\w.-]+)):(?P<port>\d{1,5})", re.ASCII)
_FORWARD: Final = re.compile(
    r"(?:(?P<host>\[[^\]]+\]|[^:]+):)?(?P<port>\d{1,5}):(?P<to>(?:\[[^\]]+\]|[^:]+):\d{1,5})", re.ASCII
)


class ForwardError(ValueError):
    """A text does not say where to forward."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host, by name or address, and a port; written as ``localhost:80`` or ``[::1]:80``."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ForwardError."""
        found = _ADDRESS.fullmatch(text)
        if found is None or not 0 < int(found["port"]) < 65536:
            raise ForwardError(f"{text!r} is no host and port, as in localhost:80")
        return cls(found["six"] or found["host"].lower(), int(found["port"]))


@dataclass(frozen=True, slots=True)
class Forward:
    """What comes to a port here goes to an address that the other side reaches."""

    listen: Address
    to: Address

    @classmethod
    def parse(cls, text: str) -> Self:
        """``8080:localhost:80``, or ``0.0.0.0:8080:localhost:80`` to listen elsewhere; port 0 here is any that is free.

        Raises ForwardError.
        """
        found = _FORWARD.fullmatch(text)
        if found is None:
            raise ForwardError(f"{text!r} is not PORT:HOST:PORT, as in 8080:localhost:80")
        here = Address.parse(f"{found['host'] or _LOOPBACK}:1").host
        if int(found["port"]) > 65535:
            raise ForwardError(f"{text!r} is not PORT:HOST:PORT, as in 8080:localhost:80")
        return cls(Address(here, int(found["port"])), Address.parse(found["to"]))


async def forward(meeting: Meeting, forwards: Iterable[Forward], tell: Tell) -> None:
    """Listen, and carry every connection to the other side, until the meeting ends.

    ``tell`` is given a line about each port, and about what goes wrong. Raises OSError if a port is taken, and
    SessionClosedError, or what the path was lost by, when the meeting has ended.
    """
    async with AsyncExitStack() as stack:
        connections = _Tasks()
        stack.push_async_callback(connections.cancel)
        for each in forwards:
            handler = connections.handler(partial(_carry, meeting, each.to, tell))
            server = await asyncio.start_server(handler, each.listen.host, each.listen.port)
            stack.callback(server.close)
            port = server.sockets[0].getsockname()[1]
            tell(f"{Address(each.listen.host, port)} leads to {each.to} of the other side")
        while True:  # nobody opens streams to us: what comes is the end
            await meeting.session.accept_stream()


async def _carry(
    meeting: Meeting, to: Address, tell: Tell, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        stream = await meeting.open(FORWARD, to=str(to))
        answer = await meeting.hear(stream[0])
        if not answer.get("connected"):
            tell(f"{to} cannot be reached: {answer.get('error', 'the other side refused')}")
            stream[1].transport.abort()
            return
        await _join((reader, writer), stream)
    except OSError as error:
        tell(f"a connection to {to} was lost: {error}")
    finally:
        writer.close()


async def allow(meeting: Meeting, allowed: Collection[Address], tell: Tell) -> None:
    """Connect the other side's streams to these addresses, and to no others, until the meeting ends.

    Raises SessionClosedError, or what the path was lost by, when it has ended.
    """
    connections = _Tasks()
    try:
        while True:
            connections.add(_connect(meeting, await meeting.session.accept_stream(), allowed, tell))
    finally:
        await connections.cancel()


async def _connect(meeting: Meeting, stream: Stream, allowed: Collection[Address], tell: Tell) -> None:
    try:
        async with asyncio.timeout(_HEADER_SECONDS):
            header = await meeting.hear(stream[0])
        if header.get("purpose") != FORWARD:
            raise MeetingError(f"the other side came for something else: {header.get('purpose')!r}")
    except OSError as error:  # a timeout is one, and has no text
        tell(str(error) or "the other side did not say what it came for")
        stream[1].transport.abort()
        return
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            to = _allowed(header.get("to"), allowed)
            connection = await asyncio.open_connection(to.host, to.port)
    except (ForwardError, OSError) as error:
        why = str(error) or "no answer"
        tell(f"refused: {why}")
        await _refuse(meeting, stream, why)
        return
    try:
        await meeting.say(stream[1], connected=True)
        await _join(connection, stream)
    except OSError as error:
        tell(f"a connection to {to} was lost: {error}")
    finally:
        connection[1].close()


def _allowed(asked: object, allowed: Collection[Address]) -> Address:
    """Where a stream shall lead. Raises ForwardError."""
    if not isinstance(asked, str):
        raise ForwardError("it was not said where to")
    to = Address.parse(asked)
    if to not in allowed:
        raise ForwardError(f"{to} is not allowed")
    return to


async def _refuse(meeting: Meeting, stream: Stream, text: str) -> None:
    with suppress(ConnectionError):
        await meeting.say(stream[1], connected=False, error=text)
        stream[1].close()


async def _join(one: Stream, other: Stream) -> None:
    """Bytes both ways, until both directions have ended. Raises what the first of them is lost by; both are aborted."""
    pouring = [asyncio.create_task(_pour(one[0], other[1])), asyncio.create_task(_pour(other[0], one[1]))]
    try:
        await asyncio.gather(*pouring)
    except BaseException:
        for _, writer in (one, other):
            writer.transport.abort()
        raise
    finally:
        for task in pouring:
            task.cancel()
        await asyncio.gather(*pouring, return_exceptions=True)
    other[1].close()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


class _Tasks:
    """Connections that are carried."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, body: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(body)
        assert isinstance(task, asyncio.Task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def handler(
        self, body: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.wait([self.add(body(reader, writer))])  # cancelled, it is no failure of the server

        return handle

    async def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
