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
# RFC 8839 s5.1: extension-att-name = token (of RFC 3261), extension-att-value = *VCHAR
_EXTENSION_NAME = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+\Z")
_EXTENSION_VALUE = re.compile(r"[!-~]*\Z")
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\.?\Z")
_ZONE = re.compile(r"[!-$&-~]+\Z")

DISCARD_PORT = 9
"""The port of an active candidate, which never listens (RFC 6544 s4.5)."""


RESERVED_EXTENSIONS = frozenset({"raddr", "rport", "tcptype", "generation", "ufrag", "network-id", "network-cost"})
"""Names that have a field of their own in Candidate, so they are no extensions of it."""


class CandidateError(ValueError):
    """A candidate, or a part of one, breaks a rule.

    ``field`` is the field's name in SDP or in the RFC ("foundation", "port", "tcptype"), ``problem`` says what it
    is and what it ought to be; the message is both.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field} {self.problem}"


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
        # A name whose last label is all digits would be a malformed IPv4 address (RFC 3696 s2).
        if not _HOST_NAME.match(host) or host.rstrip(".").rpartition(".")[2].isdigit():
            raise CandidateError("address", f"{host!r} is neither an IP address nor a host name") from None
        return host.lower(), None
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            raise CandidateError("address", f"{host!r} is an IPv4-mapped IPv6 address (RFC 8445 s5.1.1.1)")
        if ip.scope_id is not None and not _ZONE.match(ip.scope_id):
            raise CandidateError("address", f"{host!r} has a malformed zone")
    return str(ip), ip


@dataclass(frozen=True, slots=True)
class TransportAddress:
    """A host and a port.

    ``host`` is an IP literal in its canonical spelling (an IPv6 zone such as ``%eth0`` is kept), or a
    name (an mDNS ``.local`` name or an FQDN, RFC 8839 s5.1). ``port`` is 0..65535; 0 is legal only where
    a port is not known or not told (``rport`` of a hidden base, an active candidate that does not say 9).

    Raises CandidateError.
    """

    host: str
    port: int
    ip: IPAddress | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.host, str):
            raise CandidateError("address", f"{self.host!r} is not text")
        host, ip = _parse_host(self.host)
        object.__setattr__(self, "host", host)
        object.__setattr__(self, "ip", ip)
        _check_int("port", self.port, 0, 65535)

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
            raise CandidateError("address", f"{self.host!r} of an interface is not an IP address")
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
        _check_text("foundation", self.foundation, _FOUNDATION, "1 to 32 ice-chars (RFC 8839 s5.1)")
        _check_int("component", self.component, 1, 256)
        _check_member("transport", self.transport, Transport)
        _check_int("priority", self.priority, 1, 2**31 - 1)
        _check_member("type", self.type, CandidateType)
        if (self.tcptype is not None) is not (self.transport is Transport.TCP):
            raise CandidateError("tcptype", "is mandatory for TCP and for nothing else (RFC 6544 s4.5)")
        if self.tcptype is not None:
            _check_member("tcptype", self.tcptype, TcpType)
        if self.address.port == 0 and self.tcptype is not TcpType.ACTIVE:
            raise CandidateError("port", "0 is nobody's")
        for name, value, high in (
            ("generation", self.generation, 2**32 - 1),
            ("network-id", self.network_id, 2**32 - 1),
            ("network-cost", self.network_cost, 999),
        ):
            if value is not None:
                _check_int(name, value, 0, high)
        if self.ufrag is not None:
            _check_text("ufrag", self.ufrag, _ICE_STRING, "4 to 256 ice-chars (RFC 8839 s5.4)")
        object.__setattr__(self, "extensions", tuple(_check_extension(tuple(pair)) for pair in self.extensions))


def _check_extension(pair: tuple[str, ...]) -> tuple[str, ...]:
    if len(pair) != 2:
        raise CandidateError("extension", f"{pair!r} is not a name and a value")
    name, value = pair
    _check_text("extension", name, _EXTENSION_NAME, "a token (RFC 8839 s5.1)")
    _check_text(name, value, _EXTENSION_VALUE, "visible ASCII characters (RFC 8839 s5.1)")
    if name.lower() in RESERVED_EXTENSIONS:
        raise CandidateError(name, "has a field of its own and is no extension")
    return pair


def _check_int(field: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise CandidateError(field, f"{value!r} is not a number from {low} to {high}")


def _check_text(field: str, value: str, grammar: re.Pattern[str], rule: str) -> None:
    if not isinstance(value, str) or not grammar.match(value):
        raise CandidateError(field, f"{value!r} is not {rule}")


def _check_member(field: str, value: StrEnum, members: type[StrEnum]) -> None:
    if not isinstance(value, members):
        raise CandidateError(field, f"{value!r} is not one of {', '.join(members)}")
