"""Files over a stream: what arrives is what was sent, or both ends hear an error."""

from __future__ import annotations

import asyncio
import hashlib
import io
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from ice_tcp.transfer import FileOffer, GeneratedFile, Receipt, TransferError, receive_file, send_file
from ice_tcp.transfer.files import CHUNK_BYTES

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def streams() -> AsyncIterator[tuple[Stream, Stream]]:
    """Both ends of a TCP connection."""
    accepted: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda *stream: accepted.set_result(stream), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    other_reader, other_writer = await accepted
    try:
        yield (reader, writer), (other_reader, other_writer)
    finally:
        writer.close()
        other_writer.close()
        server.close()


def offered(text: bytes) -> bytes:
    """An offer as it is on the wire."""
    return struct.pack("!H", len(text)) + text


def exchange(
    sending: Callable[[Stream], Awaitable[object]], receiving: Callable[[Stream], Awaitable[object]]
) -> tuple[object, object]:
    """Run both ends; an end that fails closes its stream, as an application would."""

    async def end(run: Callable[[Stream], Awaitable[object]], stream: Stream) -> object:
        try:
            return await run(stream)
        except (TransferError, ValueError) as error:
            return error
        finally:
            stream[1].close()

    async def both() -> tuple[object, object]:
        async with streams() as (one, other):
            return await asyncio.gather(end(sending, one), end(receiving, other))

    return asyncio.run(both())


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 17])
def test_a_file_arrives_with_its_name_and_digest(size: int) -> None:
    data = GeneratedFile(size).read(size)
    offer = FileOffer("data.bin", size)
    sink = io.BytesIO()
    offers: list[FileOffer] = []
    steps: list[int] = []

    def open_sink(offer: FileOffer) -> io.BytesIO:
        offers.append(offer)
        return sink

    sent, received = exchange(
        lambda stream: send_file(*stream, io.BytesIO(data), offer, steps.append),
        lambda stream: receive_file(*stream, open_sink),
    )
    assert isinstance(sent, Receipt) and isinstance(received, Receipt)
    assert offers == [offer]
    assert sink.getvalue() == data
    assert sent.sha256_sent == sent.sha256_received == received.sha256_sent == hashlib.sha256(data).hexdigest()
    assert steps[-1:] == ([size] if size else [])
    assert sent.seconds > 0 and sent.bytes_per_second == size / sent.seconds


def test_damage_is_seen_at_both_ends() -> None:
    async def damage(stream: Stream) -> object:
        reader, writer = stream
        writer.write(offered(b'{"name":"x","size":4}') + b"good" + hashlib.sha256(b"evil").digest())
        return await reader.read()

    answer, received = exchange(damage, lambda stream: receive_file(*stream, lambda _: io.BytesIO()))
    assert answer == hashlib.sha256(b"good").digest()
    assert isinstance(received, TransferError) and "damaged" in str(received)


def test_the_sender_does_not_believe_a_wrong_digest() -> None:
    async def lie(stream: Stream) -> object:
        stream[1].write(bytes(32))
        return await stream[0].read()

    sent, _ = exchange(lambda stream: send_file(*stream, io.BytesIO(b"good"), FileOffer("x", 4)), lie)
    assert isinstance(sent, TransferError) and "damaged" in str(sent)


def test_a_source_that_is_too_short_is_an_error_for_both() -> None:
    sent, received = exchange(
        lambda stream: send_file(*stream, io.BytesIO(b"abc"), FileOffer("x", 4)),
        lambda stream: receive_file(*stream, lambda _: io.BytesIO()),
    )
    assert "ended after 3 of 4 bytes" in str(sent)
    assert "ended after 3 of 4 bytes" in str(received)


def test_too_large_a_file_is_refused_before_anything_is_written() -> None:
    opened: list[FileOffer] = []

    def open_sink(offer: FileOffer) -> io.BytesIO:
        opened.append(offer)
        return io.BytesIO()

    sent, received = exchange(
        lambda stream: send_file(*stream, io.BytesIO(bytes(10)), FileOffer("x", 10)),
        lambda stream: receive_file(*stream, open_sink, max_size=9),
    )
    assert "before the receiver's confirmation" in str(sent)
    assert "over the limit of 9" in str(received)
    assert opened == []


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "before the offer"),
        (b"\0", "before the offer"),
        (b"\0\x05{}", "before the offer"),
        (b"\xff\xff", "over the limit"),
        (offered(b"{}"), "malformed"),
        (offered(b"[]"), "malformed"),
        (offered(b"abc"), "malformed"),
        (offered(b'{"name":1,"size":0}'), "no name and size"),
        (offered(b'{"name":"x","size":true}'), "no name and size"),
        (offered(b'{"name":"x","size":-1}'), "no size"),
        (offered(b'{"name":"../../x","size":0}'), "no name for a file"),
    ],
)
def test_a_malformed_offer_is_an_error(data: bytes, problem: str) -> None:
    async def talk(stream: Stream) -> object:
        stream[1].write(data)
        stream[1].write_eof()
        return await stream[0].read()

    _, received = exchange(talk, lambda stream: receive_file(*stream, lambda _: io.BytesIO()))
    assert isinstance(received, TransferError) and problem in str(received)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "/etc/passwd", "a\0b", "a\nb", "\x1b[31m", "x" * 256])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name for a file"):
        FileOffer(name, 0)


def test_generated_data_depends_on_the_seed_alone() -> None:
    def whole(seed: int) -> bytes:
        source = GeneratedFile(1000, seed)
        return source.read(600) + source.read(600) + source.read(600)

    assert whole(1) == whole(1) != whole(2)
    assert len(whole(1)) == 1000
