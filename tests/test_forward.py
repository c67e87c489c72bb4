"""Ports of one side that are reached from the other: what the options say, and what is carried, refused and lost."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ice_tcp.meeting import Meeting, await_peer, reach_peer
from ice_tcp.meeting.forward import Address, Forward, ForwardError, allow, forward
from ice_tcp.quic import SessionClosedError
from interop.coturn import free_ports
from tests.agents import policy
from tests.loops import run
from tests.test_meeting import rendezvous
from tests.test_meeting_command import code_of, policy_file, start
from tests.test_meeting_command import rendezvous as rendezvous_process
from tests.test_meeting_command import run as run_processes

__all__ = ["policy_file"]

HOST = "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "listen", "to"),
    [
        ("8080:localhost:80", ("localhost", 8080), ("localhost", 80)),
        ("0:localhost:80", ("localhost", 0), ("localhost", 80)),
        ("192.0.2.1:8080:Web.Example:443", ("192.0.2.1", 8080), ("web.example", 443)),
        ("[::1]:8080:[2001:db8::1]:80", ("::1", 8080), ("2001:db8::1", 80)),
    ],
)
def test_a_forward_is_taken_as_ssh_takes_it(text: str, listen: tuple[str, int], to: tuple[str, int]) -> None:
    assert Forward.parse(text) == Forward(Address(*listen), Address(*to))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        "8080:80",
        "localhost:80",
        "x:localhost:80",
        "8080:localhost:0",
        "8080:localhost:65536",
        "65536:localhost:80",
        "1:2:3:4:5",
    ],
)
def test_a_forward_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(ForwardError):
        Forward.parse(text)


def test_an_address_is_written_as_it_is_read() -> None:
    for text in ("localhost:80", "[::1]:8080"):
        assert str(Address.parse(text)) == text


@asynccontextmanager
async def service(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
) -> AsyncIterator[Address]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, HOST, 0)
    try:
        yield Address(HOST, server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What comes, in capitals, after its end."""
    writer.write((await reader.read()).upper())
    await writer.drain()


class Forwarding:
    """Two sides in this process: `port` leads to ``to``, of which ``allowed`` may be reached."""

    def __init__(self, to: Address, *allowed: Address) -> None:
        self._to, self._allowed = to, allowed
        self.port = 0
        self.told: list[str] = []
        self.heard: list[str] = []
        self.meetings: list[Meeting] = []

    async def __aenter__(self) -> Forwarding:
        self._code: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._rendezvous = rendezvous()
        self._url = await self._rendezvous.__aenter__()
        self._tasks = [asyncio.create_task(self._allow()), asyncio.create_task(self._forward())]
        while not self.told:
            await asyncio.sleep(0.01)
            for task in self._tasks:
                assert not task.done(), task.exception()
        self.port = int(self.told[0].partition(" ")[0].rpartition(":")[2])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._tasks[1].cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._rendezvous.__aexit__(None, None, None)

    async def _allow(self) -> None:
        async with await_peer(self._code.set_result, rendezvous=self._url, policy=policy("")) as meeting:
            with suppress(SessionClosedError):
                await allow(meeting, self._allowed, self.heard.append)

    async def _forward(self) -> None:
        async with reach_peer(await self._code, rendezvous=self._url, policy=policy("")) as meeting:
            self.meetings.append(meeting)
            await forward(meeting, [Forward(Address(HOST, 0), self._to)], self.told.append)

    async def ask(self, data: bytes) -> bytes:
        """Say this to the port, and hear what comes until the end."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        writer.write(data)
        writer.write_eof()
        try:
            return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()


def test_several_connections_at_a_time_and_the_end_of_one_direction() -> None:
    async def main() -> None:
        async with service(shout) as to, Forwarding(to, to) as forwarding:
            texts = [f"text {number} ".encode() * 5000 for number in range(10)]
            assert await asyncio.gather(*map(forwarding.ask, texts)) == [text.upper() for text in texts]
            assert forwarding.told == [f"127.0.0.1:{forwarding.port} leads to {to} of the other side"]
            assert forwarding.heard == []

    run(main())


def test_what_is_not_allowed_is_refused_and_the_rest_goes_on() -> None:
    async def main() -> None:
        async with service(shout) as to, Forwarding(to, Address(HOST, 1)) as forwarding:
            assert await forwarding.ask(b"let me in") == b""
            assert forwarding.told[1:] == [f"{to} cannot be reached: {to} is not allowed"]
            assert forwarding.heard == [f"refused: {to} is not allowed"]
            assert await forwarding.ask(b"again") == b""

    run(main())


def test_a_port_where_nobody_listens_is_told() -> None:
    async def main() -> None:
        nobody = Address(HOST, free_ports(HOST)[0])
        async with Forwarding(nobody, nobody) as forwarding:
            assert await forwarding.ask(b"hello?") == b""
            assert "cannot be reached" in forwarding.told[1] and "refused" in forwarding.heard[0]

    run(main())


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(1)
    writer.transport.abort()


def test_a_connection_that_is_reset_ends_on_both_sides_and_the_others_go_on() -> None:
    async def main() -> None:
        async with service(hang_up) as to, Forwarding(to, to) as forwarding:
            for _ in range(3):
                reader, writer = await asyncio.open_connection(HOST, forwarding.port)
                writer.write(b"x")
                with suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()

    run(main())


@pytest.mark.parametrize(
    "header",
    [{"purpose": "pipe"}, {"purpose": "forward"}, {"purpose": "forward", "to": 7}, {"purpose": "forward", "to": "x"}],
)
def test_a_stream_for_something_else_is_refused(header: dict[str, Any]) -> None:
    async def main() -> None:
        async with service(shout) as to, Forwarding(to, to) as forwarding:
            (meeting,) = forwarding.meetings
            stream = await meeting.open(**header)
            if header["purpose"] == "pipe":
                with pytest.raises(ConnectionError, match="aborted"):
                    await stream[0].read()
            else:
                assert (await meeting.hear(stream[0]))["connected"] is False
            stream[1].close()
            assert len(forwarding.heard) == 1
            assert await forwarding.ask(b"still there?") == b"STILL THERE?"

    run(main())


def test_a_stream_that_says_no_word_of_ours_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ice_tcp.meeting.forward._HEADER_SECONDS", 0.2)

    async def main() -> None:
        async with service(shout) as to, Forwarding(to, to) as forwarding:
            (meeting,) = forwarding.meetings
            for nonsense in (b"GET / HTTP/1.0\r\n", b"[]\n", b"x" * 200_000):
                reader, writer = await meeting.session.open_stream()
                writer.write(nonsense)
                with pytest.raises(ConnectionError):
                    await reader.read()
                writer.close()
            assert await forwarding.ask(b"still there?") == b"STILL THERE?"

    run(main())


def test_the_commands_show_a_web_page(policy_file: Path) -> None:
    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n<h1>hello</h1>")

    async def body() -> None:
        async with service(page) as to, rendezvous_process() as url:
            options = ("--rendezvous", url, "--policy", policy_file)
            listening = await start("listen", "--forward", str(to), *options)
            code = await code_of(listening)
            carrying = await start("forward", "-L", f"127.0.0.1:0:{to}", code, *options)
            assert carrying.stderr is not None and listening.stderr is not None
            assert await carrying.stderr.readline() == b"connected over UDP, directly\n"
            assert await listening.stderr.readline() == b"connected over UDP, directly\n"
            line = (await carrying.stderr.readline()).decode()
            found = re.fullmatch(rf"127\.0\.0\.1:(\d+) leads to {re.escape(str(to))} of the other side\n", line)
            assert found is not None
            reader, writer = await asyncio.open_connection(HOST, int(found[1]))
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            assert (await reader.read()).endswith(b"<h1>hello</h1>")
            writer.close()
            carrying.send_signal(signal.SIGINT)
            await carrying.communicate()
            await listening.communicate()
            assert (carrying.returncode, listening.returncode) == (130, 0)

    run_processes(body())


def test_a_port_that_is_taken_is_told(policy_file: Path) -> None:
    async def body() -> None:
        async with service(shout) as taken, rendezvous_process() as url:
            options = ("--rendezvous", url, "--policy", policy_file)
            listening = await start("listen", "--forward", "localhost:80", *options)
            code = await code_of(listening)
            carrying = await start("forward", "-L", f"{taken}:localhost:80", code, *options)
            _, errors = await carrying.communicate()
            assert carrying.returncode == 1
            assert b"error: " in errors and b"in use" in errors
            await listening.communicate()
            assert listening.returncode == 0

    run_processes(body())
