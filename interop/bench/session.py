"""What the two ends of a measurement share: a channel, a common start, their endpoints."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from interop.bench.endpoints import Endpoint, TurnServer, make_endpoint


class BenchError(Exception):
    """A measurement went wrong: something was lost, changed, or took too long. There is no figure then."""


class Channel(Protocol):
    """Carries JSON values to the other end and back, in order."""

    async def put(self, message: Any) -> None: ...
    async def get(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class QueueChannel:
    """Both ends are in this process."""

    incoming: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    outgoing: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    @property
    def other_end(self) -> QueueChannel:
        return QueueChannel(self.outgoing, self.incoming)

    async def put(self, message: Any) -> None:
        await self.outgoing.put(json.dumps(message))

    async def get(self) -> Any:
        return json.loads(await self.incoming.get())


@dataclass(frozen=True, slots=True)
class PipeChannel:
    """The other end is the process at the other end of these pipes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def put(self, message: Any) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")
        await self.writer.drain()

    async def get(self) -> Any:
        line = await self.reader.readline()
        if not line:
            raise BenchError("the other process ended")
        return json.loads(line)


_LEAD = 0.02  # seconds before a common start: time for its instant to get there, and for pacers to rest


@dataclass(frozen=True, slots=True)
class Session:
    """One of the two ends. ``first`` is the one that controls, sends first, and gives the result."""

    first: bool
    subject: str
    processes: int
    options: Mapping[str, Any]
    channel: Channel

    def endpoint(self) -> Endpoint:
        """A new endpoint of the subject that is measured; the first one's candidate is relayed if there is a server."""
        turn = self.options.get("turn") if self.first else None
        return make_endpoint(self.subject, self.first, TurnServer(*turn) if turn is not None else None)

    async def connected(self, endpoint: Endpoint | None = None) -> Endpoint:
        """An endpoint, by default a new one of the subject, with a nominated path to the other end's."""
        endpoint = endpoint or self.endpoint()
        await endpoint.prepare(self.channel)
        await endpoint.connect()
        await endpoint.nominated()
        await self.meet()
        return endpoint

    async def meet(self) -> None:
        """Return when both ends have come here."""
        await self.exchange(None)

    async def exchange(self, message: Any) -> Any:
        """Give a message to the other end, and return the one it gives."""
        await self.channel.put(message)
        return await self.channel.get()

    async def start(self) -> float:
        """Return at the same instant at both ends; the instant, on the clock that all processes share."""
        if self.first:
            start_at = time.monotonic() + _LEAD
            await self.channel.put(start_at)
        else:
            start_at = await self.channel.get()
        await asyncio.sleep(start_at - time.monotonic() - _LEAD / 4)
        while time.monotonic() < start_at:
            pass
        return start_at
