"""The formats that attributes' values have: how to pack each, and how to parse it.

``pack_*`` raises ValueError for what does not fit, ``parse_*`` raises DecodeError.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from struct import Struct
from typing import NamedTuple, TypeAlias

from ice_tcp.stun.registry import DecodeError

Address: TypeAlias = tuple[str, int]
"""An IP literal and a port."""

MAGIC_COOKIE = 0x2112A442

_XOR_IPV4 = (MAGIC_COOKIE >> 16) << 32 | MAGIC_COOKIE
_XOR_IPV6 = (MAGIC_COOKIE >> 16) << 128 | MAGIC_COOKIE << 96
_FAMILY_OF_CODE = {1: 4, 2: 6}
_CODE_OF_FAMILY = {4: 1, 6: 2}

# RFC 8489 s14.8 - s14.10, s14.14: what we may send, and what RFC 5389 lets others send
_LONGEST_SENT = 127  # characters
_LONGEST_RECEIVED = 763  # bytes

_ALGORITHM = Struct("!HH")
_ERROR = Struct("!HBB")
_ICMP = Struct("!HBBI")


class ErrorCode(NamedTuple):
    """Why a request failed (RFC 8489 s14.8): ``code`` is 300..699, see `ErrorNumber`; ``reason`` is for people."""

    code: int
    reason: str


class AddressErrorCode(NamedTuple):
    """Why a server did not allocate an address of ``family``, 4 or 6 (RFC 8656 s18.12)."""

    family: int
    code: int
    reason: str


class AlgorithmParameters(NamedTuple):
    """A password algorithm and its parameters, which are empty for all known ones (RFC 8489 s14.12)."""

    algorithm: int
    parameters: bytes = b""


class ChangeRequest(NamedTuple):
    """From where a server shall answer (RFC 5780 s7.2)."""

    change_ip: bool
    change_port: bool


class Icmp(NamedTuple):
    """The ICMP message that a relayed datagram caused; ``data`` is the next hop's MTU or 0 (RFC 8656 s18.13)."""

    type: int
    code: int
    data: int


def pack_uint(value: int, size: int) -> bytes:
    """``value`` in ``size`` bytes, most significant first."""
    try:
        return value.to_bytes(size, "big")
    except OverflowError:
        raise ValueError(f"{value} is not a number of {8 * size} bits") from None


def parse_uint32(value: bytes) -> int:
    if len(value) != 4:
        raise DecodeError(f"a 32-bit number has {len(value)} bytes")
    return int.from_bytes(value, "big")


def parse_uint64(value: bytes) -> int:
    if len(value) != 8:
        raise DecodeError(f"a 64-bit number has {len(value)} bytes")
    return int.from_bytes(value, "big")


def parse_uint16_of_4(value: bytes) -> int:
    """A 16-bit number and two reserved bytes (RFC 8656 s18.1, RFC 5780 s7.5)."""
    return parse_uint32(value) >> 16


def parse_uint8_of_4(value: bytes) -> int:
    """An 8-bit number and three reserved bytes (RFC 8656 s18.8)."""
    return parse_uint32(value) >> 24


def parse_bytes(value: bytes) -> bytes:
    return value


def pack_text(text: str) -> bytes:
    if len(text) > _LONGEST_SENT:
        raise ValueError(f"text of {len(text)} characters; STUN allows {_LONGEST_SENT} (RFC 8489 s14)")
    return text.encode()


def parse_text(value: bytes) -> str:
    if len(value) > _LONGEST_RECEIVED:
        raise DecodeError(f"text of {len(value)} bytes; STUN allows {_LONGEST_RECEIVED} (RFC 8489 s14)")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"text is not UTF-8: {error.reason} at byte {error.start}") from None


# A session has few addresses and meets each in every message; spelling them takes longer than the rest of a check.
@lru_cache(maxsize=256)
def pack_address(host: str, port: int) -> bytes:
    """RFC 8489 s14.1; a zone in ``host`` stays here, it means nothing to others."""
    packed = ipaddress.ip_address(host).packed
    return (b"\0\1" if len(packed) == 4 else b"\0\2") + pack_uint(port, 2) + packed


@lru_cache(maxsize=256)
def parse_address(value: bytes) -> Address:
    size, family = len(value), value[1:2]
    if (size, family) not in ((8, b"\1"), (20, b"\2")):
        raise DecodeError(f"an address has {size} bytes and family 0x{family.hex()}")
    return str(ipaddress.ip_address(value[4:])), int.from_bytes(value[2:4], "big")


def pack_xor_address(host: str, port: int, transaction_id: bytes) -> bytes:
    """RFC 8489 s14.2."""
    address = pack_address(host, port)
    return _flip_ipv4(address) if len(address) == 8 else _flip_ipv6(address, transaction_id)


def parse_xor_address(value: bytes, transaction_id: bytes) -> Address:
    size = len(value)
    if size == 8:
        return parse_address(_flip_ipv4(value))
    return parse_address(_flip_ipv6(value, transaction_id) if size == 20 else value)


def pack_family(family: int) -> bytes:
    """``family`` is 4 or 6 (RFC 8656 s18.6)."""
    if family not in _CODE_OF_FAMILY:
        raise ValueError(f"address family {family} is neither 4 nor 6")
    return bytes((_CODE_OF_FAMILY[family], 0, 0, 0))


def parse_family(value: bytes) -> int:
    code = parse_uint8_of_4(value)
    if code not in _FAMILY_OF_CODE:
        raise DecodeError(f"address family {code} is neither IPv4 nor IPv6")
    return _FAMILY_OF_CODE[code]


def pack_error(code: int, reason: str) -> bytes:
    if not 300 <= code <= 699:
        raise ValueError(f"error code {code} is not 300 to 699 (RFC 8489 s14.8)")
    return _ERROR.pack(0, code // 100, code % 100) + pack_text(reason)


def parse_error(value: bytes) -> ErrorCode:
    if len(value) < 4:
        raise DecodeError(f"an error code has {len(value)} bytes")
    hundreds, number = value[2] & 0b111, value[3]
    if not 3 <= hundreds <= 6 or number > 99:
        raise DecodeError(f"error class {hundreds}, number {number} is not 300 to 699 (RFC 8489 s14.8)")
    return ErrorCode(100 * hundreds + number, parse_text(value[4:]))


def pack_address_error(family: int, code: int, reason: str) -> bytes:
    return pack_family(family)[:1] + pack_error(code, reason)[1:]


def parse_address_error(value: bytes) -> AddressErrorCode:
    code, reason = parse_error(value)
    return AddressErrorCode(parse_family(value[:4]), code, reason)


def pack_types(types: Iterable[int]) -> bytes:
    return b"".join(pack_uint(type_, 2) for type_ in types)


def parse_types(value: bytes) -> tuple[int, ...]:
    if len(value) % 2:
        raise DecodeError(f"a list of attribute types has {len(value)} bytes")
    return tuple(int.from_bytes(value[at : at + 2], "big") for at in range(0, len(value), 2))


def pack_algorithms(algorithms: Iterable[AlgorithmParameters]) -> bytes:
    """Each padded to 32 bits, the last one too (RFC 8489 s14.11)."""
    return b"".join(
        _ALGORITHM.pack(algorithm, len(parameters)) + parameters + bytes(-len(parameters) % 4)
        for algorithm, parameters in algorithms
    )


def parse_algorithms(value: bytes) -> tuple[AlgorithmParameters, ...]:
    algorithms = []
    at = 0
    while at < len(value):
        if len(value) - at < 4:
            raise DecodeError("a password algorithm is cut short")
        algorithm, size = _ALGORITHM.unpack_from(value, at)
        parameters = value[at + 4 : at + 4 + size]
        if len(parameters) < size:
            raise DecodeError("a password algorithm's parameters are cut short")
        algorithms.append(AlgorithmParameters(algorithm, parameters))
        at += 4 + size + -size % 4
    return tuple(algorithms)


def parse_algorithm(value: bytes) -> AlgorithmParameters:
    algorithms = parse_algorithms(value)
    if len(algorithms) != 1:
        raise DecodeError(f"{len(algorithms)} password algorithms where one belongs (RFC 8489 s14.12)")
    return algorithms[0]


def pack_change_request(change_ip: bool, change_port: bool) -> bytes:
    return bytes((0, 0, 0, change_ip << 2 | change_port << 1))


def parse_change_request(value: bytes) -> ChangeRequest:
    flags = parse_uint32(value)
    return ChangeRequest(bool(flags & 4), bool(flags & 2))


def pack_icmp(icmp: Icmp) -> bytes:
    return _ICMP.pack(0, icmp.type, icmp.code, icmp.data)


def parse_icmp(value: bytes) -> Icmp:
    if len(value) != _ICMP.size:
        raise DecodeError(f"an ICMP attribute has {len(value)} bytes")
    return Icmp(*_ICMP.unpack(value)[1:])


def parse_even_port(value: bytes) -> bool:
    """Whether the next-higher port shall be reserved (RFC 8656 s18.7)."""
    if len(value) != 1:
        raise DecodeError(f"EVEN-PORT has {len(value)} bytes")
    return bool(value[0] & 0x80)


def parse_userhash(value: bytes) -> bytes:
    """RFC 8489 s14.4."""
    if len(value) != 32:
        raise DecodeError(f"USERHASH has {len(value)} bytes, not 32")
    return value


def parse_token(value: bytes) -> bytes:
    """RFC 8656 s18.10."""
    if len(value) != 8:
        raise DecodeError(f"RESERVATION-TOKEN has {len(value)} bytes, not 8")
    return value


def parse_domain(value: bytes) -> str:
    """A DNS name (RFC 8489 s14.16)."""
    if not 0 < len(value) <= 255 or not value.isascii():
        raise DecodeError("ALTERNATE-DOMAIN is not 1 to 255 ASCII characters")
    return value.decode("ascii")


@lru_cache(maxsize=256)
def _flip_ipv4(value: bytes) -> bytes:
    """``value`` with port and address hidden, or shown again; for IPv4 the mask is the same in all messages."""
    return (int.from_bytes(value, "big") ^ _XOR_IPV4).to_bytes(8, "big")


def _flip_ipv6(value: bytes, transaction_id: bytes) -> bytes:
    mask = _XOR_IPV6 ^ int.from_bytes(transaction_id, "big")
    return (int.from_bytes(value, "big") ^ mask).to_bytes(20, "big")
