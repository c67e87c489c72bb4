"""What a candidate is: transport addresses, types, and the candidate itself (RFC 8445 s5.1)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 8839 s5.1: foundation = 1*32ice-char; ice-char = ALPHA / DIGIT / "+" / "/"
_FOUNDATION = re.compile(r"[A-Za-z0-9+/]{1,32}\Z")
_ICE_STRING = re.compile(r"[A-Za-z0-9+/]{4,256}\Z")
_TOKEN = re.compile(r"[!-~]+\Z")
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?\Z")

DISCARD_PORT = 9
"""The port of an active candidate, which never listens (RFC 6544 s4.5)."""


class CandidateError(ValueError):
    """A candidate, or a part of one, breaks a rule; the message names the field and the rule."""


class Transport(StrEnum):
    """Transport protocol of a candidate."""

    UDP = "udp"
    TCP = "tcp"


class CandidateType(StrEnum):
    """How a candidate was learned (RFC 8445 s5.1.1)."""

    HOST = "host"
    SRFLX = "srflx"
    PRFLX = "prflx"
    RELAY = "relay"


class TcpType(StrEnum):
    """Who opens the connection of a TCP candidate (RFC 6544 s4.1)."""

    ACTIVE = "active"
    PASSIVE = "passive"
    SO = "so"


@lru_cache(maxsize=4096)
def _parse_host(host: str) -> tuple[str, IPAddress | None]:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        if not _HOST_NAME.match(host):
            raise CandidateError(f"address {host!r} is neither an IP address nor a host name") from None
        # A name whose last label is all digits would be a malformed IPv4 address (RFC 3696 s2).
        if host.rstrip(".").rpartition(".")[2].isdigit():
            raise CandidateError(f"address {host!r} is neither an IP address nor a host name") from None
        return host.lower(), None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        raise CandidateError(f"address {host!r} is an IPv4-mapped IPv6 address (RFC 8445 s5.1.1.1)")
    return str(ip), ip


@dataclass(frozen=True, slots=True)
class TransportAddress:
    """A host and a port.

    ``host`` is an IP literal in its canonical spelling (an IPv6 zone such as ``%eth0`` is kept), or a
    name (an mDNS ``.local`` name or an FQDN, RFC 8839 s5.1). ``port`` is 0..65535; 0 is legal only where
    a port is not known or not told (``rport`` of a hidden base).

    Raises CandidateError.
    """

    host: str
    port: int
    ip: IPAddress | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        host, ip = _parse_host(self.host)
        object.__setattr__(self, "host", host)
        object.__setattr__(self, "ip", ip)
        if isinstance(self.port, bool) or not isinstance(self.port, int) or not 0 <= self.port <= 65535:
            raise CandidateError(f"port {self.port!r} is not a number from 0 to 65535")

    @property
    def family(self) -> int | None:
        """4 or 6; None for a name."""
        return self.ip.version if self.ip is not None else None

    @property
    def is_name(self) -> bool:
        return self.ip is None

    @property
    def is_mdns(self) -> bool:
        return self.ip is None and self.host.rstrip(".").endswith(".local")

    @property
    def is_link_local(self) -> bool:
        return self.ip is not None and self.ip.is_link_local

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.family == 6 else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An address of this machine.

    ``host`` is an IP literal; a link-local IPv6 one carries its zone. ``default_route`` tells whether the
    system would leave by this address without knowing better (RFC 8828 mode 2).
    """

    interface: str
    host: str
    default_route: bool = False

    @property
    def ip(self) -> IPAddress:
        ip = _parse_host(self.host)[1]
        if ip is None:
            raise CandidateError(f"interface address {self.host!r} is not an IP address")
        return ip


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate, local or remote, as it stands in signaling (RFC 8839 s5.1, RFC 6544 s4.5).

    Immutable and hashable; checked on construction. ``component`` is 1..256, ``priority`` 1..2**31 - 1.
    ``tcptype`` is there exactly for TCP candidates. ``extensions`` keeps unknown pairs in their order.

    Raises CandidateError.
    """

    foundation: str
    component: int
    transport: Transport
    priority: int
    address: TransportAddress
    type: CandidateType
    related_address: TransportAddress | None = None
    tcptype: TcpType | None = None
    generation: int | None = None
    ufrag: str | None = None
    network_id: int | None = None
    network_cost: int | None = None
    extensions: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not _FOUNDATION.match(self.foundation):
            raise CandidateError(f"foundation {self.foundation!r} is not 1 to 32 ice-chars (RFC 8839 s5.1)")
        _check_int("component", self.component, 1, 256)
        _check_int("priority", self.priority, 1, 2**31 - 1)
        if (self.tcptype is not None) is not (self.transport is Transport.TCP):
            raise CandidateError("tcptype is mandatory for TCP and for nothing else (RFC 6544 s4.5)")
        for name, value, high in (
            ("generation", self.generation, 2**32 - 1),
            ("network-id", self.network_id, 2**32 - 1),
            ("network-cost", self.network_cost, 999),
        ):
            if value is not None:
                _check_int(name, value, 0, high)
        if self.ufrag is not None and not _ICE_STRING.match(self.ufrag):
            raise CandidateError(f"ufrag {self.ufrag!r} is not 4 to 256 ice-chars (RFC 8839 s5.4)")
        for pair in self.extensions:
            if len(pair) != 2 or not all(_TOKEN.match(text) for text in pair):
                raise CandidateError(f"extension {pair!r} is not a pair of tokens (RFC 8839 s5.1)")


def _check_int(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise CandidateError(f"{name} {value!r} is not a number from {low} to {high}")
