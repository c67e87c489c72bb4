"""What a seed stands for: topology, NATs, links, policies, behaviour and faults."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any

from candidates.candidate import TcpType, Transport
from candidates.policy import Policy
from ice_tcp.core.events import Role
from tests.sim.application import Behaviour
from tests.sim.nat import NatKind
from tests.sim.network import Link
from tests.sim.serverkinds import Ask, ServerKind
from tests.sim.shell import Manners
from tests.sim.signaling import Latency
from tests.sim.tcp import LINEAR_SYN_SCHEDULE


class Fault(StrEnum):
    """What goes wrong once data flows."""

    NONE = "none"
    RESTART = "restart"
    RESTART_BOTH = "restart-both"
    RESET_TCP = "reset-tcp"
    ADDRESS_GONE = "address-gone"
    NAT_REBOOT = "nat-reboot"
    PEER_VANISHES = "peer-vanishes"
    CLOSE = "close"
    SERVER_DIES = "server-dies"
    SERVER_RESTARTS = "server-restarts"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address is: behind these NATs, the innermost first; ``isolated`` ones are on a network of their own."""

    nats: tuple[str, ...] = ()
    family: int = 4
    isolated: bool = False


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two machines and the agent on it.

    ``taken`` are the transports for which every port is in use, ``ghost`` tells of an address that is gone already.
    ``asks`` are the servers of its policy; ``relay_grace`` None is the policy's default.
    """

    role: Role
    places: tuple[Place, ...]
    transports: tuple[Transport, ...] = (Transport.UDP, Transport.TCP)
    tcp_types: tuple[TcpType, ...] = (TcpType.ACTIVE, TcpType.PASSIVE, TcpType.SO)
    lite: bool = False
    proposed_pacing: float = 0.005
    strict_pacing: bool = False
    taken: tuple[Transport, ...] = ()
    ghost: bool = False
    asks: tuple[Ask, ...] = ()
    relay_only: bool = False
    relay_grace: float | None = None
    starts_at: float = 0.0
    behaviour: Behaviour = field(default_factory=Behaviour)
    manners: Manners = field(default_factory=Manners)
    latency: Latency = field(default_factory=Latency)

    @property
    def usable(self) -> tuple[Transport, ...]:
        """The transports for which it has candidates at all."""
        return tuple(each for each in self.transports if each not in self.taken)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that a run depends on, besides the seed's own dice.

    Where there are no ``servers``, the peer is told what a server would have said, all the same.
    """

    seed: int
    sides: tuple[Side, Side]
    nats: dict[str, NatKind]
    link: Link
    servers: dict[str, ServerKind] = field(default_factory=dict)
    components: int = 1
    same_host: bool = False
    crowd: int = 1
    same_private_addresses: bool = False
    syn_schedule: tuple[float, ...] = LINEAR_SYN_SCHEDULE
    fault: Fault = Fault.NONE
    fault_side: int = 0
    load: float = 5.0


PORTS_TAKEN = (40000, 40019)
"""The only ports of a policy whose ports are all taken."""


@cache
def policy_for(side: Side) -> Policy:
    """The policy file of a side, as a dictionary would give it."""
    keys: dict[str, Any] = {
        "transports": side.transports,
        "lite": side.lite,
        "pacing": {"proposed": side.proposed_pacing, "strict": side.strict_pacing},
        "limits": {"receive_bytes": 131072, "send_bytes": 1048576},
    }
    if Transport.TCP in side.transports:
        keys["tcp_types"] = side.tcp_types
    if side.taken:
        keys["ports"] = {transport.value: PORTS_TAKEN for transport in side.taken}
    if side.lite:
        keys["candidate_types"] = ("host", "prflx")
    if side.relay_only:
        keys["candidate_types"] = ("relay",)
    if side.relay_grace is not None:
        keys["nomination"] = {"relay_grace": side.relay_grace}
        keys["timeouts"] = {"patience": 2 * side.relay_grace}
    if side.asks:
        keys["servers"] = [ask.policy() for ask in side.asks]
    return Policy(**keys)
