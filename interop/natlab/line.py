"""The internet as a line: packets go in by one attachment and come out of another, later, or not at all.

The kernel's netem is not everywhere; this is a heap of packets by due time and a routing table by destination. No
I/O here, see ``internet.py``. Instants and spans are seconds, sizes bytes.
"""

from __future__ import annotations

import heapq
import ipaddress
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Any, Final

QUEUE_SECONDS: Final = 0.2
"""Longest wait for a slow link; a packet that would wait longer is dropped."""
REORDER_SECONDS: Final = 0.02
"""A packet that loses its place arrives so much later."""
LOG_PACKETS: Final = 20_000
"""Packets that are remembered."""
SNAP_BYTES: Final = 160
"""Of each: all headers, and most of a STUN message."""


@dataclass(frozen=True, slots=True)
class Link:
    """How a site is attached. A packet passes two links, and pays the delay and the bandwidth of both.

    ``jitter``, ``loss`` and ``reorder`` count once, at the sender's: up to so many seconds more, and two probabilities.
    ``bandwidth`` is in bits a second, 0 for no limit. Packets keep their order unless they are reordered.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    bandwidth: float = 0.0


@dataclass(frozen=True, slots=True)
class Attachment:
    """A network interface on the line: its namespace, its name there, and the networks that are behind it."""

    name: str
    namespace: str
    interface: str
    networks: tuple[str, ...]
    link: Link = Link()

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Attachment:
        return cls(**{**fields, "networks": tuple(fields["networks"]), "link": Link(**fields["link"])})


class Fate(StrEnum):
    """What became of a packet."""

    DELIVERED = "delivered"
    LOST = "lost"
    QUEUE_FULL = "queue full"
    NO_ROUTE = "no route"


@dataclass(frozen=True, slots=True)
class Logged:
    """One packet: when it came, from where, when and where it goes out, and its first bytes."""

    at: float
    source: int
    target: int | None
    due_at: float
    fate: Fate
    size: int
    data: bytes


class Line:
    """All packets under way between attachments, which are known by their index.

    Put packets in with `enter`; at `next_at`, take out what is `due`. ``log`` keeps the first `LOG_PACKETS`.
    """

    def __init__(self, attachments: Sequence[Attachment], rng: random.Random) -> None:
        self.attachments = tuple(attachments)
        self.log: list[Logged] = []
        self._rng = rng
        self._routes = [
            (ipaddress.ip_network(network), index)
            for index, attachment in enumerate(attachments)
            for network in attachment.networks
        ]
        self._targets: dict[bytes, int | None] = {}
        self._heap: list[tuple[float, int, int, bytes]] = []
        self._order = count()
        self._last_due: dict[tuple[int, int], float] = {}
        self._up_free_at = [0.0] * len(attachments)
        self._down_free_at = [0.0] * len(attachments)

    @property
    def next_at(self) -> float | None:
        """When the next packet is due."""
        return self._heap[0][0] if self._heap else None

    def enter(self, packet: bytes, source: int, now: float) -> None:
        """A packet came from an attachment."""
        target = self._target(packet)
        fate, due_at = self._pass(packet, source, target, now)
        if len(self.log) < LOG_PACKETS:
            self.log.append(Logged(now, source, target, due_at, fate, len(packet), packet[:SNAP_BYTES]))
        if fate is Fate.DELIVERED and target is not None:
            heapq.heappush(self._heap, (due_at, next(self._order), target, packet))

    def due(self, now: float) -> Iterator[tuple[int, bytes]]:
        """The packets that have arrived by now, each with the attachment that it goes to."""
        while self._heap and self._heap[0][0] <= now:
            _, _, target, packet = heapq.heappop(self._heap)
            yield target, packet

    def _target(self, packet: bytes) -> int | None:
        destination = packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]
        if destination not in self._targets:
            address = ipaddress.ip_address(destination) if len(destination) in (4, 16) else None
            found = (index for network, index in self._routes if address is not None and address in network)
            self._targets[destination] = next(found, None)
        return self._targets[destination]

    def _pass(self, packet: bytes, source: int, target: int | None, now: float) -> tuple[Fate, float]:
        if target is None:
            return Fate.NO_ROUTE, now
        up, down = self.attachments[source].link, self.attachments[target].link
        if up.loss and self._rng.random() < up.loss:
            return Fate.LOST, now
        left_at = self._through(self._up_free_at, source, len(packet), up.bandwidth, now)
        if left_at is None:
            return Fate.QUEUE_FULL, now
        arrived_at = left_at + up.delay + down.delay
        if up.jitter:
            arrived_at += self._rng.uniform(0, up.jitter)
        due_at = self._through(self._down_free_at, target, len(packet), down.bandwidth, arrived_at)
        if due_at is None:
            return Fate.QUEUE_FULL, now
        if up.reorder and self._rng.random() < up.reorder:
            return Fate.DELIVERED, due_at + REORDER_SECONDS
        due_at = max(due_at, self._last_due.get((source, target), 0.0))
        self._last_due[source, target] = due_at
        return Fate.DELIVERED, due_at

    @staticmethod
    def _through(free_at: list[float], index: int, size: int, bandwidth: float, now: float) -> float | None:
        """When a packet has passed a link that carries one at a time; None if too many wait."""
        if not bandwidth:
            return now
        start = max(now, free_at[index])
        if start - now > QUEUE_SECONDS:
            return None
        free_at[index] = start + 8 * size / bandwidth
        return free_at[index]
