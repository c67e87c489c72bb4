"""Files that go on where they were cut off: over a plain TCP connection, whose ends the test may play itself."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from ice_tcp.transfer import TransferError, Transferred, offer_file, take_file
from tests.loops import run

Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

DATA = random.Random(1).randbytes(500_000)
SUM = hashlib.sha256(DATA).hexdigest()


@asynccontextmanager
async def streams() -> AsyncIterator[tuple[Stream, Stream]]:
    """Both ends of a connection."""
    accepted: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda *stream: accepted.set_result(stream), "127.0.0.1", 0)
    one = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    two = await accepted
    try:
        yield one, two
    finally:
        for _, writer in (one, two):
            writer.transport.abort()
        server.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "there" / "data.bin"
    path.parent.mkdir()
    path.write_bytes(DATA)
    return path


@pytest.fixture
def into(tmp_path: Path) -> Path:
    path = tmp_path / "here"
    path.mkdir()
    return path


async def transfer(file: Path, into: Path) -> tuple[Any, Any]:
    async with streams() as (one, two):
        return await asyncio.gather(offer_file(file, *one), take_file(into, *two), return_exceptions=True)


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, len(DATA)])
def test_a_file_arrives_whole_and_both_know_its_sum(file: Path, into: Path, size: int) -> None:
    file.write_bytes(DATA[:size])
    done = Transferred("data.bin", size, hashlib.sha256(DATA[:size]).hexdigest(), 0)

    async def main() -> None:
        assert [*await transfer(file, into)] == [done, done]

    run(main())
    assert (into / "data.bin").read_bytes() == DATA[:size]
    assert [each.name for each in into.iterdir()] == ["data.bin"]


def test_progress_is_told_on_both_sides(file: Path, into: Path) -> None:
    async def main() -> None:
        sent: list[tuple[int, int]] = []
        received: list[tuple[int, int]] = []
        async with streams() as (one, two):
            await asyncio.gather(
                offer_file(file, *one, lambda *each: sent.append(each)),
                take_file(into, *two, lambda *each: received.append(each)),
            )
        for told in (sent, received):
            assert told == sorted(told) and told[-1] == (len(DATA), len(DATA))

    run(main())


@pytest.mark.parametrize("had", [1, 100_000, len(DATA)])
def test_only_the_rest_is_sent(file: Path, into: Path, had: int) -> None:
    (into / "data.bin.part").write_bytes(DATA[:had])

    async def main() -> None:
        done = Transferred("data.bin", len(DATA), SUM, had)
        assert [*await transfer(file, into)] == [done, done]

    run(main())
    assert (into / "data.bin").read_bytes() == DATA


@pytest.mark.parametrize("part", [b"something else", DATA[:1000] + b"x", DATA + b"more"])
def test_what_is_no_beginning_of_it_is_thrown_away(file: Path, into: Path, part: bytes) -> None:
    (into / "data.bin.part").write_bytes(part)

    async def main() -> None:
        sent, _ = await transfer(file, into)
        assert sent.resumed_at == (len(DATA) if part.startswith(DATA) else 0)

    run(main())
    assert (into / "data.bin").read_bytes() == DATA


def test_a_stream_that_is_cut_leaves_a_part_with_which_it_goes_on(file: Path, into: Path) -> None:
    async def main() -> None:
        async with streams() as (one, two):

            def cut(done: int, _size: int) -> None:
                if done > 200_000:
                    one[1].transport.abort()

            results = await asyncio.gather(offer_file(file, *one, cut), take_file(into, *two), return_exceptions=True)
            assert all(isinstance(each, ConnectionError) for each in results)
        part = into / "data.bin.part"
        had = part.stat().st_size
        assert DATA.startswith(part.read_bytes())
        sent, received = await transfer(file, into)
        assert (sent.sha256, received.resumed_at) == (SUM, had)

    run(main())
    assert (into / "data.bin").read_bytes() == DATA


def test_a_file_that_is_there_is_not_overwritten(file: Path, into: Path) -> None:
    (into / "data.bin").write_bytes(b"precious")

    async def main() -> None:
        sent, received = await transfer(file, into)
        assert isinstance(received, FileExistsError)
        assert isinstance(sent, TransferError) and "there is a file data.bin already" in str(sent)

    run(main())
    assert (into / "data.bin").read_bytes() == b"precious"


def test_a_full_disk_is_told_to_both_and_the_part_stays(
    file: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = asyncio.to_thread

    async def full(function: Any, *arguments: Any) -> Any:
        if getattr(function, "__name__", "") == "write" and (into / "data.bin.part").stat().st_size > 100_000:
            raise OSError(28, "No space left on device")
        return await original(function, *arguments)

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "to_thread", full)
            _, received = await transfer(file, into)
        assert isinstance(received, OSError) and received.errno == 28
        assert (into / "data.bin.part").exists()
        sent, received = await transfer(file, into)
        assert sent.resumed_at == received.resumed_at > 100_000

    run(main())
    assert (into / "data.bin").read_bytes() == DATA


def test_a_file_that_changes_while_it_is_sent_is_told(file: Path, into: Path) -> None:
    async def main() -> None:
        async with streams() as (one, two):

            def grow(_done: int, _size: int) -> None:
                with file.open("ab") as more:
                    more.write(b"more")

            receiving = asyncio.create_task(take_file(into, *two))
            with pytest.raises(TransferError, match="changed while it was sent"):
                await offer_file(file, *one, grow)
            one[1].close()
            with pytest.raises(TransferError):
                await receiving

    run(main())
    assert not (into / "data.bin").exists()


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a\nb",
        "a\x00b",
        ".bashrc",
        "x" * 251,
        "\ud800",
        None,
        7,
        ["x"],
    ],
)
def test_a_name_that_is_none_of_a_file_here_is_refused(into: Path, name: object) -> None:
    async def main() -> None:
        async with streams() as (one, two):
            one[1].write(json.dumps({"name": name, "size": 1}).encode() + b"\n")
            with pytest.raises(TransferError, match="a name that is not used"):
                await take_file(into, *two)
            assert "error" in json.loads(await one[0].readline())

    run(main())
    assert list(into.iterdir()) == []


LIES: list[tuple[bytes, ...]] = [
    (b"hello\n",),
    (b"[]\n",),
    (b"\xff\n",),
    (b'{"name": "x", "size": -1}\n',),
    (b'{"name": "x", "size": true}\n',),
    (b'{"name": "x", "size": 3}\n', b'{"begin": 2}\n'),
    (b'{"name": "x", "size": 3}\n', b'{"begin": 0}\n', b"abc", b'{"sha256": "another"}\n'),
    (b'{"name": "x", "size": 3}\n', b'{"begin": 0}\n', b"abc", b"nonsense\n"),
    (b'{"name": "x", "size": 3}\n', b'{"error": "no"}\n'),
]


@pytest.mark.parametrize("says", LIES)
def test_a_sender_that_does_not_keep_to_the_rules_is_an_error(into: Path, says: tuple[bytes, ...]) -> None:
    async def main() -> None:
        async with streams() as (one, two):
            one[1].writelines(says)
            with pytest.raises(TransferError):
                await take_file(into, *two)

    run(main())
    assert not (into / "x").exists()


async def outcome(question: Awaitable[Transferred]) -> object:
    try:
        return await question
    except TransferError as error:
        return str(error)


@pytest.mark.parametrize(
    ("says", "text"),
    [
        ((b"hello\n",), "does not speak this protocol"),
        ((b'{"have": -1}\n',), "does not speak this protocol"),
        ((b'{"have": 0}\n', b'{"sha256": "another"}\n'), "has not got it: another sum"),
        ((b'{"error": "no room"}\n',), "cannot use it: no room"),
        ((b'{"have": 0}\n', b'{"error": "no room"}\n'), "has not got it: no room"),
    ],
)
def test_a_receiver_that_has_not_got_it_is_an_error(file: Path, says: tuple[bytes, ...], text: str) -> None:
    async def main() -> None:
        async with streams() as (one, two):
            two[1].writelines(says)
            taking = asyncio.create_task(two[0].read())
            assert text in str(await outcome(offer_file(file, *one)))
            one[1].close()
            await taking

    run(main())
