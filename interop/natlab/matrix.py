"""Which cells are run: the whole matrix, its continuous subset, or what was asked for."""

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
    behind_one_box = Site.parse("port-restricted")
    return [*cells, replace(base, left=behind_one_box, right=None, transports=Transports.BOTH)]


def sites_of(cells: Iterable[Scenario]) -> list[Site]:
    """Every site that the cells have, once, as they come first."""
    return list({str(site): site for cell in cells for site in cell.sites}.values())


def _cell(base: Scenario, left: str, right: str, transports: Transports) -> Scenario:
    return replace(base, left=Site.parse(left), right=Site.parse(right), transports=transports)
