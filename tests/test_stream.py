from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import TypeAlias

import pytest

from ice_tcp import AgentState, StateChanged
from ice_tcp.core.commands import SendStream
from ice_tcp.stream import open_byte_stream
from tests.agents import SO, TCP, UDP, agents, connected, signal
from tests.loops import Runner, on_loop, run
from tests.test_asyncio_net import plain_listener, reset
from tests.test_datapath import stun
from tests.test_driver import STREAM, session, turns
from tests.test_framing import frame

__all__ = ["on_loop"]

Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

KINDS = pytest.mark.parametrize("kind", [TCP, SO], ids=["active-passive", "so"])
DATA = random.Random(1).randbytes(3_000_000)


@asynccontextmanager
async def streams(kind: str = TCP) -> AsyncIterator[tuple[Stream, Stream]]:
    """A byte stream's two ends; the writers are closed at the end."""
    async with connected(kind) as (one, two):
        here, there = await asyncio.gather(one.open_stream(), two.open_stream())
        yield here, there
        for _, writer in (here, there):
            writer.close()


async def write(writer: asyncio.StreamWriter, data: bytes, size: int = 50_000) -> None:
    for start in range(0, len(data), size):
        writer.write(data[start : start + size])
        await writer.drain()


@KINDS
def test_bytes_both_ways_at_once(kind: str, on_loop: Runner) -> None:
    async def main() -> None:
        async with streams(kind) as ((reader, writer), (peer_reader, peer_writer)):
            _, _, received, peer_received = await asyncio.gather(
                write(writer, DATA),
                write(peer_writer, DATA[::-1]),
                reader.readexactly(len(DATA)),
                peer_reader.readexactly(len(DATA)),
            )
            assert received == DATA[::-1]
            assert peer_received == DATA

    on_loop(main())


def test_the_sizes_of_writes_do_not_matter() -> None:
    rng = random.Random(2)

    async def main() -> None:
        async with streams() as ((_, writer), (reader, _)):
            start = 0
            while start < 1_000_000:
                size = rng.choice([1, 2, 100, 20_000, 200_000])
                writer.write(bytearray(DATA[start : start + size]))
                start += size
                await writer.drain()
            assert await reader.readexactly(1_000_000) == DATA[:1_000_000]

    run(main())


@KINDS
def test_all_data_comes_before_the_end(kind: str, on_loop: Runner) -> None:
    async def main() -> None:
        async with streams(kind) as ((_, writer), (reader, _)):
            writer.write(DATA)
            writer.close()
            assert writer.is_closing()
            received, _ = await asyncio.gather(reader.read(), writer.wait_closed())
            assert received == DATA
            assert reader.at_eof()

    on_loop(main())


def test_close_has_time_for_a_slow_reader() -> None:
    async def main() -> None:
        async with streams() as ((_, writer), (reader, _)):
            writer.write(DATA)
            writer.close()
            received = b""
            while chunk := await reader.read(40_000):
                received += chunk
                await turns(3)
            assert received == DATA
            await writer.wait_closed()

    run(main())


def test_the_closers_own_reader_ends_and_the_peers_writer_fails() -> None:
    async def main() -> None:
        async with streams() as ((reader, writer), (peer_reader, peer_writer)):
            writer.close()
            await writer.wait_closed()
            assert await peer_reader.read() == b""
            assert await reader.read() == b""
            peer_writer.write(b"too late")
            with pytest.raises(ConnectionError):
                await peer_writer.drain()
            writer.write(b"too late, too")
            assert not writer.can_write_eof()

    run(main())


def test_backpressure_reaches_the_writer_and_memory_is_bounded() -> None:
    async def main() -> None:
        async with streams() as ((_, writer), (reader, _)):
            block = bytes(200_000)
            written = 0

            async def fill() -> None:
                nonlocal written
                while written < 200 * len(block):
                    writer.write(block)
                    written += len(block)
                    await writer.drain()

            filling = asyncio.create_task(fill())
            await turns(300)
            assert not filling.done(), "the kernel and both ends take less than 40 MB"
            assert writer.transport.get_write_buffer_size() < 2**20 + 2 * len(block)
            await reader.readexactly(200 * len(block))
            await filling

    run(main())


def test_what_looks_like_stun_is_still_data() -> None:
    async def main() -> None:
        async with streams() as ((_, writer), (reader, _)):
            for message in (stun(), stun(bytes(8)), stun(bytes(100))):
                writer.write(message)
                assert await reader.readexactly(len(message)) == message

    run(main())


def test_a_lost_path_is_an_error_for_both_directions() -> None:
    async def main() -> None:
        async with session() as s:
            with plain_listener() as listener:
                peer = await s.connect(listener)
                reader, writer = open_byte_stream(s.driver, 1)
                reset(peer)
                with pytest.raises(ConnectionError, match="reset"):
                    await reader.read()
                writer.write(b"x")
                with pytest.raises(ConnectionError):
                    await writer.drain()
                with pytest.raises(ConnectionError):
                    await writer.wait_closed()

    run(main())


def test_data_that_came_before_the_stream_was_opened_belongs_to_it() -> None:
    async def main() -> None:
        async with connected(TCP) as (one, two):
            _, writer = await one.open_stream()
            writer.write(b"early bird")
            await two.send(b"")
            await turns(5)
            reader, peer_writer = await two.open_stream()
            assert await reader.readexactly(10) == b"early bird"
            writer.close()
            peer_writer.close()

    run(main())


def test_abort_ends_at_once() -> None:
    async def main() -> None:
        async with streams() as ((_, writer), (reader, _)):
            writer.write(DATA)
            writer.transport.abort()
            await writer.wait_closed()
            assert len(await reader.read()) < len(DATA)

    run(main())


def test_a_stream_needs_tcp_and_may_be_opened_once() -> None:
    async def main() -> None:
        async with connected(UDP) as (one, _):
            with pytest.raises(ValueError, match="TCP path"):
                await one.open_stream()
        async with connected(TCP) as (one, two):
            _, writer = await one.open_stream()
            with pytest.raises(RuntimeError, match="already"):
                await one.open_stream()
            writer.close()
            await two.close()

    run(main())


def test_to_open_a_stream_is_to_connect() -> None:
    async def main() -> None:
        async with agents(TCP) as (one, two):
            await signal(one, two)
            (_, writer), (reader, peer_writer) = await asyncio.gather(one.open_stream(), two.open_stream())
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.close()
            peer_writer.close()

    run(main())


def test_a_stream_tells_its_addresses() -> None:
    async def main() -> None:
        async with streams() as ((_, writer), (_, peer_writer)):
            assert writer.get_extra_info("peername") == peer_writer.get_extra_info("sockname")
            assert writer.get_extra_info("sockname") == peer_writer.get_extra_info("peername")

    run(main())


def test_closing_the_agent_ends_the_stream() -> None:
    async def main() -> None:
        async with connected(TCP) as (one, two):
            reader, writer = await one.open_stream()
            await one.close()
            assert await reader.read() == b""
            await writer.wait_closed()
            await two.close()

    run(main())


def test_after_the_stream_the_agent_wins_another_path() -> None:
    async def main() -> None:
        async with connected(TCP) as (one, two):
            (_, writer), (reader, _) = await asyncio.gather(one.open_stream(), two.open_stream())
            events = one.events()
            writer.close()
            assert await reader.read() == b""
            async for event in events:
                if event == StateChanged(AgentState.COMPLETED):
                    break
            await one.send(b"by the new connection")
            assert await two.recv() == b"by the new connection"

    run(main())


def test_consent_is_read_behind_a_reader_that_does_not_read(on_loop: Runner) -> None:
    async def main() -> None:
        async with session() as s:
            with plain_listener() as listener, closing(await s.connect(listener)) as peer:
                reader, writer = open_byte_stream(s.driver, 1, limit=50_000)
                block = frame(bytes(1000)) * 500
                flood = asyncio.create_task(asyncio.get_running_loop().sock_sendall(peer, block + frame(stun(b"late"))))
                await turns(20)
                assert s.core.inputs.empty(), "reading has stopped before the STUN"
                await flood
                for _ in range(10):
                    s.do(SendStream(STREAM, stun()))
                    await turns(2)
                assert await s.core.input("stream_received") == (STREAM, stun(b"late"))
                assert await reader.readexactly(500_000) == bytes(500_000)
                writer.close()

    on_loop(main())
