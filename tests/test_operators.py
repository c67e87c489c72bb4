"""`docs/operators.md`: its commands are taken, and its unit starts what there is."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path
from typing import Final

import click
import pytest

from candidates.policy import load_policy
from ice_tcp.cli import main
from ice_tcp.server import ServerOptions

DOCUMENT: Final = (Path(__file__).parent.parent / "docs" / "operators.md").read_text("utf-8")


def taken(words: list[str], directory: Path) -> None:
    """The command line takes this; its files are there."""
    command: click.Command = main
    arguments = list(words)
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), arguments.pop(0))
        assert found is not None
        command = found
    for index, each in enumerate(arguments):
        if each.endswith(".yaml"):
            path = directory / Path(each).name
            path.touch()
            arguments[index] = str(path)
    command.make_context("it", arguments)


@pytest.mark.parametrize("line", re.findall(r"^\$ ice-tcp (.*)", DOCUMENT, re.MULTILINE))
def test_its_commands_are_taken(line: str, tmp_path: Path) -> None:
    taken(shlex.split(line), tmp_path)


@pytest.mark.parametrize("line", re.findall(r"`ice-tcp ([^`]+ [^`]+)`", DOCUMENT))
def test_what_it_names_in_passing_is_taken(line: str, tmp_path: Path) -> None:
    taken(shlex.split(line), tmp_path)


def test_its_unit_is_one_and_starts_a_server(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```ini\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text)
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "ice-tcp"
    taken(words, tmp_path)
    assert "-HUP" in unit["Service"]["ExecReload"]


def test_the_ports_it_tells_are_those_of_the_server() -> None:
    options = ServerOptions()
    assert (options.port, options.relay_ports) == (3478, (49152, 65535))
    assert f"{options.relay_ports[0]}-{options.relay_ports[1]}" in DOCUMENT
    assert load_policy("{}", environ={}, read_file=str).ports.udp is None
