"""What travels in the simulated world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Endpoint(NamedTuple):
    """A host (canonical IP literal) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment (RFC 9293 s3.1) without what nobody looks at.

    Sequence numbers are plain integers and do not wrap. ``ack`` is None where the ACK bit is clear.
    """

    seq: int
    ack: int | None = None
    syn: bool = False
    fin: bool = False
    rst: bool = False
    window: int = 0
    data: bytes = b""

    @property
    def end(self) -> int:
        """The sequence number after this segment."""
        return self.seq + len(self.data) + self.syn + self.fin

    def __str__(self) -> str:
        if self.rst:
            return "RST"
        if self.syn:
            return "SYN" if self.ack is None else "SYN-ACK"
        if self.fin:
            return f"FIN +{len(self.data)}"
        return f"DATA {len(self.data)}" if self.data else "ACK"


class Origin(NamedTuple):
    """Where a packet really came from, whatever NATs wrote on it: for the observer, never for the observed."""

    owner: str
    handle: int
    destination: Endpoint


@dataclass(frozen=True, slots=True)
class Packet:
    """A UDP datagram (``payload`` bytes) or a TCP segment between two endpoints."""

    source: Endpoint
    destination: Endpoint
    payload: Segment | bytes
    origin: Origin | None = None
