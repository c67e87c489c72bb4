"""``ice-tcp rendezvous``, ``listen`` and ``connect`` as people run them: in three processes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ice_tcp import Role, read_trace
from ice_tcp.cli import main
from ice_tcp.report import tell
from tests.agents import LOOPBACK
from tests.server_clients import make_certificate

PATIENCE = 40.0


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_text(LOOPBACK, "utf-8")
    return file


async def start(*arguments: str | Path, **how: Any) -> Process:
    pipes = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE} | how
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "ice_tcp.cli", *arguments, **pipes)


@asynccontextmanager
async def rendezvous(*options: str | Path) -> AsyncIterator[str]:
    """The URL that it says."""
    process = await start("rendezvous", "--host", "127.0.0.1", "--port", "0", *options)
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
        assert (process.returncode, errors) == (0, b"")


async def code_of(listening: Process) -> str:
    assert listening.stderr is not None
    found = re.fullmatch(rb"code: (\S+)\n", await listening.stderr.readline())
    assert found is not None
    return found[1].decode()


def run(body: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await body

    asyncio.run(bounded())


def test_two_pipes_are_joined(policy_file: Path) -> None:
    options = ("--policy", policy_file)

    async def body() -> None:
        async with rendezvous() as url:
            listening = await start("listen", "--rendezvous", url, *options)
            code = await code_of(listening)
            connecting = await start("connect", code.upper(), *options, "--rendezvous", url)
            answers = await asyncio.gather(connecting.communicate(b"question"), listening.communicate(b"answer"))
            assert [*answers] == [(b"answer", b""), (b"question", b"")]
            assert (connecting.returncode, listening.returncode) == (0, 0)

    run(body())


def test_both_ends_write_their_traces(policy_file: Path, tmp_path: Path) -> None:
    traces = [tmp_path / "listen.jsonl", tmp_path / "connect.jsonl"]

    async def body() -> None:
        async with rendezvous() as url:
            options = ("--policy", policy_file, "--rendezvous", url, "--trace")
            listening = await start("listen", *options, traces[0])
            code = await code_of(listening)
            connecting = await start("connect", code, *options, traces[1], "--redact")
            await asyncio.gather(connecting.communicate(b"question"), listening.communicate(b"answer"))
            assert (connecting.returncode, listening.returncode) == (0, 0)

    run(body())
    read = [read_trace(each) for each in traces]
    assert [trace.notes for trace in read] == [(), ()]
    assert [trace.header.redacted for trace in read] == [False, True]
    (side, other), _ = tell(read)
    assert side.completed_at is not None
    assert other.completed_at is not None
    assert {side.role, other.role} == set(Role)


def test_every_command_that_runs_a_session_can_be_traced() -> None:
    for name in ("connect", "demo", "forward", "gather", "listen", "receive", "send"):
        assert "--trace F" in CliRunner().invoke(main, [name, "--help"]).output, name


def test_a_file_goes_through_and_is_the_same(policy_file: Path, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3_000_000)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    environment = {**os.environ}

    async def body() -> None:
        async with rendezvous() as url:
            environment["ICE_TCP_RENDEZVOUS"] = url
            how = {"env": environment}
            with source.open("rb") as given, target.open("wb") as taken:
                secret = ("--secret", "words-of-mine", "--policy", policy_file)
                listening = await start("listen", *secret, stdin=DEVNULL, stdout=taken, **how)
                code = await code_of(listening)
                assert code.endswith("-words-of-mine")
                connecting = await start("connect", code, "--policy", policy_file, stdin=given, **how)
                await asyncio.gather(connecting.communicate(), listening.communicate())
            assert (connecting.returncode, listening.returncode) == (0, 0)

    run(body())
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(data).digest()


def test_over_tls(policy_file: Path, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    environment = {**os.environ, "SSL_CERT_FILE": str(certificate)}

    async def body() -> None:
        async with rendezvous("--certificate", certificate, "--key", key) as url:
            assert url.startswith("wss://")
            distrusting = await start("listen", "--rendezvous", url)
            assert b"certificate" in (await distrusting.communicate())[1]
            assert distrusting.returncode == 3
            listening = await start("listen", "--rendezvous", url, "--policy", policy_file, env=environment)
            options = ("--rendezvous", url, "--policy", policy_file)
            connecting = await start("connect", await code_of(listening), *options, env=environment)
            answers = await asyncio.gather(connecting.communicate(b"x"), listening.communicate(b""))
            assert answers[1] == (b"x", b"")

    run(body())


def test_a_wrong_code_is_told_to_both(policy_file: Path) -> None:
    async def body() -> None:
        async with rendezvous() as url:
            listening = await start("listen", "--rendezvous", url, "--policy", policy_file)
            code = await code_of(listening)
            wrong = await start("connect", f"{code}x", "--rendezvous", url, "--policy", policy_file)
            for process in (wrong, listening):
                output, errors = await process.communicate()
                assert (process.returncode, output) == (4, b"")
                assert errors == b"error: the other side has another code; this one is used up\n"
            late = await start("connect", code, "--rendezvous", url)
            assert (await late.communicate())[1].startswith(b"error: there is no mailbox")
            assert late.returncode == 3

    run(body())


def test_an_output_that_nobody_reads_any_more_ends_it_quietly(policy_file: Path) -> None:
    async def body() -> None:
        async with rendezvous() as url:
            listening = await start("listen", "--rendezvous", url, "--policy", policy_file)
            code = await code_of(listening)
            read, write = os.pipe()
            connecting = await start("connect", code, "--rendezvous", url, "--policy", policy_file, stdout=write)
            os.close(write)
            os.close(read)
            await listening.communicate(b"x" * 300_000)
            _, errors = await connecting.communicate()
            assert (connecting.returncode, errors) == (1, b"")

    run(body())


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["listen"], 2, "where shall the two meet"),
        (["connect"], 2, "where shall the two meet"),
        (["connect", "nonsense", "--rendezvous", "ws://127.0.0.1:1"], 2, "is no code"),
        (["listen", "--secret", "Two Words", "--rendezvous", "ws://127.0.0.1:1"], 2, "words of letters"),
        (["listen", "--rendezvous", "ws://127.0.0.1:1"], 3, "cannot be reached"),
        (["connect", "7-kafo-rimu", "--rendezvous", "nonsense"], 3, "is not a URL of a rendezvous"),
        (["rendezvous", "--redis", "http://nonsense"], 1, "redis"),
        (["rendezvous", "--key", "KEY"], 2, "--key needs --certificate"),
        (["rendezvous", "--certificate", "KEY"], 1, ""),
        (["rendezvous", "--host", "192.0.2.1"], 1, ""),
        (["rendezvous", "--connections", "0"], 2, "--connections"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], status: int, text: str, policy_file: Path) -> None:
    given = [str(policy_file) if each == "KEY" else each for each in arguments]
    result = CliRunner().invoke(main, given, env={"ICE_TCP_RENDEZVOUS": None})
    assert (result.exit_code, "Traceback" in result.output) == (status, False)
    assert text in result.output


def test_a_command_whose_package_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("ice_tcp.meeting", "ice_tcp.rendezvous"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "websockets", None)
    result = CliRunner().invoke(main, ["listen", "--rendezvous", "ws://127.0.0.1:1"])
    assert result.exit_code == 1
    assert "pip install 'ice-tcp[rendezvous]'" in result.output
    assert "conformance" in CliRunner().invoke(main, ["--help"]).output


def test_a_file_is_sent_received_and_cut_off_and_resumed(policy_file: Path, tmp_path: Path) -> None:
    data = random.Random(2).randbytes(2_000_000)
    file, into = tmp_path / "holiday.bin", tmp_path / "into"
    file.write_bytes(data)
    into.mkdir()
    (into / "holiday.bin.part").write_bytes(data[:500_000])
    digest = hashlib.sha256(data).hexdigest()

    async def body() -> None:
        async with rendezvous() as url:
            options = ("--rendezvous", url, "--policy", policy_file)
            sending = await start("send", file, *options)
            code = await code_of(sending)
            receiving = await start("receive", code, "--into", into, *options)
            for process, word in ((sending, "sent"), (receiving, "received")):
                output, errors = await process.communicate()
                assert (process.returncode, output) == (0, b"")
                path, done = errors.decode().splitlines()
                assert path == "connected over UDP, directly"
                said = f"{word} holiday.bin, 2000000 bytes, of which 500000 were there, over UDP, directly"
                assert done == f"{said}, SHA-256 {digest}"

    run(body())
    assert (into / "holiday.bin").read_bytes() == data
    assert [each.name for each in into.iterdir()] == ["holiday.bin"]


def test_a_file_that_is_there_is_told_to_both(policy_file: Path, tmp_path: Path) -> None:
    file, into = tmp_path / "holiday.bin", tmp_path / "into"
    file.write_bytes(b"new")
    into.mkdir()
    (into / "holiday.bin").write_bytes(b"old")

    async def body() -> None:
        async with rendezvous() as url:
            options = ("--rendezvous", url, "--policy", policy_file)
            sending = await start("send", file, *options)
            receiving = await start("receive", await code_of(sending), "--into", into, *options)
            for process in (receiving, sending):
                _, errors = await process.communicate()
                assert process.returncode == 1
                assert b"there is a file holiday.bin already" in errors and b"Traceback" not in errors

    run(body())
    assert (into / "holiday.bin").read_bytes() == b"old"


@pytest.mark.parametrize(("one", "other"), [(["send", "FILE"], ["connect"]), (["listen"], ["receive"])])
def test_two_who_came_for_different_things_are_told(policy_file: Path, one: list[str], other: list[str]) -> None:
    async def body() -> None:
        async with rendezvous() as url:
            options = ("--rendezvous", url, "--policy", policy_file)
            first = await start(*[str(policy_file) if each == "FILE" else each for each in one], *options)
            second = await start(*other, await code_of(first), *options)
            _, errors = await first.communicate()
            assert first.returncode == 1
            assert b"the other side came for something else" in errors
            await second.communicate(b"")
            assert second.returncode == 1

    run(body())
