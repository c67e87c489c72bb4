"""Who we are to a server: long-term credentials, and what its challenges made of them (RFC 8489 s9.2)."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
from dataclasses import dataclass, field

from ice_tcp import stun
from ice_tcp.core.outcomes import ServerFailure, ServerVerdict
from ice_tcp.stun import (
    Attribute,
    AttributeType,
    Integrity,
    IntegrityKey,
    Message,
    PasswordAlgorithm,
    SecurityFeature,
)
from ice_tcp.stun.credentials import userhash

_KNOWN_ALGORITHMS = frozenset(PasswordAlgorithm)


@dataclass(frozen=True, slots=True)
class Credentials:
    """User name and password, as they were configured. Raises ValueError if STUN does not allow them."""

    username: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        stun.username(self.username)
        stun.opaque_string(self.password)


def short_lived_credentials(
    secret: str, user: str, now: float, *, lifetime: float = 86400.0, separator: str = ":"
) -> Credentials:
    """Credentials that end ``lifetime`` seconds after ``now``, which is wall time, in seconds since 1970.

    The user name is "end:user", or "end" for an empty ``user``; the password is the base64 of its HMAC-SHA1 under the
    ``secret`` that the server knows, too (draft-uberti-behave-turn-rest-00 s2.2).
    """
    end = str(int(now + lifetime))
    username = f"{end}{separator}{user}" if user else end
    digest = hmac.digest(secret.encode(), username.encode(), hashlib.sha1)
    return Credentials(username, base64.b64encode(digest).decode())


class Authentication:
    """What a server's challenges have asked for so far; every request under them has the same shape.

    Before the first challenge ``key`` is None, and requests leave without credentials (RFC 8489 s9.2.3.1).
    """

    __slots__ = ("_attributes", "_credentials", "_key_of", "_realm", "integrity", "key")

    def __init__(self, credentials: Credentials | None) -> None:
        self._credentials = credentials
        self._realm: bytes | None = None
        self._attributes: tuple[Attribute, ...] = ()
        self._key_of: tuple[bytes, PasswordAlgorithm] | None = None
        self.key: IntegrityKey | None = None
        self.integrity = Integrity.SHA1

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """What each request says about us; integrity by ``key`` follows."""
        return self._attributes

    @property
    def realm(self) -> bytes | None:
        """The server's realm, byte by byte; None before the first challenge."""
        return self._realm

    def copy(self) -> Authentication:
        """The same user on another connection, where the server counts nonces apart (RFC 6062 s4.3)."""
        return copy.copy(self)

    def challenged(self, message: Message) -> ServerFailure | None:
        """Take realm, nonce and algorithms of a 401 or 438 response; None: ask again (RFC 8489 s9.2.5).

        Raises DecodeError if an attribute is malformed.
        """
        if self._credentials is None:
            return ServerFailure(ServerVerdict.NO_CREDENTIALS)
        realm = message.attributes.get(AttributeType.REALM, self._realm)
        nonce = message.attributes.get(AttributeType.NONCE)
        if realm is None or nonce is None:
            return ServerFailure(ServerVerdict.MALFORMED, "a challenge without REALM or NONCE (RFC 8489 s9.2.4)")
        if bids_down(message) or self._is_weaker(message):
            return ServerFailure(ServerVerdict.BID_DOWN, "a challenge without the PASSWORD-ALGORITHMS it announced")
        offered = message.password_algorithms
        algorithm = _choose(offered)
        if algorithm is None:
            return ServerFailure(ServerVerdict.NO_COMMON_ALGORITHM)
        return self._adopt(message, realm, nonce, algorithm)

    def _is_weaker(self, message: Message) -> bool:
        """A server that offered algorithms offers them in each challenge (RFC 8489 s9.2.4)."""
        return self.integrity is Integrity.SHA256 and AttributeType.PASSWORD_ALGORITHMS not in message.attributes

    def _adopt(
        self, message: Message, realm: bytes, nonce: bytes, algorithm: PasswordAlgorithm
    ) -> ServerFailure | None:
        assert self._credentials is not None
        username, password = self._credentials.username, self._credentials.password
        features = message.security_features or SecurityFeature.NONE
        try:
            text = realm.decode()
            if SecurityFeature.USERNAME_ANONYMITY in features:
                name = stun.userhash(userhash(username, text))
            else:
                name = stun.username(username)
            if self._key_of != (realm, algorithm):
                self.key = IntegrityKey.long_term(username, text, password, algorithm)
                self._key_of = realm, algorithm
        except ValueError as error:  # no UTF-8, or what OpaqueString forbids
            return ServerFailure(ServerVerdict.MALFORMED, f"the realm: {error}")
        # Byte by byte as the server sent them: it compares (RFC 8489 s9.2.5)
        attributes = [name, (AttributeType.REALM, realm), (AttributeType.NONCE, nonce)]
        offered = message.attributes.get(AttributeType.PASSWORD_ALGORITHMS)
        if offered is not None:
            attributes += [(AttributeType.PASSWORD_ALGORITHMS, offered), stun.password_algorithm(algorithm)]
            self.integrity = Integrity.SHA256
        self._realm = realm
        self._attributes = tuple(attributes)
        return None


def bids_down(message: Message) -> bool:
    """Whether the nonce announces PASSWORD-ALGORITHMS that are not there (RFC 8489 s9.2.1)."""
    features = message.security_features
    return (
        features is not None
        and SecurityFeature.PASSWORD_ALGORITHMS in features
        and AttributeType.PASSWORD_ALGORITHMS not in message.attributes
    )


def _choose(offered: tuple[stun.AlgorithmParameters, ...] | None) -> PasswordAlgorithm | None:
    """SHA-256 wherever it is offered (RFC 8656 s6), else the first that is known (RFC 8489 s9.2.5)."""
    if offered is None:
        return PasswordAlgorithm.MD5
    known = [PasswordAlgorithm(offer.algorithm) for offer in offered if offer.algorithm in _KNOWN_ALGORITHMS]
    if PasswordAlgorithm.SHA256 in known:
        return PasswordAlgorithm.SHA256
    return known[0] if known else None
