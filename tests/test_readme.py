"""What the README says is so: its code runs, its commands and links exist."""

from __future__ import annotations

import asyncio
import re
import runpy
import shlex
from pathlib import Path

import click
import pytest

from ice_tcp.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_example_connects_two_agents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks("python")
    script = tmp_path / "example.py"
    script.write_text(example, "utf-8")
    runpy.run_path(str(script), run_name="__main__")
    assert re.fullmatch(r"b'hello' over (udp|tcp) from \S+\n", capsys.readouterr().out)


def test_every_make_command_is_a_target() -> None:
    named = set(re.findall(r"\bmake ([a-z-]+)", "".join(blocks("console")) + "".join(re.findall(r"`[^`\n]+`", README))))
    assert {"demo", "test"} <= named <= set(TARGETS)


@pytest.mark.parametrize("arguments", re.findall(r'make demo ARGS="([^"]*)"', README))
def test_the_options_of_the_demonstration_are_accepted(arguments: str) -> None:
    demo = main.commands["demo"]
    demo.make_context("demo", shlex.split(arguments))


@pytest.mark.parametrize("words", re.findall(r"`ice-tcp ([a-z ]+)", README))
def test_every_subcommand_exists(words: str) -> None:
    command: click.Command = main
    for word in words.split():
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", README))))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_help_lists_every_target() -> None:
    async def run() -> bytes:
        process = await asyncio.create_subprocess_exec("make", "-s", "help", cwd=ROOT, stdout=asyncio.subprocess.PIPE)
        return (await process.communicate())[0]

    assert [line.split()[1] for line in asyncio.run(run()).decode().splitlines()] == TARGETS
    assert {"demo", "test", "lint", "types", "docs", "bench", "sim", "fuzz", "clean"} <= set(TARGETS)
