"""`docs/capsule.md`: its commands and its program run, and its figures are those of the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from ice_tcp.capsule.writer import LIMIT
from ice_tcp.cli import main

DOCUMENT = (Path(__file__).parent.parent / "docs" / "capsule.md").read_text("utf-8")


def test_its_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^\$ ice-tcp (.*)", DOCUMENT, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        result = CliRunner().invoke(main, shlex.split(line))
        assert result.exit_code == 0, result.output
    assert result.output.endswith(": the same\n")


def test_its_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "docs/capsule.md", "exec"), {"__name__": "__main__"})  # noqa: S102 - what a reader would write
    result = CliRunner().invoke(main, ["replay", str(tmp_path / "gathering.capsule")])
    assert result.exit_code == 0, result.output


def test_it_names_every_command_that_records() -> None:
    for name in ("demo", "gather", "listen", "connect", "forward", "send", "receive"):
        assert f"`{name}`" in DOCUMENT
        assert "--capsule" in CliRunner().invoke(main, [name, "--help"]).output


def test_its_figures_are_those_of_the_code() -> None:
    assert f"{LIMIT >> 20} MiB" in DOCUMENT
