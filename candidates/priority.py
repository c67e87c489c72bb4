"""Priorities of candidates and pairs (RFC 8445 s5.1.2 and s6.1.2.3, RFC 6544 s4.2, RFC 8421)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Final

from candidates.candidate import CandidateType, InterfaceAddress, TcpType, Transport

_TYPE_SHIFT: Final = 24
_MAX_UDP_LOCAL_PREFERENCE: Final = 2**16 - 1
_DIRECTION_SHIFT: Final = 13
_MAX_OTHER_PREFERENCE: Final = 2**13 - 1


@dataclass(frozen=True, slots=True)
class TypePreferences:
    """Preference for each candidate type, 0 to 126, 126 the most preferred (RFC 8445 s5.1.2.1).

    Each type has its own, and prflx more than srflx. The defaults are those that RFC 8445 s5.1.2.2 recommends.

    Raises ValueError.
    """

    host: int = 126
    prflx: int = 110
    srflx: int = 100
    relay: int = 0

    def __post_init__(self) -> None:
        _check_distinct(self, 126, "RFC 8445 s5.1.2.1")
        if self.prflx <= self.srflx:
            raise ValueError(f"prflx {self.prflx} is not higher than srflx {self.srflx} (RFC 8445 s5.1.2.1)")

    def of(self, type: CandidateType) -> int:  # noqa: A002 - the RFC's word
        return int(getattr(self, type.value))


@dataclass(frozen=True, slots=True)
class DirectionPreferences:
    """Preference for each tcptype, 0 to 7, 7 the most preferred, each its own (RFC 6544 s4.2).

    The defaults are those for host and relayed candidates.

    Raises ValueError.
    """

    active: int = 6
    passive: int = 4
    so: int = 2

    def __post_init__(self) -> None:
        _check_distinct(self, 7, "RFC 6544 s4.2")

    def of(self, tcptype: TcpType) -> int:
        return int(getattr(self, tcptype.value))


def _check_distinct(preferences: TypePreferences | DirectionPreferences, high: int, rule: str) -> None:
    values = {each.name: getattr(preferences, each.name) for each in fields(preferences)}
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= high:
            raise ValueError(f"{name} {value!r} is not a number from 0 to {high} ({rule})")
    if len(set(values.values())) < len(values):
        raise ValueError(f"two of {values} are equal, so priorities would not be unique ({rule})")


@dataclass(frozen=True, slots=True)
class Preferences:
    """Everything that turns a candidate's properties into its priority.

    ``udp`` and ``tcp`` are the type preferences of each transport. ``direct`` are the direction preferences of
    host, peer-reflexive and relayed TCP candidates, ``nat`` those of server-reflexive ones, where simultaneous
    open comes first (RFC 6544 s4.2). The defaults prefer UDP to TCP by type, and put relays last.

        Preferences(udp=TypePreferences(...), tcp=TypePreferences(...),
                    direct=DirectionPreferences(...), nat=DirectionPreferences(...))
    """

    udp: TypePreferences = TypePreferences(host=126, prflx=110, srflx=100, relay=1)
    tcp: TypePreferences = TypePreferences(host=90, prflx=80, srflx=70, relay=0)
    direct: DirectionPreferences = field(default_factory=DirectionPreferences)
    nat: DirectionPreferences = DirectionPreferences(so=6, active=4, passive=2)

    def type_preference(self, type: CandidateType, transport: Transport) -> int:  # noqa: A002 - the RFC's word
        """0 to 126."""
        return (self.udp if transport is Transport.UDP else self.tcp).of(type)

    def direction_preference(self, type: CandidateType, tcptype: TcpType) -> int:  # noqa: A002 - the RFC's word
        """0 to 7."""
        # A peer-reflexive candidate has its base's direction preference: RFC 8445 s7.1.1 changes only the type's.
        return (self.nat if type is CandidateType.SRFLX else self.direct).of(tcptype)


DEFAULT: Final = Preferences()


def candidate_priority(
    *,
    type: CandidateType,  # noqa: A002 - the RFC's word
    transport: Transport,
    tcptype: TcpType | None,
    component: int,
    rank: int = 0,
    preferences: Preferences = DEFAULT,
) -> int:
    """The priority of a candidate, 1 to 2**31 - 1 (RFC 8445 s5.1.2.1, RFC 6544 s4.2).

    With the peer-reflexive type it is the PRIORITY of the checks that a base sends (RFC 8445 s7.1.1).

    ``rank`` tells candidates apart that are alike in everything else: 0 for the best address of the host (see
    ``rank_addresses``) or the best server, 1 for the next; at most 65534 for UDP and 8190 for TCP.

    Raises ValueError.
    """
    if (tcptype is not None) is not (transport is Transport.TCP):
        raise ValueError("tcptype is mandatory for TCP and for nothing else (RFC 6544 s4.5)")
    if not 1 <= component <= 256:
        raise ValueError(f"component {component} is not from 1 to 256 (RFC 8445 s5.1.2.1)")
    highest = _MAX_UDP_LOCAL_PREFERENCE if tcptype is None else _MAX_OTHER_PREFERENCE
    if not 0 <= rank < highest:
        raise ValueError(f"rank {rank} is not from 0 to {highest - 1}")
    local_preference = highest - rank
    if tcptype is not None:
        local_preference += preferences.direction_preference(type, tcptype) << _DIRECTION_SHIFT
    return (preferences.type_preference(type, transport) << _TYPE_SHIFT) + (local_preference << 8) + 256 - component


def pair_priority(controlling: int, controlled: int) -> int:
    """The priority of a pair, 64 bit, from those of its candidates by their agents' roles (RFC 8445 s6.1.2.3)."""
    return (
        (min(controlling, controlled) << 32) + 2 * max(controlling, controlled) + (1 if controlling > controlled else 0)
    )


def rank_addresses(addresses: Sequence[InterfaceAddress]) -> list[InterfaceAddress]:
    """Order the addresses of a dual-stack host so that neither family waits for the other (RFC 8421 s4).

    Best first: the index of an address is the ``rank`` of its candidates. Within a family the given order stays,
    so sort by interface first, best interface first. IPv6 gets a head start of (N4 + N6) / N4 addresses, then the
    families alternate. Link-local addresses come last, they reach nobody but neighbours.
    """
    routable = [address for address in addresses if not address.ip.is_link_local]
    link_local = [address for address in addresses if address.ip.is_link_local]
    return _interleave(routable) + _interleave(link_local)


def _interleave(addresses: Sequence[InterfaceAddress]) -> list[InterfaceAddress]:
    ipv4 = [address for address in addresses if address.ip.version == 4]
    ipv6 = [address for address in addresses if address.ip.version == 6]
    if not ipv4 or not ipv6:
        return list(addresses)
    head_start = len(addresses) // len(ipv4)
    mixed = ipv6[:head_start]
    rest = ipv6[head_start:]
    for index in range(max(len(ipv4), len(rest))):
        mixed += ipv4[index : index + 1]
        mixed += rest[index : index + 1]
    return mixed
