"""QUIC streams over datagrams in memory: pinning, flow control, loss, outages and ends."""

from __future__ import annotations

import asyncio
import importlib
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from candidates.policy import Policy
from ice_tcp import Agent, PathSelected, Role
from ice_tcp.errors import ConnectError, NoPathError
from ice_tcp.quic import (
    Certificate,
    DatagramAgent,
    PeerCertificateError,
    QuicError,
    QuicSession,
    SessionClosedError,
    connect_quic,
)
from ice_tcp.quic.certificate import checked_fingerprint
from ice_tcp.quic.connection import CONNECTION_WINDOW, MAX_DATAGRAM_SIZE, STREAM_WINDOW, PinnedConnection
from ice_tcp.quic.stream import READ_LIMIT, WRITE_HIGH

MINE = Certificate.generate()
THEIRS = Certificate.generate()
STRANGERS = Certificate.generate()


class Pipe:
    """One end of a pair of agents without ICE: at most ``room`` datagrams wait at the other end."""

    def __init__(self, *, loss: float = 0.0, room: int = 10_000) -> None:
        self.peer: Pipe
        self.sizes: list[int] = []
        self.under_way = asyncio.Event()
        self.is_up = True
        self.failure: Exception | None = None
        self.refused = 0
        self._random = random.Random(7)
        self._loss = loss
        self._room = room
        self.arrived: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.taken = asyncio.Condition()

    def send_nowait(self, data: bytes, component: int = 1) -> bool:
        if self.failure is not None:
            raise self.failure
        if not self.is_up:
            raise NoPathError("no path")
        if self.peer.arrived.qsize() >= self._room:
            self.refused += 1
            return False
        self.sizes.append(len(data))
        if len(self.sizes) == 30:
            self.under_way.set()
        if self._random.random() >= self._loss:
            self.peer.arrived.put_nowait(data)
        return True

    async def send(self, data: bytes, component: int = 1) -> None:
        while not self.send_nowait(data):
            async with self.peer.taken:
                await self.peer.taken.wait()

    async def recv(self, component: int = 1) -> bytes:
        arrived = await self.arrived.get()
        if isinstance(arrived, Exception):
            raise arrived
        async with self.taken:
            self.taken.notify_all()
        return arrived

    def fail(self, error: Exception) -> None:
        self.arrived.put_nowait(error)


def pipes(*, loss: float = 0.0, room: int = 10_000) -> tuple[Pipe, Pipe]:
    one, other = Pipe(loss=loss, room=room), Pipe(loss=loss, room=room)
    one.peer, other.peer = other, one
    return one, other


async def dial(pipe: DatagramAgent, *, expected: Certificate = THEIRS, handshake_timeout: float = 10.0) -> QuicSession:
    return await connect_quic(
        pipe,
        is_client=True,
        certificate=MINE,
        peer_fingerprint=expected.fingerprint,
        handshake_timeout=handshake_timeout,
    )


async def answer(pipe: DatagramAgent, *, expected: Certificate = MINE) -> QuicSession:
    return await connect_quic(pipe, is_client=False, certificate=THEIRS, peer_fingerprint=expected.fingerprint)


@asynccontextmanager
async def sessions(one: DatagramAgent, other: DatagramAgent) -> AsyncIterator[tuple[QuicSession, QuicSession]]:
    client, server = await asyncio.gather(dial(one), answer(other))
    async with client, server:
        yield client, server


async def transfer(client: QuicSession, server: QuicSession, data: bytes) -> bytes:
    """Send ``data`` one way, with backpressure, and return what arrived."""

    async def send() -> None:
        _, writer = await client.open_stream()
        for start in range(0, len(data), 50_000):
            writer.write(data[start : start + 50_000])
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def receive() -> bytes:
        reader, writer = await server.accept_stream()
        received = await reader.read()
        writer.close()
        return received

    _, received = await asyncio.gather(send(), receive())
    return received


async def fill(writer: asyncio.StreamWriter, data: bytes, written: list[int] | None = None) -> None:
    """Write ``data`` again and again, as fast as it goes; not for ever, should nothing stop it."""
    for _ in range(500):
        writer.write(data)
        if written is not None:
            written.append(len(data))
        await writer.drain()


def test_a_stream_carries_bytes_both_ways() -> None:
    async def run() -> None:
        async with sessions(*pipes()) as (client, server):
            reader, writer = await client.open_stream()
            writer.write(b"ping")
            writer.write_eof()
            their_reader, their_writer = await server.accept_stream()
            assert await their_reader.read() == b"ping"
            their_writer.write(b"pong")
            their_writer.close()
            assert await reader.read() == b"pong"
            writer.close()
            await asyncio.gather(writer.wait_closed(), their_writer.wait_closed())

    asyncio.run(run())


def test_either_side_opens_streams_and_they_keep_apart() -> None:
    async def run() -> None:
        async with sessions(*pipes()) as (client, server):
            opened = [await server.open_stream() for _ in range(5)]
            for number, (_, writer) in enumerate(opened):
                writer.write(b"%d" % number)
                writer.close()
            accepted = [await client.accept_stream() for _ in opened]
            assert [await reader.read() for reader, _ in accepted] == [b"0", b"1", b"2", b"3", b"4"]

    asyncio.run(run())


@pytest.mark.parametrize("room", [10_000, 3])
@pytest.mark.parametrize("loss", [0.0, 0.03])
def test_bytes_arrive_whole_in_small_datagrams(loss: float, room: int) -> None:
    data = random.Random(1).randbytes(400_000)
    one, other = pipes(loss=loss, room=room)

    async def run() -> bytes:
        async with sessions(one, other) as (client, server):
            return await transfer(client, server, data)

    assert asyncio.run(run()) == data
    assert max(one.sizes + other.sizes) == MAX_DATAGRAM_SIZE
    assert (one.refused > 0) is (room == 3)


@pytest.mark.parametrize("size", [0, 1, 3 * STREAM_WINDOW])
def test_any_size_arrives(size: int) -> None:
    data = random.Random(2).randbytes(size)

    async def run() -> bytes:
        async with sessions(*pipes()) as (client, server):
            return await transfer(client, server, data)

    assert asyncio.run(run()) == data


def test_a_slow_reader_stops_the_sender_and_goes_on_later() -> None:
    data = random.Random(3).randbytes(1 << 16)
    bound = STREAM_WINDOW + 2 * READ_LIMIT + WRITE_HIGH + 2 * len(data)

    async def run() -> None:
        async with sessions(*pipes()) as (client, server):
            _, writer = await client.open_stream()
            written: list[int] = []
            filling = asyncio.create_task(fill(writer, data, written))
            reader, _ = await server.accept_stream()
            # Another stream is not held up by the one that nobody reads.
            assert await transfer(client, server, b"x" * CONNECTION_WINDOW) == b"x" * CONNECTION_WINDOW
            stopped_at = sum(written)
            assert stopped_at <= bound
            for _ in range(3 * STREAM_WINDOW // len(data)):
                assert await reader.readexactly(len(data)) == data
            assert sum(written) > stopped_at + STREAM_WINDOW
            filling.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("is_client", [True, False])
def test_a_wrong_certificate_is_refused(is_client: bool) -> None:
    """Signaling told one side of a stranger's certificate: both sides hear why, and no byte is handed out."""
    one, other = pipes()

    async def run() -> list[object]:
        expected = (STRANGERS, MINE) if is_client else (THEIRS, STRANGERS)
        dialing, answering = dial(one, expected=expected[0]), answer(other, expected=expected[1])
        return list(await asyncio.gather(dialing, answering, return_exceptions=True))

    outcomes = asyncio.run(run())
    refusing, refused = outcomes if is_client else reversed(outcomes)
    assert isinstance(refusing, PeerCertificateError) and STRANGERS.fingerprint in str(refusing)
    assert isinstance(refused, PeerCertificateError) and "refused our certificate" in str(refused)


def test_a_client_without_certificate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(certificate: Certificate, destination: bytes | None = None) -> PinnedConnection:
        connection = PinnedConnection(certificate, destination)
        if destination is None:
            connection.configuration.certificate = None
        return connection

    monkeypatch.setattr("ice_tcp.quic.session.PinnedConnection", make)

    async def run() -> list[object]:
        one, other = pipes()
        return list(await asyncio.gather(dial(one), answer(other), return_exceptions=True))

    client, server = asyncio.run(run())
    assert isinstance(server, PeerCertificateError) and "no certificate" in str(server)
    assert isinstance(client, PeerCertificateError)


@pytest.mark.parametrize("fingerprint", ["", "AB:CD", MINE.fingerprint.replace(":", ""), "GG" + MINE.fingerprint[2:]])
def test_a_malformed_fingerprint_is_misuse(fingerprint: str) -> None:
    async def run() -> None:
        await connect_quic(pipes()[0], is_client=True, certificate=MINE, peer_fingerprint=fingerprint)

    with pytest.raises(ValueError, match="not a SHA-256 fingerprint"):
        asyncio.run(run())


def test_a_fingerprint_is_taken_in_any_case() -> None:
    assert checked_fingerprint(f" {MINE.fingerprint.lower()}\n") == MINE.fingerprint
    assert MINE.fingerprint != THEIRS.fingerprint


def test_the_key_is_not_shown() -> None:
    assert "private_key" not in repr(MINE)


def test_a_silent_peer_is_a_timeout() -> None:
    async def run() -> None:
        await dial(pipes()[0], handshake_timeout=0.2)

    with pytest.raises(QuicError, match=r"within 0.2 s"):
        asyncio.run(run())


def test_garbage_before_the_handshake_is_ignored() -> None:
    one, other = pipes()
    for garbage in (b"", b"\x40", b"\xc0" * 30, b"\xff" * 1200, bytes(1200)):
        one.send_nowait(garbage)
        other.send_nowait(garbage)

    async def run() -> bytes:
        async with sessions(one, other) as (client, server):
            return await transfer(client, server, b"hello")

    assert asyncio.run(run()) == b"hello"


def test_an_outage_of_the_path_delays_but_loses_nothing() -> None:
    data = random.Random(4).randbytes(300_000)
    one, other = pipes()

    async def run() -> bytes:
        async with sessions(one, other) as (client, server):
            transferring = asyncio.create_task(transfer(client, server, data))
            await one.under_way.wait()
            one.is_up = other.is_up = False
            sent = len(one.sizes)
            await asyncio.sleep(0.2)
            assert len(one.sizes) == sent
            one.is_up = other.is_up = True
            return await transferring

    assert asyncio.run(run()) == data


def test_the_end_of_the_agent_ends_everything_with_its_error() -> None:
    one, other = pipes()
    failure = ConnectError("all-pairs-failed", "configure a TURN server")

    async def run() -> None:
        async with sessions(one, other) as (client, _):
            reader, writer = await client.open_stream()
            writer.write(b"half")
            reading = asyncio.create_task(reader.read())
            accepting = asyncio.create_task(client.accept_stream())
            await asyncio.sleep(0)
            one.fail(failure)
            for waiting in (reading, accepting, client.open_stream()):
                with pytest.raises(ConnectError) as raised:
                    await waiting
                assert raised.value is failure
            with pytest.raises(ConnectError):
                writer.write(b"more")
            with pytest.raises(ConnectError):
                await writer.wait_closed()

    asyncio.run(run())


@pytest.mark.parametrize("is_up", [True, False])
def test_an_agent_that_fails_while_sending_ends_the_session(is_up: bool) -> None:
    """At once, or while the datagrams wait for a path to come back."""
    one, other = pipes()

    async def run() -> None:
        async with sessions(one, other) as (client, _):
            _, writer = await client.open_stream()
            one.is_up = is_up
            writer.write(bytes(10_000))
            await asyncio.sleep(0.01)
            one.failure = ConnectError("all-pairs-failed", "configure a TURN server")
            writer.write(bytes(10_000))
            with pytest.raises(ConnectError):
                await client.accept_stream()
            with pytest.raises(ConnectError):
                writer.write(b"more")

    asyncio.run(run())


def test_unidirectional_streams_are_not_read() -> None:
    """Nobody here opens one; a peer that does is told to stop, and harms nothing."""

    async def run() -> None:
        async with sessions(*pipes()) as (client, server):
            client.quic.send_stream_data(client.quic.get_next_available_stream_id(is_unidirectional=True), b"x")
            client.transmit_soon()
            assert await transfer(client, server, b"others") == b"others"

    asyncio.run(run())


def test_a_stream_cut_by_the_close_of_the_session_does_not_look_complete() -> None:
    async def run() -> None:
        async with sessions(*pipes()) as (client, server):
            _, writer = await client.open_stream()
            writer.write(b"half of it")
            reader, _ = await server.accept_stream()
            assert await reader.readexactly(4) == b"half"
            await client.close()
            with pytest.raises(SessionClosedError, match="the peer closed the session"):
                await reader.read()
            with pytest.raises(QuicError, match="the peer closed"):
                await server.accept_stream()

    asyncio.run(run())


def test_what_came_whole_can_be_read_after_the_session() -> None:
    async def run() -> None:
        async with sessions(*pipes()) as (client, server):
            _, writer = await client.open_stream()
            writer.write(b"all of it")
            writer.close()
            await writer.wait_closed()
            reader, _ = await server.accept_stream()
            await client.close()
            assert await reader.read() == b"all of it"

    asyncio.run(run())


def test_a_reader_that_closes_stops_the_writer() -> None:
    async def run() -> None:
        async with sessions(*pipes()) as (client, server):
            _, writer = await client.open_stream()
            writer.write(b"x")
            reader, their_writer = await server.accept_stream()
            await reader.readexactly(1)
            their_writer.close()
            with pytest.raises(ConnectionResetError, match="does not read"):
                await fill(writer, b"x" * 10_000)
            writer.close()
            await writer.wait_closed()

    asyncio.run(run())


def test_an_aborted_stream_is_an_error_for_its_reader_only() -> None:
    async def run() -> None:
        async with sessions(*pipes()) as (client, server):
            _, writer = await client.open_stream()
            writer.write(b"x")
            reader, _ = await server.accept_stream()
            await reader.readexactly(1)
            writer.transport.abort()
            with pytest.raises(ConnectionResetError, match="aborted"):
                await reader.read()
            assert await transfer(client, server, b"another") == b"another"

    asyncio.run(run())


def test_writing_after_the_end_is_misuse() -> None:
    async def run() -> None:
        async with sessions(*pipes()) as (client, _):
            _, writer = await client.open_stream()
            assert writer.can_write_eof()
            assert isinstance(writer.get_extra_info("stream_id"), int)
            writer.write_eof()
            with pytest.raises(RuntimeError, match="closed for writing"):
                writer.write(b"late")

    asyncio.run(run())


def test_nothing_is_left_behind() -> None:
    async def run() -> None:
        async with sessions(*pipes()) as (client, server):
            await transfer(client, server, bytes(100_000))
            await client.close()
            await client.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_a_cancelled_handshake_leaves_nothing_behind() -> None:
    async def run() -> None:
        connecting = asyncio.create_task(dial(pipes()[0]))
        await asyncio.sleep(0.01)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_missing_aioquic_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("ice_tcp.quic")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aioquic", None)
    with pytest.raises(ImportError, match=r"ice-tcp\[quic\]"):
        importlib.import_module("ice_tcp.quic")


# Over real agents


async def introduce(agent: Agent, peer: Agent, transport: str) -> None:
    """Tell the peer what the agent has, of one transport."""
    peer.set_remote_parameters(agent.local_parameters)
    async for candidate in agent.local_candidates():
        if candidate.transport == transport:
            peer.add_remote_candidate(candidate)
    peer.end_of_candidates()


@asynccontextmanager
async def connected_agents(transport: str) -> AsyncIterator[tuple[Agent, Agent]]:
    policy = Policy.model_validate({"interfaces": {"loopback": True}})
    async with Agent(Role.CONTROLLING, policy=policy) as one, Agent(Role.CONTROLLED, policy=policy) as other:
        telling = introduce(one, other, transport), introduce(other, one, transport)
        await asyncio.gather(one.gather(), other.gather(), *telling)
        await asyncio.gather(one.connect(), other.connect())
        yield one, other


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_streams_go_over_any_transport_of_an_agent(transport: str) -> None:
    data = random.Random(5).randbytes(1 << 20)

    async def run() -> bytes:
        async with connected_agents(transport) as agents, sessions(*agents) as (client, server):
            assert {path.local.transport for path in map(Agent.selected_path, agents) if path} == {transport}
            return await transfer(client, server, data)

    assert asyncio.run(run()) == data


@pytest.mark.parametrize(("before", "after"), [("udp", "tcp"), ("tcp", "udp")])
def test_streams_survive_the_change_to_another_transport(before: str, after: str) -> None:
    data = random.Random(6).randbytes(8 << 20)

    async def run() -> bytes:
        async with connected_agents(before) as (one, other), sessions(one, other) as (client, server):
            await one.nominated()
            transferring = asyncio.create_task(transfer(client, server, data))
            changes = one.events()
            await one.restart()
            await asyncio.gather(introduce(one, other, after), introduce(other, one, after))
            async for event in changes:
                if isinstance(event, PathSelected) and event.selected.nominated:
                    assert event.selected.local.transport == after
                    break
            assert not transferring.done()
            return await transferring

    assert asyncio.run(run()) == data
