"""To which peers a server relays."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def _networks(*texts: str) -> tuple[IPNetwork, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


LOOPBACK: Final = _networks("127.0.0.0/8", "::1/128")
PRIVATE: Final = _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10")
"""RFC 1918, RFC 6598, RFC 4193, and what RFC 3879 left of site-local addresses."""
LINK_LOCAL: Final = _networks("169.254.0.0/16", "fe80::/10")
UNUSABLE: Final = _networks("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "192.0.0.0/24", "::/128", "ff00::/8")
"""Unspecified, multicast, broadcast and reserved addresses."""
TUNNELED: Final = _networks("2001::/32", "2002::/16", "::ffff:0:0/96", "::/96", "64:ff9b::/96", "64:ff9b:1::/48")
"""IPv6 addresses that stand for IPv4 ones: Teredo and 6to4 (RFC 8656 s21.4: MUST NOT), and those by which a host
could be reached past the rules for its IPv4 address."""


@dataclass(frozen=True, slots=True)
class PeerPolicy:
    """Which peers may be reached through the server: the public ones, unless told otherwise.

    ``allow`` opens networks one by one and counts before all else, ``deny`` closes others; ``loopback``,
    ``private`` and ``link_local`` open what their names say. Addresses of the server itself are another matter,
    see `ServerOptions`.
    """

    loopback: bool = False
    private: bool = False
    link_local: bool = False
    allow: tuple[IPNetwork, ...] = ()
    deny: tuple[IPNetwork, ...] = ()

    def permits(self, host: str) -> bool:
        """Whether a peer at this IP literal may be reached."""
        return _permits(self, host)


# A client names the same peer again and again, and the verdict takes some thirty comparisons.
@lru_cache(maxsize=4096)
def _permits(policy: PeerPolicy, host: str) -> bool:
    address = ipaddress.ip_address(host)
    if _is_in(address, TUNNELED[:2]):
        return False
    if _is_in(address, policy.allow):
        return True
    if _is_in(address, policy.deny):
        return False
    # First, because ::1 lies in a network that is never routed
    if _is_in(address, LOOPBACK):
        return policy.loopback
    if _is_in(address, UNUSABLE) or _is_in(address, TUNNELED):
        return False
    if _is_in(address, PRIVATE):
        return policy.private
    if _is_in(address, LINK_LOCAL):
        return policy.link_local
    return True


def _is_in(address: IPAddress, networks: tuple[IPNetwork, ...]) -> bool:
    return any(address in network for network in networks)
