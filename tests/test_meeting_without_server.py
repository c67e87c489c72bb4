"""Meetings without a rendezvous: through a folder that both see, and by lines that people carry."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import zlib
from pathlib import Path

import pytest

from candidates.parameters import IceParameters
from ice_tcp.meeting import MeetingError, connect, listen
from ice_tcp.meeting.by_hand import LineError, meet_by_hand, pack_line, read_line, unpack_line
from ice_tcp.meeting.folder import join_folder, open_folder
from ice_tcp.signaling import Description, EndOfCandidates, Note
from tests.agents import policy
from tests.loops import run
from tests.test_meeting_command import code_of, policy_file, start
from tests.test_meeting_command import run as run_processes

__all__ = ["policy_file"]

DESCRIPTION = Description(IceParameters("someufrag", "somePasswordThatIsLong"), "AB:CD")

# A folder


def test_texts_go_through_a_folder_in_order_and_it_is_taken_away(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_folder(tmp_path) as one:
            await one.send("before you came")
            async with join_folder(tmp_path, one.mailbox) as two:
                await asyncio.gather(one.met(), two.met())
                for number in range(5):
                    await one.send(f"one {number}")
                    await two.send(f"two {number}")
                assert [await two.receive() for _ in range(6)] == ["before you came", *(f"one {n}" for n in range(5))]
                assert [await one.receive() for _ in range(5)] == [f"two {number}" for number in range(5)]
            assert await one.receive() is None

    run(main())
    assert list(tmp_path.iterdir()) == []


def test_a_mailbox_of_a_folder_is_there_and_for_two(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(MeetingError, match="there is no mailbox"):
            async with join_folder(tmp_path, "123"):
                pass
        async with open_folder(tmp_path) as one, join_folder(tmp_path, one.mailbox):
            with pytest.raises(MeetingError, match="two have met"):
                async with join_folder(tmp_path, one.mailbox):
                    pass
        with pytest.raises(MeetingError, match="cannot be used"):
            async with open_folder(tmp_path / "nowhere"):
                pass

    run(main())


def test_a_folder_that_is_gone_or_holds_something_else_is_an_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_folder(tmp_path) as one, join_folder(tmp_path, one.mailbox) as two:
            place = tmp_path / one.mailbox
            for content, text in ((b"\xff", "something else than text"), (b"x" * 40_000, "too long")):
                (place / "connect-1").write_bytes(content)
                with pytest.raises(MeetingError, match=text):
                    await one.receive()
            with pytest.raises(ValueError, match="more than"):
                await two.send("x" * 40_000)
            shutil.rmtree(place)
            with pytest.raises(MeetingError, match="is gone"):
                await two.receive()
            with pytest.raises(MeetingError, match="cannot be used"):
                await two.send("hello")

    run(main())


def test_two_meet_through_a_folder_that_learns_nothing(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def main() -> None:
        code: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        where = f"file:{tmp_path}"

        async def wait() -> bytes:
            async with listen(code.set_result, rendezvous=where, policy=policy("")) as (reader, _):
                return await reader.read()

        waiting = asyncio.create_task(wait())
        async with connect(await code, rendezvous=where, policy=policy("")) as (_, writer):
            seen.extend(each.read_bytes() for each in tmp_path.glob("*/*"))  # noqa: ASYNC240
            writer.write(b"hello")
        assert await waiting == b"hello"

    run(main())
    assert len(seen) > 6
    for text in seen:
        assert b"127.0.0.1" not in base64.b64decode(text) and b"candidate" not in text


# By hand


def test_a_line_holds_what_was_packed_in_letters_that_survive_a_chat() -> None:
    line = pack_line([DESCRIPTION, EndOfCandidates()])
    assert unpack_line(f"  {line}\r\n") == [DESCRIPTION, EndOfCandidates()]
    assert set(line) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def packed(data: bytes) -> str:
    return "ice-tcp-1." + base64.urlsafe_b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello",
        "ice-tcp-1.",
        "ice-tcp-1.****",
        "ice-tcp-1." + "A" * 70_000,
        pack_line([DESCRIPTION])[:-4],
        pack_line([]),
        pack_line([Note("x")]),
        packed(b"x"),
        packed(b"7"),
        packed(b"[7]"),
        packed(b'["{}"]'),
        packed(b"[" * 5000),
        packed(json.dumps(["x" * 300_000]).encode()),
    ],
)
def test_a_line_that_is_none_is_an_error(line: str) -> None:
    with pytest.raises(LineError):
        unpack_line(line)


def test_two_meet_by_their_lines() -> None:
    async def main() -> None:
        lines: list[asyncio.Future[str]] = [asyncio.get_running_loop().create_future() for _ in range(2)]

        async def one() -> bytes:
            ask = lambda: asyncio.shield(lines[1])  # noqa: E731
            async with meet_by_hand(lines[0].set_result, ask, listens=True, policy=policy("")) as meeting:
                reader, _ = await meeting.stream()
                return await reader.readexactly(5)

        async def two() -> None:
            ask = lambda: asyncio.shield(lines[0])  # noqa: E731
            async with meet_by_hand(lines[1].set_result, ask, listens=False, policy=policy("")) as meeting:
                _, writer = await meeting.stream()
                writer.write(b"hello")
                await asyncio.wait([waiting])

        waiting = asyncio.create_task(one())
        await two()
        assert await waiting == b"hello"

    run(main())


def test_a_line_without_a_certificate_is_an_error() -> None:
    async def main() -> None:
        told: list[str] = []

        async def ask() -> str:
            return pack_line([Description(DESCRIPTION.parameters)])

        with pytest.raises(LineError, match="no certificate"):
            async with meet_by_hand(told.append, ask, listens=True, policy=policy("")):
                pass

    run(main())


@pytest.mark.parametrize("given", [b"", b"no end", b"x" * 70_000])
def test_an_input_without_a_line_is_an_error(given: bytes) -> None:
    async def main() -> None:
        read, write = os.pipe()
        writing = asyncio.get_running_loop().run_in_executor(None, _pour, write, given)
        with pytest.raises(LineError):
            await read_line(read)
        os.close(read)
        await writing

    run(main())


def _pour(descriptor: int, data: bytes) -> None:
    try:
        os.write(descriptor, data)
    except BrokenPipeError:
        pass
    finally:
        os.close(descriptor)


# The commands


def test_the_commands_through_a_folder(policy_file: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()

    async def body() -> None:
        options = ("--signal", f"file:{shared}", "--policy", policy_file)
        listening = await start("listen", *options)
        connecting = await start("connect", await code_of(listening), *options)
        answers = await asyncio.gather(connecting.communicate(b"question"), listening.communicate(b"answer"))
        assert [*answers] == [(b"answer", b""), (b"question", b"")]
        assert (connecting.returncode, listening.returncode) == (0, 0)

    run_processes(body())
    assert list(shared.iterdir()) == []


def test_the_commands_by_a_line_each_way(policy_file: Path) -> None:
    async def body() -> None:
        options = ("--signal", "stdio", "--policy", policy_file)
        listening, connecting = await start("listen", *options), await start("connect", *options)
        for process in (listening, connecting):
            assert process.stderr is not None and process.stdin is not None
        assert await listening.stderr.readline() == b"give the other side this line, and paste theirs here:\n"  # type: ignore[union-attr]
        assert await connecting.stderr.readline() == b"paste the other side's line here:\n"  # type: ignore[union-attr]
        connecting.stdin.write(await listening.stderr.readline())  # type: ignore[union-attr]
        assert await connecting.stderr.readline() == b"give the other side this line, and paste theirs here:\n"  # type: ignore[union-attr]
        listening.stdin.write(await connecting.stderr.readline())  # type: ignore[union-attr]
        answers = await asyncio.gather(connecting.communicate(b"question"), listening.communicate(b"answer"))
        assert [*answers] == [(b"answer", b""), (b"question", b"")]

    run_processes(body())


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("listen", "--signal", "smoke"), 2, b"it is file:DIR or stdio"),
        (("listen", "--signal", "file:/nowhere"), 1, b"the folder cannot be used"),
        (("connect", "--signal", "file:/nowhere"), 2, b"Missing argument 'CODE'"),
        (("connect", "7-kafo-rimu", "--signal", "file:/nowhere"), 1, b"there is no mailbox"),
        (("connect", "--signal", "stdio"), 1, b"this is no line of the other side"),
    ],
)
def test_what_is_wrong_is_said(arguments: tuple[str, ...], status: int, text: bytes) -> None:
    async def body() -> None:
        process = await start(*arguments)
        _, errors = await process.communicate(b"nonsense\n")
        assert process.returncode == status
        assert text in errors and b"Traceback" not in errors

    run_processes(body())
