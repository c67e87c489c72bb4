"""STUN messages as bytes, read and built here by hand: apart from the codec of ice-tcp, which is under test, too.

Nothing is hidden: `Message` has every attribute in its order with its padding, and `Draft` builds what no codec would,
with wrong lengths, spoiled checksums, and attributes where they must not be (RFC 8489 s5, s14).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self, TypeAlias

Address: TypeAlias = tuple[str, int]

COOKIE: Final = b"\x21\x12\xa4\x42"
HEADER_BYTES: Final = 20
BINDING: Final = 0x001
FINGERPRINT_XOR: Final = 0x5354554E


class Kind(IntEnum):
    """The class bits of a message type (RFC 8489 s5)."""

    REQUEST = 0x0000
    INDICATION = 0x0010
    SUCCESS = 0x0100
    ERROR = 0x0110


class Attr(IntEnum):
    """The attributes of checks and of servers (RFC 8489 s18.3, RFC 8445 s20.1, RFC 8656 s18, RFC 6062 s6.2)."""

    MAPPED_ADDRESS = 0x0001
    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    UNKNOWN_ATTRIBUTES = 0x000A
    LIFETIME = 0x000D
    XOR_PEER_ADDRESS = 0x0012
    DATA = 0x0013
    REALM = 0x0014
    NONCE = 0x0015
    XOR_RELAYED_ADDRESS = 0x0016
    EVEN_PORT = 0x0018
    REQUESTED_TRANSPORT = 0x0019
    DONT_FRAGMENT = 0x001A
    MESSAGE_INTEGRITY_SHA256 = 0x001C
    XOR_MAPPED_ADDRESS = 0x0020
    RESERVATION_TOKEN = 0x0022
    PRIORITY = 0x0024
    USE_CANDIDATE = 0x0025
    CONNECTION_ID = 0x002A
    SOFTWARE = 0x8022
    ALTERNATE_SERVER = 0x8023
    FINGERPRINT = 0x8028
    ICE_CONTROLLED = 0x8029
    ICE_CONTROLLING = 0x802A


UNKNOWN_REQUIRED: Final = 0x7F31
"""An attribute type that nobody has assigned, and that a receiver must understand (RFC 8489 s14)."""
UNKNOWN_OPTIONAL: Final = 0xFF31
"""... and one that a receiver ignores."""


class NotStunError(ValueError):
    """Bytes do not obey RFC 8489 s5; the message says which rule."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute as it lies in its message; ``at`` is the offset of its type."""

    type: int
    value: bytes
    padding: bytes
    at: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message that obeys RFC 8489 s5. Whether its checksums hold is asked apart."""

    data: bytes
    kind: Kind
    method: int
    transaction_id: bytes
    attributes: tuple[Attribute, ...]

    def all(self, type_: int) -> list[Attribute]:
        return [attribute for attribute in self.attributes if attribute.type == type_]

    def get(self, type_: int) -> bytes | None:
        """The value of the first occurrence."""
        return next((attribute.value for attribute in self.attributes if attribute.type == type_), None)

    def has(self, type_: int) -> bool:
        return self.get(type_) is not None

    def number(self, type_: int) -> int | None:
        value = self.get(type_)
        return None if value is None else int.from_bytes(value, "big")

    @property
    def username(self) -> str | None:
        value = self.get(Attr.USERNAME)
        return None if value is None else value.decode("utf-8", "replace")

    @property
    def error(self) -> int | None:
        """The code of ERROR-CODE, as its class and number say (RFC 8489 s14.8)."""
        value = self.get(Attr.ERROR_CODE)
        return None if value is None or len(value) < 4 else 100 * (value[2] & 7) + value[3]

    @property
    def mapped(self) -> Address | None:
        """XOR-MAPPED-ADDRESS (RFC 8489 s14.2)."""
        return self.address(Attr.XOR_MAPPED_ADDRESS)

    @property
    def peers(self) -> list[Address | None]:
        """Every XOR-PEER-ADDRESS (RFC 8656 s18.3); None for one that is malformed."""
        return [self._address(each.value) for each in self.all(Attr.XOR_PEER_ADDRESS)]

    def address(self, type_: int) -> Address | None:
        """The first attribute of a type that has an address in it, which is xored."""
        value = self.get(type_)
        return None if value is None else self._address(value)

    def _address(self, value: bytes) -> Address | None:
        if len(value) not in (8, 20):
            return None
        mask = COOKIE + self.transaction_id
        plain = bytes(one ^ other for one, other in zip(value[4:], mask, strict=False))
        port = int.from_bytes(value[2:4], "big") ^ int.from_bytes(COOKIE[:2], "big")
        return str(ipaddress.ip_address(plain)), port

    def integrity_holds(self, password: str | bytes) -> bool:
        """Whether MESSAGE-INTEGRITY is there and was made with this password, or this key (RFC 8489 s14.5)."""
        found = self.all(Attr.MESSAGE_INTEGRITY)
        if not found or len(found[0].value) != 20:
            return False
        text = _with_length(self.data[: found[0].at], found[0].at + 24)
        return hmac.digest(_key(password), text, "sha1") == found[0].value

    def sha256_holds(self, password: str) -> bool:
        """The same for MESSAGE-INTEGRITY-SHA256, of full length (RFC 8489 s14.6)."""
        found = self.all(Attr.MESSAGE_INTEGRITY_SHA256)
        if not found or len(found[0].value) != 32:
            return False
        text = _with_length(self.data[: found[0].at], found[0].at + 36)
        return hmac.digest(password.encode(), text, "sha256") == found[0].value

    @property
    def fingerprint_holds(self) -> bool:
        """Whether FINGERPRINT is the last attribute, and right (RFC 8489 s14.7)."""
        if not self.attributes or self.attributes[-1].type != Attr.FINGERPRINT:
            return False
        last = self.attributes[-1]
        return last.value == _fingerprint(self.data[: last.at])


def read(data: bytes) -> Message:
    """The message in ``data``. Raises NotStunError."""
    if len(data) < HEADER_BYTES:
        raise NotStunError(f"{len(data)} bytes are no header")
    type_, length = struct.unpack_from("!HH", data)
    if type_ & 0xC000:
        raise NotStunError(f"the two most significant bits are not zero: 0x{type_:04x}")
    if data[4:8] != COOKIE:
        raise NotStunError(f"the magic cookie is 0x{data[4:8].hex()}")
    if length != len(data) - HEADER_BYTES or length % 4:
        raise NotStunError(f"the length says {length}, and {len(data) - HEADER_BYTES} bytes follow the header")
    method = type_ & 0xF | (type_ >> 1) & 0x70 | (type_ >> 2) & 0xF80
    return Message(data, Kind(type_ & 0x0110), method, data[8:20], tuple(_attributes(data)))


def is_stun(data: bytes) -> bool:
    try:
        read(data)
    except NotStunError:
        return False
    return True


def _attributes(data: bytes) -> Iterator[Attribute]:
    at = HEADER_BYTES
    while at < len(data):
        type_, length = struct.unpack_from("!HH", data, at)
        end = at + 4 + length
        padded = end + -length % 4
        if padded > len(data):
            raise NotStunError(f"attribute 0x{type_:04x} is longer than the message")
        yield Attribute(type_, data[at + 4 : end], data[end:padded], at)
        at = padded


class Draft:
    """A message in the making, right or wrong; ``bytes(draft)`` or `encode` ends it.

    What is added comes in this order; `integrity` and `fingerprint` cover what is there when they are called.
    """

    def __init__(self, kind: Kind, transaction_id: bytes | None = None, *, method: int = BINDING) -> None:
        self.transaction_id = secrets.token_bytes(12) if transaction_id is None else transaction_id
        self._type = kind | method & 0xF | (method & 0x70) << 1 | (method & 0xF80) << 2
        self._body = b""

    def add(self, type_: int, value: bytes = b"", *, length: int | None = None, padding: bytes | None = None) -> Self:
        """An attribute; ``length`` and ``padding`` are what its value asks for, unless told otherwise."""
        said = len(value) if length is None else length
        fill = bytes(-len(value) % 4) if padding is None else padding
        self._body += struct.pack("!HH", type_, said) + value + fill
        return self

    def raw(self, data: bytes) -> Self:
        """Bytes as they are."""
        self._body += data
        return self

    def integrity(self, password: str | bytes, *, spoiled: bool = False) -> Self:
        """MESSAGE-INTEGRITY."""
        digest = hmac.digest(_key(password), self._head(24) + self._body, "sha1")
        return self.add(Attr.MESSAGE_INTEGRITY, _spoil(digest) if spoiled else digest)

    def integrity_sha256(self, password: str, *, spoiled: bool = False) -> Self:
        """MESSAGE-INTEGRITY-SHA256, of full length."""
        digest = hmac.new(password.encode(), self._head(36) + self._body, hashlib.sha256).digest()
        return self.add(Attr.MESSAGE_INTEGRITY_SHA256, _spoil(digest) if spoiled else digest)

    def fingerprint(self, *, spoiled: bool = False) -> Self:
        value = _fingerprint(self._head(0) + self._body)
        return self.add(Attr.FINGERPRINT, _spoil(value) if spoiled else value)

    def encode(self, *, length: int | None = None, cookie: bytes = COOKIE, type_: int | None = None) -> bytes:
        """The message; the fields of the header are right unless told otherwise."""
        said = len(self._body) if length is None else length
        head = struct.pack("!HH", self._type if type_ is None else type_, said)
        return head + cookie + self.transaction_id + self._body

    def __bytes__(self) -> bytes:
        return self.encode()

    def _head(self, more: int) -> bytes:
        return struct.pack("!HH", self._type, len(self._body) + more) + COOKIE + self.transaction_id


def xor_address(address: Address, transaction_id: bytes) -> bytes:
    """The value of XOR-MAPPED-ADDRESS (RFC 8489 s14.2)."""
    packed = ipaddress.ip_address(address[0]).packed
    mask = COOKIE + transaction_id
    port = address[1] ^ int.from_bytes(COOKIE[:2], "big")
    hidden = bytes(one ^ other for one, other in zip(packed, mask, strict=False))
    return struct.pack("!BBH", 0, 1 if len(packed) == 4 else 2, port) + hidden


def error_value(code: int, reason: str) -> bytes:
    """The value of ERROR-CODE (RFC 8489 s14.8)."""
    return struct.pack("!HBB", 0, code // 100, code % 100) + reason.encode()


def _key(password: str | bytes) -> bytes:
    return password if isinstance(password, bytes) else password.encode()


def _fingerprint(before: bytes) -> bytes:
    """FINGERPRINT of a message whose bytes before it are these; its length is told here (RFC 8489 s14.7)."""
    text = _with_length(before, len(before) + 8)
    return struct.pack("!I", zlib.crc32(text) ^ FINGERPRINT_XOR)


def _with_length(data: bytes, end: int) -> bytes:
    return data[:2] + struct.pack("!H", end - HEADER_BYTES) + data[4:]


def _spoil(value: bytes) -> bytes:
    return bytes([value[0] ^ 0x01]) + value[1:]
