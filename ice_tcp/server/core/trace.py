"""What the server did and why, as typed records for a sink, a callable that takes ``(now, record)``.

Records never hold passwords or nonces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from ice_tcp.server.core.actions import Address, Client, RelayTransport


class DropReason(StrEnum):
    """Why a message was ignored."""

    MALFORMED = "malformed"
    NOT_A_REQUEST = "not-a-request"
    NO_ALLOCATION = "no-allocation"
    NO_CHANNEL = "no-channel"
    NO_PERMISSION = "no-permission"
    FORBIDDEN_PEER = "forbidden-peer"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class MessageDropped:
    """A client's message, or a peer's datagram to this client's relay, was ignored; ``detail`` is for people."""

    client: Client
    reason: DropReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """A request got an error response with this ``code``; ``detail`` is for people and not told the client."""

    client: Client
    method: int
    code: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AllocationCreated:
    """A client has relayed addresses now."""

    client: Client
    username: str
    transport: RelayTransport
    relayed: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class AllocationEnded:
    """A relayed address was given up: refreshed with lifetime 0, expired, or its client's connection closed."""

    client: Client
    relayed: Address
    why: str


@dataclass(frozen=True, slots=True)
class StreamRefused:
    """A connection was closed at once, or when it had shown for too long that it is of no use."""

    remote: Address
    why: str


@dataclass(frozen=True, slots=True)
class PeerRefused:
    """A peer's connection to a TCP relay was closed: without permission, or one too many (RFC 6062 s5.3)."""

    client: Client
    peer: Address
    why: str


Record: TypeAlias = MessageDropped | RequestRefused | AllocationCreated | AllocationEnded | StreamRefused | PeerRefused

TraceSink: TypeAlias = Callable[[float, Record], None]
