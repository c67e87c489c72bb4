"""Two who share a code: what the code may be, the channel that it seals, and the stream between their hosts."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

import ice_tcp
from candidates.parameters import IceParameters
from ice_tcp.meeting import (
    Code,
    CodeError,
    MeetingError,
    SealedChannel,
    TamperedError,
    WrongCodeError,
    connect,
    listen,
    meet,
)
from ice_tcp.meeting.code import checked_secret, draw_secret
from ice_tcp.rendezvous import MemoryMailboxes, RendezvousServer
from ice_tcp.rendezvous.mailboxes import Ticket
from ice_tcp.signaling import Description, EndOfCandidates, Message, Note
from tests.agents import policy
from tests.loops import run

T = TypeVar("T")
HELLO = Note("hello", {"n": 1})
SECRET = Description(IceParameters("someufrag", "somePasswordThatIsLong"), "AB:CD")

# Codes


@pytest.mark.parametrize("text", ["67-kafo-rimu", " 67 Kafo  Rimu\n", "67_KAFO-rimu", "67 - kafo - rimu"])
def test_a_code_is_taken_as_people_type_it(text: str) -> None:
    assert Code.parse(text) == Code("67", "kafo-rimu")


@pytest.mark.parametrize(
    "text", ["", "67", "kafo-rimu", "67-", "67-kafo1", "1234567-kafo-rimu", "67-kafo-rimu-", "67-käfo"]
)
def test_what_is_no_code_is_an_error(text: str) -> None:
    with pytest.raises(CodeError, match="is no code"):
        Code.parse(text)


def test_drawn_secrets_differ_and_are_two_words() -> None:
    drawn = {draw_secret() for _ in range(1000)}
    assert len(drawn) > 990
    assert all(re.fullmatch("([a-z]{4})-([a-z]{4})", secret) for secret in drawn)
    assert all(Code.parse(str(Code("7", secret))).secret == checked_secret(secret) for secret in drawn)


@pytest.mark.parametrize("secret", ["", "Two", "two words", "-", "two-", "zwölf"])
def test_a_secret_of_ones_own_is_words(secret: str) -> None:
    with pytest.raises(CodeError):
        checked_secret(secret)


def test_a_code_is_not_printed_by_accident() -> None:
    assert "kafo" not in repr(Code("67", "kafo-rimu"))


def test_the_library_call_is_at_the_top() -> None:
    assert (ice_tcp.connect, ice_tcp.listen) == (connect, listen)
    with pytest.raises(AttributeError, match="nothing"):
        _ = ice_tcp.nothing


# The sealed channel


class Wire:
    """One end of a line; ``change`` is what somebody on the way makes of each text that this end sends."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[str | None] = asyncio.Queue()
        self.other: Wire = self
        self.sent: list[str] = []
        self.change: Callable[[int, str], list[str | None]] = lambda _, text: [text]

    async def send(self, text: str) -> None:
        for each in self.change(len(self.sent), text):
            self.other.incoming.put_nowait(each)
        self.sent.append(text)

    async def receive(self) -> str | None:
        return await self.incoming.get()


def wires() -> tuple[Wire, Wire]:
    one, two = Wire(), Wire()
    one.other, two.other = two, one
    return one, two


async def agree(
    one: Wire, two: Wire, secrets: tuple[str, str] = ("kafo-rimu", "kafo-rimu"), contexts: tuple[str, str] = ("7", "7")
) -> list[SealedChannel | BaseException]:
    """What both sides come to."""
    found = await asyncio.gather(
        SealedChannel.agree(one, secrets[0], listens=True, context=contexts[0]),
        SealedChannel.agree(two, secrets[1], listens=False, context=contexts[1]),
        return_exceptions=True,
    )
    return [*found]


async def channels(one: Wire, two: Wire) -> tuple[SealedChannel, SealedChannel]:
    first, second = await agree(one, two)
    assert isinstance(first, SealedChannel) and isinstance(second, SealedChannel)
    return first, second


def test_messages_go_both_ways_and_nobody_reads_them() -> None:
    async def main() -> None:
        one, two = wires()
        first, second = await channels(one, two)
        for message in (SECRET, HELLO, EndOfCandidates()):
            await first.send(message)
            await second.send(message)
        assert [await second.receive() for _ in range(3)] == [SECRET, HELLO, EndOfCandidates()]
        assert [await first.receive() for _ in range(3)] == [SECRET, HELLO, EndOfCandidates()]
        seen = b"".join(base64.b64decode(text) for text in one.sent + two.sent)
        for word in (b"ufrag", b"someufrag", b"Password", b"AB:CD", b"hello", b"kafo"):
            assert word not in seen
        assert len(set(one.sent + two.sent)) == len(one.sent + two.sent)

    run(main())


@pytest.mark.parametrize(
    ("secrets", "contexts"), [(("kafo-rimu", "kafo-rima"), ("7", "7")), (("kafo-rimu", "kafo-rimu"), ("7", "8"))]
)
def test_another_secret_or_another_mailbox_is_a_wrong_code(secrets: tuple[str, str], contexts: tuple[str, str]) -> None:
    async def main() -> None:
        assert [type(each) for each in await agree(*wires(), secrets, contexts)] == [WrongCodeError, WrongCodeError]

    run(main())


async def outcome(question: Awaitable[T]) -> T | type[BaseException]:
    try:
        return await question
    except MeetingError as error:
        return type(error)


def _flipped(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[-1] ^= 1
    return base64.b64encode(data).decode()


CHANGES: dict[str, Callable[[int, str], list[str | None]]] = {
    "changed": lambda _, text: [_flipped(text)],
    "replaced": lambda *_: [base64.b64encode(b"x" * 40).decode()],
    "no base64": lambda _, text: ["*" + text],
    "empty": lambda *_: [""],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("number", [0, 1], ids=["element", "confirmation"])
def test_an_agreement_that_somebody_meddles_with_fails(
    number: int, change: Callable[[int, str], list[str | None]]
) -> None:
    async def main() -> None:
        one, two = wires()
        one.change = lambda sent, text: change(sent, text) if sent == number else [text]
        agreeing = asyncio.gather(
            outcome(SealedChannel.agree(one, "kafo-rimu", listens=True)),
            outcome(SealedChannel.agree(two, "kafo-rimu", listens=False)),
        )
        _, pending = await asyncio.wait([agreeing], timeout=0.2)
        if pending:  # the side that was deceived has given up; the other waits for it, until the line tells
            one.incoming.put_nowait(None)
        _, deceived = await agreeing
        assert isinstance(deceived, type) and issubclass(deceived, MeetingError)

    run(main())


@pytest.mark.parametrize(
    "change",
    [
        *CHANGES.values(),
        lambda _, text: [text, text],
        lambda sent, text: [] if sent == 2 else [text],
        lambda sent, text: [] if sent == 2 else [text, "held back"],
    ],
    ids=[*CHANGES, "repeated", "left out", "held back"],
)
def test_a_message_that_somebody_meddles_with_is_not_taken(change: Callable[[int, str], list[str | None]]) -> None:
    async def main() -> None:
        one, two = wires()
        first, second = await channels(one, two)
        one.change = change
        for number in range(3):
            await first.send(Note("n", {"number": number}))
        taken: list[Message] = []

        async def take() -> None:
            while True:
                taken.append(await second.receive())

        with pytest.raises(TamperedError):
            await take()
        assert taken == [Note("n", {"number": number}) for number in range(len(taken))]
        assert len(taken) < 3

    run(main())


def test_what_one_side_sent_is_not_taken_for_the_others() -> None:
    async def main() -> None:
        one, two = wires()
        first, _ = await channels(one, two)
        await first.send(HELLO)
        one.incoming.put_nowait(one.sent[-1])
        with pytest.raises(TamperedError):
            await first.receive()

    run(main())


def test_an_element_that_comes_back_is_no_agreement() -> None:
    async def main() -> None:
        one = Wire()  # its own other end
        with pytest.raises(MeetingError):
            await SealedChannel.agree(one, "kafo-rimu", listens=True)

    run(main())


def test_a_side_that_is_gone_is_an_error() -> None:
    async def main() -> None:
        one, two = wires()
        first, _ = await channels(one, two)
        one.incoming.put_nowait(None)
        with pytest.raises(MeetingError, match="gone"):
            await first.receive()
        one.incoming.put_nowait(None)
        with pytest.raises(MeetingError, match="gone"):
            await SealedChannel.agree(one, "kafo-rimu", listens=True)

    run(main())


# Meetings


class Overheard(MemoryMailboxes):
    """What a rendezvous knows."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    async def tell(self, ticket: Ticket, number: int, text: str) -> None:
        self.texts.append(text)
        await super().tell(ticket, number, text)


@asynccontextmanager
async def rendezvous(mailboxes: MemoryMailboxes | None = None) -> AsyncIterator[str]:
    async with RendezvousServer("127.0.0.1", mailboxes=mailboxes) as server:
        yield f"ws://127.0.0.1:{server.port}"


class Listener:
    """Listens in the background; `code` is what it tells."""

    def __init__(self, url: str, body: Callable[..., Coroutine[Any, Any, None]], extra: str = "") -> None:
        self.code: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._listen(url, body, extra))

    async def _listen(self, url: str, body: Callable[..., Coroutine[Any, Any, None]], extra: str) -> None:
        async with listen(self.code.set_result, rendezvous=url, policy=policy(extra)) as (reader, writer):
            await body(reader, writer)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()


@pytest.mark.parametrize("extra", ["transports: [udp]\n", "transports: [tcp]\n"], ids=["udp", "tcp"])
def test_two_get_a_stream_and_the_rendezvous_knows_nothing(extra: str) -> None:
    async def main() -> None:
        overheard = Overheard()
        async with rendezvous(overheard) as url:
            listener = Listener(url, echo, extra)
            code = await listener.code
            data = bytes(range(256)) * 2000
            async with connect(code, rendezvous=url, policy=policy(extra)) as (reader, writer):
                writer.write(data)
                assert await reader.readexactly(len(data)) == data
                writer.write_eof()
                assert await reader.read() == b""
            await listener.task
            known = b"".join(map(base64.b64decode, overheard.texts))
            assert len(overheard.texts) > 6
            for word in (b"127.0.0.1", b"candidate", Code.parse(code).secret.encode()):
                assert word not in known

    run(main())


def test_whoever_connects_may_hear_first() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome")

    async def main() -> None:
        async with rendezvous() as url:
            listener = Listener(url, greet)
            async with connect(await listener.code, rendezvous=url, policy=policy("")) as (reader, _):
                assert await reader.readexactly(7) == b"welcome"
            await listener.task

    run(main())


def test_a_wrong_code_is_told_to_both_and_used_up() -> None:
    async def main() -> None:
        async with rendezvous() as url:
            listener = Listener(url, echo)
            code = await listener.code
            with pytest.raises(WrongCodeError, match="used up"):
                async with connect(f"{code}x", rendezvous=url, policy=policy("")):
                    pass
            with pytest.raises(WrongCodeError):
                await listener.task
            with pytest.raises(ConnectionError, match="there is no mailbox"):
                async with connect(code, rendezvous=url, policy=policy("")):
                    pass

    run(main())


def test_a_code_serves_two_and_no_third() -> None:
    async def main() -> None:
        async with rendezvous() as url:
            listener = Listener(url, echo)
            code = await listener.code
            async with connect(code, rendezvous=url, policy=policy("")) as (_, writer):
                with pytest.raises(ConnectionError, match="have met"):
                    async with connect(code, rendezvous=url, policy=policy("")):
                        pass
                writer.write_eof()
            await listener.task

    run(main())


def test_a_peer_that_leaves_before_there_is_a_path_is_an_error() -> None:
    async def main() -> None:
        one, two = wires()
        agreeing = asyncio.create_task(SealedChannel.agree(two, "kafo-rimu", listens=False, context="7"))

        async def come() -> None:
            async with meet(one, Code("7", "kafo-rimu"), listens=True, policy=policy("")):
                raise AssertionError("there is nobody to meet")

        coming = asyncio.create_task(come())
        await agreeing
        one.incoming.put_nowait(None)
        with pytest.raises(MeetingError, match="gone"):
            await coming

    run(main())


def test_a_meeting_that_takes_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ice_tcp.meeting.meeting.MEETING_SECONDS", 0.1)

    async def main() -> None:
        with pytest.raises(MeetingError, match="took more than"):
            async with meet(wires()[0], Code("7", "kafo-rimu"), listens=True, policy=policy("")):
                pass

    run(main())
