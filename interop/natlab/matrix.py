"""Which cells are run: the whole matrix, special conditions, a continuous subset, or what was asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import cycle
from typing import Final

from interop.natlab.kinds import CARRIER, KINDS, Box, Option, Site
from interop.natlab.scenario import Scenario, Transports

IPV4_KINDS: Final = tuple(name for name, kind in KINDS.items() if kind.box is not Box.IPV6_FIREWALL)
IPV6_PAIRS: Final = (("ipv6-firewall", "ipv6-firewall"), ("ipv6-firewall", "direct"), ("direct", "ipv6-firewall"))
"""A direct host has both families; no NAT of the table has IPv6."""


def whole(base: Scenario, transports: Iterable[Transports]) -> list[Scenario]:
    """Every kind against every kind that it shares an IP version with; the rest is taken from ``base``."""
    pairs = [*((left, right) for left in IPV4_KINDS for right in IPV4_KINDS), *IPV6_PAIRS]
    return [_cell(base, *pair, transport) for transport in transports for pair in pairs]


RST_SKEWS: Final = (0.0, 0.05, 0.1, 0.3, 1.0, 2.5)
"""Seconds between the two sides' starts, where both NATs answer the first SYN with RST."""


PREDICTED_PORTS: Final = 40


def conditions(base: Scenario) -> list[Scenario]:
    """What the matrix of kinds does not have: options on both sides, skewed starts, carriers, neighbours."""
    every, udp, tcp, both = tuple(Transports), Transports.UDP, Transports.TCP, Transports.BOTH
    pairs: list[tuple[str, str | None, Iterable[Transports]]] = [
        ("port-changing+rst", "port-changing+rst", [tcp]),
        ("ipv6-firewall+rst", "ipv6-firewall+rst", [tcp]),
        ("port-restricted+own-stack", "port-restricted+own-stack", every),
        ("port-restricted+no-so", "port-restricted+no-so", [tcp, both]),
        ("port-restricted+no-so", "port-restricted", [tcp]),
        ("ipv6-firewall+no-so", "ipv6-firewall+no-so", [tcp]),
        ("port-restricted+no-udp", "port-restricted", [udp, both]),
        ("port-restricted+no-udp", "port-restricted+no-udp", [udp, both]),
        ("port-restricted+only-443", "port-restricted", every),
        ("port-restricted+only-443", "port-restricted+only-443", every),
        ("port-restricted+short", "port-restricted+short", every),
        ("port-restricted+cgn", "port-restricted+cgn", every),
        ("full-cone+cgn=port-restricted", "port-restricted", every),
        ("port-restricted+cgn=symmetric-random", "full-cone", every),
        ("port-restricted+cgn=symmetric-random", "port-restricted+cgn=symmetric-random", every),
        ("port-restricted", None, every),
        ("symmetric-random", None, every),
        ("port-restricted+hairpin", None, every),
        ("symmetric-random+hairpin", None, every),
    ]
    skews = sorted({sign * skew for skew in RST_SKEWS for sign in (1, -1)})
    answering = _cell(base, "port-restricted+rst", "port-restricted+rst", tcp)
    predicting = replace(base, policy={**base.policy, "simultaneous_open": {"predict_ports": PREDICTED_PORTS}})
    predictable = [
        ("symmetric-sequential", "port-restricted"),
        ("port-restricted", "symmetric-sequential"),
        ("symmetric-sequential", "symmetric-sequential"),
        ("symmetric-random", "port-restricted"),
        ("port-restricted", "port-restricted"),
    ]
    return [
        *(_cell(base, left, right, transports) for left, right, of in pairs for transports in of),
        *(replace(answering, skew=skew) for skew in skews),
        *(_cell(predicting, left, right, transports) for left, right in predictable for transports in (tcp, both)),
    ]


def row(base: Scenario, site: Site, transports: Iterable[Transports]) -> list[Scenario]:
    """One site on the left against every kind that it shares an IP version with."""
    rights = [Site(kind) for kind in KINDS.values()]
    return [
        replace(base, left=site, right=right, transports=transport)
        for transport in transports
        for right in rights
        if site.families & right.families
    ]


def column(base: Scenario, site: Site, transports: Iterable[Transports]) -> list[Scenario]:
    """As `row`, with the site on the right."""
    return [
        replace(each, left=each.right, right=each.left)
        for each in row(base, site, transports)
        if each.right is not None
    ]


def subset(base: Scenario) -> list[Scenario]:
    """Every kind at least once on each side, every option at least once, neighbours, and every transport."""
    transports = cycle((Transports.TCP, Transports.UDP, Transports.BOTH))
    neighbours = zip(IPV4_KINDS, (*IPV4_KINDS[1:], IPV4_KINDS[0]), strict=True)
    pairs = [*neighbours, IPV6_PAIRS[0]]
    pairs += [(f"port-restricted+{option}", "port-restricted") for option in (*Option, CARRIER)]
    pairs += [
        ("port-restricted+rst", "port-restricted+rst"),
        ("port-restricted+no-so", "port-restricted+no-so"),
        ("port-restricted+no-udp", "port-restricted+no-udp"),
    ]
    cells = [_cell(base, *pair, transport) for pair, transport in zip(pairs, transports, strict=False)]
    return [*cells, _cell(base, "port-restricted", None, Transports.BOTH)]


def sites_of(cells: Iterable[Scenario]) -> list[Site]:
    """Every site that the cells have, once, as they come first."""
    return list({str(site): site for cell in cells for site in cell.sites}.values())


def _cell(base: Scenario, left: str, right: str | None, transports: Transports) -> Scenario:
    other = None if right is None else Site.parse(right)
    return replace(base, left=Site.parse(left), right=other, transports=transports)
