"""`ice-tcp server`, and the options that it makes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ice_tcp.server.command import command, urls
from ice_tcp.server.core.actions import Leg, Listener
from ice_tcp.server.options import Limits, ServerOptions
from ice_tcp.stun import MessageClass, Method, decode, encode, requested_transport
from tests.server_clients import make_certificate

ROOT = Path(__file__).parent.parent


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code != 0
    return result.output


def test_the_command_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    users = tmp_path / "users"
    users.write_text("# who may relay\nann:apple\n\n", encoding="utf-8")
    process = subprocess.Popen(  # noqa: S603 - our own program
        [
            *(sys.executable, "-c", "from ice_tcp.server.command import command; command()"),
            *("--listen", "127.0.0.1", "--port", "0", "--tls-port", "0", "--users", str(users)),
            *("--certificate", str(certificate), "--key", str(key), "--allow-loopback", "--verbose"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    with process:
        printed = [process.stdout.readline().strip() for _ in range(3)]
        port = int(printed[0].removeprefix("turn:127.0.0.1:").removesuffix("?transport=udp"))
        assert printed[1] == f"turn:127.0.0.1:{port}?transport=tcp"
        assert printed[2].startswith("turns:127.0.0.1:")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(10)
            sock.sendto(encode(MessageClass.REQUEST, Method.ALLOCATE, bytes(12), [requested_transport(17)]),
                        ("127.0.0.1", port))  # fmt: skip
            error = decode(sock.recv(2048)).error_code
            assert error is not None and error.code == 401
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "RequestRefused" in told and "apple" not in told


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--user", "nobody"], "'--user'"),
        (["--relay-ports", "5"], "49152-65535"),
        (["--relay-ports", "9-5"], "relay_ports 9-5"),
        (["--allow-peer", "10.0.0.1/8"], "host bits set"),
        (["--alternate-server", "192.0.2.1"], "not an address and a port"),
        (["--tls-port", "0"], "certificate"),
        (["--listen", "example.org"], "'example.org' is no IP address"),
        (["--listen", "::"], "any address"),
        (["--max-lifetime", "0"], "lifetime is 0"),
        (["--user-quota", "0"], "allocations_per_user is 0"),
    ],
)
def test_what_cannot_work_is_said(arguments: list[str], what: str) -> None:
    assert what in refusal("--listen", "127.0.0.1", "--port", "0", *arguments)


def test_a_password_is_not_repeated() -> None:
    assert "secret" not in refusal("--user", "secret")


def test_a_file_of_users_tells_the_bad_line(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("ann:apple\nbob\n", encoding="utf-8")
    assert f"{users}:2: not name:password" in refusal("--users", str(users))


def test_a_taken_port_is_said() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = str(sock.getsockname()[1])
        assert "ports taken" in refusal("--listen", "127.0.0.1", "--port", port)


def test_urls_are_those_of_the_policy() -> None:
    listeners = [
        Listener(Leg.UDP, ("192.0.2.1", 3478)),
        Listener(Leg.TCP, ("192.0.2.1", 3478)),
        Listener(Leg.TLS, ("2001:db8::1", 443)),
    ]
    assert urls(listeners, relays=False) == ["stun:192.0.2.1:3478", "stuns:[2001:db8::1]:443"]
    assert urls(listeners, relays=True) == [
        "turn:192.0.2.1:3478?transport=udp",
        "turn:192.0.2.1:3478?transport=tcp",
        "turns:[2001:db8::1]:443",
    ]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"hosts": ()}, "hosts is empty"),
        ({"port": None}, "listens somewhere"),
        ({"port": None, "tls_port": 1, "alternate_port": 1}, "alternate_port needs port"),
        ({"alternate_tls_port": 1}, "needs tls_port"),
        ({"relay_ports": (0, 5)}, "relay_ports"),
        ({"default_lifetime": 10.0, "max_lifetime": 5.0}, "longer"),
        ({"username_anonymity": True}, "username_anonymity"),
        ({"realm": "\n"}, "OpaqueString"),
        ({"users": {"": "x"}}, "OpaqueString|empty|must"),
        ({"alternate_servers": (("turn.example.org", 1),)}, "no IP address"),
        ({"external_hosts": {"10.0.0.1": "here"}}, "no IP address"),
    ],
)
def test_options_that_cannot_work(changes: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        ServerOptions(**changes)  # type: ignore[arg-type]


def test_limits_are_at_least_one() -> None:
    with pytest.raises(ValueError, match="channels is 0"):
        Limits(channels=0)


def test_addresses_are_spelled_in_one_way() -> None:
    options = ServerOptions(hosts=("2001:DB8:0::1", "192.0.2.1"), external_hosts={"2001:db8:0:0::1": "2001:db8::2"})
    assert options.hosts == ("2001:db8::1", "192.0.2.1")
    assert options.relay_host(6) == "2001:db8::1" and options.relay_host(4) == "192.0.2.1"
    assert options.external_hosts == {"2001:db8::1": "2001:db8::2"}
