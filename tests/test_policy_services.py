"""The sections `server` and `rendezvous` of a policy: what is refused, where, and what becomes of them."""

from __future__ import annotations

from dataclasses import fields

import pytest

from candidates.policy import Policy, PolicyError, effective_settings, load_policy
from ice_tcp.rendezvous import Limits as RendezvousLimits
from ice_tcp.rendezvous.server import DEFAULT_PORT
from ice_tcp.server.options import Limits, ServerOptions
from ice_tcp.server.peers import PeerPolicy
from ice_tcp.server.policy import options_of, overridden
from tests.policy_texts import complaint, load

HERE = ("192.0.2.10",)
FILES = {"users": "# who\nann:apple\n\nbob:b:c\n", "twice": "ann:a\nann:b\n", "bad": "ann:apple\nhunter2\n"}


def with_files(text: str) -> Policy:
    return load_policy(text, source="p.yaml", environ={}, read_file=lambda path: FILES[path])


def options(text: str) -> ServerOptions:
    return options_of(with_files(text).server, lambda: HERE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("server: {prot: 1}", "p.yaml:1:10: server.prot: unknown key; did you mean 'port'?"),
        ("server: {port: 65536}", "server.port: 65536 is out of range"),
        ("server: {listen: [localhost]}", "server.listen[0]: not an IP address"),
        ("server: {listen: ['::']}", "server.listen[0]: :: is any address"),
        ("server: {users: [{name: ann}]}", "server.users[0].password: the key is missing"),
        ("server: {users: [{name: 7, password: x}]}", "server.users[0].name: not a name"),
        ("server:\n  users_file: none\n", "p.yaml:2:15: server.users_file: cannot read 'none'"),
        ("server: {alternate_servers: ['192.0.2.1']}", "server.alternate_servers[0]: not an address and a port"),
        ("server: {alternate_servers: ['2001:db8::1:3478']}", "only IPv6 addresses stand in brackets"),
        ("server: {peers: {deny: [10.0.0.1/8]}}", "server.peers.deny[0]: '10.0.0.1/8' has bits set"),
        ("server: {limits: {channels: 0}}", "server.limits.channels: 0 is out of range"),
        ("server: {idle_timeout: soon}", "server.idle_timeout: not a number; write a number of seconds"),
        ("server: {port: null}", "server.port: tls_port is null, too"),
        ("server: {port: null, tls_port: 1, certificate: c, alternate_port: 2}", "server.alternate_port: port is null"),
        ("server: {default_lifetime: 9, max_lifetime: 8}", "server.default_lifetime: 9 s is longer than max_lifetime"),
        ("server: {redirect_from: 5}", "server.redirect_from: there are no alternate_servers"),
        ("server:\n  tls_port: 443\n", "p.yaml:2:3: server.tls_port: there is no certificate"),
        ("server: {key: k}", "server.key: it is useless without certificate"),
        (
            "server: {users: [{name: a, password: x}, {name: a, password: y}]}",
            "p.yaml:1:43: server.users[1].name: the user stands twice",
        ),
        (
            "server: {external_addresses: [{relay: 10.0.0.1, public: 8.8.8.8}, {relay: 10.0.0.1, public: 9.9.9.9}]}",
            "server.external_addresses[1].relay: the address stands twice",
        ),
        ("rendezvous: {key: k}", "rendezvous.key: it is useless without certificate"),
        ("rendezvous: {limits: {burst: none}}", "rendezvous.limits.burst: not a whole number"),
        ("rendezvous: {redis: '${NO_SUCH}'}", "rendezvous.redis: the environment variable NO_SUCH is not set"),
    ],
)
def test_what_cannot_work_is_told_with_its_key(text: str, expected: str) -> None:
    assert expected in complaint(text)


@pytest.mark.parametrize(
    ("name", "expected"), [("bad", "bad:2 is not name:password"), ("twice", "twice:2: 'ann' stands twice")]
)
def test_a_file_of_users_tells_its_line_and_no_password(name: str, expected: str) -> None:
    with pytest.raises(PolicyError) as refused:
        with_files(f"server:\n  users_file: {name}\n")
    assert f"p.yaml:2:15: server.users_file: {expected}" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_user_stands_in_the_policy_or_in_the_file() -> None:
    with pytest.raises(PolicyError, match=r"users\[0\].name: the user stands twice"):
        with_files("server: {users_file: users, users: [{name: ann, password: x}]}")


def test_passwords_are_never_shown() -> None:
    text = (
        "server: {users: [{name: ann, password: s3cret}], secret: s3cret}\nrendezvous: {redis: 'redis://:s3cret@host'}"
    )
    policy = load(text)
    settings = effective_settings(policy, text)
    shown = [repr(policy), policy.model_dump_json(), repr(policy.model_dump()), repr(settings)]
    assert [each for each in shown if "s3cret" in each] == []
    assert {each.key: each.value for each in settings}["server.users[0].name"] == "ann"
    filed = with_files("server: {users_file: users}")
    assert "apple" not in repr(filed) and "apple" not in filed.model_dump_json()


def test_the_defaults_are_those_of_the_servers() -> None:
    default = Policy.default()
    assert options_of(default.server, lambda: HERE) == ServerOptions(hosts=HERE)
    assert dict(default.server.limits) == {each.name: getattr(Limits(), each.name) for each in fields(Limits)}
    rendezvous = {each.name: getattr(RendezvousLimits(), each.name) for each in fields(RendezvousLimits)}
    assert dict(default.rendezvous.limits) == rendezvous
    assert default.rendezvous.port == DEFAULT_PORT


def test_a_policy_becomes_options() -> None:
    found = options(
        "server: {listen: [192.0.2.1], users: [{name: carl, password: cherry}], users_file: users, secret: s, "
        "peers: {private: true}, limits: {allocations: 5}, max_lifetime: 300, alternate_servers: ['[2001:db8::1]:7'], "
        "external_addresses: [{relay: 192.0.2.1, public: 203.0.113.1}], relay_ports: 5000-5010}"
    )
    assert found.users == {"carl": "cherry", "ann": "apple", "bob": "b:c"}
    assert (found.hosts, found.shared_secret, found.relay_ports) == (("192.0.2.1",), "s", (5000, 5010))
    assert (found.peers, found.limits) == (PeerPolicy(private=True), Limits(allocations=5))
    assert (found.default_lifetime, found.max_lifetime) == (300, 300)
    assert found.alternate_servers == (("2001:db8::1", 7),)
    assert found.external_hosts == {"192.0.2.1": "203.0.113.1"}


def test_a_command_line_overrides_it_part_by_part() -> None:
    found = overridden(
        options("server: {peers: {private: true, loopback: true}, limits: {allocations: 5, channels: 6}, realm: here}"),
        {"allow_loopback": False, "total_quota": 7, "max_lifetime": 60.0},
    )
    assert found.peers == PeerPolicy(private=True)
    assert found.limits == Limits(allocations=7, channels=6)
    assert (found.realm, found.default_lifetime, found.max_lifetime) == ("here", 60.0, 60.0)


def test_a_revised_policy_keeps_the_users_of_a_file() -> None:
    policy = with_files("server: {users_file: users, alternate_servers: ['192.0.2.1:5']}")
    assert policy.revised(lite=False).server == policy.server
    assert isinstance(hash(policy), int)
