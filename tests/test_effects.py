"""`ice-tcp policy explain`: what every rule does on this host, in words and as JSON."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from candidates.candidate import InterfaceAddress
from candidates.policy import Policy, load_policy
from ice_tcp.cli import main
from ice_tcp.gather.effects import Effect, effects, fields, here, plain
from ice_tcp.gather.findings import Findings
from ice_tcp.gather.survey import Survey
from ice_tcp.server import Leg, PeerPolicy, Server, ServerOptions

ADDRESSES = (
    InterfaceAddress("lo", "127.0.0.1"),
    InterfaceAddress("lo", "::1"),
    InterfaceAddress("eth0", "192.0.2.1", default_route=True),
    InterfaceAddress("docker0", "172.17.0.1"),
    InterfaceAddress("wg0", "10.9.0.1"),
)
LOOPBACK = "address_families: [ipv4]\ninterfaces: {include: [lo], loopback: true}\n"


class Unseen:
    def update(self, _: Findings, /) -> None: ...

    def found(self, _: Findings, /) -> None: ...


def policy(text: str) -> Policy:
    return load_policy(text, environ={}, read_file=lambda _: "")


def judged(text: str) -> dict[str, Effect]:
    """The rules of a policy on a host with ADDRESSES, where nothing is gathered."""
    place = here(policy(text), ADDRESSES, Findings(), is_offline=True)
    return {each.key: each for each in effects(place, text)}


def gathered(text: str) -> dict[str, Effect]:
    """The same on loopback, after a real gathering."""
    survey = Survey(policy(text), Unseen())
    asyncio.run(survey.once())
    assert survey.latest is not None
    place = here(policy(text), ADDRESSES[:1], survey.latest, is_offline=False)
    return {each.key: each for each in effects(place, text)}


def test_every_rule_is_there_and_what_does_nothing_says_so() -> None:
    found = judged("")
    assert {key.split(".")[0] for key in found} == {
        *("transports", "candidate_types", "tcp_types", "address_families", "lite", "interfaces", "addresses", "ports"),
        *("remote", "advertise", "mdns", "preferences", "timeouts", "simultaneous_open", "servers", "relay"),
    }
    lines = list(plain(here(policy(""), (), Findings(), is_offline=True), list(found.values()), "F"))
    assert "  interfaces.exclude: []  # default; nothing here" in lines
    assert "  interfaces.vpn: true  # default; nothing here" in lines


def test_rules_come_in_the_order_of_the_reference() -> None:
    sections = list(dict.fromkeys(key.split(".")[0].partition("[")[0] for key in judged("")))
    assert sections == [name for name in Policy.model_fields if name in sections]


@pytest.mark.parametrize(
    ("text", "key", "does"),
    [
        ("", "interfaces.loopback", ["127.0.0.1 on lo, by interfaces.loopback: false", "::1 on lo, by"]),
        ("interfaces: {exclude: [docker*]}", "interfaces.exclude", ["172.17.0.1 on docker0, by interfaces.exclude[0]"]),
        ("interfaces: {vpn: false}", "interfaces.vpn", ["10.9.0.1 on wg0, by interfaces.vpn: false"]),
        ("addresses: {exclude: [10.0.0.0/8]}", "addresses.exclude", ["10.9.0.1 on wg0, by addresses.exclude[0]"]),
        (
            "interfaces: {default_route_only: true}",
            "interfaces.default_route_only",
            ["172.17.0.1 on docker0", "10.9.0.1 on wg0"],
        ),
        ("interfaces: {include: ['eth*', lo]}", "interfaces.include", ["172.17.0.1 on docker0", "10.9.0.1 on wg0"]),
        (
            "address_families: [ipv6]\ninterfaces: {loopback: true}",
            "address_families",
            ["127.0.0.1 on lo", "192.0.2.1 on eth0", "172.17.0.1 on docker0", "10.9.0.1 on wg0"],
        ),
    ],
)
def test_a_rule_tells_the_addresses_that_it_removes(text: str, key: str, does: list[str]) -> None:
    removes = [each for each in judged(text)[key].does if each.startswith("removes ")]
    assert len(removes) == len(does)
    for line, expected in zip(removes, does, strict=True):
        assert line.startswith(f"removes {expected}")


def test_what_lets_through_and_keeps_is_told() -> None:
    found = judged("interfaces: {include: ['eth*']}\naddresses: {include: [192.0.2.0/24]}\n")
    assert found["interfaces.include"].does[0] == "lets through eth0"
    assert found["addresses.include"].does == ("keeps 192.0.2.1 on eth0, by addresses.include[0]: 192.0.2.0/24",)
    assert found["address_families"].does == ("keeps ipv4: 1 address",)


def test_kinds_that_are_left_out_are_told() -> None:
    found = judged("transports: [udp]\ncandidate_types: [host]\n")
    assert found["transports"].does == ("removes every tcp candidate: none is gathered",)
    assert found["candidate_types"].does == (
        "removes every srflx candidate: none is gathered",
        "removes every relay candidate: none is gathered",
        "removes prflx candidates, which checks will find",
    )
    assert found["tcp_types"].does == ()


def test_rules_about_the_peer_wait_for_it() -> None:
    found = judged("remote: {deny: [{cidr: 10.0.0.0/8, type: host}], allow: [{transport: udp}]}")
    assert found["remote.deny[0]"].value == {"cidr": "10.0.0.0/8", "type": "host"}
    assert found["remote.deny[0]"].does == (
        "removes candidates of a peer with cidr 10.0.0.0/8, type host; there is no peer yet",
    )
    assert found["remote.allow[0]"].does[0].startswith("keeps candidates of a peer with transport udp")


def test_the_line_that_says_it_is_told() -> None:
    found = judged("lite: false\ninterfaces:\n  exclude: [eth0]\nremote:\n  deny:\n    - type: relay\n")
    assert (found["interfaces.exclude"].line, found["transports"].line) == (3, None)
    assert found["remote.deny[0]"].line == 6


def test_candidates_that_were_gathered_are_told_by_rule() -> None:
    found = gathered(
        f"{LOOPBACK}servers: []\nports: {{udp: 41000-41999}}\nadvertise: {{tcp_types: [active, passive]}}\n"
        "preferences: {interfaces: [lo]}\n"
    )
    assert found["transports"].does == ("keeps udp: 1 candidate", "keeps tcp: 3 candidates")
    assert found["tcp_types"].does == (
        "keeps active: 1 candidate",
        "keeps passive: 1 candidate",
        "keeps so: 1 candidate",
    )
    (kept,) = found["candidate_types"].does
    assert kept.startswith("keeps host: udp 127.0.0.1:41")
    (bound,) = found["ports.udp"].does
    assert bound.startswith("binds 41")
    assert found["ports.tcp"].does == ()
    (hidden,) = found["advertise.tcp_types"].does
    assert hidden.startswith("hides host tcp so 127.0.0.1:") and "by advertise.tcp_types" in hidden
    assert found["preferences.types.udp.host"].does[0].startswith("ranks 1 candidate, priority ")
    assert found["preferences.types.udp.relay"].does == ()
    assert found["preferences.directions.direct.so"].does[0].startswith("ranks 1 candidate")
    assert found["preferences.interfaces"].does == ("prefers lo, in this order",)
    assert "nobody tells how the world sees this host" in found["servers"].does[0]


def test_servers_tell_what_they_were_asked_and_what_they_answered() -> None:
    async def body() -> dict[str, Effect]:
        options = ServerOptions(port=0, users={"user": "pass"}, peers=PeerPolicy(loopback=True))
        async with Server(options) as server:
            port = server.address(Leg.UDP)[1]
            text = (
                f"{LOOPBACK}transports: [udp]\nrelay: {{lifetime: 60}}\nservers:\n"
                f"- {{url: 'turn:127.0.0.1:{port}?transport=udp', username: user, password: pass}}\n"
                f"- {{url: 'turn:127.0.0.1:{port}?transport=tcp', username: user, password: wrong}}\n"
            )
            survey = Survey(policy(text), Unseen())
            await survey.once()
            assert survey.latest is not None
            return {
                each.key: each
                for each in effects(here(policy(text), ADDRESSES[:1], survey.latest, is_offline=False), text)
            }

    found = asyncio.run(body())
    assert found["servers[0].url"].does[0] == "good"
    assert any(line.startswith("a relay of udp (udp to 127.0.0.1:") for line in found["servers[0].url"].does[1:])
    assert found["servers[1].url"].does[0] == "failed"
    assert any(line.startswith("server-error-401: ") for line in found["servers[1].url"].does)
    assert found["relay.lifetime"].does[0].startswith("asked for with ")
    assert found["relay.even_port"].does == ()
    assert "wrong" not in repr([each.does for each in found.values()])


def test_the_document_says_the_same() -> None:
    place = here(policy(""), ADDRESSES, Findings(), is_offline=True)
    found = effects(place)
    document = json.loads(json.dumps(fields(place, found)))
    assert document["offline"] is True
    assert document["addresses"][2] == {
        "interface": "eth0",
        "address": "192.0.2.1",
        "kept": True,
        "rule": "addresses.include: empty, all are included",
    }
    assert [each["key"] for each in document["rules"]] == [each.key for each in found]
    assert (document["gathering"]["candidates"], document["gathering"]["servers"]) == ([], [])


# The command


def explain(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["policy", "explain", str(path), *arguments])


@contextmanager
def listener() -> Iterator[tuple[int, socket.socket]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock.getsockname()[1], sock


def test_offline_asks_nobody_and_shows_this_host(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    with listener() as (port, sock):
        path.write_text(f"{LOOPBACK}servers: [{{url: 'stun:127.0.0.1:{port}'}}]\n", "utf-8")
        result = explain(path, "--offline")
        with pytest.raises(BlockingIOError):
            sock.recv(1)
    assert result.exit_code == 0
    assert "    not asked: offline\n" in result.output
    assert "    keeps host: udp 127.0.0.1:" in result.output
    assert f"  # {path}:2\n    lets through lo\n" in result.output


def test_offline_a_policy_that_lives_by_its_servers_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "candidate_types: [relay]\nservers: [{url: 'turn:127.0.0.1:1', username: u, password: s3cret}]\n", "utf-8"
    )
    result = explain(path, "--offline", "--json")
    assert result.exit_code == 0
    rules = {each["key"]: each for each in json.loads(result.output)["rules"]}
    assert rules["candidate_types"]["does"][0] == "removes every host candidate: none is gathered"
    assert "s3cret" not in result.output


def test_a_silent_server_is_told_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    with listener() as (port, _):
        path.write_text(f"{LOOPBACK}timeouts: {{gather: 0.3}}\nservers: [{{url: 'stun:127.0.0.1:{port}'}}]\n", "utf-8")
        result = explain(path)
    assert result.exit_code == 0
    assert "    failed\n" in result.output
    assert "    ended gathering after 0." in result.output


def test_an_interruption_is_told(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    with listener() as (port, sock):
        path.write_text(f"{LOOPBACK}timeouts: {{gather: 60.0}}\nservers: [{{url: 'stun:127.0.0.1:{port}'}}]\n", "utf-8")
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "ice_tcp.cli", "policy", "explain", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            sock.settimeout(60)
            sock.recv(1)  # it gathers
            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=60)
    assert (process.returncode, *output) == (130, "", "interrupted\n")


@pytest.mark.parametrize("option", ["--offline", "--json"])
def test_options_for_this_host_do_not_go_with_candidates(option: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("lite: false\n", "utf-8")
    result = explain(path, option, "--local", "candidate:1 1 UDP 1 192.0.2.1 5 typ host")
    assert result.exit_code == 2
    assert "are for this host" in result.output


def test_a_wrong_policy_is_a_misuse(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("transports: [smoke]\n", "utf-8")
    assert explain(path, "--offline").exit_code == 2
