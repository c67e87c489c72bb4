from __future__ import annotations

from ipaddress import ip_network

import pytest

from ice_tcp.server.peers import PeerPolicy

PUBLIC = ["203.0.113.1", "8.8.8.8", "2600::1", "172.32.0.1", "100.128.0.1"]
LOOPBACK = ["127.0.0.1", "127.255.0.1", "::1"]
PRIVATE = ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd00::1", "fec0::1"]
LINK_LOCAL = ["169.254.0.1", "fe80::1"]
NEVER_ASKED = ["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "255.255.255.255", "240.0.0.1", "::", "ff02::1"]  # noqa: S104 - nothing binds
IN_DISGUISE = ["::ffff:127.0.0.1", "::ffff:8.8.8.8", "::7f00:1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001::1"]


@pytest.mark.parametrize("host", PUBLIC)
def test_public_peers_are_reached(host: str) -> None:
    assert PeerPolicy().permits(host)


@pytest.mark.parametrize("host", LOOPBACK + PRIVATE + LINK_LOCAL + NEVER_ASKED + IN_DISGUISE)
def test_other_peers_are_not(host: str) -> None:
    assert not PeerPolicy().permits(host)


@pytest.mark.parametrize(
    ("policy", "opened"),
    [
        (PeerPolicy(loopback=True), LOOPBACK),
        (PeerPolicy(private=True), PRIVATE),
        (PeerPolicy(link_local=True), LINK_LOCAL),
    ],
)
def test_each_word_opens_what_it_says(policy: PeerPolicy, opened: list[str]) -> None:
    for host in LOOPBACK + PRIVATE + LINK_LOCAL + NEVER_ASKED + IN_DISGUISE:
        assert policy.permits(host) is (host in opened)


def test_networks_are_closed_and_opened_by_hand() -> None:
    policy = PeerPolicy(private=True, allow=(ip_network("10.1.2.3/32"),), deny=(ip_network("10.0.0.0/8"),))
    assert policy.permits("10.1.2.3")
    assert not policy.permits("10.1.2.4")
    assert policy.permits("192.168.1.1")
    assert PeerPolicy(allow=(ip_network("224.0.0.0/4"),)).permits("224.0.0.1")


def test_teredo_and_6to4_are_never_reached() -> None:
    policy = PeerPolicy(allow=(ip_network("::/0"),))  # RFC 8656 s21.4: MUST NOT
    assert not policy.permits("2002:808:808::1") and not policy.permits("2001::1")
    assert policy.permits("2600::1")
