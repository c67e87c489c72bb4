"""Passwords, keys and what a long-term nonce says (RFC 8489 s9)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from ice_tcp.stun.registry import PasswordAlgorithm, SecurityFeature

if TYPE_CHECKING:
    from hashlib import _Hash

_BLOCK = 64  # bytes of a block of SHA-1 and of SHA-256
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))

_COOKIE_PREFIX = b"obMatJos2"
_COOKIE_SIZE = len(_COOKIE_PREFIX) + 4


def opaque_string(text: str) -> str:
    """``text`` in the OpaqueString profile of PRECIS (RFC 8265 s4.2), in which STUN compares credentials.

    Raises ValueError if the profile does not allow ``text``: it is empty, or has control, unassigned or
    invisible characters.
    """
    if text.isascii() and text.isprintable() and text:
        return text
    # Costs 10 ms of import, for tables that hardly anybody's credentials need.
    import precis_i18n

    try:
        return precis_i18n.get_profile("OpaqueString").enforce(text)
    except UnicodeEncodeError as error:
        raise ValueError(f"a credential is no OpaqueString (RFC 8265 s4.2): {error.reason}") from None


def userhash(username: str, realm: str) -> bytes:
    """What stands for a username that servers keep from onlookers, 32 bytes: USERHASH (RFC 8489 s14.4)."""
    return hashlib.sha256(f"{opaque_string(username)}:{opaque_string(realm)}".encode()).digest()


def security_features(nonce: bytes) -> SecurityFeature | None:
    """The features that a server announces in its nonce; None if the nonce has no cookie (RFC 8489 s9.2).

    Bits that no RFC has assigned are left out.
    """
    if len(nonce) < _COOKIE_SIZE or not nonce.startswith(_COOKIE_PREFIX):
        return None
    try:
        bits = base64.b64decode(nonce[len(_COOKIE_PREFIX) : _COOKIE_SIZE], validate=True)
    except binascii.Error:
        return None
    known = SecurityFeature.PASSWORD_ALGORITHMS | SecurityFeature.USERNAME_ANONYMITY
    return SecurityFeature(int.from_bytes(bits, "big") & known.value)


def nonce_cookie(features: SecurityFeature) -> bytes:
    """The 13 bytes that a server puts before the rest of its nonce (RFC 8489 s9.2)."""
    return _COOKIE_PREFIX + base64.b64encode(features.value.to_bytes(3, "big"))


class IntegrityKey:
    """An HMAC key with the work done that all its messages share. Make one per password and keep it."""

    __slots__ = ("_key", "_sha256", "sha1")

    sha1: Callable[[bytes], bytes]
    """HMAC-SHA1 of a text, 20 bytes (RFC 8489 s14.5)."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.sha1 = _hmac(hashlib.sha1, key)
        self._sha256: Callable[[bytes], bytes] | None = None

    @classmethod
    def short_term(cls, password: str) -> IntegrityKey:
        """The key of ICE connectivity checks (RFC 8489 s9.1.1). Raises ValueError as `opaque_string` does."""
        return cls(opaque_string(password).encode())

    @classmethod
    def long_term(
        cls, username: str, realm: str, password: str, algorithm: PasswordAlgorithm = PasswordAlgorithm.MD5
    ) -> IntegrityKey:
        """The key for a server that challenges with a realm, e.g. TURN (RFC 8489 s9.2.2).

        ``realm`` is as the server sent it. Raises ValueError as `opaque_string` does.
        """
        # The realm has been through OpaqueString at the server (RFC 8489 s14.9): doing it again could only
        # raise for what the peer sent.
        fields = (opaque_string(username), _unquoted(realm), opaque_string(password))
        text = ":".join(fields).encode()
        if algorithm is PasswordAlgorithm.MD5:
            return cls(hashlib.md5(text, usedforsecurity=False).digest())
        return cls(hashlib.sha256(text).digest())

    def sha256(self, text: bytes) -> bytes:
        """HMAC-SHA256 of ``text``, 32 bytes (RFC 8489 s14.6)."""
        if self._sha256 is None:
            self._sha256 = _hmac(hashlib.sha256, self._key)
        return self._sha256(text)


def _hmac(new: Callable[[bytes], _Hash], key: bytes) -> Callable[[bytes], bytes]:
    """HMAC (RFC 2104) under ``key``, with the first blocks of both hashes done once: copies of them are cheap."""
    block = (key if len(key) <= _BLOCK else new(key).digest()).ljust(_BLOCK, b"\0")
    copy_inner = new(block.translate(_INNER_PAD)).copy
    copy_outer = new(block.translate(_OUTER_PAD)).copy

    def digest(text: bytes) -> bytes:
        inner = copy_inner()
        inner.update(text)
        outer = copy_outer()
        outer.update(inner.digest())
        return outer.digest()

    return digest


def _unquoted(text: str) -> str:
    """``text`` without surrounding quotes and trailing nulls (RFC 8489 s9.2.2)."""
    text = text.rstrip("\0")
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text
