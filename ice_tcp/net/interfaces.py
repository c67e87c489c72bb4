"""The addresses of this host."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import netifaces

from candidates.candidate import CandidateError, InterfaceAddress, TransportAddress

_FAMILIES = (netifaces.AF_INET, netifaces.AF_INET6)


def host_addresses() -> list[InterfaceAddress]:
    """Every usable IP address of this host, interface by interface; rank and filter them by the policy.

    An address counts for the default route if its interface has the default route of its family, link-local ones
    apart. Entries that no socket could use (unspecified, multicast, malformed) are left out. A link-local IPv6
    address carries its zone.
    """
    default = _default_interfaces()
    found: dict[str, InterfaceAddress] = {}
    # netifaces.allifaddresses() would do in one call, and leaks four kilobytes in each (netifaces-plus 0.12.5).
    for interface in netifaces.interfaces():
        families = _families(interface)
        for family in _FAMILIES:
            for host in _usable(interface, families.get(family, [])):
                ip = host.ip
                leaves_here = default.get(family) == interface and ip is not None and not ip.is_link_local
                found.setdefault(host.host, _interned(interface, host.host, default_route=leaves_here))
    return list(found.values())


def _families(interface: str) -> dict[int, list[dict[str, str]]]:
    try:
        return dict(netifaces.ifaddresses(interface))
    except ValueError:
        return {}  # it has gone meanwhile


# Every agent of a process asks, and keeps the answer.
_interned = lru_cache(maxsize=256)(InterfaceAddress)


def _default_interfaces() -> dict[int, str]:
    """The interface with the default route, for each address family that has one."""
    routes = netifaces.gateways().get("default")
    return {family: route[1] for family, route in routes.items()} if isinstance(routes, dict) else {}


def _usable(interface: str, entries: list[dict[str, str]]) -> Iterator[TransportAddress]:
    for entry in entries:
        host = entry.get("addr", "")
        try:
            address = TransportAddress(host, 0)
        except CandidateError:
            continue
        if address.ip is None or address.ip.is_unspecified or address.ip.is_multicast:
            continue
        if address.family == 6 and address.is_link_local and "%" not in host:
            address = TransportAddress(f"{host}%{interface}", 0)
        yield address
