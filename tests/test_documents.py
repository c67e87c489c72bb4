"""Every block of code and every command of every document: it runs here, or in the test that is named here.

What needs root, minutes or machines that are not there is taken by its command's own parser, and no further.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import create_autospec

import click
import pytest

import ice_tcp
from candidates.policy import load_policy
from candidates.sdp import parse_candidate
from ice_tcp.cli import main
from interop.conformance import cases
from interop.natlab.command import command as lab_command

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

RUN_BY: Final = {
    "README.md": "test_readme.py",
    "docs/capsule.md": "test_capsule_document.py",
    "docs/guides/aioice.md": "test_guides.py",
    "docs/guides/aiortc.md": "test_guides.py",
    "docs/metrics.md": "test_metrics.py",
    "docs/rendezvous.md": "test_rendezvous_document.py",
    "docs/report.md": "test_report_document.py",
    "docs/tutorial.md": "test_tutorial.py",
    "docs/upstream.md": "test_programs_of_others.py",
}
"""Pages whose Python that test runs as a whole program; of others the fragments run here."""

CHECKED_BY: Final = {
    "diff": "test_guides.py",
    "ini": "test_server_interop.py test_operators.py",
    "json": "test_pipe.py",
}
"""Blocks that are neither code, policies nor commands; what is text is output, or a figure."""


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two fences."""

    page: str
    language: str
    text: str


def blocks() -> list[Block]:
    found = []
    for path in PAGES:
        for language, text in re.findall(r"^```(\S*)\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL):
            found.append(Block(str(path.relative_to(ROOT)), language, text))
    return found


BLOCKS: Final = blocks()


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def named(blocks: list[Block]) -> list[Any]:
    return [pytest.param(block, id=f"{block.page}-{number}") for number, block in enumerate(blocks)]


def test_every_block_is_of_a_kind_that_is_looked_after() -> None:
    kinds = {"console", "sh", "python", "yaml", "text", "", "{eval-rst}", "{toctree}", *CHECKED_BY}
    assert len(BLOCKS) > 60
    assert [block for block in BLOCKS if block.language not in kinds] == []
    for language, tests in CHECKED_BY.items():
        for name in tests.split():
            (path,) = (ROOT / "tests").rglob(name)
            assert language in path.read_text("utf-8"), name


# Commands


def commands() -> list[tuple[str, str]]:
    """Each line that somebody types, by its page."""
    found = []
    for block in of("console", "sh"):
        pattern = r"^\w*\$ (.*)" if block.language == "console" else r"^(\w.*)"
        lines = re.findall(pattern, block.text, re.MULTILINE)
        assert lines, block
        found += [(block.page, line) for line in lines]
    return found


def parsed(line: str, directory: Path) -> None:
    """Raises if a command is not there, or does not take its arguments. Files that it names are made."""
    words = shlex.split(line, comments=True)
    program, *arguments = words[1:] if words[0] == "sudo" else words
    match program:
        case "ice-tcp":
            taken(main, arguments, directory)
        case "make":
            make(arguments, directory)
        case "pip":
            installed(arguments)
        case "python":
            assert arguments[0] == "chat.py", "a program of the tutorial"
        case _:
            raise AssertionError(f"what is {program}?")


def taken(command: click.Command, arguments: list[str], directory: Path) -> None:
    given = list(arguments)
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), given.pop(0))
        assert found is not None, arguments
        command = found
    for index, each in enumerate(given):
        if re.search(r"\.(yaml|jsonl|pem|mp4|pdf|capsule)$", each) and "=" not in each:
            path = directory / Path(each).name
            if not re.search(r"\.capsule$", each) or "replay" in arguments:
                path.touch()
            given[index] = str(path)
        elif each == "downloads":
            directory.joinpath(each).mkdir(exist_ok=True)
            given[index] = str(directory / each)
    command.make_context("it", given)


def make(arguments: list[str], directory: Path) -> None:
    target, *variables = arguments
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target
    for variable in variables:
        name, _, value = variable.partition("=")
        assert re.search(rf"^{name} \?=", makefile, re.MULTILINE), name
        if name == "ARGS":
            command = {"demo": main.commands["demo"], "lab": lab_command}[target]
            taken(command, shlex.split(value), directory)


def installed(arguments: list[str]) -> None:
    assert arguments[0] == "install"
    extras = re.findall(r"^([a-z]+) = \[", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    (name,) = re.findall(r"^ice-tcp\[(\w+)\]$", arguments[1])
    assert name in extras


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_is_taken(page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parsed(line, tmp_path)


@pytest.mark.parametrize(
    "line", ["ice-tcp fly", "ice-tcp send", "make tea", "make demo ARGS=--fly", "pip install 'ice-tcp[tea]'", "rm -r x"]
)
def test_a_wrong_command_would_be_found(line: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, click.ClickException, ValueError, KeyError)):
        parsed(line, tmp_path)


# Policies


@pytest.mark.parametrize("block", named([block for block in of("yaml") if "scrape_configs" not in block.text]))
def test_every_policy_is_good(block: Block) -> None:
    names = re.findall(r"\$\{(\w+)\}", block.text)
    load_policy(block.text, environ=dict.fromkeys(names, "a secret"), read_file=lambda _: "name:a secret")


# Python


def test_every_program_has_a_test_that_runs_it() -> None:
    for page, name in RUN_BY.items():
        assert [block for block in of("python") if block.page == page], page
        (path,) = (ROOT / "tests").rglob(name)
        text = path.read_text("utf-8")
        assert Path(page).name in text or "README" in text or ("guides" in page and '"guides"' in text), name
        assert "python" in text


FRAGMENTS: Final = [block for block in of("python") if block.page not in RUN_BY]


@pytest.mark.parametrize("block", named(FRAGMENTS))
def test_every_fragment_runs_where_it_belongs(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    AROUND[block.page](block.text, monkeypatch)


def run(text: str, /, **names: Any) -> dict[str, Any]:
    """Run a fragment in a coroutine that has these names; returns what it leaves."""
    body = textwrap.indent(text, "    ")
    space = {"__name__": "fragment", **names}
    exec(f"async def fragment():\n{body}\n    return locals()", space)  # noqa: S102 - the documents' own code
    left: dict[str, Any] = asyncio.run(space["fragment"]())
    return left


def punching(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a port that does nothing, but takes only what the real one takes."""
    port = create_autospec(ice_tcp.PunchPort, instance=True)
    port.__aenter__.return_value = port
    port.connect.return_value = ("reader", "writer")
    made = create_autospec(ice_tcp.PunchPort, return_value=port)
    monkeypatch.setattr(ice_tcp, "PunchPort", made)
    left = run(text, secret=b"0123456789abcdef", peer_host="203.0.113.9", peer_port=4000, moment=1.0)
    assert left["writer"] == "writer"
    port.mapped_address.assert_awaited_once()


def policies(text: str, _: pytest.MonkeyPatch) -> None:
    lines = (
        "candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host",
        "candidate:1 1 udp 2130706431 192.0.2.2 4000 typ host",
    )
    candidate, other = map(parse_candidate, lines)
    said: list[object] = []
    left = run(text, text="transports: [tcp]", candidate=candidate, other=other, print=said.append)
    assert [each.value for each in left["policy"].transports] == ["tcp"]
    assert "removed" in str(said[0])


def servers(text: str, _: pytest.MonkeyPatch) -> None:
    left = run(text, secret="shared")
    assert left.get("port", 1) > 0
    assert left.get("password", "x")


def conformance(text: str, _: pytest.MonkeyPatch) -> None:
    """It is a case that there is."""
    directory = Path(cases.__file__ or "").parent
    (name,) = re.findall(r"async def (\w+)", text)
    assert any(text.strip() in path.read_text("utf-8") for path in directory.rglob("*.py")), name


AROUND: Final[dict[str, Callable[[str, pytest.MonkeyPatch], None]]] = {
    "docs/conformance.md": conformance,
    "docs/policy.md": policies,
    "docs/punch.md": punching,
    "docs/servers.md": servers,
}


def test_files_are_made_where_nobody_is_disturbed() -> None:
    with tempfile.TemporaryDirectory() as directory:
        taken(main, ["policy", "check", "policy.yaml"], Path(directory))
        assert [path.name for path in Path(directory).iterdir()] == ["policy.yaml"]
