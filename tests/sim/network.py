"""Realms of addresses, the nodes in them, and the links that lead there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeAlias

from tests.sim.clock import Clock
from tests.sim.packets import Packet

Observer: TypeAlias = Callable[[str, str], None]
"""Told of each thing that happens: who, what. None where nobody looks, so that nothing is formatted in vain."""


@dataclass(frozen=True, slots=True)
class Link:
    """How a node is attached: one-way ``delay`` and its ``jitter`` in seconds; the rest are probabilities a packet.

    Reordering and duplication befall UDP only. TCP packets keep their order and may be lost.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0


class Node(Protocol):
    """What packets reach: a host or a NAT."""

    def receive(self, packet: Packet, via: Attachment) -> None: ...


MAGIC_COOKIE = b"\x21\x12\xa4\x42"


class Attachment:
    """A node's place in a realm; ``up`` False: the cable is cut."""

    __slots__ = ("last_arrival", "link", "node", "realm", "up")

    def __init__(self, node: Node, realm: Realm, link: Link) -> None:
        self.node = node
        self.realm = realm
        self.link = link
        self.up = True
        self.last_arrival: dict[Attachment, float] = {}

    def send(self, packet: Packet) -> None:
        """Send into the realm."""
        if self.up:
            self.realm.carry(packet, self)


class Realm:
    """An address space in which every node reaches every other: the Internet, or the inside of a NAT."""

    def __init__(self, name: str, clock: Clock, rng: Random, observer: Observer | None = None) -> None:
        self.name = name
        self.clock = clock
        self.gateway: Attachment | None = None
        self.stun_lost: set[bytes] = set()
        """Transaction ids of the STUN messages that were lost as datagrams."""
        self._rng = rng
        self._observer = observer
        self._nodes: dict[str, Attachment] = {}

    def attach(
        self, node: Node, hosts: Iterable[str], link: Link | None = None, *, gateway: bool = False
    ) -> Attachment:
        """Give ``node`` the addresses ``hosts``; a gateway also gets what is addressed to nobody here."""
        attachment = Attachment(node, self, link or Link())
        for host in hosts:
            self.route(host, attachment)
        if gateway:
            self.gateway = attachment
        return attachment

    def route(self, host: str, attachment: Attachment) -> None:
        """Packets to ``host`` go to ``attachment``."""
        if host in self._nodes:
            raise ValueError(f"{self.name}: {host} is taken")
        self._nodes[host] = attachment

    def reaches(self, host: str) -> bool:
        """Whether a packet to ``host`` goes anywhere at all."""
        return host in self._nodes or self.gateway is not None

    def carry(self, packet: Packet, sender: Attachment) -> None:
        """Take ``packet`` to where it is addressed, or lose it."""
        target = self._nodes.get(packet.destination.host, self.gateway)
        if target is None or target is sender:
            self._lost(packet, "no route")
            return
        if isinstance(packet.payload, bytes):
            self._carry_datagram(packet, sender, target)
        else:
            self._carry_segment(packet, sender, target)

    def _carry_datagram(self, packet: Packet, sender: Attachment, target: Attachment) -> None:
        copies = 1
        for link in (sender.link, target.link):
            if link.loss and self._rng.random() < link.loss:
                self._lost(packet, "lost")
                return
            if link.duplicate and self._rng.random() < link.duplicate:
                copies += 1
        for _ in range(copies):
            delay = self._delay(sender, target)
            for link in (sender.link, target.link):
                if link.reorder and self._rng.random() < link.reorder:
                    delay += self._rng.uniform(0, 2 * link.delay + 0.01)
            self._deliver(packet, target, self.clock.now + delay)

    def _carry_segment(self, packet: Packet, sender: Attachment, target: Attachment) -> None:
        for link in (sender.link, target.link):
            if link.loss and self._rng.random() < link.loss:
                self._lost(packet, "lost")
                return
        arrival = max(self.clock.now + self._delay(sender, target), sender.last_arrival.get(target, 0.0))
        sender.last_arrival[target] = arrival
        self._deliver(packet, target, arrival)

    def _delay(self, sender: Attachment, target: Attachment) -> float:
        delay = sender.link.delay + target.link.delay
        jitter = sender.link.jitter + target.link.jitter
        return delay + self._rng.random() * jitter if jitter else delay

    def _deliver(self, packet: Packet, target: Attachment, when: float) -> None:
        # A box's inside has no delay of its own: it acts in the instant the packet left its host.
        if when <= self.clock.now:
            if target.up:
                target.node.receive(packet, target)
            return

        def arrive() -> None:
            if target.up:
                target.node.receive(packet, target)

        self.clock.at(when, arrive)

    def _lost(self, packet: Packet, why: str) -> None:
        if isinstance(packet.payload, bytes) and packet.payload[4:8] == MAGIC_COOKIE:
            self.stun_lost.add(packet.payload[8:20])
        if self._observer is not None:
            self._observer(self.name, f"{why}: {packet.source} -> {packet.destination} {describe(packet.payload)}")


def describe(payload: object) -> str:
    """A packet's content in a word or two."""
    return f"UDP {len(payload)}" if isinstance(payload, bytes) else str(payload)
