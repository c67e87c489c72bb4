"""aioice's candidates to ours and back."""

from __future__ import annotations

import copy
import hashlib
import re

import aioice

from candidates.candidate import (
    DISCARD_PORT,
    Candidate,
    CandidateError,
    CandidateType,
    TcpType,
    Transport,
    TransportAddress,
)
from ice_tcp.mdns import MdnsNames

_SIGNALED = (CandidateType.HOST, CandidateType.SRFLX, CandidateType.RELAY)
_FOUNDATION = re.compile(r"[A-Za-z0-9+/]{1,32}\Z")
_HIGHEST_PRIORITY = 2**31 - 1


def to_aioice(candidate: Candidate) -> aioice.Candidate:
    """The same candidate for the application."""
    related = candidate.related_address
    return aioice.Candidate(
        foundation=candidate.foundation,
        component=candidate.component,
        transport=candidate.transport.value,
        priority=candidate.priority,
        host=candidate.address.host,
        port=candidate.address.port,
        type=candidate.type.value,
        related_address=related.host if related is not None else None,
        related_port=related.port if related is not None else None,
        tcptype=candidate.tcptype.value if candidate.tcptype is not None else None,
        generation=candidate.generation,
    )


def concealed(candidate: aioice.Candidate, names: MdnsNames) -> aioice.Candidate:
    """The candidate without an address of this machine: published under a name instead.

    What servers told, they told; only the base behind it is hidden (draft-ietf-mmusic-mdns-ice-candidates s3.1.2).
    """
    told = copy.copy(candidate)
    if told.type == CandidateType.HOST:
        told.host = names.publish(candidate.host)
    if told.related_address is not None:
        told.related_address = "::" if ":" in told.related_address else "0.0.0.0"  # noqa: S104 - it is not bound
        told.related_port = DISCARD_PORT
    return told


def from_aioice(candidate: aioice.Candidate, host: str) -> Candidate:
    """The application's candidate as one of ours, with the address ``host``, which for a name is what it stands for.

    aioice takes foundations and priorities that no grammar allows; they are replaced by legal ones, since only
    their equality and order count. Raises ValueError for a candidate that cannot be used.
    """
    type_ = CandidateType(candidate.type)
    if type_ not in _SIGNALED:
        raise CandidateError("type", f"{type_} is not one that is signaled")
    transport = Transport(candidate.transport.lower())
    tcptype = TcpType(candidate.tcptype or "") if transport is Transport.TCP else None
    address = TransportAddress(host, candidate.port)
    if address.is_name:
        raise CandidateError("address", f"{host!r} is a name (RFC 8839 s5.1)")
    return Candidate(
        foundation=_foundation(candidate.foundation),
        component=candidate.component,
        transport=transport,
        priority=min(max(candidate.priority, 1), _HIGHEST_PRIORITY),
        address=address,
        type=type_,
        tcptype=tcptype,
    )


def _foundation(text: str) -> str:
    if _FOUNDATION.match(text):
        return text
    return hashlib.blake2s(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
