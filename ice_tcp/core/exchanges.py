"""Trace records of conversations with servers; they hold no credentials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class ServerDropReason(StrEnum):
    """Why bytes of a server were ignored."""

    MALFORMED = "malformed"
    REQUEST = "request"
    UNKNOWN_TRANSACTION = "unknown-transaction"
    WRONG_METHOD = "wrong-method"
    UNKNOWN_ATTRIBUTE = "unknown-attribute"
    BAD_INTEGRITY = "bad-integrity"
    BID_DOWN = "bid-down"
    NO_ALLOCATION = "no-allocation"
    """Data or an indication before Allocate succeeded, or after the end."""
    UNKNOWN_CHANNEL = "unknown-channel"
    NO_PERMISSION = "no-permission"
    UNEXPECTED_INDICATION = "unexpected-indication"


@dataclass(frozen=True, slots=True)
class ServerRequestSent:
    """A request left for the first time; ``method`` as in `ice_tcp.stun.Method`."""

    server: str
    method: int
    transaction_id: bytes


@dataclass(frozen=True, slots=True)
class ServerAnswered:
    """A response was taken: ``code`` is None for success; ``rtt`` in seconds, from the last sending."""

    server: str
    method: int
    transaction_id: bytes
    code: int | None
    rtt: float


@dataclass(frozen=True, slots=True)
class ServerMessageDropped:
    """Bytes of the server were ignored; ``detail`` is for people."""

    server: str
    reason: ServerDropReason
    detail: str = ""


ServerRecord: TypeAlias = ServerRequestSent | ServerAnswered | ServerMessageDropped

Note: TypeAlias = Callable[[float, ServerRecord], None]
"""Takes ``(now, record)``."""
