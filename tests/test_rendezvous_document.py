"""`docs/rendezvous.md`: its program runs, its commands and exit statuses are so."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import click
import pytest

from candidates.policy import load_policy
from ice_tcp.cli import main
from ice_tcp.meeting.command import Status
from ice_tcp.rendezvous import Limits, RendezvousServer
from ice_tcp.rendezvous.mailboxes import LONE_SECONDS, SESSION_SECONDS
from ice_tcp.rendezvous.protocol import MAX_TEXT_BYTES, MAX_TEXTS

DOCUMENT = (Path(__file__).parent.parent / "docs" / "rendezvous.md").read_text("utf-8")


def test_its_program_says_hello(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    script = tmp_path / "hello.py"
    script.write_text(program, "utf-8")

    async def body() -> bytes:
        async with asyncio.timeout(30), RendezvousServer("127.0.0.1") as server:
            url = f"ws://127.0.0.1:{server.port}"
            listening = await asyncio.create_subprocess_exec(sys.executable, "-u", script, url, stdout=PIPE)
            assert listening.stdout is not None
            code = (await listening.stdout.readline()).decode().strip()
            connecting = await asyncio.create_subprocess_exec(sys.executable, script, url, code, stdout=PIPE)
            output, _ = await connecting.communicate()
            await listening.communicate()
            return output

    assert asyncio.run(body()) == b"hello, bob\n\n"


@pytest.mark.parametrize("line", re.findall(r"^\$ ice-tcp (.*)", DOCUMENT, re.MULTILINE))
def test_its_commands_are_taken(line: str, tmp_path: Path) -> None:
    name, *arguments = shlex.split(line)
    files = ("fullchain.pem", "privkey.pem", "holiday.mp4", "rendezvous.yaml")
    for each in files:
        (tmp_path / each).touch()
    (tmp_path / "downloads").mkdir()
    given = [str(tmp_path / each) if each in (*files, "downloads") else each for each in arguments]
    command = main.get_command(click.Context(main), name)
    assert command is not None
    command.make_context(name, given)


def test_its_policy_is_good_and_gives_the_limits() -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    section = load_policy(text, environ={}, read_file=str).rendezvous
    assert Limits(**dict(section.limits)) == Limits(connections_per_host=16, messages_per_second=10.0, burst=50)
    assert (section.port, section.certificate) == (443, "/etc/ice-tcp/fullchain.pem")


def test_its_figures_are_those_of_the_code() -> None:
    limits = Limits()
    assert (limits.connections_per_host, limits.burst, limits.messages_per_second) == (64, 100, 20)
    assert (LONE_SECONDS, SESSION_SECONDS) == (3600, 600)
    assert (MAX_TEXTS, MAX_TEXT_BYTES) == (512, 32 * 1024)
    told = dict(re.findall(r"^\| (\d) \| (.*) \|$", DOCUMENT, re.MULTILINE))
    assert set(told) == {"0", "2", *(str(int(status)) for status in Status)}
