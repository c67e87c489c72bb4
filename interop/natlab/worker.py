"""One host's process: an agent that does what the lab says, and tells what happens.

``python -m interop.natlab.worker`` speaks the messages of `ice_tcp.signaling` on its standard streams, one a line. What
is for the peer passes through the lab; a ``Note`` is between the lab and this process. Instants are those of
`time.monotonic`, which all processes of a machine share.

From the lab: ``begin`` (policy, role, trace file, whether to check as soon as possible), ``check`` (at what instant),
``restart``, ``end``. To it: ``checking``, ``valid``, ``selected``, ``data``, ``settled``, ``state``, ``failed``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
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
)
from ice_tcp.core.trace import Record
from ice_tcp.signaling import Channel, Description, Message, Note, SignalingError, apply, tell

_FIRST_INTERVAL: Final = 0.02
"""Seconds between messages to the peer until one of its own comes; UDP may lose some."""
_INTERVAL: Final = 0.1
_FINAL: Final = b"final"
_REPORT_DELAY: Final = 0.02


class Worker:
    """An agent between the lab and its peer."""

    def __init__(self, channel: Channel, agent: Agent, *, eager: bool) -> None:
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
        self._start(tell(self._agent, self._channel))
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

    async def _obey(self, note: Note) -> None:
        match note.name:
            case "check":
                self._check(note.data["at"])
            case "restart":
                self._told.clear()
                self._heard = False
                await self._agent.restart()
            case other:
                raise SignalingError(f"the lab asks for {other!r}")

    def _hear(self, message: Message) -> None:
        apply(self._agent, message)
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
        self._start(self._listen())
        await self._talk()

    # The conversation

    async def _talk(self) -> None:
        while True:
            path = self._agent.selected_path()
            with suppress(IceError):  # while it has no path it has nothing to say
                await self._agent.send(_FINAL if path is not None and path.nominated else b"early")
            await asyncio.sleep(_INTERVAL if self._heard else _FIRST_INTERVAL)

    async def _listen(self) -> None:
        while True:
            try:
                message = await self._agent.recv()
            except ConnectError:
                return
            self._heard = True
            self._report_once("data")
            path = self._agent.selected_path()
            if message == _FINAL and path is not None and path.nominated:
                self._report_once("settled")

    # What happens

    async def _watch(self, events: Any) -> None:
        async for event in events:
            match event:
                case PairChanged(state=PairState.SUCCEEDED, local=local, remote=remote):
                    self._report_once("valid", local=_fields(local), remote=_fields(remote))
                case PathSelected(selected):
                    self._report(
                        "selected",
                        local=_fields(selected.local),
                        remote=_fields(selected.remote),
                        nominated=selected.nominated,
                    )
                case Restarted():
                    self._start(tell(self._agent, self._channel))
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
    gc.freeze()  # what the imports made is not looked through while packets are on their way
    records: list[tuple[float, Record]] = []  # written at the end, for the same reason
    policy = Policy.model_validate(begin.data["policy"])
    try:
        async with Agent(Role(begin.data["role"]), policy=policy, trace=lambda *each: records.append(each)) as agent:
            with suppress(SignalingError):  # the lab is gone
                await Worker(channel, agent, eager=begin.data["eager"]).run()
    finally:
        _write(begin.data["trace"], records)


def _write(path: str, records: Sequence[tuple[float, Record]]) -> None:
    Path(path).write_text("".join(_line(*each) for each in records), encoding="utf-8")


def _line(now: float, record: Record) -> str:
    fields = {"at": now, "record": type(record).__name__, **asdict(record)}
    return json.dumps(fields, default=_plain) + "\n"


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


async def _standard_channel() -> Channel:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    return Channel(reader, asyncio.StreamWriter(transport, protocol, reader, loop))


if __name__ == "__main__":
    asyncio.run(main())
