"""Encoders of attributes: each gives a type and a value for `ice_tcp.stun.encode`.

They raise ValueError for values that do not fit. ``host`` is an IP literal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from ice_tcp.stun import values
from ice_tcp.stun.credentials import opaque_string
from ice_tcp.stun.registry import AttributeType, ErrorNumber
from ice_tcp.stun.values import AlgorithmParameters, Icmp

Attribute: TypeAlias = tuple[int, bytes]
"""A type and a value, without padding."""

# Those of every connectivity check: looking up a member of an enumeration takes longer than packing its value
_USERNAME = int(AttributeType.USERNAME)
_PRIORITY = int(AttributeType.PRIORITY)
_USE_CANDIDATE = int(AttributeType.USE_CANDIDATE)
_ICE_CONTROLLED = int(AttributeType.ICE_CONTROLLED)
_ICE_CONTROLLING = int(AttributeType.ICE_CONTROLLING)
_XOR_MAPPED_ADDRESS = int(AttributeType.XOR_MAPPED_ADDRESS)

_LONGEST_USERNAME = 508  # bytes, RFC 8489 s14.3

# --- Binding and authentication: RFC 8489 s14


def mapped_address(host: str, port: int) -> Attribute:
    return AttributeType.MAPPED_ADDRESS, values.pack_address(host, port)


def xor_mapped_address(host: str, port: int, transaction_id: bytes) -> Attribute:
    return _XOR_MAPPED_ADDRESS, values.pack_xor_address(host, port, transaction_id)


def username(text: str) -> Attribute:
    """In OpaqueString, as it goes into the key; an ICE agent's is ``remote ufrag:own ufrag`` (RFC 8445 s7.2.2)."""
    value = opaque_string(text).encode()
    if len(value) > _LONGEST_USERNAME:
        raise ValueError(f"username of {len(value)} bytes; STUN allows {_LONGEST_USERNAME} (RFC 8489 s14.3)")
    return _USERNAME, value


def userhash(value: bytes) -> Attribute:
    """``value`` as `ice_tcp.stun.credentials.userhash` makes it."""
    if len(value) != 32:
        raise ValueError(f"a userhash has 32 bytes, not {len(value)} (RFC 8489 s14.4)")
    return AttributeType.USERHASH, value


def realm(text: str) -> Attribute:
    return AttributeType.REALM, values.pack_text(text)


def nonce(value: bytes) -> Attribute:
    """A client returns the server's nonce byte by byte."""
    return AttributeType.NONCE, value


def password_algorithms(algorithms: Iterable[AlgorithmParameters]) -> Attribute:
    """Those a server offers, best first; a client returns them as they came."""
    return AttributeType.PASSWORD_ALGORITHMS, values.pack_algorithms(algorithms)


def password_algorithm(algorithm: int) -> Attribute:
    """The one a client chose; known algorithms have no parameters."""
    return AttributeType.PASSWORD_ALGORITHM, values.pack_algorithms([AlgorithmParameters(algorithm)])


def error_code(code: int, reason: str | None = None) -> Attribute:
    """``reason`` defaults to the recommended phrase of an `ErrorNumber`."""
    if reason is None:
        reason = ErrorNumber(code).reason
    return AttributeType.ERROR_CODE, values.pack_error(code, reason)


def unknown_attributes(types: Iterable[int]) -> Attribute:
    """What a 420 response lists."""
    return AttributeType.UNKNOWN_ATTRIBUTES, values.pack_types(types)


def software(text: str) -> Attribute:
    return AttributeType.SOFTWARE, values.pack_text(text)


def alternate_server(host: str, port: int) -> Attribute:
    return AttributeType.ALTERNATE_SERVER, values.pack_address(host, port)


def alternate_domain(name: str) -> Attribute:
    """``name`` in A-labels."""
    if not name.isascii() or not 0 < len(name) <= 255:
        raise ValueError(f"{name!r} is not 1 to 255 ASCII characters (RFC 8489 s14.16)")
    return AttributeType.ALTERNATE_DOMAIN, name.encode()


# --- ICE: RFC 8445 s7.1


def priority(value: int) -> Attribute:
    return _PRIORITY, values.pack_uint(value, 4)


def use_candidate() -> Attribute:
    return _USE_CANDIDATE, b""


def ice_controlled(tie_breaker: int) -> Attribute:
    return _ICE_CONTROLLED, values.pack_uint(tie_breaker, 8)


def ice_controlling(tie_breaker: int) -> Attribute:
    return _ICE_CONTROLLING, values.pack_uint(tie_breaker, 8)


def nomination(value: int) -> Attribute:
    """A later nomination has a higher number (draft-thatcher-ice-renomination s2)."""
    return AttributeType.NOMINATION, values.pack_uint(value, 4)


# --- TURN: RFC 8656 s18, RFC 6062 s6.2


def channel_number(number: int) -> Attribute:
    return AttributeType.CHANNEL_NUMBER, values.pack_uint(number, 2) + b"\0\0"


def lifetime(seconds: int) -> Attribute:
    return AttributeType.LIFETIME, values.pack_uint(seconds, 4)


def xor_peer_address(host: str, port: int, transaction_id: bytes) -> Attribute:
    return AttributeType.XOR_PEER_ADDRESS, values.pack_xor_address(host, port, transaction_id)


def data(payload: bytes) -> Attribute:
    return AttributeType.DATA, payload


def xor_relayed_address(host: str, port: int, transaction_id: bytes) -> Attribute:
    return AttributeType.XOR_RELAYED_ADDRESS, values.pack_xor_address(host, port, transaction_id)


def requested_address_family(family: int) -> Attribute:
    """``family`` is 4 or 6."""
    return AttributeType.REQUESTED_ADDRESS_FAMILY, values.pack_family(family)


def additional_address_family(family: int, *, of_draft: bool = False) -> Attribute:
    """``family`` is 6; nothing else is valid in a request (RFC 8656 s18.11). ``of_draft``: by its older number."""
    type_ = AttributeType.ADDITIONAL_ADDRESS_FAMILY_OF_DRAFT if of_draft else AttributeType.ADDITIONAL_ADDRESS_FAMILY
    return type_, values.pack_family(family)


def address_error_code(family: int, code: int, reason: str | None = None) -> Attribute:
    """``family`` is 4 or 6."""
    if reason is None:
        reason = ErrorNumber(code).reason
    return AttributeType.ADDRESS_ERROR_CODE, values.pack_address_error(family, code, reason)


def even_port(reserve_next: bool) -> Attribute:
    return AttributeType.EVEN_PORT, b"\x80" if reserve_next else b"\0"


def requested_transport(protocol: int) -> Attribute:
    """``protocol`` is an IP protocol number: 17 UDP, 6 TCP (RFC 6062 s4.1)."""
    return AttributeType.REQUESTED_TRANSPORT, values.pack_uint(protocol, 1) + b"\0\0\0"


def dont_fragment() -> Attribute:
    return AttributeType.DONT_FRAGMENT, b""


def reservation_token(token: bytes) -> Attribute:
    """``token`` has 8 bytes."""
    if len(token) != 8:
        raise ValueError(f"a reservation token has 8 bytes, not {len(token)} (RFC 8656 s18.10)")
    return AttributeType.RESERVATION_TOKEN, token


def icmp(message: Icmp) -> Attribute:
    return AttributeType.ICMP, values.pack_icmp(message)


def connection_id(value: int) -> Attribute:
    return AttributeType.CONNECTION_ID, values.pack_uint(value, 4)


# --- NAT behaviour: RFC 5780 s7


def change_request(*, change_ip: bool, change_port: bool) -> Attribute:
    return AttributeType.CHANGE_REQUEST, values.pack_change_request(change_ip, change_port)


def padding(size: int) -> Attribute:
    """``size`` bytes that make a datagram be fragmented."""
    return AttributeType.PADDING, bytes(size)


def response_port(port: int) -> Attribute:
    return AttributeType.RESPONSE_PORT, values.pack_uint(port, 2) + b"\0\0"


def response_origin(host: str, port: int) -> Attribute:
    return AttributeType.RESPONSE_ORIGIN, values.pack_address(host, port)


def other_address(host: str, port: int) -> Attribute:
    return AttributeType.OTHER_ADDRESS, values.pack_address(host, port)
