"""Who may use the relay: long-term credentials (RFC 8489 s9.2), and short-lived ones from a shared secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from ice_tcp.server.core.actions import Address
from ice_tcp.server.core.requests import Refusal
from ice_tcp.server.options import ServerOptions
from ice_tcp.stun import (
    AlgorithmParameters,
    AttributeType,
    ErrorNumber,
    Integrity,
    IntegrityKey,
    Message,
    PasswordAlgorithm,
    SecurityFeature,
    nonce,
    nonce_cookie,
    opaque_string,
    password_algorithms,
    realm,
)
from ice_tcp.stun.credentials import userhash

_KEYS = 1024
_SALT_BYTES = 9
_TAG_BYTES = 15
_EXPIRY_BYTES = 6  # milliseconds


@dataclass(frozen=True, slots=True)
class Identity:
    """Who made a request, and how to sign the response."""

    username: str
    user: str
    """Whose quota counts: the username, without the expiry of a short-lived one."""
    key: IntegrityKey
    integrity: Integrity


class Accounts:
    """Authenticates requests. Keeps nothing about clients: a nonce tells by itself when it expires."""

    def __init__(self, options: ServerOptions, rng: random.Random, wall_clock: Callable[[], float]) -> None:
        self._rng = rng
        self._wall_clock = wall_clock
        self._nonce_key = rng.randbytes(32)
        self._realm = opaque_string(options.realm)
        self.take(options)

    def take(self, options: ServerOptions) -> None:
        """Know these users from now on; nonces that are given stay good."""
        self._options = options
        self._passwords = {opaque_string(name): password for name, password in options.users.items()}
        self._names_of_hashes = {userhash(name, self._realm): name for name in self._passwords}
        self._cookie = nonce_cookie(self._features())
        self._offer = password_algorithms(AlgorithmParameters(number) for number in options.password_algorithms)
        self._key = lru_cache(maxsize=_KEYS)(self._make_key)

    def authenticate(self, message: Message, source: Address, now: float, known: Identity | None = None) -> Identity:
        """Check a request as RFC 8489 s9.2.4 orders, or raise Refusal (400, 401, 438), or DecodeError.

        ``known`` is who made the allocation of the 5-tuple: their short-lived credentials last as long as it.
        """
        if not message.has_integrity:
            raise self._challenge(ErrorNumber.UNAUTHENTICATED, source, now)
        claimed_realm, claimed_nonce = message.realm, message.nonce
        hashed, named = message.userhash, message.username
        if claimed_realm is None or claimed_nonce is None or (hashed is None and named is None):
            raise Refusal(ErrorNumber.BAD_REQUEST, "integrity without username, realm or nonce")
        algorithm, integrity = self._algorithm(message, claimed_nonce)
        username = named if hashed is None else self._names_of_hashes.get(hashed)
        if username is None or claimed_realm != self._realm:
            raise self._challenge(ErrorNumber.UNAUTHENTICATED, source, now, "unknown user or realm")
        identity = self._identify(username, algorithm, integrity, known)
        if identity is None:
            raise self._challenge(ErrorNumber.UNAUTHENTICATED, source, now, "unknown or expired user")
        if not message.verify(identity.key):
            raise self._challenge(ErrorNumber.UNAUTHENTICATED, source, now, "wrong password")
        if not self._is_fresh(claimed_nonce, source, now):
            raise self._challenge(ErrorNumber.STALE_NONCE, source, now)
        return identity

    def knows(self, username: str) -> bool:
        """Whether somebody of this name could authenticate, with the right password and in time."""
        return username in self._passwords or (
            self._options.shared_secret is not None and _expiry(username) is not None
        )

    def _features(self) -> SecurityFeature:
        features = SecurityFeature.NONE
        if self._options.password_algorithms:
            features |= SecurityFeature.PASSWORD_ALGORITHMS
        if self._options.username_anonymity:
            features |= SecurityFeature.USERNAME_ANONYMITY
        return features

    def _challenge(self, code: ErrorNumber, source: Address, now: float, detail: str = "") -> Refusal:
        attributes = [realm(self._realm), nonce(self._make_nonce(source, now))]
        if self._options.password_algorithms:
            attributes.append(self._offer)
        return Refusal(code, detail, attributes=attributes, signed=False)

    def _algorithm(self, message: Message, claimed_nonce: bytes) -> tuple[PasswordAlgorithm, Integrity]:
        """How the password becomes a key, and which integrity the response has."""
        offered, chosen = message.attributes.get(AttributeType.PASSWORD_ALGORITHMS), message.password_algorithm
        if not self._options.password_algorithms or not claimed_nonce.startswith(self._cookie):
            # Not our nonce, or none of our offers: the checks of the nonce and of the key will tell.
            return PasswordAlgorithm.MD5, Integrity.SHA1
        if offered is None and chosen is None:
            return PasswordAlgorithm.MD5, Integrity.SHA1
        if chosen is None or offered != self._offer[1] or chosen.algorithm not in self._options.password_algorithms:
            raise Refusal(ErrorNumber.BAD_REQUEST, "password algorithms are not those that were offered")
        return PasswordAlgorithm(chosen.algorithm), Integrity.SHA256

    # Users

    def _identify(
        self, username: str, algorithm: PasswordAlgorithm, integrity: Integrity, known: Identity | None
    ) -> Identity | None:
        if username in self._passwords:
            return Identity(username, username, self._key(username, algorithm), integrity)
        if self._options.shared_secret is None:
            return None
        expiry, name = _expiry(username), username.partition(":")[2]
        if expiry is None:
            return None
        # Who has an allocation may keep it: calls outlast their credentials.
        if expiry < self._wall_clock() and (known is None or known.username != username):
            return None
        try:
            return Identity(username, name, self._key(username, algorithm), integrity)
        except ValueError:  # no OpaqueString
            return None

    def _make_key(self, username: str, algorithm: PasswordAlgorithm) -> IntegrityKey:
        password = self._passwords.get(username)
        if password is None:
            assert self._options.shared_secret is not None
            password = short_lived_password(self._options.shared_secret, username)
        return IntegrityKey.long_term(username, self._realm, password, algorithm)

    # Nonces: cookie, salt, expiry, and a tag over these and the client's IP address. Each is made for one request
    # only (RFC 8489 s9.2.4); that the tag leaves the port out lets a client use its nonce for ConnectionBind.

    def _make_nonce(self, source: Address, now: float) -> bytes:
        expires = int((now + self._options.nonce_lifetime) * 1000)
        text = self._rng.randbytes(_SALT_BYTES) + expires.to_bytes(_EXPIRY_BYTES, "big")
        return self._cookie + base64.b64encode(text + self._tag(text, source))

    def _is_fresh(self, claimed: bytes, source: Address, now: float) -> bool:
        if not claimed.startswith(self._cookie):
            return False
        try:
            value = base64.b64decode(claimed[len(self._cookie) :], validate=True)
        except ValueError:
            return False
        text, tag = value[:-_TAG_BYTES], value[-_TAG_BYTES:]
        if len(text) != _SALT_BYTES + _EXPIRY_BYTES or not hmac.compare_digest(tag, self._tag(text, source)):
            return False
        return now * 1000 < int.from_bytes(text[_SALT_BYTES:], "big")

    def _tag(self, text: bytes, source: Address) -> bytes:
        return hmac.digest(self._nonce_key, text + source[0].encode(), hashlib.sha256)[:_TAG_BYTES]


def _expiry(username: str) -> int | None:
    """Of a short-lived username ``"expiry:name"``, in Unix seconds; None if it is not one."""
    expiry = username.partition(":")[0]
    return int(expiry) if expiry.isascii() and expiry.isdigit() and len(expiry) <= 12 else None


def short_lived_password(secret: str, username: str) -> str:
    """The password of a short-lived username ``"expiry:name"``; coturn's ``use-auth-secret`` makes the same one."""
    return base64.b64encode(hmac.digest(secret.encode(), username.encode(), hashlib.sha1)).decode()
