"""From a scenario to namespaces: nodes, addresses, cables and routes. These are plans; `world` builds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from interop.natlab.kinds import Box, NatKind, Option, Site
from interop.natlab.line import Attachment
from interop.natlab.rules import TIMEOUTS, ruleset
from interop.natlab.scenario import Scenario

WAN, LAN, HOST = "wan", "lan", "eth0"
LEFT, RIGHT, SERVER = "left", "right", "server"

SERVER_ADDRESSES: Final = ("198.51.100.10", "198.51.100.11")
"""Two, as RFC 5780 wants."""
SERVER_ADDRESSES_6: Final = ("2001:db8:ff::10", "2001:db8:ff::11")

_CARRIER_SIDE: Final = "100.64.0"
_ROUTER: Final = {
    "net/ipv4/ip_forward": 1,
    "net/ipv6/conf/all/forwarding": 1,
    # Neighbours are not NATed, and what is NATed is not bridged past the firewall.
    "net/bridge/bridge-nf-call-iptables": 0,
    "net/bridge/bridge-nf-call-ip6tables": 0,
}


@dataclass(slots=True)
class Node:
    """One namespace. ``addresses`` are those of each interface, with the length of their prefix."""

    namespace: str
    addresses: dict[str, list[str]] = field(default_factory=dict)
    default: dict[str, str] = field(default_factory=dict)
    """For ``0.0.0.0/0`` and ``::/0``: where that goes, in the words of ``ip route``."""
    bridged: list[str] = field(default_factory=list)
    """Interfaces that are ports of a bridge ``lan``."""
    ruleset: str = ""
    kernel: dict[str, int] = field(default_factory=dict)

    @property
    def has_ipv6(self) -> bool:
        return any(":" in address for each in self.addresses.values() for address in each)


@dataclass(frozen=True, slots=True)
class Cable:
    """A pair of virtual Ethernet interfaces, each by namespace and name."""

    one: tuple[str, str]
    other: tuple[str, str]


@dataclass(slots=True)
class Topology:
    """All of one cell."""

    nodes: dict[str, Node] = field(default_factory=dict)
    cables: list[Cable] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    boxes: dict[str, tuple[Node, ...]] = field(default_factory=dict)
    """Of each site, from the inside outwards."""

    def public(self, side: str) -> tuple[str, ...]:
        """The addresses by which the internet knows a site."""
        found = next(each for each in self.attachments if each.name == side)
        return tuple(network.partition("/")[0] for network in found.networks)


@dataclass(frozen=True, slots=True)
class _Addresses:
    """Of one site."""

    public: str
    lan: str
    """The first three numbers of the home network."""
    ipv6: str
    """The first numbers of the site's network."""


_ADDRESSES: Final = {
    LEFT: _Addresses("203.0.113.10", "192.168.1", "2001:db8:a:"),
    RIGHT: _Addresses("203.0.113.20", "192.168.2", "2001:db8:b:"),
}


def plan(scenario: Scenario, name: Callable[[str], str]) -> Topology:
    """The topology of a scenario; ``name`` makes a namespace's name of a node's."""
    topology = Topology()
    _plan_site(topology, scenario, LEFT, scenario.left, name, hosts=2 if scenario.right is None else 1)
    if scenario.right is not None:
        _plan_site(topology, scenario, RIGHT, scenario.right, name, hosts=1)
    server = Node(name(SERVER))
    _attach(topology, SERVER, server, HOST, (*SERVER_ADDRESSES, *SERVER_ADDRESSES_6), scenario)
    topology.nodes[SERVER] = server
    return topology


def _plan_site(
    topology: Topology, scenario: Scenario, side: str, site: Site, name: Callable[[str], str], hosts: int
) -> None:
    addresses = _ADDRESSES[side]
    names = [LEFT, RIGHT] if hosts == 2 else [side]
    inside = [Node(name(each)) for each in names]
    topology.nodes.update(zip(names, inside, strict=True))
    match site.kind.box:
        case Box.NONE:
            (host,) = inside
            topology.boxes[side] = ()
            _attach(topology, side, host, HOST, (addresses.public, f"{addresses.ipv6}:2"), scenario)
        case Box.NAT:
            home = _box(name(f"{side}-nat"), site.kind, site.options, _home_wan(site, addresses))
            _wire_home(topology, home, inside, [f"{addresses.lan}.{n}/24" for n in (1, 2, 3)])
            _plan_nat(topology, scenario, side, site, home, name)
        case Box.IPV6_FIREWALL:
            home = _box(name(f"{side}-firewall"), site.kind, site.options, "")
            _wire_home(topology, home, inside, [f"{addresses.ipv6}:{n}/64" for n in (1, 2, 3)])
            topology.nodes[f"{side}-firewall"] = home
            topology.boxes[side] = (home,)
            _attach(topology, side, home, WAN, (f"{addresses.ipv6}ffff::1",), scenario, behind=f"{addresses.ipv6}:/64")


def _home_wan(site: Site, addresses: _Addresses) -> str:
    return addresses.public if site.carrier is None else f"{_CARRIER_SIDE}.2"


def _plan_nat(
    topology: Topology, scenario: Scenario, side: str, site: Site, home: Node, name: Callable[[str], str]
) -> None:
    addresses = _ADDRESSES[side]
    topology.nodes[f"{side}-nat"] = home
    if site.carrier is None:
        topology.boxes[side] = (home,)
        _attach(topology, side, home, WAN, (addresses.public,), scenario)
        return
    carrier = _box(name(f"{side}-cgn"), site.carrier, frozenset(), addresses.public)
    topology.nodes[f"{side}-cgn"] = carrier
    topology.boxes[side] = (home, carrier)
    topology.cables.append(Cable((carrier.namespace, LAN), (home.namespace, WAN)))
    carrier.addresses[LAN] = [f"{_CARRIER_SIDE}.1/24"]
    home.addresses[WAN] = [f"{_CARRIER_SIDE}.2/24"]
    home.default[_everywhere(_CARRIER_SIDE)] = f"via {_CARRIER_SIDE}.1"
    _attach(topology, side, carrier, WAN, (addresses.public,), scenario)


def _box(namespace: str, kind: NatKind, options: frozenset[Option], wan: str) -> Node:
    kernel = dict(_ROUTER)
    if Option.SHORT in options:
        kernel |= {f"net/netfilter/nf_conntrack_{key}": seconds for key, seconds in TIMEOUTS.items()}
    return Node(namespace, ruleset=ruleset(kind, options, wan), kernel=kernel)


def _wire_home(topology: Topology, box: Node, hosts: list[Node], addresses: list[str]) -> None:
    """Cables from a box to its hosts; ``addresses`` are the box's and then the hosts'."""
    box.addresses[LAN] = [addresses[0]]
    for number, host in enumerate(hosts):
        port = f"{LAN}{number}"
        box.bridged.append(port)
        topology.cables.append(Cable((box.namespace, port), (host.namespace, HOST)))
        host.addresses[HOST] = [addresses[number + 1]]
        host.default[_everywhere(addresses[0])] = f"via {addresses[0].partition('/')[0]}"


def _attach(
    topology: Topology,
    name: str,
    node: Node,
    interface: str,
    addresses: tuple[str, ...],
    scenario: Scenario,
    behind: str | None = None,
) -> None:
    """Put a node on the internet with these addresses, and perhaps a network behind it."""
    lengths = {address: 128 if ":" in address else 32 for address in addresses}
    networks = [f"{address}/{length}" for address, length in lengths.items()]
    node.addresses[interface] = list(networks)
    node.default |= {_everywhere(address): f"dev {interface}" for address in addresses}
    routed = (*networks, behind) if behind is not None else tuple(networks)
    topology.attachments.append(Attachment(name, node.namespace, interface, routed, scenario.weather.link))


def _everywhere(address: str) -> str:
    """All addresses of the family of this one."""
    return "::/0" if ":" in address else "0.0.0.0/0"
