"""The rendezvous: WebSocket connections on one side, mailboxes on the other, and limits in between."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from ice_tcp.rendezvous.mailboxes import Mailboxes, MemoryMailboxes, Ticket
from ice_tcp.rendezvous.protocol import (
    MAX_MESSAGE_BYTES,
    MAX_TEXT_BYTES,
    WIRE_LOGGER,
    Refusal,
    RendezvousError,
    decode,
    encode,
    number_of,
    text_of,
)

logger = logging.getLogger(__name__)

DEFAULT_PORT: Final = 8765
KEEP_INTERVAL: Final = 10.0
_MAILBOX_BYTES: Final = 16
_TOKEN_BYTES: Final = 64
_CANCEL_INTERVAL: Final = 0.5
_HEALTH: Final = "/health"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may do. Whatever is over a limit ends its connection, and says which."""

    connections: int = 4000
    """Of all clients."""
    connections_per_host: int = 64
    messages_per_second: float = 20.0
    """Of one connection, in the long run."""
    burst: int = 100
    """Messages that may come at once."""
    hello_seconds: float = 10.0
    """Until a client has said what it wants."""

    def __post_init__(self) -> None:
        for name in ("connections", "connections_per_host", "messages_per_second", "burst", "hello_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} has to be more than 0")


@dataclass(slots=True)
class Counts:
    """What a server did since it was made: clients by how they came in and why they were refused, texts, entries."""

    entered: Counter[str] = field(default_factory=Counter)
    refused: Counter[Refusal] = field(default_factory=Counter)
    texts: int = 0
    text_bytes: int = 0
    entries: int = 0


class RendezvousServer:
    """Use it with ``async with``; then `port` is known and clients are served. It closes ``mailboxes``, too."""

    def __init__(
        self,
        host: str | None = None,
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
        mailboxes: Mailboxes | None = None,
        limits: Limits | None = None,
        keep_interval: float = KEEP_INTERVAL,
    ) -> None:
        """``port`` 0 is any; ``mailboxes`` are this instance's own unless given."""
        self._host, self._tls = host, tls
        self._mailboxes = mailboxes if mailboxes is not None else MemoryMailboxes()
        self.limits = limits or Limits()
        """May be set while it runs: those that are connected keep the rate that they came with."""
        self.counts = Counts()
        self._keep_interval = keep_interval
        self._by_host: Counter[str] = Counter()
        self._server: Server | None = None
        self.port = port
        """Once it runs, where it listens."""

    @property
    def connections(self) -> int:
        """Clients that are connected."""
        return self._by_host.total()

    async def __aenter__(self) -> Self:
        """Raises OSError if it cannot listen there."""
        self._server = await serve(
            self._serve,
            self._host,
            self.port,
            ssl=self._tls,
            max_size=MAX_MESSAGE_BYTES,
            max_queue=4,
            compression=None,
            process_request=self._answer_health,
            server_header=None,
            ping_interval=20,
            ping_timeout=20,
            close_timeout=1,
            logger=WIRE_LOGGER,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()
        await self._mailboxes.close()

    def _answer_health(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == _HEALTH:
            return connection.respond(HTTPStatus.OK, "here\n")
        return None

    # One client

    async def _serve(self, connection: ServerConnection) -> None:
        host = _host_of(connection)
        try:
            with self._counted(host):
                await self._talk(connection)
        except RendezvousError as error:
            if error.reason is not None:
                self.counts.refused[error.reason] += 1
            logger.info("refused: %s", error.reason)
            with suppress(ConnectionClosed):
                await connection.send(encode("refused", reason=error.reason, text=str(error)))
        except ConnectionClosed:
            return

    def _counted(self, host: str) -> _Count:
        if self.connections >= self.limits.connections or self._by_host[host] >= self.limits.connections_per_host:
            raise RendezvousError("too many connections", Refusal.FULL)
        return _Count(self._by_host, host)

    async def _talk(self, connection: ServerConnection) -> None:
        try:
            async with asyncio.timeout(self.limits.hello_seconds):
                hello = decode(await connection.recv())
        except TimeoutError:
            raise RendezvousError("nothing was said", Refusal.TOO_SLOW) from None
        ticket, had, after = await self._enter(hello)
        self.counts.entered[hello["type"]] += 1
        await connection.send(encode("welcome", mailbox=ticket.mailbox, token=ticket.token, had=had))
        doing = [
            asyncio.ensure_future(each)
            for each in (self._hear(connection, ticket), self._tell(connection, ticket, after), self._keep(ticket))
        ]
        try:
            await asyncio.wait(doing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(doing)
        errors = [error for each in doing if not each.cancelled() and (error := each.exception()) is not None]
        # What it was refused for says more than that its connection then closed.
        for error in sorted(errors, key=lambda each: isinstance(each, ConnectionClosed)):
            raise error

    async def _enter(self, hello: Mapping[str, Any]) -> tuple[Ticket, int, int]:
        """The ticket, how many texts of this side are there, and how many entries it has."""
        match hello["type"]:
            case "open":
                return await self._mailboxes.open(), 0, 0
            case "join":
                return await self._mailboxes.join(text_of(hello, "mailbox", _MAILBOX_BYTES)), 0, 0
            case "resume":
                place = text_of(hello, "mailbox", _MAILBOX_BYTES), text_of(hello, "token", _TOKEN_BYTES)
                after = number_of(hello, "after")
                return *(await self._mailboxes.resume(*place)), after
            case _:
                raise RendezvousError("the first message has to be open, join or resume", Refusal.MALFORMED)

    async def _hear(self, connection: ServerConnection, ticket: Ticket) -> None:
        """Until it leaves, or its connection is closed."""
        allowance = _Allowance(self.limits.messages_per_second, self.limits.burst)
        async for message in connection:
            allowance.take()
            fields = decode(message)
            match fields["type"]:
                case "tell":
                    text = text_of(fields, "text", MAX_TEXT_BYTES)
                    await self._mailboxes.tell(ticket, number_of(fields, "number"), text)
                    self.counts.texts += 1
                    self.counts.text_bytes += len(text.encode("utf-8", "surrogatepass"))
                case "leave":
                    await self._mailboxes.leave(ticket)
                    return
                case _:
                    raise RendezvousError("a message has to be tell or leave", Refusal.MALFORMED)

    async def _tell(self, connection: ServerConnection, ticket: Ticket, after: int) -> None:
        async for number, entry in self._mailboxes.follow(ticket, after):
            await connection.send(encode("entry", number=number, event=entry.event, text=entry.text))
            self.counts.entries += 1

    async def _keep(self, ticket: Ticket) -> None:
        while True:
            await self._mailboxes.keep(ticket)
            await asyncio.sleep(self._keep_interval)


class _Count:
    """Counts a client of a host while it is there."""

    def __init__(self, counter: Counter[str], host: str) -> None:
        self._counter, self._host = counter, host

    def __enter__(self) -> None:
        self._counter[self._host] += 1

    def __exit__(self, *_: object) -> None:
        self._counter[self._host] -= 1
        if not self._counter[self._host]:
            del self._counter[self._host]


class _Allowance:
    """So many messages in a second in the long run, and so many at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._left = float(burst)
        self._at = time.monotonic()

    def take(self) -> None:
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - 1
        self._at = now
        if self._left < 0:
            raise RendezvousError("too many messages at once", Refusal.TOO_FAST)


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel them until they have ended: a store may take a cancellation that meets its own time-out for that."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_INTERVAL)


def _host_of(connection: ServerConnection) -> str:
    address = connection.remote_address
    return str(address[0]) if address else ""
