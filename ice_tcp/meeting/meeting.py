"""From a line to a stream: agree, tell, connect, and open QUIC."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from candidates.policy import Policy
from ice_tcp.agent import Agent, EventStream
from ice_tcp.capsule import Capsule
from ice_tcp.core.events import AgentState, Restarted, Role, SelectedPath, StateChanged
from ice_tcp.core.trace import TraceSink
from ice_tcp.meeting.code import Code, checked_secret, draw_secret
from ice_tcp.meeting.folder import join_folder, open_folder
from ice_tcp.meeting.sealed import MeetingError, SealedChannel, TextLine
from ice_tcp.quic import Certificate, QuicSession, connect_quic
from ice_tcp.rendezvous import join_line, open_line
from ice_tcp.signaling import Description, apply, tell

T = TypeVar("T")
Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

PIPE: Final = "pipe"
"""The purpose of a stream that joins two programs."""
_FILE: Final = "file:"
_RESTART_INTERVAL: Final = 8.0
"""Seconds until a restart that found nothing is followed by the next one."""
MEETING_SECONDS: Final = 60.0
"""From both being there to the open stream."""


class Meeting:
    """Two agents with a path, and QUIC over it; `meet` makes one."""

    def __init__(self, agent: Agent, session: QuicSession, *, listens: bool) -> None:
        self.agent = agent
        self.session = session
        self._listens = listens

    @property
    def path(self) -> SelectedPath | None:
        """What carries it now."""
        return self.agent.selected_path()

    async def open(self, purpose: str, **header: object) -> Stream:
        """A new stream, and the other side is told what for."""
        reader, writer = await self.session.open_stream()
        await self.say(writer, purpose=purpose, **header)
        return reader, writer

    async def accept(self) -> tuple[dict[str, object], Stream]:
        """The next stream that the other side opened, and what it said of it. Raises MeetingError, ConnectionError."""
        reader, writer = await self.session.accept_stream()
        return await self.hear(reader), (reader, writer)

    async def stream(self, purpose: str = PIPE) -> Stream:
        """The one stream of a meeting that has only one: the side that connects opens it, the other takes it.

        Raises MeetingError if the other side came for something else.
        """
        if not self._listens:
            return await self.open(purpose)
        header, stream = await self.accept()
        if header.get("purpose") != purpose:
            raise MeetingError(f"the other side came for something else: {header.get('purpose')!r}")
        return stream

    @staticmethod
    async def say(writer: asyncio.StreamWriter, **fields: object) -> None:
        """A line about the stream, before its bytes."""
        writer.write(json.dumps(fields).encode() + b"\n")
        await writer.drain()

    @staticmethod
    async def hear(reader: asyncio.StreamReader) -> dict[str, object]:
        """What the other side says of a stream. Raises MeetingError for what is no such line, ConnectionError."""
        try:
            fields = json.loads(await reader.readuntil(b"\n"))
        except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            raise MeetingError("the other side does not speak this protocol") from None
        if not isinstance(fields, dict):
            raise MeetingError("the other side does not speak this protocol")
        return fields


@asynccontextmanager
async def meet(
    line: TextLine,
    code: Code,
    *,
    listens: bool,
    policy: Policy | None = None,
    trace: TraceSink | None = None,
    capsule: Capsule | None = None,
) -> AsyncIterator[Meeting]:
    """Come together with who is at the other end of the line and knows the code; exactly one side ``listens``.

    Raises WrongCodeError, MeetingError, and what `Agent.connect` and `connect_quic` raise.
    """
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(MEETING_SECONDS):
                channel = await SealedChannel.agree(line, code.secret, listens=listens, context=code.mailbox)
                role = Role.CONTROLLED if listens else Role.CONTROLLING
                agent = await stack.enter_async_context(Agent(role, policy=policy, trace=trace, capsule=capsule))
                session = await stack.enter_async_context(
                    await _connected(agent, channel, stack, is_client=not listens)
                )
        except TimeoutError:
            raise MeetingError(f"it took more than {MEETING_SECONDS:g} seconds") from None
        yield Meeting(agent, session, listens=listens)


async def _connected(agent: Agent, channel: SealedChannel, stack: AsyncExitStack, *, is_client: bool) -> QuicSession:
    certificate = Certificate.generate()
    fingerprint: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def hear() -> None:
        async for message in channel:
            if isinstance(message, Description) and message.fingerprint is not None and not fingerprint.done():
                fingerprint.set_result(message.fingerprint)
            apply(agent, message)

    events = agent.events()
    signaling = [asyncio.ensure_future(each) for each in (hear(), tell(agent, channel, certificate.fingerprint))]
    mending = asyncio.ensure_future(_mend(agent, events, channel, restarts=is_client))
    stack.push_async_callback(_cancelled, *signaling, mending)
    await _unless_failed(agent.gather(), signaling)
    await _unless_failed(agent.connect(), signaling)
    peer = await _unless_failed(fingerprint, signaling)
    return await connect_quic(agent, is_client=is_client, certificate=certificate, peer_fingerprint=peer)


async def _mend(agent: Agent, events: EventStream, channel: SealedChannel, *, restarts: bool) -> None:
    """Keep the agents in touch: one of them restarts when the path is lost, and both tell of their new generations."""
    restarting: asyncio.Task[None] | None = None
    try:
        async for event in events:
            match event:
                case Restarted():
                    await tell(agent, channel)
                case StateChanged(state=AgentState.DISCONNECTED) if restarts and restarting is None:
                    restarting = asyncio.create_task(_restart(agent))
                case StateChanged() if restarting is not None:
                    restarting.cancel()
                    restarting = None
                case _:
                    pass
    finally:
        if restarting is not None:
            restarting.cancel()


async def _restart(agent: Agent) -> None:
    """Again and again: the network may come back only later."""
    while True:
        await agent.restart()
        await asyncio.sleep(_RESTART_INTERVAL)


@asynccontextmanager
async def await_peer(
    tell_code: Callable[[str], None],
    *,
    rendezvous: str,
    secret: str | None = None,
    policy: Policy | None = None,
    tls: ssl.SSLContext | None = None,
    trace: TraceSink | None = None,
    capsule: Capsule | None = None,
) -> AsyncIterator[Meeting]:
    """The meeting with one peer that knows the code, which ``tell_code`` is given.

    ``rendezvous`` is a URL as in ``wss://example.org``, or ``file:`` and a folder that both sides see; ``secret`` is
    drawn unless given. Raises RendezvousError, and what `meet` raises.
    """
    secret = draw_secret() if secret is None else checked_secret(secret)
    folder = _folder(rendezvous)
    async with open_line(rendezvous, tls=tls) if folder is None else open_folder(folder) as line:
        code = Code(line.mailbox, secret)
        tell_code(str(code))
        await line.met()
        async with meet(line, code, listens=True, policy=policy, trace=trace, capsule=capsule) as meeting:
            yield meeting


@asynccontextmanager
async def reach_peer(
    code: str,
    *,
    rendezvous: str,
    policy: Policy | None = None,
    tls: ssl.SSLContext | None = None,
    trace: TraceSink | None = None,
    capsule: Capsule | None = None,
) -> AsyncIterator[Meeting]:
    """The meeting with the peer that listens under this code.

    Raises CodeError for a text that is no code, RendezvousError, WrongCodeError, and what `meet` raises.
    """
    parsed = Code.parse(code)
    folder, mailbox = _folder(rendezvous), parsed.mailbox
    async with (
        join_line(rendezvous, mailbox, tls=tls) if folder is None else join_folder(folder, mailbox) as line,
        meet(line, parsed, listens=False, policy=policy, trace=trace, capsule=capsule) as meeting,
    ):
        yield meeting


def _folder(rendezvous: str) -> Path | None:
    return Path(rendezvous.removeprefix(_FILE)) if rendezvous.startswith(_FILE) else None


@asynccontextmanager
async def listen(
    tell_code: Callable[[str], None],
    *,
    rendezvous: str,
    secret: str | None = None,
    policy: Policy | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Stream]:
    """Wait for a peer, as `await_peer` does; then one encrypted stream to it."""
    waiting = await_peer(tell_code, rendezvous=rendezvous, secret=secret, policy=policy, tls=tls)
    async with waiting as meeting, streaming(meeting) as stream:
        yield stream


@asynccontextmanager
async def connect(
    code: str, *, rendezvous: str, policy: Policy | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Stream]:
    """One encrypted stream to the peer that listens under this code; raises what `reach_peer` raises."""
    reaching = reach_peer(code, rendezvous=rendezvous, policy=policy, tls=tls)
    async with reaching as meeting, streaming(meeting) as stream:
        yield stream


@asynccontextmanager
async def streaming(meeting: Meeting, purpose: str = PIPE) -> AsyncIterator[Stream]:
    """The one stream of a meeting; what was written is delivered, unless an error ends it."""
    reader, writer = await meeting.stream(purpose)
    try:
        yield reader, writer
    except BaseException:
        if not writer.is_closing():
            writer.transport.abort()
        raise
    writer.close()
    with suppress(ConnectionError):  # the session told of it where it was used
        await writer.wait_closed()


async def _unless_failed(wanted: Awaitable[T], signaling: Iterable[asyncio.Task[None]]) -> T:
    """What is wanted, unless signaling fails before. Raises its error then."""
    waiting = asyncio.ensure_future(wanted)
    failing = asyncio.ensure_future(_failure(signaling))
    try:
        await asyncio.wait([waiting, failing], return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise failing.result()
        return waiting.result()
    finally:
        waiting.cancel()
        failing.cancel()
        await asyncio.wait([waiting, failing])


async def _failure(tasks: Iterable[asyncio.Task[None]]) -> BaseException:
    """The first error of any of them; never returns if there is none."""
    pending = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                return error
    await asyncio.get_running_loop().create_future()
    raise AssertionError("unreachable")


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
