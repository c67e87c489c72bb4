"""The ruleset of a box in nftables' language: for each kind how it translates, for each option what it changes.

A box has two interfaces, ``lan`` and ``wan``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from interop.natlab.kinds import Box, Dependence, NatKind, Option

_MASQUERADE: Final = 'oifname "wan" masquerade'
_SNAT: Final = 'oifname "wan" meta l4proto { tcp, udp } snat ip to ADDRESS : '
_HASH: Final = "mod 64000 seed 0xdeadbeef offset 1024"
_STEPS: Final = 1000
# A map, because nft 1.0.6 would swap the bytes of a bare counter: ports would go up in steps of 256.
_COUNTER: Final = f"numgen inc mod {_STEPS} map {{ {', '.join(f'{n} : {40000 + n}' for n in range(_STEPS))} }}"

SOURCE_NAT: Final[Mapping[str, str]] = {
    "full-cone": _MASQUERADE,
    "address-restricted": _MASQUERADE,
    "port-restricted": _MASQUERADE,
    # A permutation of the ports of a host, so that no two of its sockets want the same.
    "port-changing": _SNAT + "th sport ^ 0x1555",
    "address-dependent": _SNAT + f"jhash ip saddr . th sport . ip daddr {_HASH}",
    "address-and-port-dependent": _SNAT + f"jhash ip saddr . th sport . ip daddr . th dport {_HASH}",
    "symmetric-sequential": _SNAT + _COUNTER,
    "symmetric-random": 'oifname "wan" masquerade fully-random',
}
"""What happens to the source of a packet that leaves, by the name of the kind."""

# Which inner endpoint has which outer port, and whom it sent to from there: masquerade alone would let only the
# endpoint in that a connection was opened to.
_LEARNED: Final = """
 map mapped {
  type inet_proto . inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout 5m; size 65535;
 }
 set contacted {
  type inet_proto . inet_service . ipv4_addr; flags dynamic,timeout; timeout 5m; size 65535;
 }
 chain learn {
  type filter hook postrouting priority srcnat + 10
  oifname "wan" meta l4proto { tcp, udp } ct direction original \
update @mapped { meta l4proto . th sport : ct original ip saddr . ct original proto-src }
  oifname "wan" meta l4proto { tcp, udp } ct direction original \
update @contacted { meta l4proto . th sport . ip daddr }
 }"""
_TO_LEARNED: Final = "dnat ip to meta l4proto . th dport map @mapped"
_INBOUND: Final[Mapping[str, str]] = {
    "full-cone": f'iifname "wan" {_TO_LEARNED}',
    "address-restricted": f'iifname "wan" meta l4proto . th dport . ip saddr @contacted {_TO_LEARNED}',
}

TIMEOUTS: Final[Mapping[str, int]] = {
    "udp_timeout": 3,
    "udp_timeout_stream": 3,
    "tcp_timeout_established": 4,
}
"""Seconds of idleness, as connection tracking calls them, with the option ``short``."""


def ruleset(kind: NatKind, options: Collection[Option], address: str) -> str:
    """All rules of a box of this kind whose outer address is ``address``, for ``nft -f``."""
    tables = [_filter_table(options)]
    if kind.box is Box.NAT:
        tables.append(_nat_table(kind, options, address))
    return "\n".join(tables)


def _filter_table(options: Collection[Option]) -> str:
    return f"""table inet filter {{
 chain input {{
  type filter hook input priority 0; policy accept
{_lines(_input(options))}
 }}
 chain forward {{
  type filter hook forward priority 0; policy drop
{_lines(_forward(options))}
 }}
}}"""


def _input(options: Collection[Option]) -> list[str]:
    """What reaches the box itself: all that is unsolicited and from no known connection."""
    if Option.OWN_STACK in options:
        return []
    rules = ['iifname "wan" meta l4proto ipv6-icmp accept', 'iifname "wan" ct state established,related accept']
    if Option.RST in options:
        rules.append('iifname "wan" meta l4proto tcp reject with tcp reset')
    return [*rules, 'iifname "wan" drop']


def _forward(options: Collection[Option]) -> list[str]:
    rules = []
    if Option.NO_UDP in options:
        rules.append('iifname "lan" oifname "wan" meta l4proto udp drop')
    if Option.ONLY_443 in options:
        rules += ['iifname "lan" oifname "wan" tcp dport 443 accept', 'iifname "lan" oifname "wan" drop']
    if Option.NO_SO in options:
        rules.append('iifname "wan" tcp flags & (syn|ack) == syn drop')
    rules += [
        'iifname "lan" accept',
        "ct state established,related accept",
        'iifname "wan" ct status dnat accept',
    ]
    if Option.RST in options:
        # Without translation a stranger's SYN is forwarded, not addressed to the box.
        rules.append('iifname "wan" meta l4proto tcp reject with tcp reset')
    return rules


def _nat_table(kind: NatKind, options: Collection[Option], address: str) -> str:
    hairpin = Option.HAIRPIN in options
    source = [SOURCE_NAT[kind.name].replace("ADDRESS", address)]
    if source != [_MASQUERADE]:
        source.append(_MASQUERADE)  # what the line before leaves, such as ICMP
    inbound = [_INBOUND[kind.name]] if kind.filtering < Dependence.ADDRESS_AND_PORT_DEPENDENT else []
    if hairpin:
        inbound.append(f'iifname "lan" ip daddr {address} {_TO_LEARNED}')
        source.insert(0, f'iifname "lan" oifname "lan" ct status dnat snat ip to {address}')
    return f"""table ip nat {{{_LEARNED if inbound else ""}
 chain pre {{
  type nat hook prerouting priority dstnat
{_lines(inbound)}
 }}
 chain post {{
  type nat hook postrouting priority srcnat
{_lines(source)}
 }}
}}"""


def _lines(rules: Collection[str]) -> str:
    return "\n".join(f"  {rule}" for rule in rules)
