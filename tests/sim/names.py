"""The name service of the simulated world."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from candidates.candidate import Transport, TransportAddress
from candidates.policy.servers import ServerUri
from ice_tcp.core.commands import LegTransport, ServerEndpoint
from tests.sim.clock import Clock, Timer

MISSING_DELAY = 0.1
"""Seconds until it is known that a name does not exist."""


@dataclass(frozen=True, slots=True)
class Name:
    """What a name stands for, none if nobody knows it, and the seconds until that is known."""

    hosts: tuple[str, ...] = ()
    delay: float = 0.02


class Names:
    """Resolves names, late."""

    def __init__(self, clock: Clock) -> None:
        self.table: dict[str, Name] = {}
        self._clock = clock

    def resolve(self, name: str, answer: Callable[[Sequence[str]], None]) -> Timer:
        """Call ``answer`` with the hosts, none if there are none; cancel the timer to give up."""
        found = self.table.get(name, Name(delay=MISSING_DELAY))
        return self._clock.after(found.delay, lambda: answer(found.hosts))


def endpoints_at(uri: ServerUri, hosts: Sequence[str]) -> list[ServerEndpoint]:
    """A server at each of its addresses, over each transport that its URI leaves open, UDP first (RFC 5928)."""
    if uri.scheme.secure:
        transports: tuple[LegTransport, ...] = (LegTransport.TLS,)
    else:
        open_ = (Transport.UDP, Transport.TCP) if uri.transport is None else (uri.transport,)
        transports = tuple(LegTransport(each.value) for each in open_)
    return [
        ServerEndpoint(transport, TransportAddress(host, uri.address.port))
        for host in hosts
        for transport in transports
    ]
