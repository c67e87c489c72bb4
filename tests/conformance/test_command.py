"""``ice-tcp conformance``: options, files and the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ice_tcp.cli import main
from interop.conformance import targets
from tests.conformance.agents import Unexcused
from tests.conformance.scripted import ScriptedTarget

ONE = "8489-14.2-mapped-address-ipv4"


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["conformance", *arguments], prog_name="ice-tcp")


@pytest.fixture
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, target in (("scripted", ScriptedTarget), ("unexcused", Unexcused)):
        monkeypatch.setitem(targets.SHIPPED, name, f"{target.__module__}:{target.__name__}")


def test_ours_is_tested_and_required_by_default() -> None:
    result = invoke("--case", ONE)
    assert result.exit_code == 0, result.output
    assert "ice-tcp" in result.output and "1 passed" in result.output


def test_the_list_has_the_sentences() -> None:
    result = invoke("--list", "--section", "8489-14.2")
    assert result.exit_code == 0
    assert f"{ONE}  [MUST; needs udp]" in result.output
    assert "X-Port is computed by XOR'ing" in result.output


@pytest.mark.usefixtures("_scripted")
def test_other_columns_are_shown_as_measured_unless_required() -> None:
    arguments = ("--target", "ice-tcp", "--target", "scripted", "--case", ONE)
    assert invoke(*arguments).exit_code == 0
    result = invoke(*arguments, "--require", "scripted")
    assert result.exit_code == 1
    assert "1 failed" in result.output


def test_a_target_may_be_any_class() -> None:
    arguments = ("--target", "tests.conformance.scripted:ScriptedTarget", "--case", ONE)
    assert invoke(*arguments).exit_code == 0
    assert invoke(*arguments, "--require", "tests.conformance.scripted:ScriptedTarget").exit_code == 1


@pytest.mark.usefixtures("_scripted")
def test_a_should_does_not_fail_the_run() -> None:
    result = invoke("--target", "unexcused", "--require", "unexcused", "--case", "8489-6.1-software-in-requests")
    assert result.exit_code == 0
    assert "1 failed" in result.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--target", "nobody"), "'nobody' is none of ice-tcp, ice-tcp-aioice, aioice, libnice, nor pipe:COMMAND"),
        (("--target", "nowhere:Nothing"), "cannot be tested"),
        (("--section", "1234"), "no case is selected"),
        (("--require", "aioice"), "not among the targets"),
        (("--jobs", "0"), "not in the range"),
    ],
)
def test_misuse_is_told(arguments: tuple[str, ...], complaint: str) -> None:
    result = invoke(*arguments, *(() if "--section" in arguments else ("--case", ONE)))
    assert result.exit_code == 2
    assert complaint in result.output


def test_everything_is_written(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("out.json", "out.xml", "out.html")]
    result = invoke("--case", ONE, "--json", str(files[0]), "--junit", str(files[1]), "--html", str(files[2]))
    assert result.exit_code == 0
    assert json.loads(files[0].read_text("utf-8"))["targets"]["ice-tcp"]["results"][ONE]["outcome"] == "passed"
    assert files[1].read_bytes().startswith(b"<?xml")
    assert files[2].read_text("utf-8").startswith("<!doctype html>")


def test_json_can_be_all_that_is_printed() -> None:
    result = invoke("--case", ONE, "--json", "-")
    assert list(json.loads(result.stdout)["targets"]) == ["ice-tcp"]


def test_the_drop_in_for_aioice_is_a_target_with_tcp() -> None:
    arguments = ("--target", "ice-tcp-aioice", "--require", "ice-tcp-aioice")
    result = invoke(*arguments, "--case", ONE, "--case", "6544-7.2-passive-accepts")
    assert result.exit_code == 0, result.output
    assert "2 passed" in result.output
