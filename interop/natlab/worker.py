"""One host's process: an agent that does what the lab says, and tells what happens.

Forked by `interop.natlab.nursery`, it speaks the messages of `ice_tcp.signaling` on its standard streams, one a line.
What is for the peer passes through the lab; a ``Note`` is between the lab and this process. Instants are those of
`time.monotonic`, which all processes of a machine share.

From the lab: ``begin`` (policy, role, trace file, whether to check as soon as possible, whether to make a stream),
``check`` (at what instant), ``quiet`` (for how long to say nothing), ``restart``, ``finish`` (the stream), ``end``. To
it: ``checking``, ``valid``, ``pair``, ``selected``, ``data``, ``settled``, ``state``, ``failed``,
``restarted``, ``heard``, ``stream``.

With a stream the agents talk QUIC: numbers both ways, ten milliseconds apart, until ``finish``. Each tells then how
many it sent, how many came, and which of them were not the next.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

from candidates.candidate import Candidate
from ice_tcp import (
    Agent,
    AgentState,
    ConnectError,
    IceError,
    PairChanged,
    PairState,
    PathSelected,
    Policy,
    Restarted,
    Role,
    StateChanged,
    TraceFile,
)
from ice_tcp.core.trace import Entry
from ice_tcp.quic import Certificate, connect_quic
from ice_tcp.signaling import Channel, Description, Message, Note, SignalingError, apply, tell
from ice_tcp.tracefile import Clock

_FIRST_INTERVAL: Final = 0.02
"""Seconds between messages to the peer until one of its own comes; UDP may lose some."""
_INTERVAL: Final = 0.1
_FINAL: Final = b"final"
_REPORT_DELAY: Final = 0.02
_NUMBER_BYTES: Final = 8
_NUMBER_INTERVAL: Final = 0.01


class Worker:
    """An agent between the lab and its peer."""

    def __init__(self, channel: Channel, agent: Agent, *, eager: bool, streams: bool) -> None:
        self._certificate = Certificate.generate() if streams else None
        self._peer_fingerprint: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._finishing = asyncio.Event()
        self._quiet_until = 0.0
        self._channel = channel
        self._agent = agent
        self._eager = eager
        self._tasks: set[asyncio.Task[None]] = set()
        self._checking = False
        self._heard = False
        self._told: set[str] = set()
        self._reports: list[Note] = []

    async def run(self) -> None:
        """Until the lab says ``end``, or is gone."""
        events = self._agent.events()
        self._start(self._watch(events))
        self._start(self._tell())
        self._start(self._agent.gather())
        try:
            while True:
                message = await self._channel.receive()
                if isinstance(message, Note):
                    if message.name == "end":
                        return
                    await self._obey(message)
                else:
                    self._hear(message)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tell(self) -> Coroutine[Any, Any, None]:
        return tell(self._agent, self._channel, self._certificate.fingerprint if self._certificate else None)

    async def _obey(self, note: Note) -> None:
        match note.name:
            case "check":
                self._check(note.data["at"])
            case "restart":
                self._told.clear()
                self._heard = False
                await self._agent.restart()
            case "quiet":
                self._quiet_until = time.monotonic() + note.data["seconds"]
            case "finish":
                self._finishing.set()
            case other:
                raise SignalingError(f"the lab asks for {other!r}")

    def _hear(self, message: Message) -> None:
        apply(self._agent, message)
        if isinstance(message, Description) and message.fingerprint and not self._peer_fingerprint.done():
            self._peer_fingerprint.set_result(message.fingerprint)
        if self._eager and isinstance(message, Description):
            self._check(time.monotonic())

    def _check(self, at: float) -> None:
        if not self._checking:
            self._checking = True
            self._start(self._connect(at))

    async def _connect(self, at: float) -> None:
        await asyncio.sleep(at - time.monotonic())
        started_at = time.monotonic()
        connecting = asyncio.create_task(self._agent.connect())
        await asyncio.sleep(0)  # the checks go first
        self._report("checking", at=started_at)
        try:
            await connecting
        except ConnectError as error:
            self._report("failed", verdict=error.verdict, remedy=error.remedy)
            return
        if self._certificate is not None:
            await self._count(self._certificate)
            return
        self._start(self._listen())
        await self._talk()

    # The conversation

    async def _talk(self) -> None:
        while True:
            path = self._agent.selected_path()
            await asyncio.sleep(self._quiet_until - time.monotonic())
            with suppress(IceError):  # while it has no path it has nothing to say
                await self._agent.send(_FINAL if path is not None and path.nominated else b"early")
            await asyncio.sleep(_INTERVAL if self._heard else _FIRST_INTERVAL)

    async def _listen(self) -> None:
        while True:
            try:
                message = await self._agent.recv()
            except ConnectError:
                return
            if not self._heard or self._quiet_until:
                self._quiet_until = 0.0
                self._report("heard")
            self._heard = True
            self._report_once("data")
            path = self._agent.selected_path()
            if message == _FINAL and path is not None and path.nominated:
                self._report_once("settled")

    async def _count(self, certificate: Certificate) -> None:
        """Numbers over a QUIC stream, both ways."""
        is_client = self._agent.role is Role.CONTROLLING
        fingerprint = await self._peer_fingerprint
        async with await connect_quic(
            self._agent, is_client=is_client, certificate=certificate, peer_fingerprint=fingerprint
        ) as session:
            reader, writer = await (session.open_stream() if is_client else session.accept_stream())
            sending = asyncio.create_task(self._send_numbers(writer))
            received = 0
            wrong: list[int] = []
            with suppress(asyncio.IncompleteReadError):
                while True:
                    number = int.from_bytes(await reader.readexactly(_NUMBER_BYTES), "big")
                    if number != received:
                        wrong.append(number)
                    received += 1
                    self._report_once("data")
            sent = await sending
            self._report("stream", sent=sent, received=received, wrong=wrong)
            await asyncio.Event().wait()

    async def _send_numbers(self, writer: asyncio.StreamWriter) -> int:
        sent = 0
        while not self._finishing.is_set():
            writer.write(sent.to_bytes(_NUMBER_BYTES, "big"))
            await writer.drain()
            sent += 1
            await asyncio.sleep(_NUMBER_INTERVAL)
        writer.write_eof()
        return sent

    # What happens

    async def _watch(self, events: Any) -> None:
        async for event in events:
            match event:
                case PairChanged(state=PairState.SUCCEEDED, local=local, remote=remote):
                    ends = {"local": _fields(local), "remote": _fields(remote)}
                    self._report_once("valid", **ends)
                    self._report("pair", **ends)
                case PathSelected(selected):
                    self._report(
                        "selected",
                        local=_fields(selected.local),
                        remote=_fields(selected.remote),
                        nominated=selected.nominated,
                    )
                case Restarted():
                    self._report("restarted")
                    self._start(self._tell())
                case StateChanged(state, verdict) if state is not AgentState.CLOSED:
                    self._report("state", state=state, verdict=verdict)

    def _report_once(self, name: str, **fields: Any) -> None:
        if name not in self._told:
            self._told.add(name)
            self._report(name, **fields)

    def _report(self, name: str, **fields: Any) -> None:
        """Not at once: a report must not hold up what it tells of."""
        if not self._reports:
            asyncio.get_running_loop().call_later(_REPORT_DELAY, lambda: self._start(self._send_reports()))
        self._reports.append(Note(name, {"at": time.monotonic(), **fields}))

    async def _send_reports(self) -> None:
        reports, self._reports = self._reports, []
        for report in reports:
            await self._channel.send(report)


def _fields(candidate: Candidate) -> dict[str, Any]:
    return {
        "type": candidate.type,
        "transport": candidate.transport,
        "tcptype": candidate.tcptype,
        "address": str(candidate.address),
    }


async def main() -> None:
    """Be one side of a cell."""
    channel = await _standard_channel()
    begin = await channel.receive()
    if not isinstance(begin, Note) or begin.name != "begin":
        raise SignalingError("the lab did not begin")
    told: list[tuple[float, Entry]] = []  # written at the end: meanwhile it is times that matter
    zero = Clock.now()
    policy = Policy.model_validate(begin.data["policy"])
    try:
        async with Agent(Role(begin.data["role"]), policy=policy, trace=lambda *each: told.append(each)) as agent:
            with suppress(SignalingError):  # the lab is gone
                await Worker(channel, agent, eager=begin.data["eager"], streams=begin.data["streams"]).run()
    finally:
        with TraceFile(begin.data["trace"], zero=zero) as trace:
            for each in told:
                trace(*each)


async def _standard_channel() -> Channel:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    return Channel(reader, asyncio.StreamWriter(transport, protocol, reader, loop))
