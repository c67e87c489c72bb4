"""The client's end: a line to the other side of a mailbox, which outlives the connections that carry it."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from ice_tcp.rendezvous.protocol import (
    MAX_MESSAGE_BYTES,
    MAX_TEXT_BYTES,
    WIRE_LOGGER,
    Event,
    Refusal,
    RendezvousError,
    decode,
    encode,
    number_of,
    text_of,
)

RESUME_SECONDS: Final = 25.0
"""How long a lost connection is tried again; the server counts a side as gone after 30."""
_OPEN_SECONDS: Final = 10.0
_RETRY_INTERVALS: Final = (0.0, 0.2, 0.5, 1.0, 2.0)


@asynccontextmanager
async def open_line(url: str, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Line]:
    """A line from a new mailbox, whose number `Line.mailbox` tells. Raises RendezvousError.

    ``url`` begins with ws:// or wss://; ``tls`` says whom to trust, the system's roots unless given.
    """
    async with _line(url, tls, encode("open")) as line:
        yield line


@asynccontextmanager
async def join_line(url: str, mailbox: str, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Line]:
    """The line from the other side of a mailbox. Raises RendezvousError: NO_SUCH_MAILBOX, TAKEN."""
    async with _line(url, tls, encode("join", mailbox=mailbox)) as line:
        yield line


@asynccontextmanager
async def _line(url: str, tls: ssl.SSLContext | None, hello: str) -> AsyncIterator[Line]:
    line = Line(url, tls)
    await line.begin(hello)
    try:
        yield line
    finally:
        await line.close()


class Line:
    """Texts to and from the other side, in order, each once. `open_line` and `join_line` make one."""

    def __init__(self, url: str, tls: ssl.SSLContext | None) -> None:
        self._url, self._tls = url, tls
        self.mailbox = ""
        self._token = ""
        self._connection: ClientConnection | None = None
        self._after = 0
        self._told: list[str] = []
        self._heard: deque[tuple[Event, str]] = deque()
        self._news = asyncio.Event()
        self._met = asyncio.Event()
        self._error: RendezvousError | None = None
        self._closing = False
        self._running: asyncio.Task[None] | None = None

    async def met(self) -> None:
        """Return when the other side is there. Raises RendezvousError if that cannot be any more."""
        waiting = asyncio.ensure_future(self._met.wait())
        assert self._running is not None
        await asyncio.wait([waiting, self._running], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not self._met.is_set():
            raise self._error or RendezvousError("the line is closed")

    async def send(self, text: str) -> None:
        """Tell the other side a text of at most 32 KiB. What is told while the connection is lost is told later."""
        if len(text.encode()) > MAX_TEXT_BYTES:
            raise ValueError(f"a text of more than {MAX_TEXT_BYTES} bytes")
        if self._error is not None:
            raise self._error
        self._told.append(text)
        if self._connection is not None:
            with suppress(ConnectionClosed):
                await self._connection.send(encode("tell", number=len(self._told), text=text))

    async def receive(self) -> str | None:
        """The other side's next text; None when it has gone. Raises RendezvousError."""
        while not self._heard:
            if self._error is not None:
                raise self._error
            self._news.clear()
            await self._news.wait()
        event, text = self._heard[0]
        if event is Event.GONE:
            return None
        self._heard.popleft()
        return text

    async def round_trip(self) -> float:
        """Seconds to the rendezvous and back. Raises RendezvousError if the connection is lost meanwhile."""
        if self._connection is None:
            raise self._error or RendezvousError("the rendezvous is not connected")
        try:
            pong = await self._connection.ping()
            return await pong
        except ConnectionClosed:
            raise RendezvousError("the connection to the rendezvous was lost") from None

    async def begin(self, hello: str) -> None:
        """Connect and say so. Raises RendezvousError."""
        connection = await self._connect()
        try:
            await self._enter(connection, hello)
        except BaseException:
            await connection.close()
            raise
        self._running = asyncio.create_task(self._run(connection))

    async def close(self) -> None:
        """Leave the mailbox; the other side is told."""
        self._closing = True
        if self._connection is not None:
            with suppress(ConnectionClosed):
                await self._connection.send(encode("leave"))
                await self._connection.close()
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    # Connections

    async def _connect(self) -> ClientConnection:
        secure: dict[str, Any] = {"ssl": self._tls} if self._tls is not None else {}
        try:
            return await connect(
                self._url,
                max_size=2 * MAX_MESSAGE_BYTES,
                compression=None,
                open_timeout=_OPEN_SECONDS,
                close_timeout=1,
                user_agent_header=None,
                logger=WIRE_LOGGER,
                **secure,
            )
        except InvalidURI:
            raise RendezvousError(f"{self._url} is not a URL of a rendezvous, as in wss://example.org") from None
        except (OSError, TimeoutError, InvalidHandshake, EOFError) as error:
            why = str(error) or "no answer"
            raise RendezvousError(f"the rendezvous {self._url} cannot be reached: {why}", Refusal.UNAVAILABLE) from None

    async def _enter(self, connection: ClientConnection, hello: str) -> None:
        """Say the first message, and send again what the server does not have."""
        try:
            with suppress(ConnectionClosed):  # it may have been refused already, which is read next
                await connection.send(hello)
            async with asyncio.timeout(_OPEN_SECONDS):
                welcome = _accepted(await connection.recv())
        except ConnectionClosed:
            raise RendezvousError("the rendezvous closed the connection", Refusal.UNAVAILABLE) from None
        except TimeoutError:
            raise RendezvousError("the rendezvous does not answer", Refusal.UNAVAILABLE) from None
        if welcome["type"] != "welcome":
            raise RendezvousError(f"the rendezvous says {welcome['type']!r} in place of a welcome", Refusal.MALFORMED)
        self.mailbox, self._token = text_of(welcome, "mailbox", 16), text_of(welcome, "token", 64)
        had = number_of(welcome, "had")
        with suppress(ConnectionClosed):
            while had < len(self._told):  # more may be told meanwhile
                had += 1
                await connection.send(encode("tell", number=had, text=self._told[had - 1]))
            self._connection = connection

    async def _run(self, connection: ClientConnection) -> None:
        """Hear what comes; take the mailbox up again whenever the connection is lost."""
        try:
            while True:
                try:
                    async for message in connection:
                        self._hear(message)
                except ConnectionClosed:
                    pass
                finally:
                    self._connection = None
                    await connection.close()
                if self._closing:
                    return
                connection = await self._resume()
        except RendezvousError as error:
            self._error = error
        finally:
            self._news.set()

    async def _resume(self) -> ClientConnection:
        hello = encode("resume", mailbox=self.mailbox, token=self._token, after=self._after)
        intervals = iter(_RETRY_INTERVALS)
        error = RendezvousError("the rendezvous cannot be reached", Refusal.UNAVAILABLE)
        try:
            async with asyncio.timeout(RESUME_SECONDS):
                while True:
                    await asyncio.sleep(next(intervals, _RETRY_INTERVALS[-1]))
                    try:
                        connection = await self._connect()
                        await self._enter(connection, hello)
                    except RendezvousError as found:
                        if found.reason is not Refusal.UNAVAILABLE:
                            raise
                        error = found
                    else:
                        return connection
        except TimeoutError:
            raise error from None

    def _hear(self, message: str | bytes) -> None:
        fields = _accepted(message)
        if fields["type"] != "entry":
            raise RendezvousError(f"the rendezvous says {fields['type']!r}", Refusal.MALFORMED)
        number = number_of(fields, "number")
        if number <= self._after:
            return
        if number != self._after + 1:
            raise RendezvousError("the rendezvous left something out", Refusal.MALFORMED)
        self._after = number
        try:
            event = Event(text_of(fields, "event", 8))
        except ValueError:
            raise RendezvousError("the rendezvous tells of an unknown event", Refusal.MALFORMED) from None
        if event is Event.MET:
            self._met.set()
            return
        self._heard.append((event, text_of(fields, "text", MAX_TEXT_BYTES)))
        self._news.set()


def _accepted(message: str | bytes) -> Any:
    """A message that is no refusal. Raises RendezvousError."""
    fields = decode(message)
    if fields["type"] != "refused":
        return fields
    text = text_of(fields, "text", 1024)
    try:
        raise RendezvousError(text, Refusal(text_of(fields, "reason", 32)))
    except ValueError:
        raise RendezvousError(text) from None
