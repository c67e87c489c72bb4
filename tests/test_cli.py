"""The command line: what a stranger types, right or wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from candidates.policy import Policy, load_policy
from ice_tcp.cli import main
from ice_tcp.demo.server import Access

ACCESS = Access(("127.0.0.1",), 4000, "secret")
CANDIDATE = "candidate:1 1 UDP 2130706431 192.0.2.1 50000 typ host"


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="ice-tcp")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text("transports: [tcp]\n", "utf-8")
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.yaml"
    path.write_text("transports: [tpc]\nprots: {}\n", "utf-8")
    return path


def commands(group: click.Group, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*prefix, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*prefix, name))


@pytest.mark.parametrize("words", [(), *commands(main)], ids=" ".join)
def test_every_command_has_help(words: tuple[str, ...]) -> None:
    result = invoke(*words, "--help")
    assert result.exit_code == 0
    usage, _, text = result.output.partition("\n\n")
    assert usage.startswith(f"Usage: {' '.join(('ice-tcp', *words))}")
    assert len(text.split("\n\n")[0]) > 40


def test_the_other_process_is_not_offered() -> None:
    assert "demo-receiver" not in invoke("--help").output


def test_the_version_is_that_of_the_package() -> None:
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.output.split() == ["ice-tcp", version("ice-tcp")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--transport", "sctp"], "'sctp' is not one of 'udp', 'tcp'"),
        (["--tcp-type", "both"], "'both' is not one of 'active', 'passive', 'so'"),
        (["--tcp-type", "so", "--transport", "udp"], "a tcptype is for TCP"),
        (["--file", "/nonexistent"], "does not exist"),
        (["--file", "/"], "is a directory"),
        (["--file", "/dev/null"], "not a regular file"),
        (["--file", "README.md", "--size", "1"], "exclude each other"),
        (["--size", "many"], "not a size such as 4096, 100K or 64M"),
        (["--size", "-1"], "not a size"),
        (["--size", "2000G"], "more than 1024G"),
        (["--size", "9999999999999G"], "more than 1024G"),
        (["--policy", "/nonexistent"], "does not exist"),
        (["--relay-transport", "dtls"], "'dtls' is not one of 'udp', 'tcp', 'tls'"),
        (["--relay-transport", "udp", "--transport", "tcp"], "TCP is relayed over tcp or tls to the server"),
        (["--relay-only", "--tcp-type", "so"], "never both at once"),
        (["--udp"], "No such option"),
        (["README.md"], "unexpected extra argument"),
    ],
)
def test_wrong_arguments_of_the_demonstration_are_told(arguments: list[str], message: str) -> None:
    result = invoke("demo", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_a_policy_that_is_wrong_is_told_with_its_lines(bad: Path) -> None:
    result = invoke("demo", "--policy", str(bad))
    assert result.exit_code == 2
    assert f"{bad}:1:14: transports[0]" in result.stderr
    assert f"{bad}:2:1: prots" in result.stderr


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("transports: [tcp]", ["--transport", "udp"], "udp is not among the policy's transports: tcp"),
        ("transports: [udp]", ["--tcp-type", "so"], "tcp is not among the policy's transports: udp"),
        ("tcp_types: [active]", ["--tcp-type", "so"], "the sender would be so"),
        ("tcp_types: [active]", ["--tcp-type", "active"], "the receiver would be passive"),
        ("candidate_types: [host, srflx]", ["--relay-only"], "relay is not among the policy's candidate_types"),
        (
            "{lite: true, candidate_types: [host], tcp_types: [passive]}",
            ["--relay-only"],
            "a lite agent has host candidates only",
        ),
    ],
)
def test_a_policy_that_does_not_fit_the_demonstration_is_told(
    tmp_path: Path, text: str, arguments: list[str], message: str
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text, "utf-8")
    result = invoke("demo", "--policy", str(path), *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_other_process_needs_the_first() -> None:
    for invitation in ("", "1 token", "1 token []", "1 token {}", 'one token {"hosts": []}'):
        result = CliRunner().invoke(main, ["demo-receiver"], input=invitation)
        assert result.exit_code == 2
        assert "starts it by itself" in result.stderr


def test_the_other_process_ends_where_nobody_waits() -> None:
    result = CliRunner().invoke(main, ["demo-receiver"], input=f"1 token {ACCESS.to_json()}\n")
    assert result.exit_code == 1
    assert "nobody answers on port 1" in result.stderr


# The policy


def test_a_good_policy_is_good(good: Path) -> None:
    result = invoke("policy", "check", str(good))
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{good}: good\n", "")


def test_everything_wrong_with_a_policy_is_told(bad: Path) -> None:
    result = invoke("policy", "check", str(bad))
    assert (result.exit_code, result.stdout) == (1, "")
    assert [line.split(":")[1] for line in result.stderr.splitlines()] == ["1", "2"]


def test_credentials_of_a_policy_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    password = tmp_path / "password"
    password.write_text("hush\n", "utf-8")
    path = tmp_path / "policy.yaml"
    server = "{{url: 'turn:192.0.2.1', username: '${{ICE_TCP_TEST_USER}}', password: {{file: {}}}}}"
    path.write_text(f"servers: [{server.format(password)}]\n", "utf-8")
    monkeypatch.setenv("ICE_TCP_TEST_USER", "me")
    assert invoke("policy", "check", str(path)).exit_code == 0
    monkeypatch.delenv("ICE_TCP_TEST_USER")
    password.unlink()
    result = invoke("policy", "check", str(path))
    assert result.exit_code == 1
    assert "ICE_TCP_TEST_USER" in result.stderr and str(password) in result.stderr


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    result = invoke("policy", "check", str(path))
    assert result.exit_code == 2
    assert "cannot be read" in result.stderr


def test_the_schema_is_json() -> None:
    schema = json.loads(invoke("policy", "schema").stdout)
    assert schema["type"] == "object" and "transports" in schema["properties"]


def test_the_default_policy_is_one() -> None:
    text = invoke("policy", "default").stdout
    assert load_policy(text, environ={}, read_file=str) == Policy.default()


def test_a_policy_explains_the_addresses_of_this_machine(good: Path) -> None:
    for arguments in ([], [str(good)]):
        result = invoke("policy", "explain", *arguments)
        assert result.exit_code == 0
        assert "127.0.0.1 on lo: removed by interfaces.loopback: false\n" in result.stdout


def test_a_policy_explains_candidates(good: Path) -> None:
    result = invoke("policy", "explain", str(good), "--local", CANDIDATE)
    assert "removed by transports: udp is not among them" in result.stdout
    result = invoke(
        "policy", "explain", "--local", CANDIDATE, "--remote", CANDIDATE.replace("UDP", "TCP") + " tcptype so"
    )
    assert "one candidate is UDP and the other TCP" in result.stdout


def test_a_malformed_candidate_is_told() -> None:
    result = invoke("policy", "explain", "--local", "candidate:1 1 UDP")
    assert result.exit_code == 2
    assert "priority is missing" in result.stderr


def test_explaining_needs_a_good_policy(bad: Path) -> None:
    result = invoke("policy", "explain", str(bad))
    assert result.exit_code == 2
    assert "the policy file cannot be used" in result.stderr
