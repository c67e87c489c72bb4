"""STUN messages: bytes to `Message`, and attributes to bytes (RFC 8489 s5, s14)."""

from __future__ import annotations

import struct
from binascii import crc32
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from functools import lru_cache
from hmac import compare_digest
from typing import Generic, TypeVar, overload

from ice_tcp.stun import values
from ice_tcp.stun.credentials import IntegrityKey, security_features
from ice_tcp.stun.registry import (
    COMPREHENSION_OPTIONAL,
    AttributeType,
    DecodeError,
    Integrity,
    MessageClass,
    SecurityFeature,
)
from ice_tcp.stun.values import MAGIC_COOKIE, Address

KNOWN: frozenset[int] = frozenset(int(type_) for type_ in AttributeType)
"""The attribute types that this codec understands."""

_HEADER = struct.Struct("!HHI12s")
_TLV = struct.Struct("!HH")
_pack_tlv = _TLV.pack
_unpack_tlv = _TLV.unpack_from
_LARGEST_BODY = 0xFFFF - 68  # integrity and FINGERPRINT need 68 bytes
_COOKIE = MAGIC_COOKIE.to_bytes(4, "big")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
_FINGERPRINT_XOR = 0x5354554E

_USE_CANDIDATE = int(AttributeType.USE_CANDIDATE)
_SHA1 = int(AttributeType.MESSAGE_INTEGRITY)
_SHA256 = int(AttributeType.MESSAGE_INTEGRITY_SHA256)
_FINGERPRINT = int(AttributeType.FINGERPRINT)
_ORDINARY = KNOWN - {_SHA1, _SHA256, _FINGERPRINT}
_SHA256_SIZES = (16, 20, 24, 28, 32)  # RFC 8489 s14.6

_SHA1_HEADER = _pack_tlv(_SHA1, 20)
_SHA256_HEADER = _pack_tlv(_SHA256, 32)
_FINGERPRINT_ATTRIBUTE = struct.Struct("!HHI")

# Looking up a member of an enumeration takes longer than comparing it
_SHA1_ONLY = Integrity.SHA1
_SHA256_ONLY = Integrity.SHA256

T = TypeVar("T")


def is_stun(data: bytes | bytearray | memoryview) -> bool:
    """Whether ``data`` is shaped as one whole STUN message (RFC 8489 s6.3, RFC 7983 s7): cheap, and no proof."""
    size = len(data)
    if size < _HEADER.size or data[0] > 0x3F:
        return False
    _, length, cookie, _ = _HEADER.unpack_from(data)
    return bool(cookie == MAGIC_COOKIE and length == size - 20 and not length & 3)


def decode(data: bytes) -> Message:
    """The message in ``data``, with a right FINGERPRINT or none.

    Values of attributes are parsed when they are read, and integrity is not looked at: call `Message.verify`.
    Raises DecodeError, and nothing else.
    """
    return Message(data)


def encode(
    message_class: MessageClass,
    method: int,
    transaction_id: bytes,
    attributes: Iterable[tuple[int, bytes]] = (),
    *,
    key: IntegrityKey | None = None,
    integrity: Integrity = Integrity.SHA1,
    fingerprint: bool = True,
) -> bytes:
    """A message with these attributes in their order, then integrity by ``key`` if there is one, then FINGERPRINT.

    ``transaction_id`` has 12 bytes. ICE and RFC 5389 servers know Integrity.SHA1; a server that offered
    PASSWORD-ALGORITHMS wants Integrity.SHA256 (RFC 8489 s9.2.5). Raises ValueError if it does not fit.
    """
    if len(transaction_id) != 12:
        raise ValueError(f"a transaction id has 12 bytes, not {len(transaction_id)}")
    parts = [_COOKIE, transaction_id]
    try:
        for type_, value in attributes:
            size = len(value)
            parts.append(_pack_tlv(type_, size))
            parts.append(value)
            if size & 3:
                parts.append(_PADDING[size & 3])
    except struct.error:
        raise ValueError(f"attribute type {type_} or length {size} is not a number of 16 bits") from None
    body = b"".join(parts)
    # ``body`` begins with 16 bytes of header, which the length does not count (RFC 8489 s5)
    size = len(body) - 16
    if size > _LARGEST_BODY:
        raise ValueError(f"a STUN message with {size} bytes of attributes")
    first = _message_type(message_class, method) << 16
    if key is not None:
        if integrity is not _SHA256_ONLY:
            size += 24
            body += _SHA1_HEADER + key.sha1((first | size).to_bytes(4, "big") + body)
        if integrity is not _SHA1_ONLY:
            size += 36
            body += _SHA256_HEADER + key.sha256((first | size).to_bytes(4, "big") + body)
    if not fingerprint:
        return (first | size).to_bytes(4, "big") + body
    message = (first | (size + 8)).to_bytes(4, "big") + body
    return message + _FINGERPRINT_ATTRIBUTE.pack(_FINGERPRINT, 4, crc32(message) ^ _FINGERPRINT_XOR)


class _Typed(Generic[T]):
    """An attribute as a property of `Message`: None if absent; raises DecodeError if malformed."""

    __slots__ = ("_parse", "_type")

    def __init__(self, type_: AttributeType, parse: Callable[[bytes], T]) -> None:
        self._type = int(type_)
        self._parse = parse

    @overload
    def __get__(self, message: None, owner: type[Message]) -> _Typed[T]: ...
    @overload
    def __get__(self, message: Message, owner: type[Message]) -> T | None: ...
    def __get__(self, message: Message | None, owner: type[Message]) -> _Typed[T] | T | None:
        if message is None:
            return self
        value = message.attributes.get(self._type)
        return None if value is None else self._parse(value)


class _XorAddress:
    """An address hidden from NATs as a property of `Message`; else as `_Typed`."""

    __slots__ = ("_type",)

    def __init__(self, type_: AttributeType) -> None:
        self._type = int(type_)

    @overload
    def __get__(self, message: None, owner: type[Message]) -> _XorAddress: ...
    @overload
    def __get__(self, message: Message, owner: type[Message]) -> Address | None: ...
    def __get__(self, message: Message | None, owner: type[Message]) -> _XorAddress | Address | None:
        if message is None:
            return self
        value = message.attributes.get(self._type)
        return None if value is None else values.parse_xor_address(value, message.transaction_id)


class Message:
    """A decoded message; `decode` makes it from bytes.

    ``attributes`` has the value of each type's first occurrence, without those that RFC 8489 s9 wants ignored
    because nothing authenticates them. The typed properties read it: None if the attribute is absent; they
    raise DecodeError if its value is malformed. Before they are believed, `verify`.
    """

    __slots__ = (
        "_data",
        "_sha1_at",
        "_sha256_at",
        "attributes",
        "has_fingerprint",
        "message_class",
        "method",
        "transaction_id",
        "unknown_required",
    )

    message_class: MessageClass
    method: int
    """A `Method`, or another number."""
    transaction_id: bytes
    """12 bytes."""
    attributes: dict[int, bytes]
    unknown_required: tuple[int, ...]
    """Types that one must understand to process the message, but this codec does not: answer 420."""
    has_fingerprint: bool
    """FINGERPRINT is there, and right."""

    def __init__(self, data: bytes) -> None:
        size = len(data)
        if size < _HEADER.size:
            raise DecodeError(f"{size} bytes are no STUN header")
        type_, length, cookie, self.transaction_id = _HEADER.unpack_from(data)
        if type_ > 0x3FFF or cookie != MAGIC_COOKIE:
            raise DecodeError("no STUN: wrong first bits or magic cookie")
        if length != size - 20 or length & 3:
            raise DecodeError(f"STUN length {length} in a message of {size} bytes")
        self._data = data
        self.message_class, self.method = _split_type(type_)
        self.attributes = attributes = {}
        self.has_fingerprint = False
        self._sha1_at = self._sha256_at = 0
        sealed = strange = False
        at = 20
        while at < size:
            kind, length = _unpack_tlv(data, at)
            at += 4
            if kind in _ORDINARY:
                # RFC 8489 s14: of duplicates the first counts. s9: after integrity nothing is authenticated.
                if kind not in attributes and not sealed:
                    attributes[kind] = data[at : at + length]
            elif kind == _FINGERPRINT:
                self._read_fingerprint(at, length)
            elif kind in (_SHA1, _SHA256):
                # RFC 8489 s9: MESSAGE-INTEGRITY-SHA256 may follow MESSAGE-INTEGRITY, but not the other way round
                if kind not in attributes and _SHA256 not in attributes:
                    sealed = True
                    self._read_integrity(kind, at, length)
            elif kind not in attributes and not sealed:
                attributes[kind] = data[at : at + length]
                strange = True
            at += (length + 3) & ~3
        if at != size:
            raise DecodeError(f"the last attribute is {at - size} bytes longer than the message")
        self.unknown_required = self.not_understood(KNOWN) if strange else ()

    username = _Typed(AttributeType.USERNAME, values.parse_text)
    userhash = _Typed(AttributeType.USERHASH, values.parse_userhash)
    realm = _Typed(AttributeType.REALM, values.parse_text)
    nonce = _Typed(AttributeType.NONCE, values.parse_bytes)
    password_algorithms = _Typed(AttributeType.PASSWORD_ALGORITHMS, values.parse_algorithms)
    password_algorithm = _Typed(AttributeType.PASSWORD_ALGORITHM, values.parse_algorithm)
    error_code = _Typed(AttributeType.ERROR_CODE, values.parse_error)
    unknown_attributes = _Typed(AttributeType.UNKNOWN_ATTRIBUTES, values.parse_types)
    software = _Typed(AttributeType.SOFTWARE, values.parse_text)
    mapped_address = _Typed(AttributeType.MAPPED_ADDRESS, values.parse_address)
    xor_mapped_address = _XorAddress(AttributeType.XOR_MAPPED_ADDRESS)
    alternate_server = _Typed(AttributeType.ALTERNATE_SERVER, values.parse_address)
    alternate_domain = _Typed(AttributeType.ALTERNATE_DOMAIN, values.parse_domain)

    priority = _Typed(AttributeType.PRIORITY, values.parse_uint32)
    ice_controlled = _Typed(AttributeType.ICE_CONTROLLED, values.parse_uint64)
    ice_controlling = _Typed(AttributeType.ICE_CONTROLLING, values.parse_uint64)
    nomination = _Typed(AttributeType.NOMINATION, values.parse_uint32)

    channel_number = _Typed(AttributeType.CHANNEL_NUMBER, values.parse_uint16_of_4)
    lifetime = _Typed(AttributeType.LIFETIME, values.parse_uint32)
    xor_peer_address = _XorAddress(AttributeType.XOR_PEER_ADDRESS)
    data = _Typed(AttributeType.DATA, values.parse_bytes)
    xor_relayed_address = _XorAddress(AttributeType.XOR_RELAYED_ADDRESS)
    requested_address_family = _Typed(AttributeType.REQUESTED_ADDRESS_FAMILY, values.parse_family)
    additional_address_family = _Typed(AttributeType.ADDITIONAL_ADDRESS_FAMILY, values.parse_family)
    address_error_code = _Typed(AttributeType.ADDRESS_ERROR_CODE, values.parse_address_error)
    even_port = _Typed(AttributeType.EVEN_PORT, values.parse_even_port)
    requested_transport = _Typed(AttributeType.REQUESTED_TRANSPORT, values.parse_uint8_of_4)
    reservation_token = _Typed(AttributeType.RESERVATION_TOKEN, values.parse_token)
    icmp = _Typed(AttributeType.ICMP, values.parse_icmp)
    connection_id = _Typed(AttributeType.CONNECTION_ID, values.parse_uint32)

    change_request = _Typed(AttributeType.CHANGE_REQUEST, values.parse_change_request)
    response_port = _Typed(AttributeType.RESPONSE_PORT, values.parse_uint16_of_4)
    cache_timeout = _Typed(AttributeType.CACHE_TIMEOUT, values.parse_uint32)
    response_origin = _Typed(AttributeType.RESPONSE_ORIGIN, values.parse_address)
    other_address = _Typed(AttributeType.OTHER_ADDRESS, values.parse_address)

    @property
    def use_candidate(self) -> bool:
        """Whether the pair is nominated (RFC 8445 s7.1.2)."""
        return _USE_CANDIDATE in self.attributes

    @property
    def dont_fragment(self) -> bool:
        """Whether relayed datagrams shall have DF set (RFC 8656 s18.9)."""
        return AttributeType.DONT_FRAGMENT in self.attributes

    @property
    def has_integrity(self) -> bool:
        """Whether there is a MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256, right or wrong."""
        return bool(self._sha1_at or self._sha256_at)

    @property
    def integrity(self) -> Integrity:
        """Which integrity attributes there are: a response has that of its request (RFC 8489 s9.1.3)."""
        if self._sha256_at:
            return Integrity.BOTH if self._sha1_at else Integrity.SHA256
        return Integrity.SHA1 if self._sha1_at else Integrity.NONE

    @property
    def security_features(self) -> SecurityFeature | None:
        """What the nonce's cookie announces; None without one (RFC 8489 s9.2)."""
        return security_features(self.attributes.get(AttributeType.NONCE, b""))

    def not_understood(self, understood: AbstractSet[int]) -> tuple[int, ...]:
        """As `unknown_required`, for those who understand less, e.g. a server without RFC 5780."""
        return tuple(type_ for type_ in self.attributes if type_ < COMPREHENSION_OPTIONAL and type_ not in understood)

    def verify(self, key: IntegrityKey, *, shortest_sha256: int = 32) -> bool:
        """Whether the message was made by someone who knows ``key`` and arrived as it was sent.

        The stronger of the integrity attributes counts; False without any. ``shortest_sha256``: bytes, 16 to 32,
        for usages that allow MESSAGE-INTEGRITY-SHA256 to be truncated (RFC 8489 s14.6).
        """
        data = self._data
        # The text is the message before the attribute, its length as if that were the last one (RFC 8489 s14.5)
        if at := self._sha256_at:
            received = self.attributes[_SHA256]
            size = len(received)
            expected = key.sha256(data[:2] + (at - 16 + size).to_bytes(2, "big") + data[4:at])
            return size >= shortest_sha256 and compare_digest(received, expected[:size])
        if at := self._sha1_at:
            expected = key.sha1(data[:2] + (at + 4).to_bytes(2, "big") + data[4:at])
            return compare_digest(self.attributes[_SHA1], expected)
        return False

    def xor_addresses(self, type_: int) -> tuple[Address, ...]:
        """Every occurrence of an address: a CreatePermission may name several peers, a dual allocation has two
        relayed addresses (RFC 8656 s9.1, s7.3). Raises DecodeError."""
        addresses = []
        data = self._data
        at, end = 20, self._sha1_at or self._sha256_at or len(data)
        while at < end:
            kind, length = _unpack_tlv(data, at)
            at += 4
            if kind == type_:
                addresses.append(values.parse_xor_address(data[at : at + length], self.transaction_id))
            at += (length + 3) & ~3
        return tuple(addresses)

    def __repr__(self) -> str:
        names = [AttributeType(type_).name if type_ in KNOWN else f"0x{type_:04x}" for type_ in self.attributes]
        return f"<{self.message_class.name} method={self.method} id={self.transaction_id.hex()} {' '.join(names)}>"

    def _read_integrity(self, kind: int, at: int, length: int) -> None:
        if kind == _SHA1:
            if length != 20:
                raise DecodeError(f"MESSAGE-INTEGRITY has {length} bytes, not 20")
            self._sha1_at = at - 4
        else:
            if length not in _SHA256_SIZES:
                raise DecodeError(f"MESSAGE-INTEGRITY-SHA256 has {length} bytes, not 16, 20, 24, 28 or 32")
            self._sha256_at = at - 4
        self.attributes[kind] = self._data[at : at + length]

    def _read_fingerprint(self, at: int, length: int) -> None:
        data = self._data
        if length != 4 or at + 4 != len(data):
            raise DecodeError("FINGERPRINT is not the last attribute, or has not 4 bytes (RFC 8489 s14.7)")
        value = data[at:]
        if int.from_bytes(value, "big") != crc32(data[: at - 4]) ^ _FINGERPRINT_XOR:
            raise DecodeError("wrong FINGERPRINT")
        self.attributes[_FINGERPRINT] = value
        self.has_fingerprint = True


_CLASSES = tuple(MessageClass)


@lru_cache(maxsize=256)
def _split_type(type_: int) -> tuple[MessageClass, int]:
    """Class and method, whose bits are interleaved (RFC 8489 s5, figure 3)."""
    method = type_ & 0xF | (type_ >> 1) & 0x70 | (type_ >> 2) & 0xF80
    return _CLASSES[(type_ >> 4) & 1 | (type_ >> 7) & 2], method


@lru_cache(maxsize=256)
def _message_type(message_class: MessageClass, method: int) -> int:
    if not 0 <= method <= 0xFFF:
        raise ValueError(f"method {method} is not a number of 12 bits")
    type_ = method & 0xF | (method & 0x70) << 1 | (method & 0xF80) << 2
    return type_ | (message_class & 1) << 4 | (message_class & 2) << 7
