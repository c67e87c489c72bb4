"""Signaling: messages and their text, the channel between two processes, and what it does for an agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candidates.candidate import Candidate
from candidates.parameters import IceParameters
from candidates.sdp import parse_candidate
from ice_tcp.signaling import (
    CandidateFound,
    Channel,
    ChannelClosed,
    Description,
    EndOfCandidates,
    LoopbackRendezvous,
    Message,
    MessageError,
    Note,
    SignalingError,
    apply,
    connect_loopback,
    decode,
    encode,
    tell,
)
from ice_tcp.signaling.channel import MAX_MESSAGE_BYTES

PARAMETERS = IceParameters("abcd", "0123456789012345678901", ("trickle", "ice2"), pacing=5)
CANDIDATE = parse_candidate("candidate:1 1 TCP 1518280447 192.0.2.1 50000 typ host tcptype passive")
MESSAGES: list[Message] = [
    Description(PARAMETERS, "AB:CD"),
    Description(replace(PARAMETERS, lite=True, options=(), pacing=None)),
    CandidateFound(CANDIDATE),
    EndOfCandidates(),
    Note("report", {"sha256": "00", "times": [1, 2.5, None]}),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_survives_its_text(message: Message) -> None:
    text = encode(message)
    assert "\n" not in text
    assert decode(text) == message
    assert decode(text.encode()) == message


def test_the_password_is_in_the_text_only() -> None:
    assert PARAMETERS.pwd in encode(MESSAGES[0])
    assert PARAMETERS.pwd not in repr(MESSAGES[0])


def test_unknown_keys_are_ignored() -> None:
    assert decode('{"type":"end-of-candidates","later":1}') == EndOfCandidates()


def described(**changes: object) -> str:
    return json.dumps(json.loads(encode(MESSAGES[0])) | changes)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "nested"),
        ("[]", "not a JSON object"),
        ("{}", "unknown type None"),
        ('{"type":"offer"}', "unknown type 'offer'"),
        ('{"type":["note"]}', "unknown type"),
        (described(ufrag=None), "ufrag"),
        (described(ufrag="a"), "ice-ufrag"),
        (described(pwd="short"), "ice-pwd"),
        (described(options="ice2"), "options"),
        (described(options=[1]), "options"),
        (described(lite=1), "lite"),
        (described(pacing=True), "pacing"),
        (described(pacing="5"), "pacing"),
        (described(fingerprint=5), "fingerprint"),
        ('{"type":"candidate"}', "candidate is missing"),
        ('{"type":"candidate","candidate":"candidate:1 1"}', "candidate: transport is missing"),
        ('{"type":"note","name":"x"}', "data"),
        ('{"type":"note","data":{}}', "name"),
    ],
)
def test_a_malformed_message_says_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(MessageError, match=problem):
        decode(text)


@given(st.binary(max_size=200) | st.from_type(object).map(repr).map(str.encode))
def test_any_bytes_are_a_message_or_a_message_error(data: bytes) -> None:
    try:
        message = decode(data)
    except MessageError:
        return
    assert isinstance(message, Description | CandidateFound | EndOfCandidates | Note)


def test_messages_cross_the_loopback_channel_in_order() -> None:
    async def run() -> None:
        async with LoopbackRendezvous() as rendezvous:
            theirs = await connect_loopback(rendezvous.port, rendezvous.token)
            mine = await rendezvous.accept()
            for message in MESSAGES:
                await mine.send(message)
            await theirs.send(Note("done"))
            assert await mine.receive() == Note("done")
            assert [await theirs.receive() for _ in MESSAGES] == MESSAGES
            await mine.close()
            assert [message async for message in theirs] == []
            with pytest.raises(ChannelClosed):
                await theirs.receive()
            await theirs.close()

    asyncio.run(run())


def test_a_wrong_token_is_turned_away_and_the_right_one_still_works() -> None:
    async def run() -> None:
        async with LoopbackRendezvous() as rendezvous:
            for token in ("", "x" * 43, rendezvous.token[:-1], "x" * (2 * MAX_MESSAGE_BYTES)):
                with pytest.raises(SignalingError, match="does not accept the token"):
                    await connect_loopback(rendezvous.port, token)
            channel = await connect_loopback(rendezvous.port, rendezvous.token)
            await rendezvous.accept()
            with pytest.raises(SignalingError, match="does not accept the token"):
                await connect_loopback(rendezvous.port, rendezvous.token)
            await channel.close()

    asyncio.run(run())


def test_silent_strangers_do_not_keep_the_peer_out() -> None:
    async def run() -> None:
        async with LoopbackRendezvous() as rendezvous:
            strangers = [await asyncio.open_connection("127.0.0.1", rendezvous.port) for _ in range(15)]
            channel = await connect_loopback(rendezvous.port, rendezvous.token)
            await channel.close()
            more = [await asyncio.open_connection("127.0.0.1", rendezvous.port) for _ in range(5)]
            assert await more[-1][0].read() == b""  # one too many
            for _, writer in strangers + more:
                writer.close()

    asyncio.run(run())


def test_a_port_where_nobody_listens_is_an_error() -> None:
    async def run() -> None:
        async with LoopbackRendezvous() as rendezvous:
            port = rendezvous.port
        await connect_loopback(port, "token")

    with pytest.raises(SignalingError, match="nobody answers on port"):
        asyncio.run(run())


@asynccontextmanager
async def channel_after(data: bytes) -> AsyncIterator[Channel]:
    """A channel on which ``data`` comes, and then the end."""

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        channel = Channel(*await asyncio.open_connection(*server.sockets[0].getsockname(), limit=MAX_MESSAGE_BYTES))
        yield channel
        await channel.close()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "closed the signaling channel"),
        (b"{}\n", "unknown type"),
        (b'{"type":"end-of-candidates"}', "within a message"),
        (b" " * (MAX_MESSAGE_BYTES + 1) + b"\n", "over the limit"),
    ],
)
def test_what_is_no_message_is_a_signaling_error(data: bytes, problem: str) -> None:
    async def run() -> None:
        async with channel_after(data) as channel:
            with pytest.raises(SignalingError, match=problem):
                await channel.receive()

    asyncio.run(run())


def test_a_message_that_is_too_large_is_not_sent() -> None:
    async def run() -> None:
        async with channel_after(b"") as channel:
            with pytest.raises(ValueError, match="over the limit"):
                await channel.send(Note("large", {"text": "x" * MAX_MESSAGE_BYTES}))

    asyncio.run(run())


class RecordingAgent:
    """An agent with one candidate, that keeps what it is told."""

    local_parameters = PARAMETERS

    def __init__(self) -> None:
        self.heard: list[object] = []

    async def local_candidates(self) -> AsyncIterator[Candidate]:
        yield CANDIDATE

    def set_remote_parameters(self, parameters: IceParameters) -> None:
        self.heard.append(parameters)

    def add_remote_candidate(self, candidate: Candidate) -> None:
        self.heard.append(candidate)

    def end_of_candidates(self) -> None:
        self.heard.append("end")


def test_an_agent_is_told_what_the_other_tells() -> None:
    async def run() -> list[object]:
        agent = RecordingAgent()
        async with LoopbackRendezvous() as rendezvous:
            theirs = await connect_loopback(rendezvous.port, rendezvous.token)
            mine = await rendezvous.accept()
            await tell(RecordingAgent(), mine, "AB:CD")
            await mine.send(Note("bye"))
            await mine.close()
            async for message in theirs:
                apply(agent, message)
            await theirs.close()
        return agent.heard

    assert asyncio.run(run()) == [PARAMETERS, CANDIDATE, "end"]
