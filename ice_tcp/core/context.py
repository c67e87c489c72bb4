"""What the machines of one agent share: policy, randomness, ids, timers and the outgoing messages."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from candidates.candidate import Transport
from candidates.policy import Policy
from ice_tcp.core.commands import Command, RelayPath
from ice_tcp.core.events import Event
from ice_tcp.core.pacing import Pacer
from ice_tcp.core.timers import Timers
from ice_tcp.core.trace import Record, RecordSink


@dataclass(frozen=True, slots=True)
class Flow:
    """Messages began to go from an address of this host to a new remote endpoint; to a peer's ``port``, if ``base``."""

    host: str
    transport: Transport
    base: object | None
    port: int = 0


class Context:
    """One an agent, handed to its machines."""

    __slots__ = ("_last_id", "commands", "events", "flows", "pacer", "policy", "relay", "rng", "timers", "trace")

    def __init__(self, policy: Policy, rng: random.Random, pacer: Pacer, trace: RecordSink | None) -> None:
        self.policy = policy
        self.rng = rng
        self.pacer = pacer
        self.trace = trace
        self.timers = Timers()
        self.commands: list[Command] = []
        self.events: list[Event] = []
        self.flows: list[Flow] = []
        """What a NAT mapped, in its order; kept only where ports are predicted from it."""
        self.relay: Callable[[RelayPath, bytes, float], None] = _no_relay
        """Sends a STUN message through a relay."""
        self._last_id = 0

    def issue(self) -> int:
        """A number that names a new socket, listener, stream or pair."""
        self._last_id += 1
        return self._last_id

    def transaction_id(self) -> bytes:
        return self.rng.getrandbits(96).to_bytes(12, "big")

    def begin_flow(self, host: str, transport: Transport, base: object | None = None, port: int = 0) -> int:
        """The number of the flow in `flows`; ``base`` if it goes to a peer, to its ``port``."""
        if self.policy.simultaneous_open.predict_ports:
            self.flows.append(Flow(host, transport, base, port))
        return len(self.flows) - 1

    def note(self, now: float, record: Record) -> None:
        if self.trace is not None:
            self.trace(now, record)


def _no_relay(_path: RelayPath, _data: bytes, _now: float) -> None:
    """Before there are relays, and after."""
