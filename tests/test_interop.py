"""``python -m interop`` finds its commands."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from interop.__main__ import COMMANDS, Commands, main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there(name: str) -> None:
    assert isinstance(main, Commands)
    assert isinstance(main.get_command(click.Context(main), name), click.Command)


def test_the_help_lists_them() -> None:
    result = subprocess.run([sys.executable, "-m", "interop", "--help"], capture_output=True, text=True, check=True)
    assert set(COMMANDS) <= set(result.stdout.split())


def test_an_unknown_command_is_a_misuse() -> None:
    assert CliRunner().invoke(main, ["nothing"]).exit_code == 2
