"""Where ice-tcp and aioice take the same input differently, and the sentence of an RFC that decides.

Each row explains inputs by a rule of its own, and has an example. An input that they take differently and that no row
explains fails the tests, as does a row whose example they take alike.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from interop.conformance.stun import COOKIE, Attr, Draft, Kind


class Side(StrEnum):
    """Whom the sentence bears out."""

    OURS = "ice-tcp"
    THEIRS = "aioice"
    BOTH = "both"
    """It leaves the choice, or is about what an agent does with the result."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One reason why the two differ; ``explains`` tells whether it is the reason for an input."""

    name: str
    rfc: int
    section: str
    sentence: str
    right: Side
    explains: Callable[[bytes], object]
    example: bytes


# Candidates in SDP, from the foundation on

_TOKEN = r"[A-Za-z0-9.!%*_+`'~-]+"
_KEYWORDS: Final = ("raddr", "rport", "tcptype", "generation")


def _fields(line: bytes) -> list[str]:
    return line.decode("utf-8", "replace").split(" ")


def _field(line: bytes, index: int) -> str:
    fields = _fields(line)
    return fields[index] if index < len(fields) else ""


def _is_number(text: str, low: int, high: int) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,10}", text)) and low <= int(text) <= high


def _is_literal(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_mapped(text: str) -> bool:
    return _is_literal(text) and getattr(ipaddress.ip_address(text), "ipv4_mapped", None) is not None


def _pairs(line: bytes) -> list[tuple[str, str]]:
    rest = _fields(line)[8:]
    return list(zip(rest[::2], rest[1::2], strict=False))


def _values(line: bytes, name: str) -> list[str]:
    return [value for key, value in _pairs(line) if key.lower() == name]


def _is_tcp(line: bytes) -> bool:
    return _field(line, 2).lower() == "tcp"


CANDIDATES: Final = (
    Difference(
        "separators and characters",
        8839,
        "5.1",
        'candidate-attribute = "candidate" ":" foundation SP component-id SP transport SP priority SP',
        Side.OURS,
        lambda line: "" in _fields(line) or re.search(rb"[^ -~]", line),
        b"1 1 UDP 1 192.0.2.1 5000 typ host x-other \xc3\xa9",
    ),
    Difference(
        "foundation",
        8839,
        "5.1",
        "foundation = 1*32ice-char",
        Side.OURS,
        lambda line: not re.fullmatch(r"[A-Za-z0-9+/]{1,32}", _field(line, 0)),
        b"a-b 1 UDP 1 192.0.2.1 5000 typ host",
    ),
    Difference(
        "component",
        8839,
        "5.1",
        "<component-id>: is a positive integer between 1 and 256 (inclusive)",
        Side.OURS,
        lambda line: not _is_number(_field(line, 1), 1, 256),
        b"1 257 UDP 1 192.0.2.1 5000 typ host",
    ),
    Difference(
        "transport",
        8839,
        "5.1",
        "However, extensibility is provided to allow for future transport protocols to be used with ICE",
        Side.BOTH,
        lambda line: _field(line, 2).lower() not in ("udp", "tcp"),
        b"1 1 SCTP 1 192.0.2.1 5000 typ host",
    ),
    Difference(
        "priority",
        8839,
        "5.1",
        "<priority>: is a positive integer between 1 and (2**31 - 1) inclusive.",
        Side.OURS,
        lambda line: not _is_number(_field(line, 3), 1, 2**31 - 1),
        b"1 1 UDP 0 192.0.2.1 5000 typ host",
    ),
    Difference(
        "address",
        8839,
        "5.1",
        "It is the IP address of the candidate, allowing for IPv4 addresses, IPv6 addresses, and fully qualified "
        "domain names (FQDNs).",
        Side.OURS,
        lambda line: not _is_literal(_field(line, 4)),
        b"1 1 UDP 1 300.1.1.1 5000 typ host",
    ),
    Difference(
        "IPv4 addresses in disguise",
        8445,
        "5.1.1.1",
        "IPv4-mapped IPv6 addresses SHOULD NOT be included in the address candidates",
        Side.OURS,
        lambda line: any(_is_mapped(each) for each in (_field(line, 4), *_values(line, "raddr"))),
        b"1 1 UDP 1 ::ffff:192.0.2.1 5000 typ host",
    ),
    Difference(
        "port",
        8839,
        "5.1",
        "port ;port from RFC 4566",
        Side.OURS,
        lambda line: not _is_number(_field(line, 5), 1, 65535),
        b"1 1 UDP 1 192.0.2.1 70000 typ host",
    ),
    Difference(
        "the word typ",
        8839,
        "5.1",
        'cand-type = "typ" SP candidate-types',
        Side.OURS,
        lambda line: _field(line, 6).lower() != "typ",
        b"1 1 UDP 1 192.0.2.1 5000 type host",
    ),
    Difference(
        "type",
        8839,
        "5.1",
        'candidate-types = "host" / "srflx" / "prflx" / "relay" / token',
        Side.BOTH,
        lambda line: _field(line, 7) not in ("host", "srflx", "prflx", "relay"),
        b"1 1 UDP 1 192.0.2.1 5000 typ HOST",
    ),
    Difference(
        "tcptype is mandatory",
        6544,
        "4.5",
        "SP tcp-type-ext *(SP extension-att-name SP extension-att-value)",
        Side.OURS,
        lambda line: _is_tcp(line) and not _values(line, "tcptype"),
        b"1 1 TCP 1 192.0.2.1 5000 typ host",
    ),
    Difference(
        "tcptype of UDP",
        6544,
        "4.5",
        "However, the transport protocol (i.e., value of the transport-extension token defined in [RFC5245], Section "
        '15.1) is set to "TCP" and the connection type (active, passive, or S-O) is encoded using a new extension '
        "attribute.",
        Side.OURS,
        lambda line: not _is_tcp(line) and _values(line, "tcptype"),
        b"1 1 UDP 1 192.0.2.1 5000 typ host tcptype passive",
    ),
    Difference(
        "value of tcptype",
        6544,
        "4.5",
        'tcp-type = "active" / "passive" / "so"',
        Side.OURS,
        lambda line: any(value not in ("active", "passive", "so") for value in _values(line, "tcptype")),
        b"1 1 TCP 1 192.0.2.1 5000 typ host tcptype actpass",
    ),
    Difference(
        "extensions are pairs of a token and a value",
        8839,
        "5.1",
        "cand-extension = extension-att-name SP extension-att-value",
        Side.OURS,
        lambda line: len(_fields(line)) % 2 or any(not re.fullmatch(_TOKEN, name) for name, _ in _pairs(line)),
        b"1 1 UDP 1 192.0.2.1 5000 typ host generation",
    ),
    Difference(
        "an attribute given twice",
        8839,
        "5.1",
        "[SP rel-addr] [SP rel-port] *(SP cand-extension)",
        Side.OURS,
        lambda line: any(len(_values(line, name)) > 1 for name in _KEYWORDS),
        b"1 1 UDP 1 192.0.2.1 5000 typ host generation 0 generation 1",
    ),
    Difference(
        "names of extensions in capitals",
        8839,
        "5.1",
        "An implementation MUST ignore any name/value pairs it doesn't understand.",
        Side.BOTH,
        lambda line: any(name.lower() in _KEYWORDS and name not in _KEYWORDS for name, _ in _pairs(line)),
        b"1 1 UDP 1 192.0.2.1 5000 typ host GENERATION 7",
    ),
    Difference(
        "one of raddr and rport alone",
        8839,
        "5.1",
        'In this case the address MUST be set to "0.0.0.0" (for IPv4 candidates) or "::" (for IPv6 candidates) and the '
        'port to "9".',
        Side.BOTH,
        lambda line: bool(_values(line, "raddr")) is not bool(_values(line, "rport")),
        b"1 1 UDP 1 192.0.2.1 5000 typ srflx raddr 192.0.2.2",
    ),
    Difference(
        "values of raddr, rport and generation",
        8839,
        "5.1",
        'rel-addr = "raddr" SP connection-address rel-port = "rport" SP port',
        Side.OURS,
        lambda line: (
            any(not _is_literal(value) for value in _values(line, "raddr"))
            or any(not _is_number(value, 0, 65535) for value in _values(line, "rport"))
            or any(not _is_number(value, 0, 2**32 - 1) for value in _values(line, "generation"))
        ),
        b"1 1 UDP 1 192.0.2.1 5000 typ srflx raddr 192.0.2.2 rport 99999",
    ),
    Difference(
        "values of network-id, network-cost and ufrag",
        8839,
        "5.1",
        "An implementation MUST ignore any name/value pairs it doesn't understand.",
        Side.BOTH,
        lambda line: any(_values(line, name) for name in ("network-id", "network-cost", "ufrag")),
        b"1 1 UDP 1 192.0.2.1 5000 typ host ufrag x",
    ),
)

# STUN messages


def _header(data: bytes) -> tuple[int, int]:
    type_, length = struct.unpack_from("!HH", data.ljust(4, b"\0"))
    return type_, length


def _attributes(data: bytes) -> list[tuple[int, bytes, int]]:
    """Type, value and said length of the attributes, as far as they can be found."""
    found, at = [], 20
    while at + 4 <= len(data):
        type_, length = struct.unpack_from("!HH", data, at)
        found.append((type_, data[at + 4 : at + 4 + length], length))
        at += 4 + length + -length % 4
    return found


def _types(data: bytes) -> list[int]:
    return [type_ for type_, _, _ in _attributes(data)]


def _is_cut(data: bytes) -> bool:
    """The last attribute goes beyond the message, or rests of one are left."""
    at = 20
    while at + 4 <= len(data):
        at += 4 + struct.unpack_from("!HH", data, at)[1]
        at += -at % 4
    return at != len(data)


_SIZES: Final[dict[int, tuple[int, ...]]] = {
    Attr.MAPPED_ADDRESS: (8, 20),
    Attr.XOR_MAPPED_ADDRESS: (8, 20),
    Attr.PRIORITY: (4,),
    Attr.ICE_CONTROLLED: (8,),
    Attr.ICE_CONTROLLING: (8,),
    Attr.MESSAGE_INTEGRITY: (20,),
    Attr.FINGERPRINT: (4,),
}


def _method(data: bytes) -> int:
    type_ = _header(data)[0]
    return type_ & 0xF | (type_ >> 1) & 0x70 | (type_ >> 2) & 0xF80


def _is_malformed(data: bytes) -> bool:
    """The value of a known attribute has not the form that it should have."""
    for type_, value, _ in _attributes(data):
        if type_ in _SIZES and len(value) not in _SIZES[type_]:
            return True
        if type_ in (Attr.USERNAME, Attr.SOFTWARE, Attr.REALM):
            try:
                value.decode()
            except UnicodeDecodeError:
                return True
            if len(value) > 763:
                return True
        if type_ == Attr.ERROR_CODE and not _is_error(value):
            return True
        if type_ in (Attr.MAPPED_ADDRESS, Attr.XOR_MAPPED_ADDRESS) and (len(value), value[1]) not in ((8, 1), (20, 2)):
            return True
    return False


def _is_error(value: bytes) -> bool:
    try:
        value[4:].decode()
    except UnicodeDecodeError:
        return False
    return len(value) >= 4 and 3 <= value[2] <= 6 and value[3] <= 99


_ID: Final = b"\1" * 12

_OTHER_USAGES: Final = {0x0003, 0x0004, 0x0005, 0x000C, 0x000D, 0x0012, 0x0013, 0x0015, 0x0016, 0x0019, 0x802B, 0x802C}
"""Of TURN, NAT behaviour discovery and RFC 3489."""

MESSAGES: Final = (
    Difference(
        "magic cookie and first bits",
        8489,
        "6.3",
        "It checks that the first two bits are 0, that the Magic Cookie field has the correct value, that the message "
        "length is sensible, and that the method value is a supported method.",
        Side.OURS,
        lambda data: data[4:8] != COOKIE or _header(data)[0] & 0xC000,
        Draft(Kind.REQUEST, _ID).encode(cookie=b"\0\0\0\0"),
    ),
    Difference(
        "methods that are not known",
        8489,
        "6.3",
        "that the method value is a supported method.",
        Side.BOTH,
        lambda data: _method(data) not in (1, 2, 3, 4, 6, 7, 8, 9),
        bytes(Draft(Kind.REQUEST, _ID, method=0x0F3)),
    ),
    Difference(
        "the end of the last attribute",
        8489,
        "14",
        "Each STUN attribute MUST end on a 32-bit boundary.",
        Side.OURS,
        lambda data: _header(data)[1] % 4 or _is_cut(data),
        bytes(Draft(Kind.REQUEST, _ID).raw(b"\x80\x22\0")),
    ),
    Difference(
        "values of known attributes",
        8489,
        "6.3",
        "If any errors are detected, the message is silently discarded.",
        Side.BOTH,
        _is_malformed,
        bytes(Draft(Kind.REQUEST, _ID).add(Attr.ERROR_CODE, b"\0\0\1\0odd")),
    ),
    Difference(
        "duplicates",
        8489,
        "14",
        "only the first occurrence needs to be processed by a receiver, and any duplicates MAY be ignored by a "
        "receiver.",
        Side.OURS,
        lambda data: len(set(_types(data))) < len(_types(data)),
        bytes(Draft(Kind.REQUEST, _ID).add(Attr.USERNAME, b"first").add(Attr.USERNAME, b"second")),
    ),
    Difference(
        "the place of FINGERPRINT",
        8489,
        "14.7",
        "When present, the FINGERPRINT attribute MUST be the last attribute in the message",
        Side.OURS,
        lambda data: Attr.FINGERPRINT in _types(data)[:-1],
        bytes(Draft(Kind.REQUEST, _ID).fingerprint().add(Attr.PRIORITY, b"1234")),
    ),
    Difference(
        "the stronger integrity",
        8489,
        "9.1.3",
        "If the MESSAGE-INTEGRITY-SHA256 attribute is present, compute the value for the message integrity as "
        "described in Section 14.6, using the password associated with the username.",
        Side.OURS,
        lambda data: Attr.MESSAGE_INTEGRITY_SHA256 in _types(data),
        bytes(Draft(Kind.REQUEST, _ID).integrity_sha256("theSharedPassword")),
    ),
    Difference(
        "values of attributes of other usages",
        8489,
        "6.3",
        "Known-but-unexpected attributes SHOULD be ignored by the agent.",
        Side.OURS,
        lambda data: _OTHER_USAGES & set(_types(data)),
        bytes(Draft(Kind.REQUEST, _ID).add(0x0016, b"\1")),
    ),
)
