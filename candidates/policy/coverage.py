"""Whether lists of CIDR blocks leave anything at all."""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from candidates.policy.values import AddressFamily, IPNetwork

EVERYTHING: dict[AddressFamily, IPNetwork] = {
    AddressFamily.IPV4: ipaddress.ip_network("0.0.0.0/0"),
    AddressFamily.IPV6: ipaddress.ip_network("::/0"),
}


def leaves_any(family: AddressFamily, include: Iterable[IPNetwork], exclude: Iterable[IPNetwork]) -> bool:
    """Whether an address of a family lies in a block of ``include`` and in none of ``exclude``.

    O(n log n) in the number of blocks.
    """
    merged = _merge(block for block in exclude if block.version == family.version)
    return any(not _covers(merged, block) for block in include if block.version == family.version)


def _merge(blocks: Iterable[IPNetwork]) -> list[IPNetwork]:
    """Disjoint blocks, ordered; siblings are joined, so what covers a block is one block."""
    return list(ipaddress.collapse_addresses(list(blocks)))  # type: ignore[type-var]


def _covers(merged: Sequence[IPNetwork], block: IPNetwork) -> bool:
    before = bisect_right(merged, int(block.network_address), key=_first) - 1
    return before >= 0 and int(merged[before].broadcast_address) >= int(block.broadcast_address)


def _first(block: IPNetwork) -> int:
    return int(block.network_address)
