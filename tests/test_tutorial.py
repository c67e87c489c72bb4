"""`docs/tutorial.md`, done as it says, on three "machines" that are one."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Final

import click
import pytest

from candidates.policy import load_policy
from ice_tcp.cli import main

DOCUMENT: Final = (Path(__file__).parent.parent / "docs" / "tutorial.md").read_text("utf-8")
PATIENCE: Final = 60.0


def commands() -> list[tuple[str, list[str]]]:
    """Each host that is told to do something, and what."""
    found = re.findall(r"^(\w+)\$ (.*)", "\n".join(blocks("console")), re.MULTILINE)
    return [(host, shlex.split(line)) for host, line in found]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


def told(host: str, word: str) -> list[str]:
    """The words after ``word`` of what a host is told."""
    (found,) = [words for name, words in commands() if name == host and word in words]
    return found[found.index(word) + 1 :]


async def start(directory: Path, *arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(*arguments, cwd=directory, stdin=PIPE, stdout=PIPE, stderr=PIPE)


def ice_tcp(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ice_tcp.cli", *arguments]


async def code_of(process: Process) -> str:
    """What it says that the other side needs."""
    assert process.stderr is not None
    found = re.fullmatch(rb"code: (\S+)\n", await process.stderr.readline())
    assert found is not None
    return found[1].decode()


def test_a_file_and_a_program_go_through(tmp_path: Path) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    for directory in (left, right):
        directory.mkdir()
    left.joinpath("holiday.mp4").write_bytes(b"a film" * 10_000)
    (program,) = blocks("python")
    for directory in (left, right):
        directory.joinpath("chat.py").write_text(program, "utf-8")

    async def body() -> None:
        async with asyncio.timeout(PATIENCE):
            words = told("meeting", "rendezvous")
            assert words == ["--port", "8765"]
            meeting = await start(tmp_path, *ice_tcp("rendezvous", "--port", "0", "--host", "127.0.0.1"))
            assert meeting.stdout is not None
            url = (await meeting.stdout.readline()).decode().strip()

            def here(arguments: list[str], code: str = "") -> list[str]:
                return [{"ws://meeting:8765": url, "67-kafo-rimu": code}.get(each, each) for each in arguments]

            sending = await start(left, *ice_tcp("send", *here(told("left", "send"))))
            code = await code_of(sending)
            receiving = await start(right, *ice_tcp("receive", *here(told("right", "receive"), code)))
            ends = await asyncio.gather(sending.communicate(), receiving.communicate())
            assert (sending.returncode, receiving.returncode) == (0, 0), ends
            assert right.joinpath("holiday.mp4").read_bytes() == left.joinpath("holiday.mp4").read_bytes()

            waiting = await start(left, sys.executable, "chat.py", *here(told("left", "chat.py")))
            assert waiting.stdout is not None
            code = (await waiting.stdout.readline()).decode().strip()
            coming = await start(right, sys.executable, "chat.py", *here(told("right", "chat.py"), code))
            (came, _), (waited, _) = await asyncio.gather(coming.communicate(), waiting.communicate())
            assert (came, waited) == (b"hello from who waited\n", b"hello from who came\n")

            meeting.send_signal(signal.SIGTERM)
            await meeting.wait()

    asyncio.run(body())


def test_its_policy_is_good() -> None:
    (text,) = blocks("yaml")
    policy = load_policy(text, environ={"TURN_PASSWORD": "secret"}, read_file=str)
    assert [server.url.scheme for server in policy.servers] == ["stun", "turns"]
    assert policy.servers[1].password is not None


@pytest.mark.parametrize(
    "words", [words for _, words in commands() if words[0] == "ice-tcp"], ids=lambda words: " ".join(words[1:3])
)
def test_its_commands_are_taken(words: list[str], tmp_path: Path) -> None:
    command: click.Command = main
    arguments = words[1:]
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), arguments.pop(0))
        assert found is not None
        command = found
    files = ("holiday.mp4", "policy.yaml", "left.jsonl")
    for name in files:
        tmp_path.joinpath(name).touch()
    command.make_context("it", [str(tmp_path / each) if each in files else each for each in arguments])


def test_what_is_installed_has_what_it_needs() -> None:
    (line,) = re.findall(r"^\$ pip install '(.*)'", DOCUMENT, re.MULTILINE)
    assert line == "ice-tcp[rendezvous]"
