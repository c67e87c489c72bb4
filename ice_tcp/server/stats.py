"""What a server has at the moment, and what it relayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class Relayed:
    """Data of clients' peers, in bytes, without the headers of TURN."""

    bytes_to_peers: int = 0
    bytes_from_peers: int = 0
    packets_to_peers: int = 0
    packets_from_peers: int = 0

    def add(self, other: Relayed) -> None:
        """Count what another relay counted, too."""
        self.bytes_to_peers += other.bytes_to_peers
        self.bytes_from_peers += other.bytes_from_peers
        self.packets_to_peers += other.packets_to_peers
        self.packets_from_peers += other.packets_from_peers


@dataclass(frozen=True, slots=True)
class ServerStats:
    """``allocations`` and clients' ``connections`` (TCP, TLS) are those of now; ``relayed`` only grows.

    It is by ``udp`` and ``tcp``, the transport of the allocation; packets are those of UDP, for TCP has none.
    """

    allocations: int
    connections: int
    relayed: Mapping[str, Relayed]
