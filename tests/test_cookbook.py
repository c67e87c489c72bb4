"""Every recipe of `docs/cookbook.md` is a good policy, and does what its heading says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from candidates.candidate import Candidate, CandidateType, InterfaceAddress, TcpType, Transport, TransportAddress
from candidates.policy import Policy, Scheme, load_policy
from candidates.policy.explanation import Stage
from ice_tcp.server import short_lived_password
from ice_tcp.server.policy import options_of
from ice_tcp.stun import Method, lifetime, requested_transport
from tests.core.net import AWAY, HOME, Net, Node, tcp_candidate, udp_candidate
from tests.server_world import NOON, PEER, SERVER, User, World, peer

DOCUMENT: Final = (Path(__file__).parent.parent / "docs" / "cookbook.md").read_text("utf-8")
RECIPES: Final = dict(re.findall(r"^## ([^\n]*)\n.*?^```yaml\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL))
HOME_6: Final = "2001:db8::1"
SECRET: Final = "battery-staple"


def policy(name: str) -> Policy:
    return load_policy(
        RECIPES[name], environ={"TURN_PASSWORD": "correct-horse", "TURN_SECRET": SECRET}, read_file=lambda _: ""
    )


def gathered(recipe: Policy) -> Node:
    """An agent on a host with an IPv4 and an IPv6 address, which has gathered; no server answers."""
    node = Net().node(policy=recipe, hosts=(HOME, HOME_6))
    node.gather()
    node.net.run(recipe.timeouts.gather + 1)
    return node


def is_used(recipe: Policy, remote: Candidate) -> bool:
    return all(bool(step.ruling) for step in recipe.explain(remote=remote).steps)


def takes(recipe: Policy, interface: str, host: str = HOME) -> bool:
    address = InterfaceAddress(interface, host, default_route=True)
    return all(bool(step.ruling) for step in recipe.explain(address=address).steps)


def hosts(recipe: Policy) -> set[tuple[Transport, TcpType | None, int]]:
    """The host candidates that are told: transport, TCP type, IP version."""
    told = gathered(recipe).told()
    assert all(each.type is CandidateType.HOST for each in told)
    return {(each.transport, each.tcptype, 6 if ":" in each.address.host else 4) for each in told}


def relay_only(recipe: Policy) -> None:
    assert hosts(recipe) == set()
    assert [server.url.scheme.relays for server in recipe.servers] == [True]
    assert is_used(recipe, udp_candidate())


def tcp_only(recipe: Policy) -> None:
    assert {transport for transport, _, _ in hosts(recipe)} == {Transport.TCP}


def udp_is_blocked(recipe: Policy) -> None:
    assert {transport for transport, _, _ in hosts(recipe)} == {Transport.TCP}
    assert [(server.url.scheme, server.url.address.port) for server in recipe.servers][-1] == (Scheme.TURNS, 443)


def only_443(recipe: Policy) -> None:
    assert hosts(recipe) == set()
    (server,) = recipe.servers
    assert (server.url.scheme, server.url.address.port) == (Scheme.TURNS, 443)


def no_vpn(recipe: Policy) -> None:
    assert takes(recipe, "eth0")
    for interface in ("wg0", "tun0", "tailscale0", "docker0", "veth12", "br-1f"):
        assert not takes(recipe, interface)


def fixed_ports(recipe: Policy) -> None:
    assert [*map(tuple, (recipe.ports.udp or (), recipe.ports.tcp or ()))] == [(40000, 40099), (40000, 40099)]


def ipv6(recipe: Policy) -> None:
    assert {version for _, _, version in hosts(recipe)} == {6}
    both = gathered(Policy.default()).told()
    by_version = {
        version: max(each.priority for each in both if (":" in each.address.host) is version)
        for version in (True, False)
    }
    assert by_version[True] > by_version[False]


def lan_only(recipe: Policy) -> None:
    assert hosts(recipe)
    for host, used in (
        ("192.168.7.2", True),
        ("10.1.2.3", True),
        ("fd12::1", True),
        (AWAY, False),
        ("2001:db8::9", False),
    ):
        assert is_used(recipe, udp_candidate(host=host)) is used
        assert is_used(recipe, tcp_candidate(TcpType.PASSIVE, host=host)) is used


def privacy(recipe: Policy) -> None:
    judged = {step.stage: bool(step.ruling) for step in recipe.explain(local=udp_candidate(host=HOME)).steps}
    assert judged == {Stage.GATHER: True, Stage.ADVERTISE: False}
    mapped, base = TransportAddress("203.0.113.5", 4000), TransportAddress(HOME, 4000)
    reflexive = Candidate("9", 1, Transport.UDP, 1, mapped, CandidateType.SRFLX, related_address=base)
    assert all(bool(step.ruling) for step in recipe.explain(local=reflexive).steps)
    hidden = InterfaceAddress("eth1", HOME, default_route=False)
    assert not all(bool(step.ruling) for step in recipe.explain(address=hidden).steps)


def own_relay(recipe: Policy) -> None:
    options = options_of(recipe.server, lambda: (SERVER,))
    assert (options.tls_port, options.realm, options.max_lifetime) == (443, "turn.example.org", 1800)
    world = World(options)
    name = f"{int(NOON) + 1000}:ann"
    users = [
        User(world, name, short_lived_password(SECRET, name), address=("198.51.100.1", 5000 + number))
        for number in range(5)
    ]
    for user in users[:4]:
        user.allocate()
    assert users[4].refused(Method.ALLOCATE, requested_transport(17)) == 486
    assert users[0].refused(Method.CREATE_PERMISSION, peer(PEER)) == 403
    users[0].succeed(Method.CREATE_PERMISSION, peer(("8.8.8.8", 5000)))
    assert users[0].succeed(Method.REFRESH, lifetime(3600)).lifetime == 1800


DOES: Final[dict[str, Callable[[Policy], None]]] = {
    "Relay only": relay_only,
    "TCP only": tcp_only,
    "UDP is blocked": udp_is_blocked,
    "Only port 443 goes out": only_443,
    "Not through a VPN": no_vpn,
    "A fixed range of ports for a firewall": fixed_ports,
    "IPv6 first": ipv6,
    "Only the local network": lan_only,
    "Privacy": privacy,
    "A relay of your own": own_relay,
}


def test_every_recipe_is_tested() -> None:
    assert set(RECIPES) == set(DOES)


@pytest.mark.parametrize("name", DOES)
def test_a_recipe_does_what_its_heading_says(name: str) -> None:
    DOES[name](policy(name))
