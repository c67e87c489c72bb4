"""A world: clock, randomness, the Internet, and what is built on it."""

from __future__ import annotations

from collections import Counter
from random import Random

from tests.sim.clock import Clock
from tests.sim.host import Host
from tests.sim.names import Names
from tests.sim.nat import Nat, NatKind
from tests.sim.network import Link, Observer, Realm
from tests.sim.tcp import LINEAR_SYN_SCHEDULE

WAN = "internet"
WALL = 1_700_000_000.0
"""Unix time when a world begins."""


class World:
    """Everything that shares one virtual time and one seed.

    ``events`` counts what is of interest, ``ladder`` collects a line for each thing that happened if ``traced``.
    """

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.clock = Clock()
        self.events: Counter[str] = Counter()
        self.ladder: list[str] = []
        self.observer: Observer | None = self._note if traced else None
        self.internet = self.realm(WAN)
        self.hosts: list[Host] = []
        self.names = Names(self.clock)
        self.nats: list[Nat] = []

    def _note(self, who: str, what: str) -> None:
        self.ladder.append(f"{self.clock.now:11.6f}  {who:<10} {what}")

    def note(self, who: str, what: str) -> None:
        """Write a line of the ladder; costs nothing where nobody looks, apart from making ``what``."""
        if self.observer is not None:
            self.observer(who, what)

    def realm(self, name: str) -> Realm:
        """A new address space."""
        return Realm(name, self.clock, self._stream(name), self.observer)

    def nat(self, name: str, kind: NatKind, public: str, outer: Realm, link: Link) -> Realm:
        """Put a NAT with address ``public`` into ``outer``; the realm behind it is returned."""
        box = Nat(name, kind, public, self.clock, self._stream(name), self.events, self.observer)
        box.outside = outer.attach(box, [public], link)
        return self._inside(box)

    def firewall(self, name: str, kind: NatKind, outer: Realm, link: Link, behind: list[str]) -> Realm:
        """Put a stateful firewall into ``outer`` before the addresses ``behind``; the realm behind it is returned."""
        box = Nat(name, kind, None, self.clock, self._stream(name), self.events, self.observer)
        box.outside = outer.attach(box, behind, link)
        return self._inside(box)

    def _inside(self, box: Nat) -> Realm:
        inner = self.realm(f"behind {box.name}")
        box.inside = inner.attach(box, [], gateway=True)
        self.nats.append(box)
        return inner

    def host(self, name: str, syn_schedule: tuple[float, ...] = LINEAR_SYN_SCHEDULE) -> Host:
        """A new host without addresses."""
        host = Host(name, self.clock, self._stream(name), syn_schedule=syn_schedule, observer=self.observer)
        self.hosts.append(host)
        return host

    def _stream(self, name: str) -> Random:
        """Randomness of its own for each thing, so that one more draw here moves nothing there."""
        return Random(f"{self.seed}/{name}")
