"""What a policy comes to, key by key, where it comes from, and in what two differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from candidates.policy import Difference, Policy, PolicyError, Setting, differences, effective_settings, load_policy
from ice_tcp.cli import main

TEXT = """\
# a comment
transports: [tcp]
servers:
  - url: stun:stun.example.org
  - url: turn:turn.example.org
    username: alice
    password: correct-horse
timeouts: {gather: 3,
  patience: 39.5}
remote: {allow: [{type: relay}]}
"""


def policy(text: str) -> Policy:
    return load_policy(text, environ={}, read_file=lambda _: "")


def settings(text: str) -> dict[str, Setting]:
    return {each.key: each for each in effective_settings(policy(text), text)}


def test_every_setting_has_its_value_and_the_line_that_says_so() -> None:
    found = settings(TEXT)
    assert found["transports"] == Setting("transports", ["tcp"], 2)
    assert found["servers[0].url"] == Setting("servers[0].url", "stun:stun.example.org", 4)
    assert found["servers[1].url"].line == 5
    assert found["timeouts.gather"] == Setting("timeouts.gather", 3.0, 8)
    assert found["timeouts.patience"] == Setting("timeouts.patience", 39.5, 9)
    assert found["remote.allow[0].type"] == Setting("remote.allow[0].type", "relay", 10)
    assert found["timeouts.connect"] == Setting("timeouts.connect", 15.0)
    assert found["servers[0].tls.verify"] == Setting("servers[0].tls.verify", True)


def test_credentials_are_not_told() -> None:
    found = settings(TEXT)
    assert {found[f"servers[1].{key}"].value for key in ("username", "password")} == {"**********"}
    assert "correct-horse" not in repr(found)


def test_the_default_policy_is_all_defaults_and_complete() -> None:
    found = effective_settings(Policy.default())
    assert {each.line for each in found} == {None}
    keys = {each.key.split(".")[0] for each in found}
    assert keys == set(Policy.model_fields)
    assert len({each.key for each in found}) == len(found)


def test_two_policies_differ_in_what_has_another_value_only() -> None:
    same = policy("timeouts: {gather: 5.0}\n")
    assert differences(Policy.default(), same) == []
    found = differences(Policy.default(), policy("transports: [tcp]\nservers: [{url: 'stun:a.example'}]\n"))
    assert found[0] == Difference("transports", ["udp", "tcp"], ["tcp"])
    assert Difference("servers", [], None) in found
    assert Difference("servers[0].url", None, "stun:a.example") in found


def test_a_text_that_is_no_yaml_is_an_error() -> None:
    with pytest.raises(PolicyError):
        effective_settings(Policy.default(), "a: [")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(TEXT, "utf-8")
    other.write_text("transports: [tcp]\n", "utf-8")
    return one, other


def test_show_prints_them(files: tuple[Path, Path]) -> None:
    one, _ = files
    shown = CliRunner().invoke(main, ["policy", "show", str(one)])
    assert shown.exit_code == 0
    lines = shown.output.splitlines()
    assert lines[0].split(" # ") == [f"{'transports: [' + chr(34) + 'tcp' + chr(34) + ']':<64}", f"{one}:2"]
    assert any(line.startswith("timeouts.connect: 15.0 ") and line.endswith("# default") for line in lines)
    changed = CliRunner().invoke(main, ["policy", "show", "--changed", "--json", str(one)])
    assert {each["line"] for each in json.loads(changed.output)} == {2, 4, 5, 6, 7, 8, 9, 10}
    default = CliRunner().invoke(main, ["policy", "show"])
    assert len(default.output.splitlines()) == len(effective_settings(Policy.default()))


def test_diff_tells_them_and_its_status_whether_there_are_any(files: tuple[Path, Path]) -> None:
    one, other = map(str, files)
    found = CliRunner().invoke(main, ["policy", "diff", one, other])
    assert found.exit_code == 1
    assert "timeouts.gather: 3.0 -> 5.0\n" in found.output
    assert "remote.allow: null -> []\n" in found.output
    assert "transports" not in found.output
    same = CliRunner().invoke(main, ["policy", "diff", other, other])
    assert (same.exit_code, same.output) == (0, "")


@pytest.mark.parametrize("command", ["show", "diff"])
def test_a_policy_that_cannot_be_used_is_a_misuse(command: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("transports: [smoke]\n", "utf-8")
    arguments = ["policy", command, str(bad)] + ([str(bad)] if command == "diff" else [])
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "transports" in result.output and "Traceback" not in result.output
