"""What both sides of the demonstration do: signal, connect, and open a stream on whatever path was selected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from candidates.candidate import Transport
from ice_tcp.agent import Agent
from ice_tcp.core.events import GatheringDone
from ice_tcp.demo.plan import has_quic
from ice_tcp.demo.record import Record
from ice_tcp.errors import ConnectError
from ice_tcp.signaling import (
    CandidateFound,
    Channel,
    Description,
    EndOfCandidates,
    Note,
    SignalingError,
    apply,
    tell,
)
from ice_tcp.transfer import TransferError

if TYPE_CHECKING:
    from ice_tcp.quic import Certificate

T = TypeVar("T")
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]

REPORT: Final = "report"
"""Name of the receiver's last note: what it saw, after the file has arrived."""
FAILED: Final = "failed"
"""Name of the receiver's last note if it gives up: ``verdict`` and ``remedy``."""

_READY: Final = "ready"


class DemoError(Exception):
    """The demonstration did not succeed: a stable code, what one can do about it, and on which side it was seen."""

    def __init__(self, verdict: str, remedy: str, side: str = "sender") -> None:
        super().__init__(verdict, remedy, side)
        self.verdict = verdict
        self.remedy = remedy
        self.side = side


def explained(error: Exception) -> DemoError:
    """What the network did to us, as a verdict with its remedy."""
    match error:
        case DemoError():
            return error
        case ConnectError(verdict=verdict, remedy=remedy):
            return DemoError(verdict, remedy)
        case TransferError():
            return DemoError("transfer-failed", f"The file did not arrive: {error}.")
        case SignalingError():
            return DemoError("signaling-lost", f"The two processes lost touch: {error}.")
        case _:
            return DemoError("connection-lost", f"The data stream broke: {error}.")


class Side:
    """One agent and its signaling. Run `supervise` around what uses `stream`."""

    def __init__(
        self,
        agent: Agent,
        channel: Channel,
        record: Record,
        *,
        is_sender: bool,
        on_note: Callable[[Note], None] | None = None,
    ) -> None:
        self._agent = agent
        self._channel = channel
        self._record = record
        self._is_sender = is_sender
        self._on_note = on_note
        self._certificate = _new_certificate()
        self._peer_fingerprint: str | None = None
        self._gathered = asyncio.Event()
        self._told = asyncio.Event()
        self._heard = asyncio.Event()

    async def supervise(self, main: Coroutine[Any, Any, T]) -> T:
        """Meet the other process, then run ``main`` while signaling goes on.

        If signaling breaks, ``main`` is given up, and this raises why.
        """
        await self._meet()
        events = self._agent.events()
        self._record.start()
        working = asyncio.create_task(main)
        helpers = [self._watch(events), self._listen(), self._tell(), self._agent.gather()]
        tasks = [working, *map(asyncio.create_task, helpers)]
        pending = set(tasks)
        try:
            while not working.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in [working] if working in done else done:
                    await task
            return working.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _meet(self) -> None:
        """Wait until both processes are ready, so that neither's times include the start of the other."""
        await self._channel.send(Note(_READY))
        message = await self._channel.receive()
        if message != Note(_READY):
            raise SignalingError(f"the other process is not ready, it says {type(message).__name__}")

    async def gathered(self) -> None:
        """Wait until both sides have found all their candidates, and told each other: a small file is faster."""
        for each in (self._gathered, self._told, self._heard):
            await each.wait()

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[Stream]:
        """Connect, and open a stream between the two files: of the TCP connection itself, or of QUIC over UDP."""
        await self._agent.connect()
        path = await self._agent.nominated()
        if path.local.transport is Transport.TCP:
            async with _closing(await self._agent.open_stream()) as stream:
                yield stream
        else:
            async with self._quic_stream() as stream:
                yield stream

    @asynccontextmanager
    async def _quic_stream(self) -> AsyncIterator[Stream]:
        from ice_tcp.quic import connect_quic

        # Credentials come with the fingerprint, and without credentials there is no path.
        if self._certificate is None or self._peer_fingerprint is None:
            raise SignalingError("the other side told no fingerprint of a certificate")
        async with await connect_quic(
            self._agent,
            is_client=self._is_sender,
            certificate=self._certificate,
            peer_fingerprint=self._peer_fingerprint,
        ) as session:
            opened = await (session.open_stream() if self._is_sender else session.accept_stream())
            async with _closing(opened) as stream:
                yield stream

    async def _watch(self, events: AsyncIterator[Any]) -> None:
        async for event in events:
            self._record.event(event)
            if isinstance(event, GatheringDone):
                self._gathered.set()

    async def _tell(self) -> None:
        await tell(self._agent, self._channel, self._certificate.fingerprint if self._certificate else None)
        self._told.set()

    async def _listen(self) -> None:
        while True:
            message = await self._channel.receive()
            apply(self._agent, message)
            match message:
                case Description(fingerprint=fingerprint):
                    self._peer_fingerprint = fingerprint
                case CandidateFound(candidate):
                    self._record.remote_candidate(candidate)
                case EndOfCandidates():
                    self._heard.set()
                case Note() if self._on_note is not None:
                    self._on_note(message)


def _new_certificate() -> Certificate | None:
    if not has_quic():
        return None
    from ice_tcp.quic import Certificate

    return Certificate.generate()


@asynccontextmanager
async def _closing(stream: Stream) -> AsyncIterator[Stream]:
    """Close the stream in good order afterwards, or cut it off after an error."""
    writer = stream[1]
    try:
        yield stream
    except BaseException:
        writer.transport.abort()
        raise
    writer.close()
    # The file's own confirmation has come and gone; whoever closes first may cut off the other's last words.
    with suppress(ConnectionError):
        await writer.wait_closed()
