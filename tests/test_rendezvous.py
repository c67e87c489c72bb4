"""The rendezvous: mailboxes in memory, the server's limits, and a client whose server is not to be trusted."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError

from ice_tcp.rendezvous import (
    Limits,
    MemoryMailboxes,
    Refusal,
    RendezvousError,
    RendezvousServer,
    join_line,
    open_line,
)
from ice_tcp.rendezvous.mailboxes import ABSENT_SECONDS, LONE_SECONDS, SESSION_SECONDS
from ice_tcp.rendezvous.protocol import MAX_TEXT_BYTES, encode
from tests.loops import run
from tests.mailbox_contract import CONTRACT, Wait, entries, reason_of
from tests.server_clients import make_certificate

HOST = "127.0.0.1"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def wait(self, absences: float) -> None:
        self.now += absences * ABSENT_SECONDS


@pytest.mark.parametrize("rule", CONTRACT, ids=lambda rule: rule.__name__)
def test_mailboxes_in_memory(rule: Callable[[MemoryMailboxes, Wait], Awaitable[None]]) -> None:
    async def main() -> None:
        clock = Clock()
        await rule(MemoryMailboxes(clock=clock), clock.wait)

    run(main())


def test_mailboxes_live_no_longer_than_they_may() -> None:
    async def main() -> None:
        clock = Clock()
        store = MemoryMailboxes(clock=clock)
        lone, other = await store.open(), await store.open()
        await store.join(other.mailbox)
        clock.now += SESSION_SECONDS - 1
        await store.keep(other)
        clock.now += SESSION_SECONDS - 1
        assert len(store) == 2
        clock.now += 1
        assert len(store) == 1
        assert await reason_of(store.resume(other.mailbox, other.token)) is Refusal.EXPIRED
        clock.now += LONE_SECONDS
        assert len(store) == 0
        assert await reason_of(store.join(lone.mailbox)) is Refusal.NO_SUCH_MAILBOX
        assert await reason_of(entries(store, lone, 1)) is Refusal.EXPIRED

    run(main())


def test_there_are_only_so_many_mailboxes_and_their_numbers_are_short() -> None:
    async def main() -> None:
        store = MemoryMailboxes(most=50)
        tickets = [await store.open() for _ in range(50)]
        assert len({ticket.mailbox for ticket in tickets}) == 50
        assert max(len(ticket.mailbox) for ticket in tickets) <= 3
        assert await reason_of(store.open()) is Refusal.FULL

    run(main())


# The server


@asynccontextmanager
async def serving(limits: Limits | None = None, **how: Any) -> AsyncIterator[tuple[RendezvousServer, str]]:
    async with RendezvousServer(HOST, limits=limits, **how) as server:
        yield server, f"ws://{HOST}:{server.port}"


async def refusal(connection: ClientConnection) -> tuple[str, str]:
    """The reason and the text of the refusal that comes, and the connection's end."""
    async for message in connection:
        fields = json.loads(message)
        if fields["type"] == "refused":
            assert [each async for each in connection] == []
            return fields["reason"], fields["text"]
    raise AssertionError("nothing was refused")


def test_two_lines_carry_texts_both_ways_and_tell_of_the_end() -> None:
    async def main() -> None:
        async with serving() as (server, url), open_line(url) as one:
            async with join_line(url, one.mailbox) as two:
                await asyncio.gather(one.met(), two.met())
                for number in range(20):
                    await one.send(f"one {number}")
                    await two.send(f"two {number}")
                assert [await two.receive() for _ in range(20)] == [f"one {number}" for number in range(20)]
                assert [await one.receive() for _ in range(20)] == [f"two {number}" for number in range(20)]
                assert 0 < await one.round_trip() < 5
                assert server.connections == 2
            assert await one.receive() is None
            assert await one.receive() is None

    run(main())


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        ("hello", "malformed"),
        ("[]", "malformed"),
        ("[" * 9000, "malformed"),
        ('{"type": 1}', "malformed"),
        ('{"type": "tell", "number": 1, "text": ""}', "malformed"),
        ('{"type": "join"}', "malformed"),
        ('{"type": "join", "mailbox": 7}', "malformed"),
        ('{"type": "join", "mailbox": "7"}', "no-such-mailbox"),
        (encode("join", mailbox="7" * 17), "too-large"),
        ('{"type": "resume", "mailbox": "7", "token": "x", "after": true}', "malformed"),
        ('{"type": "resume", "mailbox": "7", "token": "x", "after": -1}', "malformed"),
        ('{"type": "resume", "mailbox": "7", "token": "x", "after": 0}', "expired"),
        (b"\xff\xfe", "malformed"),
    ],
)
def test_a_first_message_that_is_none_is_refused(hello: str | bytes, reason: str) -> None:
    async def main() -> None:
        async with serving() as (server, url):
            async with connect(url) as connection:
                await connection.send(hello)
                assert (await refusal(connection))[0] == reason
            assert server.connections == 0

    run(main())


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('{"type": "open"}', "malformed"),
        ('{"type": "tell", "text": "x"}', "malformed"),
        ('{"type": "tell", "number": 2, "text": "x"}', "malformed"),
        ('{"type": "tell", "number": 1, "text": 1}', "malformed"),
        (encode("tell", number=1, text="x" * (MAX_TEXT_BYTES + 1)), "too-large"),
    ],
)
def test_a_message_that_is_none_is_refused(message: str, reason: str) -> None:
    async def main() -> None:
        async with serving() as (_, url), connect(url) as connection:
            await connection.send(encode("open"))
            assert json.loads(await connection.recv())["type"] == "welcome"
            await connection.send(message)
            assert (await refusal(connection))[0] == reason

    run(main())


def test_a_message_over_the_limit_ends_the_connection() -> None:
    async def main() -> None:
        async with serving() as (_, url), connect(url) as connection:
            await connection.send(encode("open"))
            await connection.recv()
            await connection.send("x" * 100_000)
            with pytest.raises(ConnectionClosedError, match="too big"):
                await connection.recv()

    run(main())


def test_who_floods_is_refused_and_the_other_side_goes_on() -> None:
    async def main() -> None:
        limits = Limits(burst=10, messages_per_second=0.01)
        async with serving(limits) as (_, url), open_line(url) as quiet, connect(url) as connection:
            await connection.send(encode("join", mailbox=quiet.mailbox))
            for number in range(1, 12):
                await connection.send(encode("tell", number=number, text="x"))
            assert (await refusal(connection))[0] == "too-fast"
            assert [await quiet.receive() for _ in range(10)] == ["x"] * 10

    run(main())


def test_who_says_nothing_is_refused() -> None:
    async def main() -> None:
        async with serving(Limits(hello_seconds=0.05)) as (_, url), connect(url) as connection:
            assert (await refusal(connection))[0] == "too-slow"

    run(main())


@pytest.mark.parametrize("limits", [Limits(connections=1), Limits(connections_per_host=1)])
def test_there_are_only_so_many_connections(limits: Limits) -> None:
    async def main() -> None:
        async with serving(limits) as (server, url):
            async with open_line(url):
                with pytest.raises(RendezvousError, match="too many connections") as caught:
                    async with open_line(url):
                        pass
                assert caught.value.reason is Refusal.FULL
                assert server.connections == 1
            async with open_line(url):
                pass

    run(main())


@pytest.mark.parametrize("name", ["connections", "connections_per_host", "messages_per_second", "burst"])
def test_a_limit_of_nothing_is_a_mistake(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: 0})


def test_it_says_that_it_is_well() -> None:
    async def main() -> None:
        async with serving() as (server, _):
            reader, writer = await asyncio.open_connection(HOST, server.port)
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
            writer.write(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()
            await writer.wait_closed()

    run(main())


def test_over_tls_whoever_trusts_the_certificate_is_served(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    offered = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    offered.load_cert_chain(certificate, key)

    async def main() -> None:
        async with serving(tls=offered) as (_, url):
            url = url.replace("ws://", "wss://")
            async with open_line(url, tls=ssl.create_default_context(cafile=certificate)) as line:
                assert line.mailbox
            with pytest.raises(RendezvousError, match="certificate"):
                async with open_line(url):
                    pass

    run(main())


# The client


def test_a_line_survives_its_connections() -> None:
    async def main() -> None:
        async with serving() as (server, url), open_line(url) as one, join_line(url, one.mailbox) as two:
            assert server._server is not None  # noqa: SLF001 - whose connections are cut
            for number in range(5):
                for connection in server._server.connections:  # noqa: SLF001
                    connection.transport.abort()
                await one.send(f"one {number}")
                await two.send(f"two {number}")
                assert await two.receive() == f"one {number}"
                assert await one.receive() == f"two {number}"

    run(main())


class Lasting(MemoryMailboxes):
    """Mailboxes that outlive an instance, as those in a common store do."""

    async def close(self) -> None: ...


def test_what_was_told_while_nobody_was_connected_arrives() -> None:
    async def main() -> None:
        store = Lasting()
        first = RendezvousServer(HOST, mailboxes=store)
        await first.__aenter__()
        url = f"ws://{HOST}:{first.port}"
        async with open_line(url) as one, join_line(url, one.mailbox) as two:
            port = first.port
            await first.__aexit__(None, None, None)
            await one.send("into the dark")
            async with RendezvousServer(HOST, port, mailboxes=store):
                assert await two.receive() == "into the dark"

    run(main())


def test_what_is_told_while_the_line_takes_its_mailbox_up_again_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each text that is told again is a moment in which another one may be told."""

    async def main() -> None:
        async with serving() as (server, url), open_line(url) as one, join_line(url, one.mailbox) as two:
            send = ClientConnection.send

            async def slowly(connection: ClientConnection, message: str) -> None:
                await asyncio.sleep(0.01)
                await send(connection, message)

            monkeypatch.setattr(ClientConnection, "send", slowly)
            assert server._server is not None  # noqa: SLF001 - whose connections are cut
            for connection in server._server.connections:  # noqa: SLF001
                connection.transport.abort()
            texts = [f"text {number}" for number in range(30)]
            for text in texts:
                await one.send(text)
                await asyncio.sleep(0.003)
            assert [await two.receive() for _ in texts] == texts

    run(main())


@asynccontextmanager
async def lying(*says: str | bytes) -> AsyncIterator[str]:
    """A server that says this, whatever it is told, and hangs up."""

    async def lie(connection: ServerConnection) -> None:
        await connection.recv()
        for message in says:
            await connection.send(message)

    async with serve(lie, HOST, 0) as server:
        yield f"ws://{HOST}:{next(iter(server.sockets)).getsockname()[1]}"


WELCOME = encode("welcome", mailbox="7", token="t", had=0)


def told(number: int, event: str = "told", text: object = "x") -> str:
    return encode("entry", number=number, event=event, text=text)


@pytest.mark.parametrize(
    ("says", "text"),
    [
        ((), "closed the connection"),
        (("",), "not JSON"),
        ((b"\xff",), "not JSON"),
        (("7",), "not an object"),
        ((encode("hello"),), "in place of a welcome"),
        ((encode("welcome", mailbox="7", token="t"),), "had is not a number"),
        ((encode("welcome", mailbox=7, token="t", had=0),), "mailbox is not text"),
        ((encode("refused", reason="on a whim", text="no"),), "no"),
        ((encode("refused", reason="full", text="no room"),), "no room"),
    ],
)
def test_a_welcome_that_is_none_is_an_error(says: tuple[str | bytes, ...], text: str) -> None:
    async def main() -> None:
        async with lying(*says) as url:
            with pytest.raises(RendezvousError, match=text):
                async with open_line(url):
                    pass

    run(main())


@pytest.mark.parametrize(
    ("says", "text"),
    [
        (told(2), "left something out"),
        (told(1, "nonsense"), "unknown event"),
        (told(1, text=1), "text is not text"),
        (told(1, text="x" * (MAX_TEXT_BYTES + 1)), "more than"),
        (encode("entry", event="told", text="x"), "number is not a number"),
        (encode("welcome"), "says 'welcome'"),
        (encode("refused", reason="expired", text="the mailbox is gone"), "the mailbox is gone"),
    ],
)
def test_a_lie_later_on_is_an_error(says: str, text: str) -> None:
    async def main() -> None:
        async with lying(WELCOME, says) as url, open_line(url) as line:
            with pytest.raises(RendezvousError, match=text):
                await line.receive()
            with pytest.raises(RendezvousError, match=text):
                await line.met()
            with pytest.raises(RendezvousError, match=text):
                await line.send("hello")

    run(main())


def test_an_entry_that_comes_twice_counts_once() -> None:
    async def main() -> None:
        async with (
            lying(WELCOME, told(1, text="a"), told(1, text="a"), told(2, text="b")) as url,
            open_line(url) as line,
        ):
            assert [await line.receive(), await line.receive()] == ["a", "b"]

    run(main())


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "ws://", "ws://127.0.0.1:1"])
def test_a_rendezvous_that_is_not_there_is_an_error(url: str) -> None:
    async def main() -> None:
        with pytest.raises(RendezvousError):
            async with open_line(url):
                pass

    run(main())


def test_a_text_over_the_limit_is_not_sent() -> None:
    async def main() -> None:
        async with serving() as (_, url), open_line(url) as line, join_line(url, line.mailbox) as other:
            with pytest.raises(ValueError, match="more than"):
                await line.send("x" * (MAX_TEXT_BYTES + 1))
            await line.send("x" * MAX_TEXT_BYTES)
            assert await other.receive() == "x" * MAX_TEXT_BYTES

    run(main())


def test_a_line_whose_rendezvous_vanishes_for_good_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ice_tcp.rendezvous.client.RESUME_SECONDS", 0.3)

    async def main() -> None:
        server = RendezvousServer(HOST)
        await server.__aenter__()
        async with open_line(f"ws://{HOST}:{server.port}") as line:
            await server.__aexit__(None, None, None)
            with pytest.raises(RendezvousError, match="cannot be reached"):
                await line.receive()

    run(main())
