"""`punch` on loopback: to itself, to plain sockets, with a secret; moments, and the command."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

import pytest
from click.testing import CliRunner

from ice_tcp import ConnectError, PunchPort, SecretError, Verdict, punch
from ice_tcp.cli import main
from ice_tcp.punching import Streams, meet, next_minute, parse_moment
from ice_tcp.server import Leg, Server, ServerOptions
from tests.loops import run

HOST = "127.0.0.1"
SECRET = b"correct horse battery staple"


def port(**options: Any) -> PunchPort:
    return PunchPort(host=HOST, **{"timeout": 5.0, **options})


async def talk(one: Streams, other: Streams) -> None:
    """Bytes go both ways, and the ends belong together."""
    try:
        assert one[1].get_extra_info("sockname") == other[1].get_extra_info("peername")
        for (_, writer), (reader, _) in ((one, other), (other, one)):
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
    finally:
        await close(one, other)


async def close(*streams: Streams) -> None:
    for _, writer in streams:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in streams), return_exceptions=True)


def free_port() -> int:
    with socket.create_server((HOST, 0)) as sock:
        return int(sock.getsockname()[1])


# Meeting


@pytest.mark.parametrize("skew", [0.0, 0.05, 0.3])
def test_two_ports_meet(skew: float) -> None:
    async def both() -> None:
        async with port() as one, port() as other:
            at = time.time() + 0.1
            streams = await asyncio.gather(
                one.connect(HOST, other.address.port, at=at), other.connect(HOST, one.address.port, at=at + skew)
            )
        await talk(*streams)

    run(both())


def test_the_peer_may_be_met_before_it_is_known() -> None:
    async def both() -> None:
        async with port() as one, port() as other:
            connecting = asyncio.create_task(one.connect(HOST, other.address.port))
            await asyncio.sleep(0.1)
            await talk(await other.connect(HOST, one.address.port, at=time.time() + 60), await connecting)

    run(both())


def test_a_port_that_listens_only_later_is_met_by_redialling() -> None:
    async def both() -> None:
        numbers = free_port(), free_port()
        early = asyncio.create_task(punch(HOST, numbers[1], local_port=numbers[0], timeout=5.0))
        await asyncio.sleep(0.1)
        late = await punch(HOST, numbers[0], local_port=numbers[1], timeout=5.0)
        await talk(await early, late)

    run(both())


def test_a_plain_socket_that_listens_is_met() -> None:
    async def main() -> None:
        with socket.create_server((HOST, 0)) as server:
            async with port() as own:
                reader, writer = await own.connect(HOST, server.getsockname()[1])
                with server.accept()[0] as accepted:
                    accepted.sendall(b"plain")
                assert await reader.read() == b"plain"
                await close((reader, writer))

    run(main())


def test_a_plain_socket_that_connects_once_is_met() -> None:
    async def main() -> None:
        with socket.socket() as plain:
            plain.bind((HOST, 0))
            async with port() as own:
                connecting = asyncio.create_task(own.connect(HOST, plain.getsockname()[1]))
                await asyncio.sleep(0.1)
                await asyncio.to_thread(plain.connect, (HOST, own.address.port))
                streams = await connecting
            plain.sendall(b"plain")
            assert await streams[0].readexactly(5) == b"plain"
            await close(streams)

    run(main())


def test_nobody_connects_to_oneself() -> None:
    async def main() -> None:
        async with port() as own:
            with pytest.raises(ConnectError) as raised:
                await own.connect(HOST, own.address.port)
            assert raised.value.verdict is Verdict.SELF_CONNECT

    run(main())


def test_who_is_never_there_is_told_with_a_verdict() -> None:
    async def main() -> None:
        with pytest.raises(ConnectError) as raised:
            await punch(HOST, free_port(), timeout=0.3)
        assert raised.value.verdict in (Verdict.REFUSED, Verdict.TIMED_OUT)

    run(main())


def test_a_port_in_use_cannot_be_had() -> None:
    async def main() -> None:
        with socket.create_server((HOST, 0)) as taken:
            with pytest.raises(ConnectError) as raised:
                async with port(local_port=taken.getsockname()[1]):
                    pass
            assert raised.value.verdict is Verdict.PORTS_TAKEN

    run(main())


def test_strangers_are_turned_away() -> None:
    async def main() -> None:
        async with port() as one, port() as other:
            waiting = asyncio.create_task(one.connect(HOST, other.address.port, at=time.time() + 0.3))
            await asyncio.sleep(0.05)
            reader, writer = await asyncio.open_connection(HOST, one.address.port)
            assert await reader.read() == b""
            await close((reader, writer))
            await talk(await waiting, await other.connect(HOST, one.address.port))

    run(main())


def test_a_port_connects_once() -> None:
    async def main() -> None:
        async with port() as one, port() as other:
            streams = await asyncio.gather(one.connect(HOST, other.address.port), other.connect(HOST, one.address.port))
            with pytest.raises(RuntimeError, match="once"):
                await one.connect(HOST, other.address.port)
            await close(*streams)

    run(main())


def test_cancelling_leaves_nothing() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), port() as own:
                await own.connect(HOST, 9, at=time.time() + 60)

    run(main())


def test_a_timeout_is_more_than_nothing() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="timeout"):
            port(timeout=0.0)

    run(main())


# The mapping


def test_a_stun_server_tells_the_mapping() -> None:
    async def main() -> None:
        async with Server(ServerOptions(port=0)) as server, port() as own:
            assert await own.mapped_address(*server.address(Leg.TCP)) == own.address

    run(main())


async def answers(what: bytes, own: PunchPort) -> None:
    """Ask for the mapping where something else answers."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(what)
        writer.close()

    async with await asyncio.start_server(answer, HOST, 0) as server:
        await own.mapped_address(HOST, server.sockets[0].getsockname()[1])


@pytest.mark.parametrize(
    ("what", "error"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(20000), ValueError),
        (b"", ConnectionResetError),
        (b"\x01\x01\0\0\x21\x12\xa4\x42" + bytes(12), ValueError),
    ],
)
def test_what_is_no_answer_of_a_stun_server_is_told(what: bytes, error: type[Exception]) -> None:
    async def main() -> None:
        async with port() as own:
            with pytest.raises(error):
                await answers(what, own)

    run(main())


# The secret


def test_both_ends_know_the_secret() -> None:
    async def both() -> None:
        async with port(secret=SECRET) as one, port(secret=SECRET) as other:
            await talk(
                *await asyncio.gather(one.connect(HOST, other.address.port), other.connect(HOST, one.address.port))
            )

    run(both())


def test_neither_end_takes_another_secret() -> None:
    async def both() -> None:
        async with port(secret=SECRET) as one, port(secret=SECRET[::-1]) as other:
            outcomes = await asyncio.gather(
                one.connect(HOST, other.address.port),
                other.connect(HOST, one.address.port),
                return_exceptions=True,
            )
        assert [type(outcome) for outcome in outcomes] == [SecretError, SecretError]

    run(both())


async def impostor(do: Callable[[Streams], Awaitable[None]]) -> None:
    """Connect with a secret to someone who does something else; raises what `connect` does."""
    with socket.create_server((HOST, 0)) as server:
        server.setblocking(False)
        async with port(secret=SECRET) as own:
            connecting = asyncio.create_task(own.connect(HOST, server.getsockname()[1]))
            accepted, _ = await asyncio.get_running_loop().sock_accept(server)
            streams = await asyncio.open_connection(sock=accepted)
            with suppress(ConnectionError):
                await do(streams)
            await close(streams)
            await connecting


async def echo(streams: Streams) -> None:
    reader, writer = streams
    while data := await reader.read(100):
        writer.write(data)


async def greet(streams: Streams) -> None:
    streams[1].write(b"220 mail.example.org ESMTP, glad to meet you, whoever you are today\r\n")
    await streams[0].read()


async def leave(streams: Streams) -> None:
    await streams[0].read(1)
    streams[1].write_eof()


@pytest.mark.parametrize(
    ("do", "what"),
    [(echo, "repeats what we say"), (greet, "does not ask for a secret"), (leave, "closed the connection")],
)
def test_who_does_not_know_the_secret_is_refused(do: Any, what: str) -> None:
    async def main() -> None:
        with pytest.raises(SecretError, match=what):
            await impostor(do)

    run(main())


def test_nobody_can_have_us_answer_our_own_challenge_on_another_connection() -> None:
    async def main() -> None:
        with socket.socket() as first, socket.socket() as second:
            for sock in (first, second):
                sock.bind((HOST, 0))
                sock.setblocking(False)
            async with port(secret=SECRET) as own:
                loop = asyncio.get_running_loop()
                connecting = asyncio.create_task(own.connect(HOST, first.getsockname()[1], at=time.time() + 60))
                await asyncio.sleep(0.05)
                for sock in (first, second):
                    await loop.sock_connect(sock, (HOST, own.address.port))
                hellos = [await loop.sock_recv(sock, 64) for sock in (first, second)]
                for sock, hello in zip((first, second), reversed(hellos), strict=True):
                    await loop.sock_sendall(sock, hello)
                with pytest.raises(SecretError, match="ourselves"):
                    await connecting

    run(main())


def test_a_short_secret_is_none() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="at least 16 bytes"):
            port(secret=b"swordfish")

    run(main())


# Moments


def test_the_next_minute_is_later() -> None:
    assert next_minute(59.9) == 60.0
    assert next_minute(60.0) == 120.0
    assert parse_moment("next-minute", 61.0) == 120.0


def test_a_time_of_day_is_the_next_one() -> None:
    now = datetime(2026, 3, 1, 12, 34, 56).astimezone().timestamp()
    assert parse_moment("12:34:57", now) == now + 1
    assert parse_moment("12:35", now) == now + 4
    assert parse_moment("12:34:56", now) == now + 24 * 3600
    assert parse_moment("1:00", now) < now + 24 * 3600


@pytest.mark.parametrize("text", ["", "noon", "24:00", "12:60", "12", "12:34:56:00", "-1:00", "१२:00"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither next-minute nor a time of day"):
        parse_moment(text, 0.0)


async def connected() -> tuple[Streams, Streams]:
    one, other = socket.socketpair()
    return await asyncio.open_connection(sock=one), await asyncio.open_connection(sock=other)


def test_both_ends_of_a_connection_find_a_moment_together() -> None:
    async def main() -> None:
        one, other = await connected()
        await asyncio.gather(meet(*one, first=True), meet(*other, first=False))
        await close(one, other)

    run(main())


@pytest.mark.parametrize(("said", "error"), [(b"x", ConnectionError), (b"", ConnectionResetError)])
def test_who_does_not_synchronise_is_told(said: bytes, error: type[Exception]) -> None:
    async def main() -> None:
        one, other = await connected()
        other[1].write(said)
        other[1].write_eof()
        with pytest.raises(error):
            await meet(*one, first=True)
        await close(one, other)

    run(main())


# The command


def command(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "ice_tcp.cli", "punch", "--local-host", HOST, *arguments],
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def test_two_commands_are_a_pipe() -> None:
    ports = free_port(), free_port()
    both = [
        command(f"{HOST}:{there}", "--local-port", str(here), "--in", "0.2", "--secret", SECRET.decode())
        for here, there in (ports, ports[::-1])
    ]
    outcomes = []
    for process, said in zip(both, (b"from one", b"from the other"), strict=True):
        assert process.stdin is not None
        process.stdin.write(said)
        process.stdin.flush()
    for process in both:
        assert process.stdout is not None
        outcomes.append(os.read(process.stdout.fileno(), 100))
    for process in both:
        process.communicate(timeout=20)
    assert outcomes == [b"from the other", b"from one"]
    assert [process.returncode for process in both] == [0, 0]


def test_the_peer_is_asked_for_and_the_mapping_told() -> None:
    async def main() -> None:
        async with Server(ServerOptions(port=0)) as server:
            stun, here = server.address(Leg.TCP), free_port()
            arguments = ("--local-port", str(here), "--stun", f"{stun[0]}:{stun[1]}")
            process = await asyncio.to_thread(command, *arguments)
            async with port() as own:
                assert process.stdin is not None and process.stderr is not None
                process.stdin.write(f"{HOST}:{own.address.port}\n".encode())
                process.stdin.flush()
                reader, writer = await own.connect(HOST, here)
                writer.write(b"hello")
                writer.close()
            assert await reader.read() == b""
            output, errors = await asyncio.to_thread(process.communicate)
        assert output == b"hello"
        assert f"mapped to {HOST}:{here}".encode() in errors

    run(main())


def test_a_file_is_sent_to_its_end(tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(200_000))

    async def main() -> None:
        here = free_port()
        async with port() as own:
            with path.open("rb") as file:
                process = await asyncio.to_thread(
                    command, f"{HOST}:{own.address.port}", "--local-port", str(here), stdin=file
                )
            streams = await own.connect(HOST, here)
        assert await streams[0].read() == path.read_bytes()
        await close(streams)
        await asyncio.to_thread(process.communicate)
        assert process.returncode == 0

    run(main())


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["example.org"], "is not HOST:PORT"),
        (["example.org:0"], "is not HOST:PORT"),
        (["192.0.2.1:5000", "--at", "noon"], "is neither next-minute nor a time of day"),
        (["192.0.2.1:5000", "--at", "next-minute", "--in", "1"], "exclude each other"),
        (["192.0.2.1:5000", "--secret", "short"], "at least 16 bytes"),
    ],
)
def test_misuse_is_told(arguments: list[str], what: str) -> None:
    result = CliRunner().invoke(main, ["punch", *arguments])
    assert result.exit_code in (1, 2)
    assert what in result.output


def test_failure_is_told_with_its_remedy() -> None:
    process = command(f"{HOST}:{free_port()}", "--timeout", "0.2", stdin=subprocess.DEVNULL)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert b"refused: The address answered with RST" in errors or b"timed-out" in errors


def test_coroutines_only() -> None:
    """`PunchPort` says at once that it needs a running loop."""
    with pytest.raises(RuntimeError):
        PunchPort()
