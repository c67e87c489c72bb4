"""Keys that are each valid and cannot be meant together: errors that name the key to change."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from candidates.policy import Policy, RemoteRule
from tests.policy_texts import complaint, load, problems

TURN = "servers: [{url: 'turn:turn.example.org?transport=%s', username: u, password: p}]\n"


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("candidate_types: [relay]", "candidate_types", "only relay is allowed, but there is no TURN server"),
        ("candidate_types: [prflx, relay]\nservers: [{url: 'stun:x'}]", "candidate_types", "there is no TURN server"),
        ("candidate_types: [srflx]", "candidate_types", "neither a STUN nor a TURN server is configured"),
        ("candidate_types: [prflx]", "candidate_types", "learned, not gathered"),
        ("candidate_types: []", "candidate_types", "the list is empty"),
        ("transports: []", "transports", "the list is empty"),
        ("address_families: []", "address_families", "the list is empty"),
        ("advertise: {transports: []}", "advertise.transports", "the list is empty"),
        (
            "transports: [tcp]\ncandidate_types: [relay]\n" + TURN % "udp",
            "servers",
            "TCP is relayed over TCP or TLS to the server",
        ),
        ("tcp_types: []", "tcp_types", "the list is empty, but transports has tcp"),
        ("transports: [udp]\ntcp_types: [so]", "tcp_types", "transports has no tcp"),
        ("advertise: {transports: [udp], tcp_types: [so]}", "advertise.tcp_types", "transports has no tcp"),
        ("transports: [udp]\nports: {tcp: 1-9}", "ports.tcp", "transports has no tcp"),
        ("transports: [udp]\nports: {tcp: 1-9}\n" + TURN % "udp", "ports.tcp", "transports has no tcp"),
        ("transports: [tcp]\nports: {udp: 1-9}", "ports.udp", "transports has no udp"),
        ("ports: {tcp: 5000-5000}", "ports.tcp", "one port is too few: passive and so take a port each"),
        ("interfaces: {include: []}", "interfaces.include", "no interface is left"),
        ("interfaces: {exclude: ['*']}", "interfaces.exclude", "every interface that is included is excluded"),
        ("interfaces: {include: [eth0, 'wl*'], exclude: [eth0, 'w*']}", "interfaces.exclude", "is excluded"),
        ("interfaces: {include: [tun0, 'wg*'], vpn: false}", "interfaces.include", "but vpn is false"),
        ("addresses: {exclude: [0.0.0.0/0]}", "addresses.exclude", "every ipv4 address is excluded"),
        (
            "address_families: [ipv6]\naddresses: {exclude: ['8000::/1', '::/1']}",
            "addresses.exclude",
            "every ipv6 address is excluded",
        ),
        (
            "addresses: {include: [10.0.0.0/8, 192.0.2.1], exclude: [10.128.0.0/9, 10.0.0.0/9, 192.0.2.0/24]}",
            "addresses.exclude",
            "every address that is included is excluded",
        ),
        (
            "address_families: [ipv6]\naddresses: {include: [10.0.0.0/8]}",
            "addresses.include",
            "no ipv6 block is included",
        ),
        (
            "addresses: {include: [127.0.0.0/8, '::1']}",
            "addresses.include",
            "only loopback addresses are left, but interfaces.loopback is false",
        ),
        (
            "addresses: {include: ['fe80::/64', 127.0.0.1]}",
            "addresses.include",
            "only link-local addresses are left, but interfaces.link_local is false",
        ),
        ("remote: {deny: [{}]}", "remote.deny[0]", "the rule has no condition"),
        ("remote: {deny: [{cidr: 0.0.0.0/0}, {cidr: '::/0'}]}", "remote.deny", "no candidate of the peer is left"),
        ("remote: {deny: [{transport: udp}, {transport: tcp}]}", "remote.deny", "no candidate of the peer is left"),
        (
            "transports: [udp]\nremote: {allow: [{cidr: 10.0.0.0/8, type: host}], deny: [{cidr: 10.0.0.0/7}]}",
            "remote.deny",
            "no candidate of the peer is left",
        ),
        ("transports: [udp]\nremote: {allow: [{transport: tcp}]}", "remote.allow", "no candidate of the peer is left"),
        ("transports: [udp]\nadvertise: {transports: [tcp]}", "advertise.transports", "the peer is told nothing"),
        (
            "transports: [tcp]\ntcp_types: [active]\nadvertise: {tcp_types: [so]}",
            "advertise.tcp_types",
            "the peer is told nothing",
        ),
        ("advertise: {exclude: ['::/0']}", "advertise.exclude", "every ipv6 address is excluded"),
        ("servers: [{url: 'turn:x'}]", "servers[0].url", "a TURN server needs credentials"),
        ("servers: [{url: 'turn:x', username: u}]", "servers[0].username", "it is useless without password"),
        ("servers: [{url: 'stun:x', password: p}]", "servers[0].password", "it is useless without username"),
        (
            "servers: [{url: 'turn:x', username: u, password: p, secret: s}]",
            "servers[0].secret",
            "password says the same in another way; remove one of the two",
        ),
        (
            "servers: [{url: 'turn:x', username: u, password: p, credential_lifetime: 60.0}]",
            "servers[0].credential_lifetime",
            "it is useless without secret",
        ),
        ("servers: [{url: 'stun:x', tls: {verify: false}}]", "servers[0].tls", "without TLS; write stuns:"),
        ("preferences: {types: {udp: {prflx: 90}}}", "preferences.types.udp.prflx", "90 is lower than srflx, 100"),
        ("preferences: {types: {tcp: {relay: 90}}}", "preferences.types.tcp.relay", "also the preference of host"),
        ("preferences: {directions: {nat: {so: 4}}}", "preferences.directions.nat.so", "also the preference of active"),
        ("limits: {connects_per_ip: 1}", "limits.connects_per_ip", "one attempt is kept for simultaneous open"),
        ("consent: {interval: 30, timeout: 30}", "consent.interval", "30 s is not below consent.timeout, 30 s"),
        ("nomination: {relay_grace: 40}", "nomination.relay_grace", "40 s is not below timeouts.patience, 39.5 s"),
        ("nomination: {grace: 40}", "nomination.grace", "40 s is not below timeouts.patience, 39.5 s"),
    ],
)
def test_a_contradiction_is_an_error_that_names_the_key(text: str, key: str, expected: str) -> None:
    assert key in [found for _, _, found in problems(text)]
    assert expected in complaint(text)


def test_contradictions_are_told_together_with_their_places() -> None:
    text = "lite: true\ntcp_types: [passive, so]\nconsent:\n  timeout: 2\n" + TURN % "udp"
    assert problems(text) == [
        (1, 1, "candidate_types"),  # not written: the file's first place stands for it
        (2, 1, "tcp_types"),
        (3, 1, "consent.interval"),
        (5, 1, "servers"),
    ]
    assert "a lite agent opens no connections, but tcp_types has so" in complaint(text)
    assert "but candidate_types has srflx, relay" in complaint(text)
    assert "a lite agent asks no servers" in complaint(text)


@pytest.mark.parametrize(
    "text",
    [
        "transports: [udp]",
        "transports: [udp]\ntcp_types: []",
        "lite: true\ntcp_types: [passive]\ncandidate_types: [host]",
        "lite: true\ntransports: [udp]\ncandidate_types: [host]",
        "candidate_types: [relay]\n" + TURN % "udp",
        "candidate_types: [relay]\ntransports: [tcp]\n" + TURN % "tcp",
        "candidate_types: [srflx]\nservers: [{url: 'stun:x'}]",
        "ports: {tcp: 5000-5000}\ntcp_types: [passive, active]",
        "interfaces: {include: ['eth*'], exclude: ['eth?']}",
        "interfaces: {include: [tun0, eth0], vpn: false}",
        "address_families: [ipv6]\naddresses: {exclude: [0.0.0.0/0]}",
        "addresses: {include: [127.0.0.0/8]}\ninterfaces: {loopback: true}",
        "addresses: {include: [10.0.0.0/8], exclude: [10.0.0.0/9, 10.128.0.0/10]}",
        "remote: {deny: [{cidr: 0.0.0.0/0}]}",
        "remote: {deny: [{transport: udp}, {transport: tcp, type: relay}]}",
        "consent: {enabled: false, interval: 60}",
        "limits: {connects_per_ip: 1}\ntcp_types: [so]",
        "servers: [{url: 'stuns:x', tls: {server_name: y}}]",
        "servers: [{url: 'turn:x', secret: s}]",
        "servers: [{url: 'turn:x', username: u, secret: s, credential_lifetime: 60.0}]",
        "transports: [udp]\nports: {tcp: 1-9}\n" + TURN % "tcp",
    ],
)
def test_what_only_looks_contradictory_loads(text: str) -> None:
    assert complaint(text) == ""


def test_a_policy_made_in_code_is_checked_too() -> None:
    with pytest.raises(ValidationError, match=r"consent\.interval: 9 s is not below consent\.timeout, 3 s"):
        Policy.model_validate({"consent": {"interval": 9, "timeout": 3}})


def test_thousands_of_blocks_are_compared_in_n_log_n() -> None:
    """Quadratic work would take minutes, and this test's deadline."""
    blocks = [f"10.{n // 256}.{n % 256}.0/24" for n in range(0, 20_000, 2)]
    text = f"addresses: {{include: [{', '.join(blocks)}], exclude: [{', '.join(blocks[:-1])}]}}"
    assert len(load(text).addresses.include) == 10_000
    text = "remote:\n  deny:\n" + "".join(f"  - {{cidr: {block}}}\n" for block in blocks)
    assert load(text).remote.deny[-1] == RemoteRule.model_validate({"cidr": blocks[-1]})
