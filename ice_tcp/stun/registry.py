"""Numbers that IANA assigned: methods, attribute types, error codes, password algorithms."""

from __future__ import annotations

from enum import Flag, IntEnum


class DecodeError(ValueError):
    """Bytes are no STUN message, or an attribute's value is malformed; the message names what and where."""


class MessageClass(IntEnum):
    """What a message is within its transaction (RFC 8489 s5)."""

    REQUEST = 0
    INDICATION = 1
    SUCCESS = 2
    ERROR = 3


class Method(IntEnum):
    """What a message is about (RFC 8489 s18.2, RFC 8656 s17, RFC 6062 s6.1)."""

    BINDING = 0x001
    ALLOCATE = 0x003
    REFRESH = 0x004
    SEND = 0x006
    DATA = 0x007
    CREATE_PERMISSION = 0x008
    CHANNEL_BIND = 0x009
    CONNECT = 0x00A
    CONNECTION_BIND = 0x00B
    CONNECTION_ATTEMPT = 0x00C


class AttributeType(IntEnum):
    """Types of the attributes this codec understands; from 0x8000 on a receiver may ignore them."""

    # RFC 8489 s18.3
    MAPPED_ADDRESS = 0x0001
    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    UNKNOWN_ATTRIBUTES = 0x000A
    REALM = 0x0014
    NONCE = 0x0015
    MESSAGE_INTEGRITY_SHA256 = 0x001C
    PASSWORD_ALGORITHM = 0x001D
    USERHASH = 0x001E
    XOR_MAPPED_ADDRESS = 0x0020
    PASSWORD_ALGORITHMS = 0x8002
    ALTERNATE_DOMAIN = 0x8003
    SOFTWARE = 0x8022
    ALTERNATE_SERVER = 0x8023
    FINGERPRINT = 0x8028

    # RFC 8445 s20.1; NOMINATION: draft-thatcher-ice-renomination, as libwebrtc numbers it
    PRIORITY = 0x0024
    USE_CANDIDATE = 0x0025
    ICE_CONTROLLED = 0x8029
    ICE_CONTROLLING = 0x802A
    NOMINATION = 0xC001

    # RFC 8656 s18
    CHANNEL_NUMBER = 0x000C
    LIFETIME = 0x000D
    XOR_PEER_ADDRESS = 0x0012
    DATA = 0x0013
    XOR_RELAYED_ADDRESS = 0x0016
    REQUESTED_ADDRESS_FAMILY = 0x0017
    EVEN_PORT = 0x0018
    REQUESTED_TRANSPORT = 0x0019
    DONT_FRAGMENT = 0x001A
    RESERVATION_TOKEN = 0x0022
    ADDITIONAL_ADDRESS_FAMILY = 0x8000
    ADDRESS_ERROR_CODE = 0x8001
    ICMP = 0x8004
    ADDITIONAL_ADDRESS_FAMILY_OF_DRAFT = 0x8032  # before it had a number; coturn 4.6 knows this one only

    # RFC 6062 s6.2
    CONNECTION_ID = 0x002A

    # RFC 5780 s7
    CHANGE_REQUEST = 0x0003
    PADDING = 0x0026
    RESPONSE_PORT = 0x0027
    CACHE_TIMEOUT = 0x8027
    RESPONSE_ORIGIN = 0x802B
    OTHER_ADDRESS = 0x802C

    # RFC 3489 servers put these into every Binding response; without a typed value, but no reason to refuse it
    SOURCE_ADDRESS = 0x0004
    CHANGED_ADDRESS = 0x0005


COMPREHENSION_OPTIONAL = 0x8000
"""The first attribute type that a receiver which does not know it ignores (RFC 8489 s14)."""


class ErrorNumber(IntEnum):
    """Error codes (RFC 8489 s14.8, RFC 8445 s20.2, RFC 8656 s19, RFC 6062 s6.3)."""

    TRY_ALTERNATE = 300
    BAD_REQUEST = 400
    UNAUTHENTICATED = 401
    FORBIDDEN = 403
    UNKNOWN_ATTRIBUTE = 420
    ALLOCATION_MISMATCH = 437
    STALE_NONCE = 438
    ADDRESS_FAMILY_NOT_SUPPORTED = 440
    WRONG_CREDENTIALS = 441
    UNSUPPORTED_TRANSPORT_PROTOCOL = 442
    PEER_ADDRESS_FAMILY_MISMATCH = 443
    CONNECTION_ALREADY_EXISTS = 446
    CONNECTION_TIMEOUT_OR_FAILURE = 447
    ALLOCATION_QUOTA_REACHED = 486
    ROLE_CONFLICT = 487
    SERVER_ERROR = 500
    INSUFFICIENT_CAPACITY = 508

    @property
    def reason(self) -> str:
        """The recommended reason phrase."""
        return self.name.replace("_", " ").title().replace(" Or ", " or ").replace(" Not ", " not ")


class PasswordAlgorithm(IntEnum):
    """How a long-term password becomes a key (RFC 8489 s18.5)."""

    MD5 = 0x0001
    SHA256 = 0x0002


class Integrity(Flag):
    """Which message-integrity attributes a message has (RFC 8489 s14.5, s14.6)."""

    NONE = 0
    SHA1 = 1
    SHA256 = 2
    BOTH = 3


class SecurityFeature(Flag):
    """Features that a server's nonce protects against bid-down (RFC 8489 s9.2.1, s18.1)."""

    NONE = 0
    USERNAME_ANONYMITY = 1 << 22
    PASSWORD_ALGORITHMS = 1 << 23
