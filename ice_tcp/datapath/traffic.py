"""What all data paths share: STUN told from data, the counters, and the data that came too early."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from ice_tcp.stun import is_stun

COOKIE = b"\x21\x12\xa4\x42"
"""RFC 7983 s7, RFC 8489 s5: most data is told from STUN by these four bytes behind the first four, the rest by
`is_stun`."""


class Received(NamedTuple):
    """What came in: STUN messages for the core, data for the application, each in its order."""

    stun: list[bytes]
    data: list[bytes]


@dataclass(slots=True)
class Traffic:
    """Application data on one path, STUN and headers apart (W3C webrtc-stats, RTCIceCandidatePairStats)."""

    packets_sent: int = 0
    bytes_sent: int = 0
    packets_received: int = 0
    bytes_received: int = 0

    def add(self, other: Traffic) -> None:
        """Count what another path counted, too."""
        self.packets_sent += other.packets_sent
        self.bytes_sent += other.bytes_sent
        self.packets_received += other.packets_received
        self.bytes_received += other.bytes_received


class EarlyData:
    """Data of sources that nobody authenticated yet: ``limit`` bytes and ``count`` datagrams of all together.

    The oldest makes room and is counted in ``discarded``.
    """

    __slots__ = ("_bytes", "_count", "_items", "_limit", "discarded")

    def __init__(self, limit: int, count: int = 64) -> None:
        self._limit = limit
        self._count = count
        self._items: list[tuple[Hashable, bytes]] = []  # a deque would be larger than all the rest
        self._bytes = 0
        self.discarded = 0

    def keep(self, packets: list[bytes], source: Hashable) -> None:
        items = self._items
        for packet in packets:
            items.append((source, packet))
            self._bytes += len(packet)
        while len(items) > self._count or self._bytes > self._limit:
            self._bytes -= len(items.pop(0)[1])
            self.discarded += 1

    def release(self, source: Hashable, traffic: Traffic) -> list[bytes]:
        """Remove and return what is kept of ``source``, as received now."""
        packets = [packet for sender, packet in self._items if sender == source]
        if packets:
            self._items = [item for item in self._items if item[0] != source]
            size = sum(map(len, packets))
            self._bytes -= size
            traffic.packets_received += len(packets)
            traffic.bytes_received += size
        return packets


def told_apart(packets: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """STUN, and the rest."""
    if len(packets) == 1:
        packet = packets[0]
        return (packets, []) if packet[4:8] == COOKIE and is_stun(packet) else ([], packets)
    for packet in packets:
        if packet[4:8] == COOKIE and is_stun(packet):
            return [each for each in packets if is_stun(each)], [each for each in packets if not is_stun(each)]
    return [], packets
